"""Model families: published parameter counts, TensorFlow's alignment, seeded builds, images of any size."""

from __future__ import annotations

import itertools
from functools import partial
from math import prod

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.models import build, families, family, parameter_count, slim
from trainables.models.bundled.resnet18 import PreActivationBlock
from trainables.point.config import ImageShape, Model
from trainables.point.errors import ConfigError

CONVOLUTIONAL = ("alexnet_small", "inception_small", "cnn5", "resnet18")
PAPER = (3, 28, 28)
CIFAR = (3, 32, 32)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def complete(name: str, width: int | None = None, *, depth: int | None = None, batch_norm: bool | None = None) -> Model:
    return family(name).complete(Model(name=name, width=width, depth=depth, batch_norm=batch_norm))


def trainable(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


# Zhang et al. 2017, Table 1, and the same networks on other inputs


@pytest.mark.parametrize(
    ("depth", "image_shape", "published"),
    [
        (1, PAPER, 1_209_866),
        (3, PAPER, 1_735_178),
        (1, CIFAR, 1_578_506),
        (3, CIFAR, 2_103_818),
        (1, (1, 28, 28), 407_050),
        (3, (1, 28, 28), 932_362),
    ],
)
def test_mlp_counts(depth: int, image_shape: ImageShape, published: int) -> None:
    assert parameter_count(complete("mlp", 512, depth=depth), image_shape, 10) == published


@pytest.mark.parametrize("hidden", [18, 46, 50])
def test_one_hidden_layer_on_mnist_has_belkins_count(hidden: int) -> None:
    assert parameter_count(complete("mlp", hidden), (1, 28, 28), 10) == 795 * hidden + 10


def test_linear_readouts_count() -> None:
    assert parameter_count(complete("linear"), (1, 28, 28), 10) == 784 * 10 + 10
    assert parameter_count(complete("random_features", 300), (1, 28, 28), 10) == 300 * 10


@pytest.mark.parametrize("batch_norm", [True, False])
def test_small_inception_count(batch_norm: bool) -> None:
    assert parameter_count(complete("inception_small", batch_norm=batch_norm), PAPER, 10) == 1_649_402


def test_small_inception_is_published_with_batch_norm_and_alexnet_without() -> None:
    assert complete("inception_small").batch_norm is True
    assert complete("alexnet_small").batch_norm is False


@pytest.mark.parametrize("batch_norm", [True, False])
def test_small_alexnet_count(batch_norm: bool) -> None:
    assert parameter_count(complete("alexnet_small", batch_norm=batch_norm), PAPER, 10) == 1_387_786


# Nakkiran et al. 2019, by width k


@pytest.mark.parametrize(
    ("k", "count"),
    [(1, 2_947), (2, 11_332), (4, 44_446), (8, 176_050), (10, 274_540), (12, 394_822), (16, 700_762), (32, 2_796_202), (64, 11_171_146)],
)
def test_resnet18_count(k: int, count: int) -> None:
    assert parameter_count(complete("resnet18", k), CIFAR, 10) == count


@pytest.mark.parametrize(("k", "count"), [(1, 540), (4, 6_666), (10, 39_330), (16, 99_210), (32, 391_946), (64, 1_558_026)])
def test_cnn5_count(k: int, count: int) -> None:
    assert parameter_count(complete("cnn5", k), CIFAR, 10) == count


@pytest.mark.parametrize(("depth", "batch_norm"), [(1, True), (2, True), (3, False)])
def test_nin_by_hand(depth: int, batch_norm: bool) -> None:
    """Width 5 on CIFAR: 3x3 from 3 or 5 channels and two 1x1, each with 5 biases or 10 numbers of batch norm; 60 in the last."""
    blocks = sum(9 * 5 * (3 if block == 0 else 5) + 2 * 25 + 3 * (10 if batch_norm else 5) for block in range(depth))
    model = complete("nin", 5, depth=depth, batch_norm=batch_norm)
    assert parameter_count(model, CIFAR, 10) == blocks + 60
    network = build(model, 0.25, CIFAR, 10, seed=0)
    outputs = network[:-2](torch.zeros(1, *CIFAR))
    assert outputs.shape[1:] == (10, 32 // 2**depth, 32 // 2**depth)
    assert sum(isinstance(layer, nn.Dropout) for layer in network) == depth


# layer by layer: height, width, channels and parameters

INCEPTION = [
    (28, 96, 2_688),
    (28, 64, 30_784),
    (28, 80, 29_776),
    (14, 160, 57_680),
    (14, 160, 87_200),
    (14, 160, 107_680),
    (14, 160, 128_160),
    (14, 144, 146_064),
    (7, 240, 124_512),
    (7, 336, 388_176),
    (7, 336, 543_312),
    (1, 336, 0),
]


@pytest.mark.parametrize("batch_norm", [True, False])
def test_small_inception_layer_by_layer(batch_norm: bool) -> None:
    network = build(complete("inception_small", batch_norm=batch_norm), 0.0, PAPER, 10, seed=0)
    assert isinstance(network, nn.Sequential)
    activations = torch.randn(2, *PAPER)
    for layer, (size, channels, parameters) in zip(network, INCEPTION, strict=False):
        activations = layer(activations)
        assert activations.shape == (2, channels, size, size)
        assert trainable(layer) == parameters
    assert trainable(network[len(INCEPTION) :]) == 3_370


def test_small_alexnet_layer_by_layer() -> None:
    network = build(complete("alexnet_small"), 0.0, PAPER, 10, seed=0)
    assert [tuple(parameter.shape) for parameter in network.parameters()] == [
        *[(64, 3, 5, 5), (64,)],
        *[(64, 64, 5, 5), (64,)],
        *[(384, 7 * 7 * 64), (384,)],
        *[(192, 384), (192,)],
        *[(10, 192), (10,)],
    ]


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("cnn5", [(64, 32), (128, 32), (256, 16), (512, 8)]),
        ("resnet18", [(64, 32)] * 5 + [(128, 16)] * 5 + [(256, 8)] * 5 + [(512, 4)] * 5),
    ],
)
def test_sizes_of_nakkirans_feature_maps(name: str, maps: list[tuple[int, int]]) -> None:
    """Channels and size of each convolution's output; a halving of the ResNet has two 3x3 convolutions and a shortcut."""
    network, seen = build(complete(name), 0.0, CIFAR, 10, seed=0), []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(tuple(output.shape[1:3])))
    with torch.no_grad():
        network(torch.randn(2, *CIFAR))
    assert sorted(seen) == maps


def test_a_residual_block_normalizes_before_it_convolves() -> None:
    """He et al. 2016, Figure 4e, rebuilt by hand; where the shape changes, the shortcut too sees the activated input."""
    norm, relu = partial(functional.batch_norm, running_mean=None, running_var=None, training=True), functional.relu
    for outputs, stride in ((4, 1), (4, 2), (6, 2)):
        block, inputs = PreActivationBlock(4, outputs, stride, True), torch.randn(5, 4, 9, 8)
        active = relu(norm(inputs))
        inner = functional.conv2d(active, block.first.weight, stride=stride, padding=1)
        residual = functional.conv2d(relu(norm(inner)), block.second.weight, padding=1)
        straight = inputs if block.shortcut is None else functional.conv2d(active, block.shortcut.weight, stride=stride)
        torch.testing.assert_close(block(inputs), straight + residual)


def test_alexnets_normalization_is_tensorflows() -> None:
    """tf.nn.lrn(x, 4, bias=1, alpha=0.001 / 9, beta=0.75): x / (1 + alpha * sum of squares over channels c-4 .. c+4) ** 0.75."""
    network = build(complete("alexnet_small"), 0.0, PAPER, 10, seed=0)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.LocalResponseNorm)]
    assert len(layers) == 2
    inputs = 50 * torch.randn(2, 12, 3, 3, dtype=torch.float64)
    expected = torch.stack(
        [inputs[:, c] / (1 + 0.001 / 9 * inputs[:, max(0, c - 4) : c + 5].square().sum(1)) ** 0.75 for c in range(12)], dim=1
    )
    for layer in layers:
        torch.testing.assert_close(layer(inputs), expected, rtol=1e-12, atol=0)


def test_batch_norm_of_alexnet_takes_the_place_of_its_normalization() -> None:
    kinds = [type(layer) for layer in build(complete("alexnet_small", batch_norm=True), 0.0, PAPER, 10, seed=0).modules()]
    assert nn.LocalResponseNorm not in kinds
    assert kinds.count(nn.BatchNorm2d) == 2


# TensorFlow's SAME: out = ceil(size / stride), and of the padding needed the smaller half comes first


def same(inputs: torch.Tensor, value: float) -> torch.Tensor:
    """Inputs padded explicitly for 3x3 windows moved by 2, by TensorFlow's formula."""
    pads = []
    for size in (inputs.shape[3], inputs.shape[2]):
        total = max(((size + 1) // 2 - 1) * 2 + 3 - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(inputs, pads, value=value)


SIZES = [(28, 28), (14, 14), (7, 7), (8, 9), (9, 8), (2, 3), (1, 1), (1, 2)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pooling_is_aligned_as_in_tensorflow(height: int, width: int) -> None:
    inputs = torch.randn(2, 3, height, width)
    pooled = slim.max_pool(height, width)(inputs)
    assert pooled.shape[2:] == (slim.halved(height), slim.halved(width))
    assert torch.equal(pooled, functional.max_pool2d(same(inputs, float("-inf")), 3, 2))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_strided_convolutions_are_padded_as_in_tensorflow(height: int, width: int) -> None:
    inputs = torch.randn(2, 3, height, width)
    assert torch.equal(slim.zero_padding(height, width)(inputs), same(inputs, 0.0))


def test_pytorchs_symmetric_padding_would_be_one_pixel_off() -> None:
    inputs = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert slim.max_pool(4, 4)(inputs).flatten().tolist() == [10, 11, 14, 15]
    assert functional.max_pool2d(inputs, 3, 2, padding=1).flatten().tolist() == [5, 7, 13, 15]


def test_the_halvings_of_inception_are_aligned() -> None:
    """Convolution and pooling of one halving look at the same pixels: rebuilt by hand from its weights."""
    network = build(complete("inception_small", 6, batch_norm=False), 0.0, (3, 9, 8), 10, seed=0)
    assert isinstance(network, nn.Sequential)
    down = network[3]
    convolution = next(layer for layer in down.modules() if isinstance(layer, nn.Conv2d))
    inputs = torch.randn(2, convolution.in_channels, 9, 8)
    by_hand = functional.relu(functional.conv2d(same(inputs, 0.0), convolution.weight, convolution.bias, stride=2))
    pooled = functional.max_pool2d(same(inputs, float("-inf")), 3, 2)
    torch.testing.assert_close(down(inputs), torch.cat([by_hand, pooled], dim=1))


# batch norm


def test_inceptions_batch_norm_shifts_but_does_not_scale() -> None:
    """Its output has mean beta and deviation 1 (up to epsilon) in each channel, and only beta is trained."""
    norm = slim.shift_batch_norm(4)
    assert [name for name, parameter in norm.named_parameters() if parameter.requires_grad] == ["bias"]
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([0.0, 1.0, -2.0, 3.0]))
    inputs = 5 * torch.randn(64, 4, 8, 8, dtype=torch.float64) + 2
    outputs = norm.double()(inputs)
    variances = inputs.var((0, 2, 3), unbiased=False)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, 0.1 * inputs.mean((0, 2, 3)))
    torch.testing.assert_close(outputs.mean((0, 2, 3)), norm.bias.detach(), atol=1e-12, rtol=1e-12, check_dtype=False)
    torch.testing.assert_close(outputs.var((0, 2, 3), unbiased=False), variances / (variances + 1e-3), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_batch_norm_off_leaves_none(name: str) -> None:
    kinds = {type(layer) for layer in build(complete(name, 4, batch_norm=False), 0.0, PAPER, 10, seed=0).modules()}
    assert nn.BatchNorm2d not in kinds


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_convolutions_have_biases_where_no_batch_norm_shifts(name: str, batch_norm: bool) -> None:
    """Nakkiran's CNN has both (540 parameters at k = 1 count 15 biases)."""
    network = build(complete(name, 4, batch_norm=batch_norm), 0.0, PAPER, 10, seed=0)
    biases = {layer.bias is not None for layer in network.modules() if isinstance(layer, nn.Conv2d)}
    assert biases == {not batch_norm or name == "cnn5"}


@pytest.mark.parametrize("batch_norm", [True, False])
def test_slim_convolutions_start_xavier_uniform(batch_norm: bool) -> None:
    """Variance 2 / (fan in + fan out); the relative error of a deviation estimated from N uniform draws is sqrt(0.2 / N)."""
    layer = slim.convolution(64, 96, 5, batch_norm=batch_norm)[0]
    assert isinstance(layer, nn.Conv2d)
    fans = 25 * 64 + 25 * 96
    assert layer.weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=4 * (0.2 / layer.weight.numel()) ** 0.5)
    assert layer.weight.abs().max() <= (6 / fans) ** 0.5
    assert (layer.bias is None) if batch_norm else (layer.bias is not None and not layer.bias.any())


# any image, any width


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 9), (28, 28), (32, 32), (8, 9), (17, 12)])
@pytest.mark.parametrize(("model_width", "batch_norm", "classes"), [(1, True, 2), (3, False, 10)])
def test_forward_and_backward(name: str, channels: int, height: int, width: int, model_width: int, batch_norm: bool, classes: int) -> None:
    model, shape = complete(name, model_width, batch_norm=batch_norm), (channels, height, width)
    network = build(model, 0.0, shape, classes, seed=0)
    logits = network(torch.randn(3, *shape))
    assert logits.shape == (3, classes)
    functional.cross_entropy(logits, torch.arange(3) % classes).backward()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in parameters)
    assert sum(parameter.numel() for parameter in parameters) == parameter_count(model, shape, classes)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_layer_of_a_wide_network_learns(name: str, batch_norm: bool) -> None:
    network = build(complete(name, 32, batch_norm=batch_norm), 0.0, PAPER, 10, seed=0)
    functional.cross_entropy(network(torch.randn(8, *PAPER)), torch.arange(8)).backward()
    gradients = {label: parameter.grad for label, parameter in network.named_parameters() if parameter.requires_grad}
    assert [label for label, gradient in gradients.items() if gradient is None or not gradient.any()] == []


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_counts_grow_with_width(name: str) -> None:
    for shape in (PAPER, (1, 8, 8)):
        counts = [parameter_count(complete(name, width), shape, 10) for width in range(1, 200)]
        assert all(narrow < wide for narrow, wide in itertools.pairwise(counts))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_layer_scales_with_width(name: str) -> None:
    """Twice the width doubles each dimension of each parameter, but for image channels, kernels and classes."""
    default, fixed = family(name).default_width, {3, 5, 10, 1}
    with torch.device("meta"):
        single, double = (family(name).build(complete(name, width), 0.0, PAPER, 10) for width in (default, 2 * default))
    for one, two in zip(single.parameters(), double.parameters(), strict=True):
        for before, after in zip(one.shape, two.shape, strict=True):
            assert after == (before if before in fixed else 2 * before)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_smaller_images_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="at least 8x8; the data has 7x28"):
        parameter_count(complete(name, 2), (3, 7, 28), 10)


# dropout


@pytest.mark.parametrize(("name", "dropped"), [("alexnet_small", 2), ("inception_small", 1), ("cnn5", 1), ("resnet18", 1)])
def test_dropout_acts_in_training_and_only_then(name: str, dropped: int) -> None:
    inputs = torch.randn(4, *PAPER)
    network = build(complete(name, 8), 0.5, PAPER, 10, seed=0)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.5] * dropped
    assert not torch.equal(network.train()(inputs), network(inputs))
    assert torch.equal(network.eval()(inputs), network(inputs))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_without_dropout_training_draws_nothing(name: str) -> None:
    network = build(complete(name, 8), 0.0, PAPER, 10, seed=0)
    before = torch.get_rng_state()
    network(torch.randn(4, *PAPER, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), before)


# the registry


@pytest.mark.parametrize("name", sorted(["mlp", "linear", "random_features", *CONVOLUTIONAL]))
def test_a_build_depends_on_its_seed_alone(name: str) -> None:
    torch.manual_seed(17)
    before = torch.get_rng_state()
    first = build(complete(name, 8), 0.0, PAPER, 10, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(18)
    again = build(complete(name, 8), 0.0, PAPER, 10, seed=5).state_dict()
    other = build(complete(name, 8), 0.0, PAPER, 10, seed=6).state_dict()
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_counting_takes_no_memory_and_no_randomness() -> None:
    before = torch.get_rng_state()
    wide = parameter_count(complete("mlp", 10_000_000), PAPER, 10)
    assert wide == (prod(PAPER) + 1) * 10_000_000 + (10_000_000 + 1) * 10
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_family_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'resnet81', which is no model family: did you mean 'resnet18'\?"):
        family("resnet81")


def test_an_unknown_family_far_from_all_lists_them() -> None:
    with pytest.raises(ConfigError, match=r"known are .*alexnet_small.*mlp"):
        family("zzz")


def test_all_families_are_known() -> None:
    assert {"mlp", "linear", "random_features", *CONVOLUTIONAL} <= families().keys()
