"""Published parameter counts of the ImageNet networks, on the meta device."""

import subprocess
import sys

import pytest
import torch

from trainables.models import build, family, parameter_count
from trainables.point.config import Model
from trainables.point.errors import ConfigError

COLOURS = (3, 299, 299)


def complete(name: str) -> Model:
    return family(name).complete(Model(name=name))


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("alexnet", 1000, 61_100_840),
        ("vgg11", 1000, 132_863_336),
        ("vgg19", 1000, 143_667_240),
        ("resnet18_imagenet", 1000, 11_689_512),
        ("resnet152", 1000, 60_192_808),
        ("inception_v3", 1000, 23_834_568),  # 27,161,264 less the auxiliary classifier's 3,326,696
        ("inception_v4", 1001, 42_681_353),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, classes: int, parameters: int) -> None:
    assert parameter_count(complete(name), COLOURS, classes) == parameters


def test_outputs_are_one_a_class_while_training_too() -> None:
    """Inception v3 with its auxiliary classifier would give two."""
    module = build(complete("inception_v3"), 0.2, (3, 75, 75), 7, seed=0)
    assert module.train()(torch.zeros(2, 3, 75, 75)).shape == (2, 7)
    assert [layer.p for layer in module.modules() if isinstance(layer, torch.nn.Dropout)] == [0.2]


def test_dropout_of_the_builders_is_off_by_default() -> None:
    with torch.device("meta"):
        module = family("alexnet").build(complete("alexnet"), 0.0, COLOURS, 1000)
    assert {layer.p for layer in module.modules() if isinstance(layer, torch.nn.Dropout)} == {0.0}


@pytest.mark.parametrize(
    ("name", "dropout", "shape", "sentence"),
    [
        ("vgg11", 0.0, (1, 32, 32), "takes images of three colours; the data has 1"),
        ("resnet152", 0.5, COLOURS, "has no hidden layer that it acts on"),
        ("inception_v4", 0.0, (3, 28, 28), "needs images of at least 75x75; the data has 28x28"),
    ],
)
def test_what_does_not_fit_is_said(name: str, dropout: float, shape: tuple[int, int, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build(complete(name), dropout, shape, 10, seed=0)


def test_without_timm_the_sentence_says_what_to_install() -> None:
    code = """
import sys
sys.modules["timm"] = None
from trainables.point.config import Model
from trainables.point.errors import ConfigError
from trainables.models import family, parameter_count
try:
    parameter_count(family("inception_v4").complete(Model(name="inception_v4")), (3, 299, 299), 10)
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("install it with pip install 'gaplab[imagenet]'")
