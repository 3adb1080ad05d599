"""Custom models: joined by their source, which is part of the key; and custom measures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.trainables.made_up_points import alone, only, point, told, train
from trainables.measures import registry as measures
from trainables.models import build
from trainables.models import custom as custom
from trainables.models import registry as models
from trainables.point.config import with_fields
from trainables.point.errors import ConfigError
from trainables.point.streams import derive

TINY = """
from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from trainables.models import model_family


@dataclass
class Sizes:
    hidden: int


@model_family("tiny", default_width={width})
def tiny(model, dropout, image_shape, classes):
    sizes = Sizes(model.width)
    return nn.Sequential(
        nn.Conv2d(image_shape[0], sizes.hidden, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes.hidden, classes)
    )
"""


def test_a_model_of_ones_own_trains_and_its_source_is_part_of_the_key(blobs: str, register: Callable[[str, str], None]) -> None:
    fields = {"data.name": blobs, "model.name": "tiny", "model.width": 5, "budget.epochs": 2}
    with pytest.raises(ConfigError, match="no model family"):
        point(fields)
    register("tiny.py", TINY.format(width=3))
    first = point(fields)
    assert first.model.digest is not None
    assert point({"data.name": blobs, "model.name": "tiny"}).model.width == 3
    result = only(fields)
    assert result.status == "completed"
    assert result.outcome["parameters"] == 2 * 9 * 5 + 5 + 5 * 3 + 3
    register("elsewhere/tiny.py", TINY.format(width=3))
    assert point(fields).key() == first.key()  # the text counts, not where it lies
    register("tiny.py", TINY.format(width=4))
    assert point(fields).key() != first.key()
    assert point(fields).model.width == first.model.width
    assert only(fields).status == "completed"
    assert with_fields(first, {"model.depth": 2}).key() != first.key()  # it may read any field


CONDITIONAL = '''
from math import prod
from torch import nn
from trainables.models import model_family


@model_family("conditional", default_width=6)
def conditional(model, dropout, image_shape, classes):
    """Has a dropout layer only where it is asked for."""
    between = [nn.ReLU(), nn.Dropout(dropout)] if dropout else [nn.ReLU()]
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), model.width), *between, nn.Linear(model.width, classes))
'''


def test_a_custom_models_points_may_share_a_pack_whenever_their_signatures_are_equal(
    blobs: str, register: Callable[[str, str], None]
) -> None:
    register("conditional.py", CONDITIONAL)
    fields = {"data.name": blobs, "model.name": "conditional", "budget.epochs": 2}
    points = [point(fields | {"seed": seed, "regularizers.dropout": rate}) for seed, rate in enumerate((0.0, 0.5, 0.0, 0.2))]
    for signature in {each.signature() for each in points}:
        group = [each for each in points if each.signature() == signature]
        together = train(group, slots=4)
        assert {key: told(result) for key, result in together.items()} == {each.key(): alone(each) for each in group}
        assert all(result.status == "completed" for result in together.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:", "own.py raises SyntaxError"),
        ("import no_such_module", "own.py raises ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "own.py raises ZeroDivisionError: division by zero"),
    ],
)
def test_a_source_that_raises_is_one_sentence(text: str, said: str, register: Callable[[str, str], None]) -> None:
    with pytest.raises(ConfigError) as caught:
        register("own.py", text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "nn.Sequential(nn.Flatten(), nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], 32))",
            r"gives a tensor of shape (2, 32) for two images of 3 classes, and must",
        ),
        ("nn.Flatten(2)", "for two images of 3 classes, and must give one of shape (2, 3)"),
    ],
)
def test_a_model_that_does_not_give_a_number_a_class_is_refused_before_it_trains(
    blobs: str, body: str, said: str, register: Callable[[str, str], None]
) -> None:
    head = "from torch import nn\nfrom trainables.models import model_family\n"
    register("odd.py", f"{head}@model_family('odd', default_width=1)\ndef odd(model, dropout, image_shape, classes):\n    return {body}\n")
    with pytest.raises(ConfigError) as caught:
        point({"data.name": blobs, "model.name": "odd"})
    assert said in str(caught.value)


def test_bundled_families_have_no_digest(register: Callable[[str, str], None]) -> None:
    register("tiny.py", TINY.format(width=3))
    families = models.families()
    assert families["tiny"].digest is not None
    assert all(families[name].digest is None for name in ("linear", "mlp", "random_features", "cnn5", "resnet18", "theorem1"))


OWN_MEASURE = """
from trainables.measures import Subject, measure

@measure("own_largest_weight", cost="a pass over the weights", cheap=True)
def largest_weight(subject: Subject) -> float:
    return max(layer.weight.abs().max().item() for layer in subject.layers)
"""


def test_own_measure_joins_by_one_decorated_function(blobs: str) -> None:
    custom.register("my_measures.py", OWN_MEASURE)
    try:
        (result,) = train([point({"data.name": blobs, "model.width": 4, "budget.epochs": 0})], measures=["own_largest_weight"]).values()
        module = build(result.point.model, 0.0, (2, 4, 5), 3, seed=derive(result.point.seed, "initialization"))
        weights = [value.abs().max().item() for name, value in module.named_parameters() if name.endswith("weight")]
        assert result.outcome["measure.own_largest_weight"] == max(weights)
    finally:
        del measures._MEASURES["own_largest_weight"]
