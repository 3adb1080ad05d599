"""Epochs as on a GPU, by a stand-in: no tensor on the wrong device, nothing that a step waits for, and the results of a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.trainables.fake_card import CARD, HOST, Counts, fake_card
from tests.trainables.made_up_points import point
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.sources import share
from trainables.point.config import TrialConfig
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


def trained(points: list[TrialConfig], device: torch.device, epochs: int = 2) -> list[dict[str, torch.Tensor]]:
    """The states of members after some epochs side by side, on the host."""
    training = Training(points, device, slots=len(points))
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


def counted(fields: Values) -> tuple[Counts, Counts]:
    """What an epoch of two members does, in its steps and in its evaluation."""
    with fake_card() as card:
        training = Training(members(fields), CARD, slots=2)
        failed: list[Any] = []
        training._fill_slots(failed)
        assert not failed, failed[0].reason
        card.counts = steps = Counts()
        training._update()
        card.counts = evaluation = Counts()
        scores = training._scores()
        assert all(score is not None and math.isfinite(score.train_loss) for score in scores)
    return steps, evaluation


CASES = [(family, "sgd") for family in FAMILIES] + [(family, option) for family in ("mlp", "cnn5") for option in OPTIONS if option != "sgd"]


@pytest.mark.parametrize(("family", "option"), CASES)
def test_no_step_waits_for_the_gpu(family: str, option: str) -> None:
    steps, evaluation = counted(FAMILIES[family] | OPTIONS[option])
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
