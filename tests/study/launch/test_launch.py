"""A study from its spec to its records, on a real Ray: each point once, resumed, extended, mirrored, never lost silently."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from filelock import FileLock

import analysis
import study
from analysis.records.fragments import fragments, read_fragments
from study.plan.points import declared_points
from tests.analysis.report.conftest import held
from tests.study.disturbances import OWN_RUN
from tests.study.in_this_process import InThisProcess
from trainables.point.errors import ConfigError
from trainables.probe.learning_rate import RATES

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.usefixtures("one_ray")]

DATA = {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60}
WRITTEN: dict[str, Any] = {
    "study": "tiny",
    "trial": {
        "data": DATA,
        "model": {"width": 4},
        "optimizer": {"learning_rate": 0.1},
        "budget": {"epochs": 2, "stop_at_train_error": None},
    },
    "space": {"corruption.level": {"values": [0.0, 1.0]}, "seed": {"range": 2}},
    "resources": {"workers": 1},
}


def spec(**changes: Any) -> study.Spec:
    return study.understand(WRITTEN | changes)


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in ("key", "epoch") if name in table.column_names]).combine_chunks()


def outcomes(root: str) -> pa.Table:
    """The records without what tells of the run, in the order of their keys."""
    return in_order(analysis.load(root).drop_columns(OWN_RUN))


def written_rows(root: str) -> Counter[str]:
    """How often each key was written, in whatever fragments."""
    return Counter(read_fragments(root, fragments(root))["key"].to_pylist())


def mirrored(storage: Path, experiment: str = "tiny") -> Counter[str]:
    """How many MLflow runs each key has."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    assert sum(run.data.tags["gaplab.kind"] == "study" for run in runs) == 1
    return Counter(run.data.tags["gaplab.key"] for run in runs if run.data.tags["gaplab.kind"] == "point")


def keys(spec: study.Spec) -> set[str]:
    return {point.key for point in declared_points(spec)}


@pytest.fixture(scope="module")
def finished(one_ray: None, tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Path:
    """The storage of the finished study; tests work on copies."""
    storage = tmp_path_factory.mktemp("storage")
    shutil.copy(fresh_database, storage / "mlflow.db")
    summary = study.run(spec(), storage=str(storage))
    assert summary.counts == {"completed": 4}
    return storage


@pytest.fixture
def storage(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished study's storage."""
    return Path(shutil.copytree(finished, tmp_path / "storage"))


def test_each_declared_point_has_exactly_one_record_and_one_run(finished):
    root = str(finished / "tiny")
    assert written_rows(root) == dict.fromkeys(keys(spec()), 1)
    assert mirrored(finished) == dict.fromkeys(keys(spec()), 1)
    table = analysis.load(root)
    assert set(zip(table["corruption.level"].to_pylist(), table["seed"].to_pylist(), strict=True)) == {
        (level, seed) for level in (0.0, 1.0) for seed in (0, 1)
    }
    assert set(table["epochs"].to_pylist()) == {2}
    curves = analysis.load_curves(root)
    assert Counter(curves["key"].to_pylist()) == dict.fromkeys(keys(spec()), 2)


def test_a_finished_study_holds_its_spec_and_nothing_of_tune(finished):
    left = {path.name for path in (finished / "tiny").iterdir()}
    assert left - {"mlflow-artifacts", "charts", ".lock", ".compacting", ".storage-id"} == {"spec.yaml", "records", "curves"}
    from study.spec.reading import read_spec

    assert keys(read_spec(finished / "tiny" / "spec.yaml")) == keys(spec())


def test_mlflow_equals_arrow(finished):
    uri = f"sqlite:///{finished}/mlflow.db"
    for load in (analysis.load, analysis.load_curves):
        assert in_order(load("mlflow:tiny", tracking_uri=uri)).equals(in_order(load(str(finished / "tiny"))))


def test_a_second_run_does_nothing(storage, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in (storage / "tiny" / "records").iterdir()}
    monkeypatch.setattr("study.launch.training.connected", lambda *_: pytest.fail("Ray is not needed"))
    summary = study.run(spec(), storage=str(storage))
    assert (summary.ran, summary.missing, summary.counts) == (0, 0, {"completed": 4})
    assert {path: path.stat().st_mtime_ns for path in (storage / "tiny" / "records").iterdir()} == before
    assert mirrored(storage) == dict.fromkeys(keys(spec()), 1)


def test_a_grown_spec_runs_only_what_is_missing(storage):
    """Promise 1: extending is union. One more seed and one more level make 4 points 9."""
    grown = spec(space={"corruption.level": {"values": [0.0, 0.5, 1.0]}, "seed": {"range": 3}})
    old = set(fragments(str(storage / "tiny")))
    summary = study.run(grown, storage=str(storage))
    assert (summary.ran, summary.counts) == (5, {"completed": 9})
    assert old < set(fragments(str(storage / "tiny")))
    assert written_rows(str(storage / "tiny")) == dict.fromkeys(keys(grown), 1)
    assert mirrored(storage) == dict.fromkeys(keys(grown), 1)


def test_a_spec_that_shrank_runs_nothing_and_forgets_nothing(storage):
    summary = study.run(spec(space={"seed": {"range": 1}}), storage=str(storage))
    assert (summary.declared, summary.ran, summary.counts) == (1, 0, {"completed": 1})
    assert analysis.load(summary.root).num_rows == 4


@pytest.mark.usefixtures("without_ray")
def test_a_fragment_cut_short_runs_again_to_the_same_record(storage, finished):
    root = str(storage / "tiny")
    victim = Path(fragments(root)[0])
    lost = read_fragments(root, [str(victim)]).num_rows
    victim.write_bytes(victim.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="^1 damaged file was moved to"):
        summary = study.run(spec(), storage=str(storage))
    assert (summary.ran, summary.counts) == (lost, {"completed": 4})
    assert not victim.exists()
    assert outcomes(root).equals(outcomes(str(finished / "tiny"))), "a point's result follows from its key"
    assert mirrored(storage) == dict.fromkeys(keys(spec()), 1)


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("kind", ["records", "curves"])
def test_a_flipped_bit_costs_its_points_a_training_and_nothing_else(storage, finished, kind):
    root = str(storage / "tiny")
    victim = Path(fragments(root)[0].replace("/records/", f"/{kind}/"))
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 3] ^= 1
    victim.write_bytes(raw)
    with pytest.warns(UserWarning, match="^1 damaged file was moved to"):
        summary = study.run(spec(), storage=str(storage))
    assert 0 < summary.ran < 5
    assert summary.counts == {"completed": 4}
    assert outcomes(root).equals(outcomes(str(finished / "tiny")))
    kept = Path(root, "quarantine", kind, victim.name)
    assert kept.read_bytes() == bytes(raw)
    assert study.run(spec(), storage=str(storage)).ran == 0


@pytest.mark.usefixtures("without_ray")
def test_further_measures_are_computed_alone_and_hide_none(storage):
    said: list[str] = []
    root = str(storage / "tiny")
    progress = study.Progress(noted=said.append)
    for names, ran in ((["l2_norm"], 4), (["path_norm"], 4), (["l2_norm"], 0), (["l2_norm", "path_norm"], 0)):
        assert study.run(spec(measures=names), storage=str(storage), progress=progress).ran == ran
    assert said == ["4 points are trained again for l2_norm", "4 points are trained again for path_norm"]
    raw = read_fragments(root, fragments(root)).to_pylist()
    assert all((row["measure.l2_norm"] is None) or (row["measure.path_norm"] is None) for row in raw), "one alone each time"
    grown = spec(measures=["l2_norm", "path_norm"], space={"corruption.level": {"values": [0.0, 1.0]}, "seed": {"range": 3}})
    assert study.run(grown, storage=str(storage)).ran == 2
    table = analysis.load(root)
    assert table.num_rows == 6
    assert table["measure.l2_norm"].null_count == table["measure.path_norm"].null_count == 0


@pytest.mark.usefixtures("without_ray")
def test_what_the_spec_no_longer_declares_is_counted_and_not_shown(storage, gaplab, tmp_path, monkeypatch):
    changed = spec(trial=WRITTEN["trial"] | {"budget": {"epochs": 3}})
    (tmp_path / "changed.yaml").write_text(changed.text)
    root = str(storage / "tiny")
    monkeypatch.chdir(tmp_path)
    answer = gaplab("run", "changed.yaml", "--storage", str(storage))
    assert answer.code == 0, answer.err
    assert "4 recorded points are not of this spec" in answer.out
    table = analysis.load(root)
    assert table.num_rows == 8
    assert analysis.gap_table(table, of=changed)["seeds"].to_pylist() == [2, 2]
    for command in (["plot", root], ["report", root]):
        answer = gaplab(*command)
        assert "4 recorded points are not of this spec" in answer.err, answer.err
        assert "not of this spec" not in gaplab(*command, "--all-recorded").err
    analysis.write_report(root, tmp_path / "own.html")
    own = held((tmp_path / "own.html").read_text(), "data")
    keys = {row["key"]: row["budget.epochs"] == 3 for row in table.to_pylist()}
    assert {key: key in own for key in keys} == keys


def test_duplicate_fragments_are_one_record(storage, finished):
    """A worker that was restarted after it had written, but before it had said so."""
    root = str(storage / "tiny")
    for path in fragments(root):
        shutil.copy(path, path.replace(".parquet", "-again.parquet"))
    assert set(written_rows(root).values()) == {2}
    assert outcomes(root).equals(outcomes(str(finished / "tiny")))
    assert study.run(spec(), storage=str(storage)).ran == 0
    assert mirrored(storage) == dict.fromkeys(keys(spec()), 1)


def test_a_diverging_run_is_a_record(tmp_path):
    hot = spec(space={"optimizer.learning_rate": {"values": [0.1, 1e30]}})
    summary = study.run(hot, storage=str(tmp_path))
    assert summary.counts == {"completed": 1, "diverged": 1}
    (row,) = analysis.load(summary.root, filter=pa.compute.field("status") == "diverged").to_pylist()
    assert row["optimizer.learning_rate"] == 1e30
    assert "train loss" in row["reason"]
    assert row["train_loss"] is None
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert in_order(analysis.load("mlflow:tiny", tracking_uri=uri)).equals(in_order(analysis.load(summary.root)))
    assert study.run(hot, storage=str(tmp_path)).ran == 0, "diverging is an outcome: it would happen again"


OWN_MODEL = """
from pathlib import Path

from torch import nn
from trainables.models import model_family

FLAG = Path("{flag}")


class Net(nn.Linear):
    def forward(self, images):
        if not images.is_meta and FLAG.exists():
            raise RuntimeError("the flag is up")
        return super().forward(images.flatten(1))


@model_family("flagged", default_width=1)
def flagged(model, dropout, image_shape, classes):
    channels, height, width = image_shape
    return Net(channels * height * width, classes)
"""


@pytest.mark.usefixtures("untried")
def test_an_own_model_that_raises_is_a_failed_record_and_runs_again(tmp_path, request):
    flag = tmp_path / "flag"
    flag.touch()
    (tmp_path / "mine.py").write_text(OWN_MODEL.format(flag=flag))
    written = WRITTEN | {"trial": WRITTEN["trial"] | {"model": {"name": "flagged"}}, "imports": [str(tmp_path / "mine.py")]}
    own = study.understand(written | {"space": {"seed": {"range": 2}}})
    summary = study.run(own, storage=str(tmp_path))
    assert (summary.counts, summary.missing) == ({"failed": 2}, 2)
    assert set(analysis.load(summary.root)["reason"].to_pylist()) == {"RuntimeError: the flag is up"}
    flag.unlink()
    request.getfixturevalue("without_ray")
    summary = study.run(own, storage=str(tmp_path))
    assert (summary.ran, summary.counts) == (2, {"completed": 2})
    table = analysis.load(summary.root)
    assert table["status"].to_pylist() == ["completed"] * 2
    assert set(table["parameters"].to_pylist()) == {4 * 3 + 3}, "4 inputs, 3 classes, biases"
    assert mirrored(tmp_path) == dict.fromkeys(keys(own), 1)


class Dying(BaseHTTPRequestHandler):
    """An MLflow server that says it is well once, and then breaks off every connection."""

    def do_GET(self) -> None:
        if self.path == "/health" and not self.server.asked:  # type: ignore[attr-defined]
            self.server.asked = True  # type: ignore[attr-defined]
            self.send_response(200)
            self.end_headers()

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.mark.usefixtures("without_ray")
def test_a_tracking_server_that_dies_costs_no_record_and_sync_catches_up(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = HTTPServer(("127.0.0.1", 0), Dying)
    server.asked = False  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    one = spec(space={"seed": {"range": 2}})
    summary = study.run(one, storage=str(tmp_path), tracking_uri=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    assert summary.counts == {"completed": 2}
    assert summary.mirror is not None
    assert summary.mirror.error
    mirror = study.sync(one, storage=str(tmp_path))
    assert mirror is not None
    assert mirror.error is None
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert in_order(analysis.load("mlflow:tiny", tracking_uri=uri)).equals(in_order(analysis.load(summary.root)))


def test_relative_storage_is_where_the_study_was_started_also_without_mlflow(tmp_path, monkeypatch):
    """Tune would send its workers to folders of its own. They compute the measures that are asked for."""
    monkeypatch.chdir(tmp_path)
    alone = spec(space={}, tracking={"mlflow": False}, measures=["l2_norm"])
    summary = study.run(alone, storage="results")
    (row,) = analysis.load("results/tiny").to_pylist()
    assert row["measure.l2_norm"] > 0
    assert summary.root == str(tmp_path / "results" / "tiny")
    assert (summary.counts, summary.mirror) == ({"completed": 1}, None)
    assert study.sync(alone, storage="results") is None
    assert not list(tmp_path.rglob("mlflow.db"))


# nothing started, nothing left behind


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("options", "changes", "sentence"),
    [
        ({"storage": "file/below"}, {}, "--storage: .*file/below/tiny cannot be written"),
        ({"storage": "file"}, {}, "--storage: .*file/tiny cannot be written"),
        ({"storage": "/proc/gaplab"}, {}, "--storage: /proc/gaplab/tiny cannot be written"),
        ({"storage": "nonsense://x"}, {}, "nonsense://x/tiny is no storage"),
        ({"storage": "new", "tracking_uri": "http://127.0.0.1:9"}, {}, "no MLflow server answers"),
        ({"storage": "new", "tracking_uri": "sqlite:////no/folder/x.db"}, {}, "there is no folder /no/folder"),
        ({"storage": "new/and/deep"}, {"resources": {"gpus": 99}}, "99 GPUs, more than the cluster has"),
        ({"storage": "new"}, {"resources": {"cpus": 10_000}}, "10000 CPUs"),
        ({"storage": "new"}, {"resources": {"memory_gib": 1e6}}, "1e[+]06 GiB, more than the cluster has"),
        ({"storage": "new"}, {"resources": {"accelerator": "NONESUCH"}}, "an accelerator NONESUCH, more than the cluster has"),
        ({"storage": "new"}, {"trial": {"data": {"name": "npz:nothing.npz"}}}, "there is no data file"),
        ({"storage": "new"}, {"measures": ["l3_norm"]}, "l3_norm"),
    ],
)
def test_a_mistake_leaves_nothing_behind(tmp_path, monkeypatch, options, changes, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    before = everything_in(tmp_path)
    with pytest.raises(ConfigError, match=sentence):
        study.run(spec(**changes), **options)
    assert everything_in(tmp_path) == before


def test_a_mistake_leaves_an_older_study_as_it_was(storage):
    before = everything_in(storage)
    with pytest.raises(ConfigError, match="more than the cluster has"):
        study.run(spec(resources={"gpus": 99}, replicates=5, space={}), storage=str(storage))
    assert everything_in(storage) == before


def test_syncing_what_never_ran_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="there is nothing to copy"):
        study.sync(spec(), storage=str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


# one driver at a time


def test_a_second_driver_of_a_study_refuses(storage):
    with FileLock(storage / "tiny" / ".lock"):
        before = everything_in(storage)
        for attempt in (study.run, study.sync):
            with pytest.raises(ConfigError, match=r"another gaplab is at work on .*tiny"):
                attempt(spec(), storage=str(storage))
        assert everything_in(storage) == before
    assert study.run(spec(), storage=str(storage)).ran == 0


# Ctrl-C

LONGER: Mapping[str, Any] = WRITTEN | {
    "trial": {
        "data": DATA | {"train_size": 500},
        "model": {"width": 16},
        "optimizer": {"learning_rate": 0.1},
        "budget": {"epochs": 150, "stop_at_train_error": None},
    },
    "space": {"corruption.level": {"values": [0.0, 0.5, 1.0]}, "seed": {"range": 4}},
}
"""Twelve points of one shape, in six packs for one worker."""


def until(happened: Callable[[], bool], seconds: float = 300) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.02)
    return False


def test_an_interrupted_study_goes_on_to_the_table_of_an_undisturbed_one(tmp_path):
    """A real command, interrupted as a terminal does: the whole process group is told."""
    InThisProcess()(study.understand(LONGER), lambda summary: None, storage=str(tmp_path / "undisturbed"))
    undisturbed = str(tmp_path / "undisturbed" / "tiny")
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(LONGER))
    command = [str(Path(sys.executable).with_name("gaplab")), "run", str(path), "--storage", str(tmp_path / "interrupted")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        root = str(tmp_path / "interrupted" / "tiny")
        assert until(lambda: bool(fragments(root)) or process.poll() is not None)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    recorded = analysis.load(root).num_rows
    assert 0 < recorded < 12
    assert f"Interrupted: {recorded} of 12 points are recorded" in out
    assert "The same command goes on from there" in out
    assert "Traceback" not in err
    assert not (Path(root) / "tune").exists()
    summary = study.run(study.read_spec(path), storage=str(tmp_path / "interrupted"))
    assert (summary.ran, summary.counts) == (12 - recorded, {"completed": 12})
    assert outcomes(root).equals(outcomes(undisturbed)), "row for row, bit for bit"
    assert in_order(analysis.load_curves(root)).equals(in_order(analysis.load_curves(undisturbed)))
    assert mirrored(tmp_path / "interrupted") == dict.fromkeys(keys(study.understand(LONGER)), 1)


def test_a_study_whose_hours_are_up_goes_on_from_there(tmp_path, request):
    """A budget of two seconds, of which the first worker's start alone takes one or more."""
    brief = study.understand({**LONGER, "resources": {"workers": 1, "hours": 2 / 3600}, "tracking": {"mlflow": False}})
    summary = study.run(brief, storage=str(tmp_path))
    assert (summary.halted, summary.interrupted) == ("its 0.000555556 hours are up", False)
    assert summary.counts["completed"] < 12
    unhurried = study.understand({**LONGER, "tracking": {"mlflow": False}})
    request.getfixturevalue("without_ray")
    assert study.run(unhurried, storage=str(tmp_path)).counts == {"completed": 12}


def test_a_search_whose_function_fails_only_in_the_ablation_loses_nothing(tmp_path: Path) -> None:
    body = "from optuna.trial import FixedTrial\n\ndef own(trial):\n    assert not isinstance(trial, FixedTrial), 'only here'\n"
    (tmp_path / "own.py").write_text(body + "    return {'optimizer.learning_rate': trial.suggest_float('rate', 0.01, 0.1)}\n")
    search = {"kind": "optuna", "trials": 2, "sampler": "random", "function": "own.py:own", "ablation_seeds": 1}
    written = WRITTEN | {"space": {}, "search": search, "trial": WRITTEN["trial"] | {"data": DATA | {"validation_size": 30}}}
    (tmp_path / "spec.yaml").write_text(json.dumps(written | {"tracking": {"mlflow": False}}))
    for _ in range(2):  # the second time everything but the comparison is there
        with pytest.raises(ConfigError, match="only here"):
            study.run(study.read_spec(tmp_path / "spec.yaml"), storage=str(tmp_path / "results"))
        assert analysis.load(str(tmp_path / "results" / "tiny")).num_rows == 2
        assert (tmp_path / "results" / "tiny" / "optuna.journal").is_file()
        assert not (tmp_path / "results" / "tiny" / "tune").exists()


@pytest.mark.usefixtures("without_ray")
def test_what_a_spec_leaves_open_is_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real probe, in Python as on the command line: stored before the first record, in the keys, and chosen by no later run."""
    trial = WRITTEN["trial"]
    lines: list[str] = []
    open_ = spec(trial={name: value for name, value in trial.items() if name != "optimizer"}, tracking={"mlflow": False})
    summary = study.run(open_, storage=str(tmp_path), progress=study.Progress(noted=lines.append))
    (rate,) = set(analysis.load(summary.root)["optimizer.learning_rate"].to_pylist())
    assert rate in RATES
    (line,) = lines
    assert line.startswith(f"optimizer.learning_rate is {rate:g} for mlp of depth 1 on synthetic: a probe at width 4 chose it in ")
    (chosen,) = json.loads((tmp_path / "tiny" / "chosen.json").read_text())["optimizer.learning_rate"].values()
    assert chosen["value"] == rate
    assert rate in map(float, chosen["losses"])
    shutil.copytree(tmp_path / "tiny", tmp_path / "elsewhere" / "tiny")
    monkeypatch.setattr("study.plan.left_open.answers", None)
    for storage in (tmp_path, tmp_path / "elsewhere"):
        assert study.run(open_, storage=str(storage)).ran == 0
    assert keys(spec(trial=trial | {"optimizer": {"learning_rate": rate}})) == set(summary.records["key"].to_pylist())
    assert analysis.gap_table(analysis.load(summary.root), of=summary.plan).num_rows
