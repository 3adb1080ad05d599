"""What meets a reader in MLflow: the study's run with its summary, spec, data set and charts, and views that its pages open."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pytest

import analysis
from study.records.front.gathering import front_of
from study.records.front.overview import Overview, overview_of
from study.records.front.views import GAP, POINTS, TAG
from study.records.mirror import Mirror
from study.records.writer import FragmentWriter, Provenance
from tests.analysis.made_up_study import record, records
from tests.study.made_up_results import result
from tests.study.records.mirrored import STUDY, copied, experiment_of
from trainables.data.sets.sources import load

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def results_of_a_chart(folder: Path) -> list[Path]:
    chart = folder / "chart.svg"
    chart.write_text("<svg/>")
    return [chart]


def test_the_chart_is_with_the_parent_run(writer, uri, tmp_path):
    from mlflow import MlflowClient

    writer([result(seed=0)], "cpu")
    mirror = copied(writer, uri)
    mirror.log_artifacts(results_of_a_chart(tmp_path))
    assert mirror.error is None
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`gaplab.kind` = 'study'")
    assert [artifact.path for artifact in client.list_artifacts(parent.info.run_id)] == ["chart.svg"]


def test_charts_of_results_that_were_moved_lie_where_they_are_now(tmp_path):
    storage = tmp_path / "before"
    FragmentWriter(str(storage / STUDY), Provenance(STUDY, None, ""))([result(seed=0)], "cpu")
    first = Mirror(f"sqlite:///{storage}/mlflow.db", STUDY, str(storage / STUDY))
    first.finish()
    assert first.error is None
    now = tmp_path / "now"
    storage.rename(now)
    mirror = Mirror(f"sqlite:///{now}/mlflow.db", STUDY, str(now / STUDY))
    with pytest.warns(UserWarning, match="the results were moved") as said:
        mirror.show(front_of(str(now / STUDY), STUDY, "study: made-up\n", results_of_a_chart(tmp_path), [result().point.data]))
    assert mirror.error is None
    assert sum("moved" in str(one.message) for one in said) == 1
    assert not storage.exists()
    assert list((now / STUDY / "mlflow-artifacts").glob("*/artifacts/charts/chart.svg"))


@pytest.fixture
def shown(writer: FragmentWriter, uri: str, tmp_path: Path) -> Callable[..., MlflowClient]:
    """A study of two noise levels and two widths, mirrored with its front as often as asked; the client that reads it."""
    rows = [{"model.width": width, "corruption.level": level, "seed": seed} for width in (4, 8) for level in (0.0, 0.5) for seed in (0, 1)]
    results = [result(**row) for row in rows]
    writer([replace(one, outcome=one.outcome | {"parameters": 10 * (one.point.model.width or 0)}) for one in results], "cpu")

    def show(**changes: Any) -> MlflowClient:
        from mlflow import MlflowClient

        mirror = Mirror(uri, STUDY, writer.root)
        mirror.finish()
        charts = [path for path in (tmp_path / "gap.png", tmp_path / "gap.svg") if path.write_bytes(b"drawn")]
        data = [result().point.data]
        mirror.show(replace(front_of(writer.root, STUDY, "# What it shows.\nstudy: made-up\n", charts, data), **changes))
        assert mirror.error is None
        assert mirror.page == f"/#/experiments/1/runs?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={GAP}"
        return MlflowClient(uri)

    return show


def study_run(client: MlflowClient) -> Run:
    (parent,) = client.search_runs([experiment_of(client).experiment_id], "tags.`gaplab.kind` = 'study'")
    return parent


def test_the_run_of_the_study_says_what_was_found(shown, writer):
    client = shown()
    run = study_run(client)
    records = analysis.load(writer.root)
    widest = records.filter(pc.equal(records["model.width"], 8))
    for level in (0.0, 0.5):
        some = widest.filter(pc.equal(widest["corruption.level"], level))
        assert run.data.metrics[f"gap without fit/noise {level:g}"] == pytest.approx(pc.mean(some["generalization_gap"]).as_py())
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "gap without fit/noise 0")]
    assert sorted(steps) == sorted(set(records["parameters"].to_pylist())), "over capacity"
    assert run.data.metrics["points/completed"] == records.num_rows
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("What it shows.")
    assert f"get-artifact?path=charts/gap.png&run_uuid={run.info.run_id}" in note
    assert experiment_of(client).tags["mlflow.note.content"] == note
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"charts", "spec.yaml"}
    assert {file.path for file in client.list_artifacts(run.info.run_id, "charts")} == {"charts/gap.png", "charts/gap.svg"}


def test_the_data_set_is_named_once_with_a_digest_of_its_content(shown):
    for _ in range(2):
        (found,) = study_run(shown()).inputs.dataset_inputs
    assert found.dataset.name == "synthetic"
    digest = load(result().point.data).fingerprint()
    assert found.dataset.digest == digest
    assert load(result(**{"data.separation": 1.0}).point.data).fingerprint() != digest


def test_showing_again_writes_nothing_twice_and_leaves_what_a_user_wrote(shown):
    client = shown()
    run = study_run(client)
    experiment = experiment_of(client)
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "mine")
    shown()
    assert experiment_of(client).tags["mlflow.note.content"] == "mine"
    assert experiment_of(client).tags[TAG + GAP] == experiment.tags[TAG + GAP], "not even made at another moment"
    for name in run.data.metrics:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps))
    shown(overview=Overview({}, "other words"))
    assert study_run(client).data.tags["mlflow.note.content"].startswith("other words"), "what was written here is replaced"


def test_views_name_what_the_runs_have(shown):
    client = shown()
    experiment, run = experiment_of(client), study_run(client)
    points = client.search_runs([experiment.experiment_id], "tags.`gaplab.kind` = 'point'")
    assert {point.data.tags["gaplab.group"] for point in points} == {
        f"noise {level} · width {width}" for level in ("0", "0.5") for width in (4, 8)
    }
    gap, by_points = (json.loads(json.loads(experiment.tags[TAG + key])["state"]) for key in (GAP, POINTS))
    drawn = {name for card in gap["compareRunCharts"] for name in card["selectedMetricKeys"]}
    assert drawn
    assert drawn <= set(run.data.metrics)
    wanted = {axis["key"] for axis in (by_points["compareRunCharts"][0][name] for name in ("xaxis", "yaxis"))}
    wanted |= {name for card in by_points["compareRunCharts"] for name in card.get("selectedMetricKeys", ())}
    assert wanted <= set(points[0].data.metrics)
    assert len(client.search_runs([experiment.experiment_id], by_points["searchFilter"])) == len(points)
    assert max(len(value) for value in experiment.tags.values()) < 5000, "MLflow refuses a longer tag"


def test_a_study_of_very_many_lines_has_no_metrics_of_them():
    rows = [record(**{"corruption.level": level / 200, "seed": seed}) for level in range(200) for seed in (0, 1)]
    found = overview_of("many", records(rows))
    assert set(found.metrics) == {"points/completed"}
    assert len(found.description) < 20_000


def test_a_study_that_found_nothing_says_so():
    assert overview_of("none", records([record(status="failed", test_error=None)])).metrics == {"points/failed": ([0], [1.0])}
