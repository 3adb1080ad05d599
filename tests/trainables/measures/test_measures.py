"""The registry of measures, batch norm folding, and the invariances that every measure of its kind must have."""

import copy
import math

import pytest
import torch
from torch import nn

from tests.trainables.made_up_subject import dense, trained
from trainables.measures import Subject, find_measure, known_measures, measure, measure_all
from trainables.measures import registry as measures
from trainables.measures.folding import ChannelAffine, fold_batch_norm
from trainables.models import build, family
from trainables.point.config import Model
from trainables.point.errors import ConfigError


def network(name: str, batch_norm: bool, dropout: float = 0.0) -> nn.Module:
    return build(family(name).complete(Model(name=name, width=4, batch_norm=batch_norm)), dropout, (2, 9, 8), 3, seed=0)


def affine(folded: nn.Module) -> list[str]:
    """Names of the batch norms that no layer could take up."""
    return [name for name, layer in folded.named_modules() if isinstance(layer, ChannelAffine)]


def test_every_bundled_measure_is_finite_on_a_network_that_fits() -> None:
    subject = trained(dense(), (3, 2, 2), steps=300)
    values = measure_all(known_measures(), subject)
    assert {name for name, value in values.items() if not math.isfinite(value)} == set()
    assert all(each.cost and len(each.doc.splitlines()[0]) > 20 for each in known_measures().values())


def test_measures_leave_the_subject_as_it_was() -> None:
    subject = trained(dense(batch_norm=True), (3, 2, 2))
    subject.module.train()
    before = copy.deepcopy(subject.module.state_dict())
    random_state = torch.random.get_rng_state()
    measure_all(known_measures(), subject)
    assert all(torch.equal(value, before[name]) for name, value in subject.module.state_dict().items())
    assert subject.module.training
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_same_seed_same_values_in_any_order() -> None:
    names = ["pacbayes_orig", "sharpness_average", "path_norm"]
    first, second = (trained(dense(), (3, 2, 2)) for _ in range(2))
    forward, backward = measure_all(names, first), measure_all(names[::-1], second)
    assert forward == backward
    assert list(forward) == names


def test_unknown_name_is_refused_before_anything_is_computed() -> None:
    def fails(_: Subject) -> float:
        raise AssertionError

    measure("test_fails", cost="none", cheap=True)(fails)
    try:
        with pytest.raises(ConfigError, match="'pathnorm', which is no measure: did you mean 'path_norm'"):
            measure_all(["test_fails", "pathnorm"], trained(dense(), (3, 2, 2), steps=1))
        with pytest.raises(ConfigError, match=r"known are .*fisher_rao"):
            find_measure("zzzzz")
    finally:
        del measures._MEASURES["test_fails"]


def test_own_measure_joins_by_its_decorator() -> None:
    @measure("test_largest_weight", cost="a pass over the weights", cheap=True)
    def largest(subject: Subject) -> float:
        return max(layer.weight.abs().max().item() for layer in subject.layers)

    try:
        module = dense()
        assert measure_all(["test_largest_weight"], trained(module, (3, 2, 2), steps=0)) == {
            "test_largest_weight": max(module[1].weight.abs().max().item(), module[3].weight.abs().max().item())
        }
        assert known_measures()["test_largest_weight"].cost == "a pass over the weights"
    finally:
        del measures._MEASURES["test_largest_weight"]


def test_what_measures_share_is_computed_once() -> None:
    calls = []

    def slow(subject: Subject) -> int:
        calls.append(subject)
        return 5

    subject = trained(dense(), (3, 2, 2), steps=0)
    assert [subject.once(slow), subject.once(slow)] == [5, 5]
    assert calls == [subject]


@pytest.mark.parametrize(
    ("name", "batch_norm"),
    [
        ("mlp", True),
        ("alexnet_small", True),
        ("inception_small", True),
        ("cnn5", True),
        ("resnet18", True),
        ("nin", True),
        ("inception_small", False),
    ],
)
def test_folding_keeps_the_function(name: str, batch_norm: bool) -> None:
    module = network(name, batch_norm, dropout=0.2)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # as far from the initial statistics as training may take them
            for tensor, low, high in ((layer.weight, -2, 2), (layer.bias, -1, 1), (layer.running_mean, -1, 1), (layer.running_var, 0.1, 3)):
                nn.init.uniform_(tensor, low, high)
    folded = fold_batch_norm(module)
    inputs = torch.randn(16, 2, 9, 8)
    torch.testing.assert_close(folded(inputs), module.eval()(inputs), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in folded.modules())
    first_norms = [f"{block}.first_norm" for block in range(1, 9)] if name == "resnet18" else []
    assert affine(folded) == first_norms


def test_folding_needs_a_layer_that_feeds_the_norm_alone() -> None:
    class Shared(nn.Module):
        """The convolution's output goes two ways: folding would change the second."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, momentum=1.0)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            found = self.conv(inputs)
            return found + self.norm(found)

    module = Shared()
    inputs = torch.randn(8, 2, 3, 3)
    module(inputs)
    folded = fold_batch_norm(module)
    assert affine(folded) == ["norm"]
    torch.testing.assert_close(folded(inputs), module.eval()(inputs))


def test_batch_norm_that_cannot_be_folded_is_refused_in_a_sentence() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(2, 2), nn.BatchNorm1d(2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.norm(self.layer(inputs)) if inputs.sum() > 0 else inputs

    with pytest.raises(ConfigError, match=r"batch norm of Branching: torch\.fx cannot trace it"):
        fold_batch_norm(Branching())
    with pytest.raises(ConfigError, match="'1' keeps no running statistics"):
        fold_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)))


def test_channel_affine_is_batch_norm_in_evaluation() -> None:
    norm = nn.BatchNorm2d(3, affine=False)
    norm(torch.randn(32, 3, 4, 4) * 3 + 1)
    folded = fold_batch_norm(nn.Sequential(norm))
    assert isinstance(folded[0], ChannelAffine)
    inputs = torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(folded(inputs), norm.eval()(inputs))


def test_weights_before_a_batch_norm_have_no_scale() -> None:
    """Batch norm undoes the scale of the weights before it: with folding, measures do not see that scale."""
    subject = trained(dense(batch_norm=True), (3, 2, 2))
    scaled = copy.deepcopy(subject.module)
    layer, norm = scaled[1], scaled[2]
    norm.eps = 0.0
    with torch.no_grad():
        norm.running_var += subject.module[2].eps
        for tensor in (layer.weight, layer.bias, norm.running_mean):
            tensor *= 5
        norm.running_var *= 25
    other = Subject(scaled, subject.initial, subject.inputs, subject.labels, 3, subject.seed)
    names = ["l2_norm", "l2_distance", "log_prod_spectral", "log_prod_frobenius_over_margin", "path_norm", "fisher_rao"]
    first, second = measure_all(names, subject), measure_all(names, other)
    assert second == pytest.approx(first, rel=1e-4)


REBALANCING_INVARIANT = (
    "parameters",
    "inverse_margin",
    "output_entropy",
    "path_norm",
    "path_norm_over_margin",
    "fisher_rao",
    "sharpness_mag_flatness",
    "sharpness_average",
    "log_prod_spectral",
    "log_prod_frobenius",
    "frobenius_over_spectral",
)


def test_rescaled_relu_layers_compute_the_same_and_invariant_measures_agree() -> None:
    subject = trained(dense(), (3, 2, 2), steps=300)
    rescaled = copy.deepcopy(subject.module)
    with torch.no_grad():  # a power of 2: exact in floating point
        rescaled[1].weight *= 4
        rescaled[1].bias *= 4
        rescaled[3].weight /= 4
    other = Subject(rescaled, subject.initial, subject.inputs, subject.labels, 3, subject.seed)
    torch.testing.assert_close(rescaled(subject.inputs), subject.module(subject.inputs), rtol=1e-6, atol=1e-6)
    first, second = measure_all(REBALANCING_INVARIANT, subject), measure_all(REBALANCING_INVARIANT, other)
    assert second == pytest.approx(first, rel=1e-5)
    variant = ["l2_norm", "pacbayes_flatness", "sharpness_flatness", "gradient_noise"]
    first, second = measure_all(variant, subject), measure_all(variant, other)
    assert all(abs(first[name] / second[name] - 1) > 0.05 for name in variant)


def test_rescaling_single_units_leaves_path_norm_and_fisher_rao() -> None:
    subject = trained(dense(), (3, 2, 2))
    rescaled = copy.deepcopy(subject.module)
    factors = torch.tensor([0.5, 2.0, 4.0, 1.0, 8.0, 0.25, 1.0])
    with torch.no_grad():
        rescaled[1].weight *= factors[:, None]
        rescaled[1].bias *= factors
        rescaled[3].weight /= factors
    other = Subject(rescaled, subject.initial, subject.inputs, subject.labels, 3)
    names = ["path_norm", "fisher_rao"]
    assert measure_all(names, other) == pytest.approx(measure_all(names, subject), rel=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_measures_on_a_gpu_are_those_on_the_cpu() -> None:
    """Cheap ones agree to float tolerance; a search for a noise level may end a step apart where an accuracy lies on its edge."""
    here = trained(network("cnn5", batch_norm=True), (2, 9, 8))
    module, initial = (copy.deepcopy(one).cuda() for one in (here.module, here.initial))
    there = Subject(module, initial, here.inputs.cuda(), here.labels.cuda(), 3, here.seed, here.curve, here.after_first_epoch, here.right)
    cheap = [name for name, one in known_measures().items() if one.cheap]
    assert measure_all(cheap, there) == pytest.approx(measure_all(cheap, here), rel=1e-3, nan_ok=True)
    assert measure_all(["gradient_noise"], there) == pytest.approx(measure_all(["gradient_noise"], here), rel=1e-2)
