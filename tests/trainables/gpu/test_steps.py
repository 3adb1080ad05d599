"""Epochs as on a GPU, by a stand-in: no tensor on the wrong device, nothing that a step waits for, and the results of a CPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn

from tests.trainables.gpu.fake_card import CARD, GIB, HOST, Counts, fake_card
from tests.trainables.made_up_points import point
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.sources import share
from trainables.engines import Way, choice
from trainables.engines.fused import FusedEngine
from trainables.engines.graphs import AtOnce, GraphEngine
from trainables.engines.modules import ModuleEngine
from trainables.point.config import TrialConfig
from trainables.training import loop
from trainables.training.distributed import ALONE
from trainables.training.evaluation import Evaluation
from trainables.training.loop import Training

Values = dict[str, Any]

STEPS, BATCH = 4, 8
MOST_UPLOADS = 10
"""Of an epoch, however many steps it has."""
FAMILIES: dict[str, Values] = {
    "mlp": {"model.width": 6, "model.depth": 2},
    "mlp with batch norm": {"model.width": 6, "model.batch_norm": True},
    "mlp with gelu": {"model.width": 6, "model.activation": "gelu"},
    "mlp in bfloat16": {"model.width": 6, "precision": "bfloat16"},
    "linear": {"model.name": "linear"},
    "random_features": {"model.name": "random_features", "model.width": 12},
    "alexnet_small": {"model.name": "alexnet_small", "model.width": 2},
    "inception_small": {"model.name": "inception_small", "model.width": 2},
    "cnn5": {"model.name": "cnn5", "model.width": 2},
    "nin": {"model.name": "nin", "model.width": 2},
    "resnet18": {"model.name": "resnet18", "model.width": 1},
    "embedding_mlp": {"model.name": "embedding_mlp", "model.width": 4},
    "transformer": {"model.name": "transformer", "model.width": 4, "model.depth": 1},
}
OPTIONS: dict[str, Values] = {
    "sgd": {},
    "nesterov and weight decay": {"optimizer.nesterov": True, "regularizers.weight_decay": 1e-3},
    "adam": {"optimizer.name": "adam", "optimizer.learning_rate": 1e-3},
    "adamw, biases decayed": {"optimizer.name": "adamw", "regularizers.weight_decay": 1e-2, "regularizers.decay_biases": True},
    "warm-up and cosine": {"optimizer.warmup": 9, "optimizer.schedule": "cosine"},
    "a rate for each parameter": {"model.parameterization": "mup", "optimizer.name": "adam", "optimizer.learning_rate": 1e-3},
    "squared loss": {"optimizer.loss": "squared", "optimizer.learning_rate": 0.01},
    "clip": {"regularizers.gradient_clip": 0.5},
    "label smoothing": {"regularizers.label_smoothing": 0.1},
    "label noise": {"corruption.level": 0.5, "data.validation_size": 8},
    "random pixels": {"corruption.kind": "random_pixels"},
    "dropout": {"regularizers.dropout": 0.5},
    "crop": {"regularizers.crop": 2},
    "crop and flip": {"regularizers.crop": 1, "regularizers.flip": True},
    "crop from the image": {"data.preprocessing": "paper", "regularizers.crop": 1, "regularizers.crop_from": "image"},
    "mixup": {"regularizers.mixup": 0.2},
}
STACKED = ("mlp", "mlp with gelu", "mlp in bfloat16", "linear", "random_features")
SIZES: Values = {"loss": "cross_entropy", "precision": "float32", "image_shape": (3, 8, 8)}
DRAWN = ("dropout", "crop", "crop and flip", "crop from the image", "mixup")
"""Options with draws of each step, which on a GPU are others than on a CPU."""


@pytest.fixture(scope="module", autouse=True)
def made_up() -> Iterator[str]:
    """`data.name` of 56 training and 16 test images of 3 channels, 30x30 where the centre is to be cut out of them, else 8x8."""
    for side in (8, 30):
        draw = torch.Generator().manual_seed(side)
        images = torch.randint(0, 256, (72, 3, side, side), dtype=torch.uint8, generator=draw)
        labels = torch.arange(72) % 4
        share(f"made up {side}", Dataset(images[16:], labels[16:], images[:16], labels[:16], 4))
    return "made up"


def members(fields: Values, count: int = 2) -> list[TrialConfig]:
    side = 30 if fields.get("data.preprocessing") == "paper" else 8
    shared = {
        "data.name": f"made up {side}",
        "data.train_size": STEPS * BATCH,
        "optimizer.batch_size": BATCH,
        "optimizer.learning_rate": 0.02,
        "budget.epochs": 2,
        "budget.stop_at_train_error": None,
    }
    return [point(shared | fields | {"seed": seed}) for seed in range(count)]


def trained(points: list[TrialConfig], device: torch.device, epochs: int = 2, slots: int | None = 2) -> list[dict[str, torch.Tensor]]:
    """The states of members after some epochs side by side, on the host."""
    training = Training(points, device, slots=slots and len(points))
    failed: list[Any] = []
    training._fill_slots(failed)
    assert not failed, failed[0].reason
    for _ in range(epochs):
        training._update()
    assert training._engine is not None
    states = [training._engine.state(member) for member in range(len(points))]
    return [{name: value.to(HOST) for name, value in state.items()} for state in states]


def alike(ones: dict[str, torch.Tensor], others: dict[str, torch.Tensor], tolerance: float = 1e-4) -> None:
    for name, value in ones.items():
        torch.testing.assert_close(value, others[name], rtol=tolerance, atol=tolerance, msg=lambda said, name=name: f"{name}: {said}")


def counted(fields: Values, engine: str) -> tuple[Counts, Counts]:
    """What an epoch of two members does, in its steps and in its evaluation."""
    with fake_card() as card, pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "_recorder", lambda template: AtOnce())  # no graph is recorded without CUDA
        patch.setattr(loop, "make_engine", lambda template, **given: choice.make_engine(template, **given | {"name": engine}))
        training = Training(members(fields), CARD, slots=2)
        failed: list[Any] = []
        training._fill_slots(failed)
        assert not failed, failed[0].reason
        assert type(training._engine) is type(choice.make_engine(training._active[0].module, **SIZES, name=engine))
        card.counts = steps = Counts()
        training._update()
        card.counts = evaluation = Counts()
        scores = training._scores()
        assert all(score is not None and math.isfinite(score.train_loss) for score in scores)
    return steps, evaluation


CASES = [(family, "sgd", "stacked") for family in STACKED]
CASES += [(family, "sgd", engine) for family in FAMILIES if family not in STACKED for engine in ("modules", "fused")]
CASES += [(family, option, engine) for family, engine in (("mlp", "stacked"), ("cnn5", "modules")) for option in OPTIONS if option != "sgd"]
CASES += [
    ("cnn5", option, engine)
    for engine in choice.ENGINES
    if "compiled" not in engine and engine not in ("stacked", "modules")  # by a compiler steps are those of graphs
    for option in ("adam", "clip", "dropout", "crop and flip", "warm-up and cosine")
]


@pytest.mark.parametrize(("family", "option", "engine"), CASES)
def test_no_step_waits_for_the_gpu(family: str, option: str, engine: str) -> None:
    steps, evaluation = counted(FAMILIES[family] | OPTIONS[option], engine)
    assert not steps.waits
    assert steps.uploads <= MOST_UPLOADS
    assert steps.downloads == 0
    assert evaluation.downloads <= 1
    assert evaluation.waits.total() <= 1


EXACT = [(family, "sgd") for family in FAMILIES if family != "mlp in bfloat16"]  # there an order of summation shows
EXACT += [("mlp", option) for option in OPTIONS if option not in ("sgd", *DRAWN)]


@pytest.mark.parametrize(("family", "option"), EXACT)
def test_a_gpu_ends_where_a_cpu_does(family: str, option: str) -> None:
    """With all samples in a batch, so that their order, which differs, is of no account."""
    points = members(FAMILIES[family] | OPTIONS[option] | {"optimizer.batch_size": STEPS * BATCH})
    expected = trained(points, HOST)
    with fake_card():
        found = trained(points, CARD)
    for one, other in zip(found, expected, strict=True):
        alike(one, other)


ALL_DRAWS = {"regularizers.dropout": 0.4, "regularizers.crop": 1, "regularizers.flip": True, "regularizers.mixup": 0.3}


def test_neighbours_do_not_change_a_members_draws() -> None:
    """Design promise 3, up to rounding: what a member draws on a GPU comes from its own seed, epoch and step."""
    several = members({"model.width": 6} | ALL_DRAWS, 3)
    with fake_card():
        together = trained(several, CARD)
        for each, state in zip(several, together, strict=True):
            alike(state, trained([each], CARD)[0])
            others = {name: value.to(HOST) for name, value in trained([each], HOST)[0].items()}
            assert any(not torch.allclose(state[name], others[name], atol=1e-3) for name in state)  # a CPU's draws are others


def test_a_training_that_goes_on_on_a_gpu_draws_what_it_would_have_drawn() -> None:
    points = members({"model.width": 6, "optimizer.name": "adam", "optimizer.learning_rate": 1e-3} | ALL_DRAWS)
    with fake_card():
        whole = trained(points, CARD)
        first = Training(points, CARD, slots=2)
        first.epoch()
        second = Training(points, CARD, slots=2)
        second.load_state_dict(first.state_dict())
        second._fill_slots([])
        second._update()
        assert second._engine is not None
        for member, expected in enumerate(whole):
            alike({name: value.to(HOST) for name, value in second._engine.state(member).items()}, expected, 1e-6)


def test_a_member_that_leaves_does_not_make_the_others_wait() -> None:
    """Evaluations of some of the members, too, copy nothing for each batch."""
    points = members({"model.width": 6, "optimizer.name": "adam"}, 3)
    with fake_card() as card:
        training = Training(points, CARD, slots=3, pruner=lambda reports: {reports[0][0]})
        assert [result.status for result in training.epoch()] == ["pruned"]
        training._fill_slots([])
        card.counts = Counts()
        training._update()
        assert not card.counts.waits
        evaluation = Evaluation([1], [training._active[1].data], "cross_entropy", ALONE)
        assert training._engine is not None
        evaluation.scores(training._engine)
        card.counts = Counts()
        evaluation.scores(training._engine)
        assert card.counts.waits.total() == card.counts.downloads == 1


PACKED = [("graphs", family) for family in ("cnn5", "resnet18", "transformer")]
PACKED += [("fused", "alexnet_small"), ("fused", "cnn5"), ("fused in graphs", "alexnet_small")]


@pytest.fixture
def by(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have an engine trained by, with two slots; graphs are done at once."""

    def chosen(engine: str) -> None:
        monkeypatch.setattr(loop, "fastest", lambda template, task, device, steps: Way(engine, 2))
        monkeypatch.setattr(choice, "_recorder", lambda template: AtOnce())

    return chosen


@pytest.mark.parametrize(("way", "family"), PACKED)
def test_members_in_one_pass_or_graph_end_where_those_one_by_one_do(by: Callable[[str], None], way: str, family: str) -> None:
    points = members(FAMILIES[family] | {"optimizer.batch_size": STEPS * BATCH, "regularizers.weight_decay": 1e-3})
    expected = trained(points, HOST)
    by(way)
    with fake_card():
        found = trained(points, CARD, slots=None)
    for one, other in zip(found, expected, strict=True):
        alike(one, other)


DROPS = [("graphs", "alexnet_small"), ("fused", "alexnet_small"), ("graphs", "transformer"), ("modules", "transformer")]


@pytest.mark.parametrize(("way", "family"), DROPS)
def test_what_a_member_drops_on_a_gpu_does_not_hang_on_the_engine(by: Callable[[str], None], way: str, family: str) -> None:
    """Members of unlike rates against each of them alone, member by member."""
    rates = zip(members(FAMILIES[family]), (0.5, 0.2), strict=True)
    points = [replace(one, regularizers=replace(one.regularizers, dropout=rate)) for one, rate in rates]
    by("modules")
    with fake_card():
        alone = [trained([one], CARD, slots=None)[0] for one in points]
    by(way)
    with fake_card():
        found = trained(points, CARD, slots=None)
    for one, other in zip(found, alone, strict=True):
        alike(one, other, 1e-5)


@pytest.mark.parametrize("engine", ["modules", "graphs", "fused", "stacked"])
def test_an_evaluation_starts_few_operations_however_many_samples_it_is_of(engine: str) -> None:
    """1,000 samples at once, where 256 at once start nearly four times as much for them; the scores are the same."""
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randint(0, 256, (1032, 3, 8, 8), dtype=torch.uint8, generator=draw), torch.arange(1032) % 4
    share("made up test set", Dataset(images[:32], labels[:32], images[32:], labels[32:], 4))
    fields = {"data.name": "made up test set", "model.width": 3} | ({} if engine == "stacked" else {"model.name": "cnn5"})
    found: dict[str, Any] = {}
    for free in (0, 80 * GIB):
        with fake_card() as card, pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "mem_get_info", lambda device=None, free=free: (free, 80 * GIB))
            patch.setattr(choice, "_recorder", lambda template: AtOnce())
            patch.setattr(loop, "make_engine", lambda template, **given: choice.make_engine(template, **given | {"name": engine}))
            training = Training(members(fields), CARD, slots=2)
            training._fill_slots([])
            training._scores()
            card.counts = counts = Counts()
            found[f"{free}"] = training._scores(), counts
            assert counts.waits.total() == 1
    (few, by_few), (many, by_many) = found.values()
    assert by_many.kernels < by_few.kernels * (0.7 if engine == "stacked" else 0.5)  # what comes of the logits is the same
    for one, other in zip(many, few, strict=True):
        assert (one.test_error, one.train_error) == (other.test_error, other.train_error)
        assert one.test_loss == pytest.approx(other.test_loss, rel=1e-6)


@pytest.mark.parametrize("way", ["graphs", "fused", "modules"])
def test_masks_made_on_a_gpu_drop_a_members_share_from_its_own_stream(way: str) -> None:
    """A gradient shows what was dropped: of the weights after it, those columns are 0 whose unit was dropped in every sample, here one."""
    with fake_card():
        members = [nn.Sequential(nn.Flatten(), nn.Dropout(rate), nn.Linear(192, 4)).to(CARD) for rate in (0.25, 0.0, 0.75)]
        how = ("squared", "float32", (3, 8, 8))
        draws: dict[tuple[int, int], torch.Tensor] = {}
        for keep in ([0, 1, 2], [2, 0]):
            engines = {
                "graphs": lambda: GraphEngine(*how, AtOnce()),
                "fused": lambda: FusedEngine(*how),
                "modules": lambda: ModuleEngine(*how),
            }
            engine = engines[way]()
            engine.refill([], [copy.deepcopy(members[member]) for member in keep])
            inputs, targets = torch.ones(len(keep), 1, 192).to(CARD), torch.ones(len(keep), 4, 1).to(CARD)
            for step in (0, 1):
                engine.gradient(inputs, targets, [(member, "dropout", 0, step) for member in keep])
                for place, member in enumerate(keep):
                    kept = engine.gradients[0][place, 0].to(HOST) != 0
                    assert torch.equal(draws.setdefault((member, step), kept), kept)
        for member, rate in enumerate((0.25, 0.0, 0.75)):
            low, high = stats.binom.interval(0.9999, 192, 1 - rate)
            assert all(low <= int(draws[member, step].sum()) <= high for step in (0, 1))
        assert not torch.equal(draws[0, 0], draws[0, 1])
