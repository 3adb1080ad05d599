"""The forecast of a dry run: against costs that are known, and its ± against totals that come afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

import study
from study.plan.packs import expected_seconds
from study.plan.plan import plan_study
from study.records.writer import FragmentWriter, Provenance
from study.simulation.cost import RecordedCosts
from study.simulation.outlook import error_of_totals, outlook
from study.simulation.replay import PACK_SECONDS
from tests.study.made_up_results import resolved
from trainables.point.config import TrialConfig, field_types, flatten
from trainables.training.loop import Result

SLOWER = 7_000
"""Every point takes so many times what is expected."""
WRITTEN = {
    "study": "half-done",
    "trial": {"data": {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60}, "budget": {"epochs": 3}},
    "space": {"model.width": {"values": [2, 4, 8, 16, 32, 64]}},
    "replicates": 2,
    "tracking": {"mlflow": False},
}


def recorded_in(root: Path, points: list[TrialConfig], seconds: Callable[[TrialConfig], float]) -> None:
    results = [Result(point, point.key(), "completed", "", {"seconds": seconds(point), "epochs": 3}, []) for point in points]
    FragmentWriter(str(root), Provenance(root.name, None, "0"))(results, "cpu")


@pytest.fixture
def half_done(tmp_path: Path) -> Path:
    """The first seed of every width is recorded."""
    points = [point.config for point in plan_study(study.understand(WRITTEN), str(tmp_path)).points]
    recorded_in(tmp_path / "half-done", [point for point in points if point.seed == 0], lambda point: SLOWER * expected_seconds(point))
    return tmp_path


def test_what_is_left_takes_what_its_like_took(half_done: Path) -> None:
    plan = plan_study(study.understand(WRITTEN), str(half_done)).with_records()
    alone = SLOWER * sum(expected_seconds(point.config) for point in plan.missing)
    found = outlook(plan, 1)
    assert found is not None
    assert (len(plan.missing), found.records, found.beyond) == (6, 6, 0)
    assert found.seconds == pytest.approx(alone + 6 * PACK_SECONDS)
    assert found.off_by == pytest.approx(0, abs=1e-9)
    at_most = outlook(plan, 100)
    assert at_most is not None
    assert at_most.seconds == pytest.approx(SLOWER * max(expected_seconds(point.config) for point in plan.missing) + PACK_SECONDS)


def test_a_dry_run_says_the_forecast_and_what_it_rests_on(half_done: Path, gaplab) -> None:
    spec = half_done / "spec.yaml"
    YAML().dump(WRITTEN | {"resources": {"workers": 2}}, spec)
    said = " ".join(gaplab("run", str(spec), "--storage", str(half_done), "--dry-run").out.split())
    assert re.search(r"Forecast, not measured: about \d+ \w+ on 2 workers \(± 0%\), from 6 recorded points of this study\.", said), said
    assert "lie outside" not in said
    YAML().dump(WRITTEN | {"space": {"model.width": {"values": [2, 64, 900]}}}, spec)
    said = " ".join(gaplab("run", str(spec), "--storage", str(half_done), "--dry-run").out.split())
    assert "2 of the points to run lie outside of what is recorded" in said
    nothing = gaplab("run", str(spec), "--storage", str(half_done / "elsewhere"), "--dry-run").out
    assert "Forecast" not in nothing, "no record says anything of costs"
    assert "in the order of" in nothing


def test_a_search_is_forecast_from_what_its_points_took_on_average(tmp_path: Path, gaplab) -> None:
    searched = WRITTEN | {
        "study": "searched",
        "trial": {**WRITTEN["trial"], "data": {**WRITTEN["trial"]["data"], "validation_size": 20}},
        "space": {"optimizer.learning_rate": {"log_uniform": {"low": 1e-3, "high": 1e-1}}},
        "search": {"kind": "optuna", "trials": 50, "sampler": "random"},
        "resources": {"workers": 4},
    }
    spec = tmp_path / "spec.yaml"
    YAML().dump(searched, spec)
    recorded_in(tmp_path / "searched", [resolved(seed=0), resolved(seed=1)], lambda point: 10 + 20 * point.seed)
    said = " ".join(gaplab("run", str(spec), "--storage", str(tmp_path), "--dry-run").out.split())
    assert "about 500 seconds on 4 workers for the 100 points left, if they take as long as the 2 recorded points" in said


def test_what_lies_outside_of_the_records(tmp_path: Path) -> None:
    points = [resolved(**{"model.width": width, "seed": seed}) for width in (2, 8, 32) for seed in (0, 1)]
    recorded_in(tmp_path / "some", points, lambda point: 1.0)
    recorded = RecordedCosts.read(str(tmp_path / "some"))
    assert recorded.covers(resolved(**{"model.width": 5, "seed": 9})), "seeds are not told apart"
    assert not recorded.covers(resolved(**{"model.width": 33}))
    assert not recorded.covers(resolved(**{"model.width": 8, "model.depth": 3}))
    assert len(RecordedCosts.read(str(tmp_path / "some"), most=4).rows) == 4


def test_the_width_of_a_forecast_holds_what_comes() -> None:
    """Costs that spread by a factor e^±0.5 around the expected ones: 95 % of totals of new points must be off by less than is said."""
    random, covered, repeats = np.random.default_rng(0), [], 50
    points = [resolved(**{"model.width": int(width)}) for width in range(2, 62)]
    expected = np.array([expected_seconds(point) for point in points])
    fields = [{name: flatten(point)[name] for name in field_types()} | {"key": point.key()} for point in points]
    for _ in range(repeats):
        took = expected * np.exp(0.5 * random.standard_normal(len(points)))
        known, new = np.split(random.permutation(len(points)), [50])
        recorded = RecordedCosts([fields[index] | {"seconds": took[index]} for index in known])
        said = error_of_totals(recorded, len(new))
        assert said is not None
        forecast = sum(recorded.seconds(points[index]) for index in new)
        covered.append(abs(forecast / took[new].sum() - 1) <= said)
    assert 0.95 - 3 * (0.95 * 0.05 / repeats) ** 0.5 < np.mean(covered)
    assert error_of_totals(RecordedCosts(recorded.rows[:4]), 2) is None
