"""Nothing is lost silently: what diverges, raises or does not fit says so, and its neighbours do not notice."""

from __future__ import annotations

import gc
import math
import signal
import sys
import weakref
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch

from tests.trainables.made_up_points import CPU, alone, finish, point, saved_and_loaded, told, train
from trainables.data.inputs import point_data
from trainables.engines.compiled import CompiledDense
from trainables.engines.modules import ModuleEngine
from trainables.engines.stacked import StackedDense
from trainables.point.config import TrialConfig
from trainables.training.device_failures import PoisonedError
from trainables.training.loop import Training

Values = dict[str, Any]


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        ({"model.width": 6}, "cross_entropy"),
        ({"model.width": 6}, "squared"),
        ({"model.width": 6, "model.batch_norm": True}, "squared"),
        ({"model.name": "linear"}, "squared"),
    ],
)
def test_a_diverging_point_says_so_and_leaves_its_neighbours_alone(blobs: str, model: Values, loss: str) -> None:
    shared = {"data.name": blobs, "budget.epochs": 4, "budget.stop_at_train_error": None, "optimizer.loss": loss, **model}
    calm = [point(shared | {"seed": seed, "optimizer.learning_rate": 0.02}) for seed in range(3)]
    wild = point(shared | {"optimizer.learning_rate": 1e30, "optimizer.momentum": 0.0})
    together = train([calm[0], wild, *calm[1:]], slots=3)
    for each in calm:
        assert told(together[each.key()]) == alone(each)
        assert together[each.key()].status == "completed"
    result = together[wild.key()]
    assert result.status == "diverged"
    assert "train loss is" in result.reason
    assert result.outcome.get("train_error") is None
    assert result.outcome["wrong_label_rate"] == 0
    assert all(math.isfinite(row["train_loss"]) for row in result.curve)
    assert told(result) == alone(wild)


OWN_MODEL = '''
import torch
from torch import nn
from trainables.models import model_family


class Careful(nn.Module):
    """Refuses numbers that are too large."""

    def forward(self, outputs):
        if outputs.abs().max() > 50:
            raise ValueError("these outputs are too large")
        return outputs


@model_family("careful", default_width=4)
def careful(model, dropout, image_shape, classes):
    inputs = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, model.width), nn.ReLU(), nn.Linear(model.width, classes), Careful())
'''


def test_a_point_that_raises_fails_alone_with_its_reason(blobs: str, register: Callable[[str, str], None]) -> None:
    register("careful.py", OWN_MODEL)
    shared = {"data.name": blobs, "model.name": "careful", "budget.epochs": 4, "budget.stop_at_train_error": None}
    calm = [point(shared | {"seed": seed, "optimizer.learning_rate": 1e-3}) for seed in range(3)]
    wild = point(shared | {"optimizer.learning_rate": 100.0})
    together = train([calm[0], wild, *calm[1:]], slots=3)
    assert set(together) == {each.key() for each in (*calm, wild)}
    assert (together[wild.key()].status, together[wild.key()].reason) == ("failed", "ValueError: these outputs are too large")
    for each in calm:
        assert told(together[each.key()]) == alone(each)
        assert together[each.key()].status == "completed"


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        ("sys.exit(0)", "SystemExit: 0"),
        ("raise SystemExit", "SystemExit: "),
        ("raise asyncio.CancelledError('odd')", "CancelledError: odd"),
    ],
)
def test_a_model_that_exits_fails_like_any_other(raised: str, reason: str, blobs: str, register: Callable[[str, str], None]) -> None:
    text = OWN_MODEL.replace("import torch", "import asyncio, sys", 1)
    register("careful.py", text.replace('raise ValueError("these outputs are too large")', raised))
    shared = {"data.name": blobs, "model.name": "careful", "budget.epochs": 2, "budget.stop_at_train_error": None}
    calm, wild = (point(shared | {"optimizer.learning_rate": rate}) for rate in (1e-3, 100.0))
    together = train([calm, wild], slots=2)
    assert (together[wild.key()].status, together[wild.key()].reason) == ("failed", reason)
    assert told(together[calm.key()]) == alone(calm)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["a network", "a measure"])
def test_who_ends_the_process_while_a_model_runs_is_obeyed(
    where: str, kind: signal.Signals, blobs: str, register: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray does with its workers: by SIGTERM, for which they have a handler that exits."""

    def interrupted(*_: Any) -> Any:
        signal.raise_signal(kind)

    def ends(number: int, frame: Any) -> None:
        sys.exit(1)

    if where == "a network":
        register("careful.py", OWN_MODEL.replace("raise ValueError", f"import signal; signal.raise_signal({int(kind)}); raise ValueError"))
    else:
        monkeypatch.setattr("trainables.measures.measure_all", interrupted)
    model = {"model.name": "careful", "optimizer.learning_rate": 100.0} if where == "a network" else {"model.width": 5}
    training = Training([point({"data.name": blobs, "budget.epochs": 3, **model})], CPU, measures=("l2_norm",))
    # that of SIGINT too: a process that was started in the background ignores it, and where no handler of Python's is it ends the tests
    handlers = {signal.SIGTERM: ends, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with pytest.raises(KeyboardInterrupt if kind == signal.SIGINT else SystemExit):
            finish(training)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError


def test_an_error_that_cannot_say_what_it_is_is_a_failure_all_the_same(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> Any:
        raise MuteError

    monkeypatch.setattr("trainables.training.loop.point_data", missing)
    (result,) = train([point({"data.name": blobs, "model.width": 3, "budget.epochs": 2})], slots=1).values()
    assert (result.status, result.reason) == ("failed", "MuteError: ")


def test_a_point_that_cannot_be_built_fails_alone_with_its_reason(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainables.training import loop as module

    points = [point({"data.name": blobs, "model.width": 3, "budget.epochs": 2, "seed": seed}) for seed in range(4)]
    expected = {each.key(): alone(each) for each in points}

    def missing(each: TrialConfig, device: torch.device, loaders: int) -> Any:
        if each.seed == 2:
            raise FileNotFoundError("the disk is gone")
        return point_data(each, device)

    monkeypatch.setattr(module, "point_data", missing)
    together = train(points, slots=2)
    lost = points[2].key()
    assert (together[lost].status, together[lost].reason) == ("failed", "FileNotFoundError: the disk is gone")
    assert {key: told(result) for key, result in together.items() if key != lost} == {
        key: value for key, value in expected.items() if key != lost
    }


OUT_OF_MEMORY = {
    "gpu": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "host": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."
    ),
    "python": lambda: MemoryError(),
    "cublas": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "accelerator": lambda: torch.AcceleratorError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`."),
}


def limited(monkeypatch: pytest.MonkeyPatch, operation: str, most: int, error: Callable[[], Exception]) -> list[int]:
    """Let engines raise in an operation above so many members; the numbers of members that were tried."""
    tried: list[int] = []
    names = ("gradient", "descend") if operation == "gradient" else (operation,)
    for kind, name in product((StackedDense, CompiledDense, ModuleEngine), names):
        if name not in vars(kind):
            continue
        original = getattr(kind, name)

        def guarded(self: Any, *arguments: Any, original: Any = original, **named: Any) -> Any:
            members = len(arguments[0]) + len(arguments[1]) if operation == "refill" else len(self.parameters[0])
            tried.append(members)
            if members > most:
                raise error()
            return original(self, *arguments, **named)

        monkeypatch.setattr(kind, name, guarded)
    return tried


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
@pytest.mark.parametrize("operation", ["gradient", "losses", "refill"])
@pytest.mark.parametrize("model", [{"model.width": 5}, {"model.width": 5, "model.batch_norm": True}])
def test_out_of_memory_splits_the_pack_and_loses_nothing(
    blobs: str, monkeypatch: pytest.MonkeyPatch, kind: str, operation: str, model: Values
) -> None:
    points = [point({"data.name": blobs, "budget.epochs": 3, "seed": seed, **model}) for seed in range(7)]
    expected = {each.key(): alone(each) for each in points}
    tried = limited(monkeypatch, operation, 3, OUT_OF_MEMORY[kind])
    assert {key: told(result) for key, result in train(points, slots=7).items()} == expected
    assert max(tried) == 7
    assert 3 in tried  # halved, and no further than needed


@pytest.mark.parametrize("model", [{"model.width": 5}, {"model.width": 5, "model.batch_norm": True}])
def test_the_memory_of_a_pack_is_free_again_before_a_smaller_one_is_made(
    blobs: str, monkeypatch: pytest.MonkeyPatch, model: Values
) -> None:
    from trainables.training import loop as module

    training = Training([point({"data.name": blobs, "budget.epochs": 3, "seed": seed, **model}) for seed in range(4)], CPU, slots=4)
    large: list[weakref.ref[Any]] = []
    alive: list[list[str]] = []
    make_engine = module.make_engine

    def noted(*arguments: Any, **named: Any) -> Any:
        alive.append([type(found).__name__ for one in large if (found := one()) is not None])
        return make_engine(*arguments, **named)

    monkeypatch.setattr(module, "make_engine", noted)
    training.epoch()
    large += [weakref.ref(getattr(training, name)) for name in ("_engine", "_optimizer", "_samples", "_evaluation")]
    assert training._samples
    large += [weakref.ref(training._samples.source), weakref.ref(training._samples.index), weakref.ref(training._active[0].module)]
    limited(monkeypatch, "gradient", 2, OUT_OF_MEMORY["gpu"])
    gc.disable()  # nothing waits for the garbage collector
    try:
        assert len(finish(training)) == 4
    finally:
        gc.enable()
    assert alive[1:]
    assert alive[1] == []


STICKY = {
    "access": torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA`."),
    "assertion": RuntimeError("CUDA error: device-side assert triggered"),
    "launch": torch.AcceleratorError("CUDA error: unspecified launch failure"),
    "address": torch.AcceleratorError("CUDA error: misaligned address"),
    "unknown": torch.AcceleratorError("CUDA error: something that is not known yet"),
}


@pytest.mark.parametrize("kind", STICKY)
@pytest.mark.parametrize("slots", [1, 3])
def test_an_error_that_spoils_the_process_is_no_result_of_any_point(
    blobs: str, monkeypatch: pytest.MonkeyPatch, kind: str, slots: int
) -> None:
    points = [point({"data.name": blobs, "budget.epochs": 2, "model.width": 5, "seed": seed}) for seed in range(3)]
    limited(monkeypatch, "gradient", 0, lambda: STICKY[kind])
    with pytest.raises(PoisonedError, match=r"^(Accelerator|Runtime)Error: CUDA error: [^\n]*$"):
        train(points, slots=slots)


def test_a_measure_that_spoils_the_process_is_no_result_of_any_point(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure_all(names: Any, subject: Any) -> dict[str, float]:
        raise STICKY["access"]

    monkeypatch.setattr("trainables.measures.measure_all", measure_all)
    training = Training([point({"data.name": blobs, "budget.epochs": 1, "model.width": 5})], CPU, measures=("l2_norm",))
    with pytest.raises(PoisonedError, match="illegal memory access"):
        finish(training)


def test_what_cuda_refuses_to_one_point_spoils_nothing(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [point({"data.name": blobs, "budget.epochs": 2, "model.width": 5, "seed": seed}) for seed in range(2)]
    refused = torch.AcceleratorError("CUDA error: invalid configuration argument")
    limited(monkeypatch, "gradient", 0, lambda: refused)
    assert {result.status for result in train(points, slots=2).values()} == {"failed"}


def test_a_point_too_large_for_the_memory_by_itself_fails_and_the_rest_goes_on(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [point({"data.name": blobs, "budget.epochs": 2, "model.width": 5, "seed": seed}) for seed in range(3)]
    limited(monkeypatch, "gradient", 0, OUT_OF_MEMORY["gpu"])
    results = train(points, slots=3)
    assert {key: (result.status, result.reason) for key, result in results.items()} == {
        each.key(): ("failed", "out of memory, even alone") for each in points
    }


def test_memory_that_runs_out_while_a_point_is_built_beside_others_is_not_its_failure(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others hold is what is missing: with fewer of them it goes on."""
    from trainables.training import loop as module

    points = [point({"data.name": blobs, "budget.epochs": 2, "model.width": 5, "seed": seed}) for seed in range(6)]
    expected = {each.key(): alone(each) for each in points}
    calls = {"made": 0}

    def exhausted_once(each: TrialConfig, device: torch.device, loaders: int) -> Any:
        calls["made"] += 1
        if calls["made"] == 5:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return point_data(each, device)

    monkeypatch.setattr(module, "point_data", exhausted_once)
    assert {key: told(result) for key, result in train(points, slots=6).items()} == expected


def test_nothing_is_lost_when_a_run_is_resumed_after_an_error(blobs: str, register: Callable[[str, str], None]) -> None:
    register("careful.py", OWN_MODEL)
    shared = {"data.name": blobs, "model.name": "careful", "budget.epochs": 3, "budget.stop_at_train_error": None}
    points = [point(shared | {"seed": seed, "optimizer.learning_rate": 100.0 if seed == 1 else 1e-3}) for seed in range(4)]
    whole = {key: told(result) for key, result in train(points, slots=4).items()}
    for stop_after in range(1, 12):
        training, results = Training(points, CPU, slots=4), {}
        for _ in range(stop_after):
            if not training.finished:
                results |= {result.key: result for result in training.epoch()}
        resumed = Training(points, CPU, slots=4)
        resumed.load_state_dict(saved_and_loaded(training.state_dict()))
        assert {key: told(result) for key, result in (results | finish(resumed)).items()} == whole


@pytest.mark.parametrize("members", [1, 2])
def test_a_last_batch_of_one_sample_tells_who_normalizes_batches_what_to_change(blobs: str, members: int) -> None:
    shared = {"data.name": blobs, "budget.epochs": 1, "model.width": 5, "optimizer.batch_size": 89}  # of 90 samples
    points = [point(shared | {"model.batch_norm": True, "seed": seed}) for seed in range(members)]
    for result in train(points, slots=2).values():
        assert result.status == "failed"
        assert "a last batch of one sample: change optimizer.batch_size or data.train_size" in result.reason
    assert {result.status for result in train([point(shared)], slots=1).values()} == {"completed"}, "nobody else minds"
