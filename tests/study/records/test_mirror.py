"""The mirror: one run a point, equal to the records, whatever they hold and however a study changes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

import analysis
import study
from study.records.compaction import compact
from study.records.mirror import Mirror
from study.records.tracking import ClientWriter, StudyRuns, finished_runs
from study.records.tracking.other_storage import check_experiment
from study.records.writer import FragmentWriter, Provenance
from tests.study.made_up_results import result
from tests.study.records.mirrored import STUDY, assert_equal_to_records, copied, run_ids, runs_by_key
from trainables.point.errors import ConfigError


def test_mlflow_equals_arrow_for_every_status(writer, uri):
    writer([result(seed=0), result(seed=1, status="diverged", reason="the train loss is nan after epoch 4")], "cpu")
    writer([result(seed=2, status="failed", reason="RuntimeError: no luck"), result(seed=3, status="pruned")], "cpu")
    mirror = copied(writer, uri)
    assert mirror.error is None
    assert_equal_to_records(writer, uri)
    assert len(runs_by_key(uri)) == 4


def test_measures_are_mirrored(writer, uri):
    measured = result(seed=0)
    writer([replace(measured, outcome=measured.outcome | {"measure.path_norm": 1 / 3})], "cpu")
    copied(writer, uri)
    assert_equal_to_records(writer, uri)


@pytest.mark.parametrize("at_once", [True, False], ids=["by a new process", "while it follows"])
def test_measures_of_a_point_that_was_trained_again_are_joined(writer, uri, at_once):
    """In whatever order its files are met, merged or not; a network that came out otherwise lends nothing."""
    mirror = Mirror(uri, STUDY, writer.root)
    for name in ("l2_norm", "path_norm", "frobenius_norm"):
        for seed in range(3):
            one = result(seed=seed)
            loss = one.outcome["test_loss"] + 1e-15 * (name == "path_norm" and seed == 2)
            writer([replace(one, outcome=one.outcome | {f"measure.{name}": seed + 1 / 3, "test_loss": loss})], "cpu")
            time.sleep(0.002)  # fragments carry milliseconds
        if not at_once:
            mirror.finish()
        if name == "path_norm":
            compact(writer.root)
    mirror.finish()
    assert mirror.error is None
    assert_equal_to_records(writer, uri)
    there = analysis.load(f"mlflow:{STUDY}", tracking_uri=uri)
    assert [there[f"measure.{name}"].null_count for name in ("l2_norm", "path_norm", "frobenius_norm")] == [0, 1, 0]
    ids = run_ids(uri)
    copied(writer, uri)
    assert run_ids(uri) == ids, "and that is not done again"


def test_a_run_is_nested_named_and_ended(writer, uri):
    from mlflow import MlflowClient

    writer([result(seed=0), result(seed=1, status="failed"), result(seed=2, status="pruned")], "cpu")
    copied(writer, uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags["gaplab.kind"] == "study")
    points = {run.data.params["seed"]: run for run in runs if run.data.tags["gaplab.kind"] == "point"}
    assert {seed: run.info.status for seed, run in points.items()} == {"0": "FINISHED", "1": "FAILED", "2": "KILLED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in points.values()} == {parent.info.run_id}
    assert {run.info.run_name for run in points.values()} == {"seed 0", "seed 1", "seed 2"}
    assert "optimizer.name" in parent.data.params
    assert "optimizer.name" not in points["0"].data.params, "a constant stands on the study's run alone"
    assert points["0"].info.end_time - points["0"].info.start_time == 250, "milliseconds: the result took 0.25 s"
    history = client.get_metric_history(points["0"].info.run_id, "train_error")
    assert [(point.step, point.value) for point in history] == [(row["epoch"], row["train_error"]) for row in result(seed=0).curve]


def test_copying_again_changes_nothing(writer, uri):
    writer([result(seed=0), result(seed=1, status="failed")], "cpu")
    copied(writer, uri)
    before = analysis.load(f"mlflow:{STUDY}", tracking_uri=uri)
    ids = run_ids(uri)
    for _ in range(2):
        copied(writer, uri)
    assert analysis.load(f"mlflow:{STUDY}", tracking_uri=uri).equals(before)
    assert run_ids(uri) == ids, "not even made anew"


def test_a_failed_point_that_ran_again_has_the_run_of_its_outcome(writer, uri):
    writer([result(seed=0, status="failed", reason="RuntimeError: first")], "cpu")
    copied(writer, uri)
    time.sleep(0.002)  # fragments carry milliseconds
    writer([result(seed=0, status="failed", reason="RuntimeError: second")], "cpu")
    copied(writer, uri)
    assert analysis.load(f"mlflow:{STUDY}", tracking_uri=uri)["reason"].to_pylist() == ["RuntimeError: second"]
    writer([result(seed=0)], "cpu")
    copied(writer, uri)
    assert_equal_to_records(writer, uri)


def test_points_that_ran_twice_have_one_run(writer, uri):
    """In whatever order the fragments are met, as everything else that reads records."""
    for outcome in ("completed", "failed", "completed"):
        writer([result(seed=0, status=outcome), result(seed=1)], "cpu")
        time.sleep(0.002)
    copied(writer, uri)
    assert_equal_to_records(writer, uri)


def test_long_texts_do_not_stop_the_mirror(writer, uri):
    writer([result(seed=0, status="failed", reason="x" * 100_000), result(seed=1)], "cpu")
    mirror = copied(writer, uri)
    assert mirror.error is None
    reasons = analysis.load(f"mlflow:{STUDY}", tracking_uri=uri)["reason"].to_pylist()
    assert sorted(len(reason) for reason in reasons) == [len(result(seed=1).reason), 5000]


def test_long_curves_are_thinned(writer, uri):
    writer([result(seed=0, epochs=700)], "cpu")
    copied(writer, uri)
    assert analysis.load(f"mlflow:{STUDY}", tracking_uri=uri).equals(analysis.load(writer.root))
    epochs = analysis.load_curves(f"mlflow:{STUDY}", tracking_uri=uri)["epoch"].to_pylist()
    assert len(epochs) == 64
    assert max(epochs) == 700


def test_whole_curves_are_copied_if_asked_for(writer, uri):
    writer([result(seed=0, epochs=700)], "cpu")
    Mirror(uri, STUDY, writer.root, drawn=None).finish()
    assert_equal_to_records(writer, uri)


def test_a_damaged_fragment_does_not_stop_the_mirror(writer, uri):
    writer([result(seed=0)], "cpu")
    Path(writer.root, "records", "cut.parquet").write_bytes(b"PAR1")
    with pytest.warns(UserWarning, match=r"cut\.parquet is no complete"):
        mirror = copied(writer, uri)
    assert mirror.error is None
    assert sum(runs_by_key(uri).values()) == 1


def test_two_storages_of_one_study_name_are_not_mixed(writer, uri, tmp_path):
    writer([result(seed=0)], "cpu")
    copied(writer, uri)
    other = FragmentWriter(str(tmp_path / "elsewhere" / STUDY), Provenance(STUDY, None, "0.1.0"))
    other([result(seed=1)], "cpu")
    mirror = copied(other, uri)
    assert mirror.error is not None
    assert "holds the points of another storage" in mirror.error
    assert_equal_to_records(writer, uri)
    Path(writer.root, ".storage-id").unlink()
    assert copied(writer, uri).error is None, "the folder was made anew: the same place"
    moved = Path(writer.root).rename(tmp_path / "moved")
    assert copied(FragmentWriter(str(moved), Provenance(STUDY, None, "0.1.0")), uri).error is None, "a storage keeps its id when it moves"


def test_the_experiment_of_another_storage_is_refused_before_anything_is_trained(writer, uri, tmp_path):
    writer([result(seed=0)], "cpu")
    copied(writer, uri)
    written = {
        "study": STUDY,
        "trial": {"data": {"train_size": 60}, "optimizer": {"learning_rate": 0.1}, "budget": {"epochs": 2}},
        "space": {},
    }
    with pytest.raises(ConfigError, match="--tracking-uri: the experiment of this name holds the points of another storage"):
        study.run(study.understand(written), storage=str(tmp_path / "elsewhere"), tracking_uri=uri)
    assert not (tmp_path / "elsewhere").exists(), "nothing was started"
    check_experiment(uri, STUDY, writer.root)
    moved = Path(writer.root).rename(tmp_path / "moved")
    check_experiment(uri, STUDY, str(moved))
    check_experiment(uri, "another", str(tmp_path / "elsewhere"))


def test_an_experiment_whose_runs_state_everything_goes_on_as_it_is(writer, uri):
    """As earlier versions wrote it: nothing on the study's run but its kind."""
    from mlflow import MlflowClient

    writer([result(seed=0)], "cpu")
    client = MlflowClient(uri)
    experiment = client.create_experiment(STUDY, artifact_location=f"{writer.root}/mlflow-artifacts")
    parent = client.create_run(experiment, tags={"gaplab.kind": "study"}).info.run_id
    client.set_terminated(parent)
    old = ClientWriter(client, experiment, at_once=1)
    before = old.write(list(finished_runs(analysis.load(writer.root), analysis.load_curves(writer.root), StudyRuns(parent))))
    old.close()
    assert_equal_to_records(writer, uri)
    writer([result(seed=1)], "cpu")
    assert copied(writer, uri).error is None
    assert_equal_to_records(writer, uri)
    assert not client.get_run(parent).data.params, "old runs lack nothing that it might state"
    assert {parent, *before} < run_ids(uri), "and stay as they are"


def test_a_study_that_grows_keeps_what_its_run_states(writer, uri):
    """What was constant varies now: old runs still take it from the study's run, new ones state theirs."""
    writer([result(seed=0), result(seed=1)], "cpu")
    copied(writer, uri)
    writer([result(seed=0, **{"optimizer.momentum": 0.25})], "cpu")
    copied(writer, uri)
    assert_equal_to_records(writer, uri)
