"""Which engine is taken: a rule on CPUs, a measurement on GPUs that is kept beside the user's data."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainables.engines.made_up_members import CLASSES, SHAPE, modules
from tests.trainables.made_up_points import CPU, finish, only, point, told
from trainables.engines import Way, Workload, choice, fastest
from trainables.engines.graphs import MOST_BRANCHES, AtOnce
from trainables.models import family
from trainables.point.config import Model
from trainables.training.loop import Training

GPU = torch.device("cuda")
GIB = 2**30
CNN5 = {"name": "cnn5", "batch_norm": True}


def workload_of(fields: dict[str, Any], width: int = 4, batch_size: int = 4) -> Workload:
    model = family(fields["name"]).complete(Model(**fields | {"width": width}))
    return Workload(model, SHAPE, CLASSES, batch_size, "cross_entropy", "float32")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A GPU as far as a choice asks of one; its steps are taken here, and its graphs at once."""
    state: dict[str, Any] = {"name": "Card 1", "fraction": 1.0, "free": 80.0 * GIB}
    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path))
    for name, fake in {
        "get_device_name": lambda device: state["name"],
        "get_per_process_memory_fraction": lambda device: state["fraction"],
        "mem_get_info": lambda device: (int(state["free"]), 80 * GIB),
        "memory_reserved": lambda device: 0,
        "memory_allocated": lambda device: 0,
        "empty_cache": lambda: None,
        "synchronize": lambda device: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(choice, "_recorder", lambda template: AtOnce())
    monkeypatch.setattr(choice, "_ROUND_SECONDS", 0.0)
    choice._FOUND.clear()
    yield state
    choice._FOUND.clear()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Makes a measurement say what a test wants: seconds by engine and slots, 100 to compile; what is not named does not run."""
    said: dict[str, Any] = {"seconds": {}, "tried": []}

    def seconds(template: nn.Module, workload: Workload, way: Way) -> Way:
        said["tried"].append((way.engine, way.slots))
        if (way.engine, way.slots) not in said["seconds"]:
            raise RuntimeError("CUDA error: invalid argument")
        return replace(way, seconds=float(said["seconds"][way.engine, way.slots]), start=100.0 * ("compiled" in way.engine))

    monkeypatch.setattr(choice, "_timed", seconds)
    return said


def test_on_a_cpu_a_rule_decides_and_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits are promised there, which must not hang on a measurement."""

    def never(*arguments: object) -> Way:
        raise AssertionError("measured")

    monkeypatch.setattr(choice, "_timed", never)
    for name in ("cnn5", "alexnet_small", "resnet18", "inception_small"):
        (member,) = modules({"name": name}, 1)
        assert fastest(member, workload_of({"name": name}), CPU) == Way("modules", 1)
    (member,) = modules({"name": "mlp", "depth": 1}, 1)
    way = fastest(member, workload_of({"name": "mlp", "depth": 1}), CPU)
    assert way.engine in ("compiled", "stacked")
    assert way.slots > 8


def test_a_record_says_which_engine_trained_it_and_how_many_side_by_side(blobs: str) -> None:
    fields = {"data.name": blobs, "budget.epochs": 1, "model.width": 3}
    result = only(fields)
    assert result.engine in ("compiled", "stacked")
    assert result.slots == choice.members_at_once(modules({"name": "mlp", "depth": 1}, 1, width=3, shape=(2, 4, 5))[0], 128, 40, CPU)
    result = only(fields | {"model.name": "nin"})
    assert (result.engine, result.slots) == ("modules", 1)
    result = only({"data.name": blobs, "model.name": "linear", "optimizer.name": "closed_form"})
    assert (result.engine, result.slots) == (None, None)


def test_a_pack_of_several_rounds_keeps_its_engine(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All members end with the same epoch, and the next ones take their slots: what was recorded of a graph is of use again."""
    made: list[str] = []
    make = choice.ENGINES["graphs"]
    monkeypatch.setattr(choice, "_recorder", lambda template: AtOnce())
    monkeypatch.setitem(choice.ENGINES, "graphs", lambda *arguments: made.append("graphs") or make(*arguments))
    monkeypatch.setattr("trainables.training.loop.fastest", lambda template, workload, device, steps: Way("graphs", 2))
    fields = {"data.name": blobs, "budget.epochs": 2, "budget.stop_at_train_error": None, "model.name": "nin", "model.width": 3}
    points = [point(fields | {"seed": seed, "regularizers.dropout": 0.1 * seed}) for seed in range(5)]
    results = finish(Training(points, CPU))
    assert made == ["graphs"]
    assert {(result.engine, result.slots) for result in results.values()} == {("graphs", 2)}
    monkeypatch.undo()
    for one in points:
        (alone,) = finish(Training([one], CPU)).values()
        assert told(results[one.key()]) == told(alone)  # the kernels are those that a member has alone


def test_the_fastest_is_taken_and_kept_for_cards_and_networks_like_this(
    card: dict[str, Any], timed: dict[str, Any], tmp_path: Path
) -> None:
    (member,) = modules(CNN5, 1, width=4)
    timed["seconds"] = {("modules", 1): 8e-3, ("graphs", 8): 2e-3, ("graphs", 32): 1e-3, ("fused", 32): 3e-3}
    found = Way("graphs", 32, 1e-3)
    assert fastest(member, workload_of(CNN5), GPU) == found
    assert timed["tried"][0] == ("modules", 1)
    assert len(timed["tried"]) == len(set(timed["tried"])) == 9
    choice._FOUND.clear()  # as another process
    timed["tried"].clear()
    assert fastest(member, workload_of(CNN5), GPU) == found
    assert not timed["tried"]
    (file,) = (tmp_path / "engines").glob("*.json")
    noted = {(one["engine"], one["slots"]): one["seconds"] for one in json.loads(file.read_text())["ways"]}
    assert noted == timed["seconds"]
    others: list[Callable[[], Workload]] = [lambda: workload_of(CNN5, width=5), lambda: workload_of(CNN5, batch_size=5)]
    for other in others:
        assert fastest(member, other(), GPU) == found
    assert len(list((tmp_path / "engines").glob("*.json"))) == 3
    for name, value in (("name", "Card 2"), ("fraction", 0.5)):
        card[name] = value
        fastest(member, workload_of(CNN5), GPU)
    assert len(list((tmp_path / "engines").glob("*.json"))) == 5


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({("modules", 1): 1.0, ("graphs", 8): 0.95}, "modules"),  # within what another measurement might say
        ({("modules", 1): 1.0, ("fused in graphs", 8): 0.5, ("graphs", 8): 0.6}, "fused in graphs"),
        ({("graphs", 8): 1.0}, "modules"),  # nothing to compare with
        ({}, "modules"),
    ],
)
def test_what_is_not_clearly_faster_is_not_taken(
    card: dict[str, Any], timed: dict[str, Any], seconds: dict[Any, float], expected: str
) -> None:
    timed["seconds"] = seconds
    (member,) = modules(CNN5, 1, width=4)
    assert fastest(member, workload_of(CNN5), GPU).engine == expected


def test_a_file_that_says_nothing_is_measured_anew(card: dict[str, Any], timed: dict[str, Any], tmp_path: Path) -> None:
    (member,) = modules(CNN5, 1, width=4)
    timed["seconds"] = {("modules", 1): 8e-3, ("fused", 32): 3e-3}
    fastest(member, workload_of(CNN5), GPU)
    (file,) = (tmp_path / "engines").glob("*.json")
    another = '{"ways": [{"engine": "of another version", "slots": 8, "seconds": 1, "start": 0}]}'
    for text in ("", "[]", another, '{"ways": [{"engine": "fused"}]}'):
        choice._FOUND.clear()
        timed["tried"].clear()
        file.write_text(text)
        assert fastest(member, workload_of(CNN5), GPU).engine == "fused"
        assert timed["tried"]
        assert json.loads(file.read_text())["ways"][-1]["engine"] == "fused"


def test_where_nothing_can_be_written_a_process_measures_once(
    card: dict[str, Any], timed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path / "file"))
    (member,) = modules(CNN5, 1, width=4)
    timed["seconds"] = {("modules", 1): 8e-3, ("fused", 32): 3e-3}
    for _ in range(2):
        assert fastest(member, workload_of(CNN5), GPU).engine == "fused"
    assert len(timed["tried"]) == 9


def test_slots_are_as_many_as_the_memory_holds(card: dict[str, Any], timed: dict[str, Any]) -> None:
    (member,) = modules(CNN5, 1, width=4)
    timed["seconds"] = {("modules", 1): 8e-3} | {("graphs", slots): 1e-3 / slots for slots in range(1, 33)}
    assert fastest(member, workload_of(CNN5), GPU).slots == MOST_BRANCHES
    held = choice._held_bytes(member, workload_of(CNN5))
    assert held is not None
    card["free"] = 5.5 * held / 0.2  # a fifth of which is for stacks
    assert fastest(member, workload_of(CNN5), GPU).slots == 5  # of what was measured with more room
    card["free"] = 0.0
    assert fastest(member, workload_of(CNN5), GPU).slots == 1


def test_what_a_member_holds_is_its_weights_and_what_the_backward_pass_reads() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(216, CLASSES))
    weights = 3 * 2 * 9 + 216 * CLASSES + CLASSES
    read = 5 * 2 * 8 * 9 + 3 * 2 * 9 + 5 * 3 * 8 * 9 + 5 * 216 + 216 * CLASSES  # images, filters, rectified, flat, weights
    assert choice._held_bytes(network, workload_of(CNN5, batch_size=5)) == 4 * (5 * weights + read)


class Looks(nn.Module):
    """Asks for its inputs' values."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs if inputs.sum() > 0 else -inputs


def test_a_network_of_ones_own_trains_as_it_is(card: dict[str, Any], timed: dict[str, Any]) -> None:
    own = nn.Sequential(nn.Flatten(), Looks(), nn.Linear(144, CLASSES))
    assert choice._held_bytes(own, workload_of(CNN5)) is None
    own[1].__class__.__module__ = "my_models"
    assert fastest(own, workload_of(CNN5), GPU) == Way("modules", 1)
    assert not timed["tried"]


def test_candidates_really_take_steps_and_one_that_raises_is_none(card: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine trains this network in the measurement; weights and running statistics of the template stay."""
    monkeypatch.setattr(choice, "MOST_BRANCHES", 2)
    monkeypatch.setattr(choice, "PROBE_SECONDS", math.inf)

    def refuses(*arguments: object) -> Any:
        raise RuntimeError("CUDA error: operation not supported")

    monkeypatch.setitem(choice.ENGINES, "fused, unfolded", refuses)
    (member,) = modules(CNN5, 1, width=2, dropout=0.2)
    before = {name: tensor.clone() for name, tensor in member.state_dict().items()}
    monkeypatch.setattr(choice, "_most_slots", lambda template, workload, device: 2)
    begun = time.perf_counter()
    measured = {f"{way.engine}, {way.slots}": way.seconds for way in choice._probed(member, workload_of(CNN5, width=2), GPU)}
    taken = time.perf_counter() - begun
    expected = {"modules, 1", "modules, channels last, 1", "graphs, 2", "graphs, channels last, 2", "fused, 2", "fused in graphs, 2"}
    assert set(measured) == expected
    assert all(seconds and 0 < seconds < taken for seconds in measured.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in member.state_dict().items())


COMPILED = "graphs, compiled"


def test_a_network_is_compiled_where_training_takes_much_longer_than_that(card: dict[str, Any], timed: dict[str, Any]) -> None:
    """Finding out takes some 60 seconds, more than a way of 1.1 times the speed would save of 100,000 steps of 6 milliseconds."""
    (member,) = modules(CNN5, 1, width=4)
    timed["seconds"] = {("modules", 1): 6e-3, (COMPILED, 1): 3e-3, (f"{COMPILED}, channels last", 1): 2e-3}
    for steps in (0, 100_000):
        assert fastest(member, workload_of(CNN5), GPU, steps).engine == "modules"
    assert not [way for way in timed["tried"] if "compiled" in way[0]]
    assert fastest(member, workload_of(CNN5), GPU, 200_000) == Way(f"{COMPILED}, channels last", 1, 2e-3, 100.0)
    timed["tried"].clear()
    for steps, engine in ((200_000, f"{COMPILED}, channels last"), (30_000, f"{COMPILED}, channels last"), (20_000, "modules")):
        assert fastest(member, workload_of(CNN5), GPU, steps).engine == engine  # known now, and weighed: 100 s are 3 ms of 33,333 steps
        known = choice.known(workload_of(CNN5), choice.card_name(GPU), steps)
        assert known is not None
        assert known.engine == engine
    assert not timed["tried"]


def test_what_does_not_compile_is_not_tried_again(card: dict[str, Any], timed: dict[str, Any]) -> None:
    (member,) = modules(CNN5, 1, width=4)
    timed["seconds"] = {("modules", 1): 6e-3}
    for _ in range(2):
        assert fastest(member, workload_of(CNN5), GPU, 10**6) == Way("modules", 1, 6e-3)
        choice._FOUND.clear()  # as another process
    assert [way for way in timed["tried"] if "compiled" in way[0]] == [(COMPILED, 1), (f"{COMPILED}, channels last", 1)]


def test_a_way_that_turns_into_another_is_no_candidate(card: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is not compiled, or not recorded, trains as it is: its time is that of another way."""
    (member,) = modules(CNN5, 1, width=2)
    monkeypatch.setattr(choice, "COMPILER", "no backend of this name")
    assert not choice._tried(member, workload_of(CNN5, width=2), Way(COMPILED, 1))
    monkeypatch.setattr(choice, "COMPILER", "eager")
    (way,) = choice._tried(member, workload_of(CNN5, width=2), Way(COMPILED, 1))
    assert way.seconds
    assert 0 < way.seconds < way.start
