"""`gaplab capacity` from a spec to what it says: each point is run once, and linear models memorise what their dimension allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

import analysis
import study
from analysis.records.fragments import fragments, read_fragments
from analysis.records.schema import FINAL
from study.capacity.rounds import Concluded, measure_capacity
from study.plan.plan import plan_study
from tests.study.conftest import Answer
from tests.study.in_this_process import InThisProcess

SPEC = """study: linear
trial:
  data: {name: synthetic, dimension: 10, classes: 2, separation: 6, train_size: 100}
  model: {name: linear}
  optimizer: {name: closed_form}
space: {corruption.level: {values: [0, 0.5]}}
replicates: 4
tracking: {mlflow: false}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "linear.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> InThisProcess:
    """What was run in each round, without Ray."""
    found = InThisProcess()
    monkeypatch.setattr("study.capacity.rounds.connected", lambda *arguments: nullcontext())
    monkeypatch.setattr("study.cli.terminal.progress.run_drawn", found)
    return found


def test_what_is_memorised_is_said_and_a_second_run_trains_nothing(
    gaplab: Callable[..., Answer], spec: Path, rounds: InThisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    storage = str(tmp_path / "results")
    first = gaplab("capacity", str(spec), "--storage", storage, "--resolution", "0.5")
    assert first.code == 0, first.err
    records = analysis.load(f"{storage}/linear-capacity")
    (row,) = analysis.capacity_table(records).to_pylist()
    assert (row["parameters"], row["classes"], row["inputs"], row["seeds"]) == (20, 2, 10, 4)
    sizes = sorted(set(records["data.train_size"].to_pylist()))
    interpolated = max(size for size in sizes if size <= 10)
    assert interpolated <= row["random.fitted"] <= 30, "least squares fits any labels of d points, and no plane those of far more than 2 d"
    assert row["random.low"] < row["random"] < row["random.high"]
    assert row["bits"] == pytest.approx(row["random"] / 20)
    assert row["true.fitted"] > 2 * row["random.fitted"], "classes that lie apart are fit with many more samples"
    assert (tmp_path / "results/linear-capacity/charts/capacity.png").stat().st_size > 10_000
    assert "samples memorised" in first.out
    assert rounds.ran[0] == 16, "both ends of the ladder, 4 seeds, random and true labels"
    assert rounds.ran[-1] == 0, "the last round asks for nothing new"
    assert sum(rounds.ran) == records.num_rows

    second = gaplab("capacity", str(spec), "--storage", storage, "--resolution", "0.5")
    assert (second.code, second.out) == (0, first.out)
    assert rounds.ran[-2:] == [0, 0], "one round each"
    assert analysis.load(f"{storage}/linear-capacity").num_rows == records.num_rows


@pytest.mark.parametrize("how", ["interrupted", "copying_interrupted"])
def test_what_an_interrupted_bisection_has_recorded_is_not_run_again(how: str, spec: Path, rounds: InThisProcess, tmp_path: Path) -> None:
    understood = study.read_spec(spec, ("replicates=1", "data.train_size=20"))

    def whole(of: study.Spec, then: Concluded) -> study.Summary:
        return rounds(of, then, storage=str(tmp_path))

    def interrupted(of: study.Spec, then: Concluded) -> study.Summary:
        return replace(whole(of, then), **{how: True})

    stopped = measure_capacity(understood, resolution=0.5, storage=str(tmp_path), one_round=interrupted)
    assert (getattr(stopped, how), stopped.declared, rounds.ran) == (True, 4, [4]), "the first round: both ends, random and true labels"
    ended = measure_capacity(understood, resolution=0.5, storage=str(tmp_path), one_round=whole)
    assert ended.declared == sum(rounds.ran) > 4
    keys = read_fragments(ended.root, fragments(ended.root))["key"].to_pylist()
    assert len(keys) == len(set(keys)) == ended.declared, "each point once"
    assert set(ended.counts) <= set(FINAL)


def test_points_that_failed_end_the_bisection(spec: Path, rounds: InThisProcess, tmp_path: Path) -> None:
    def failing(of: study.Spec, then: Concluded) -> study.Summary:
        return study.Summary(plan_study(of, str(tmp_path)), declared=4, ran=4, counts=Counter(completed=3, failed=1))

    ended = measure_capacity(study.read_spec(spec, ("replicates=1",)), storage=str(tmp_path), one_round=failing)
    assert ended.missing == 1


@pytest.mark.xdist_group("ray")
def test_on_ray_each_round_goes_on_from_the_one_before(spec: Path, one_ray: None, tmp_path: Path) -> None:
    understood = study.read_spec(spec, ("replicates=1", "data.train_size=4", "resources.workers=1"))
    ended = study.measure_capacity(understood, resolution=0.5, storage=str(tmp_path))
    assert (ended.missing, ended.interrupted) == (0, False)
    row = analysis.capacity_table(ended.records).to_pylist()[0]
    assert row["true.fitted"] == pytest.approx(4)
