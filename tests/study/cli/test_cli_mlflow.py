"""MLflow on the command line: a stranger's experiment in two commands, and copying that nobody has to wait for."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import study
from study.launch import run as launch
from study.records.mirror import Mirror
from study.records.writer import FragmentWriter, Provenance
from tests.study.made_up_results import TRIAL, result
from trainables.point.config import flatten


@pytest.fixture
def foreign(tmp_path: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an experiment that plain MLflow wrote, with names of its own and accuracies in percent."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    shutil.copy(fresh_database, tmp_path / "theirs.db")
    uri = f"sqlite:///{tmp_path}/theirs.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("theirs", artifact_location=str(tmp_path / "artifacts"))
    for hidden in (8, 64):
        for seed in (0, 1):
            run = client.create_run(experiment).info.run_id
            for name, value in {"hidden_units": hidden, "seed": seed, "lr": 0.1, "train_size": 500}.items():
                client.log_param(run, name, value)
            for name, value in {"train_acc": 99.0 + seed, "val_acc": 70.0 + hidden / 8 + seed, "num_params": 10.0 * hidden}.items():
                client.log_metric(run, name, value, step=1)
            client.set_terminated(run)
    return uri


def test_a_strangers_experiment_is_a_report_in_two_commands(gaplab, foreign, tmp_path):
    refused = gaplab("report", "mlflow:theirs", "--tracking-uri", foreign)
    assert refused.code == 2
    assert "gaplab map 'mlflow:theirs' > map.yaml" in refused.err
    proposed = gaplab("map", "mlflow:theirs", "--tracking-uri", foreign)
    assert proposed.code == 0
    (tmp_path / "map.yaml").write_text(proposed.out)
    by_it = ("mlflow:theirs", "--tracking-uri", foreign, "--map", "map.yaml")
    report = gaplab("report", *by_it, "--output", "report.html")
    assert report.code == 0, report.err
    assert "wrote report.html" in report.out
    exported = gaplab("export", *by_it[:1], "out.csv", *by_it[1:])
    assert exported.code == 0, exported.err
    assert "4 rows" in exported.out
    compared = gaplab("compare", *by_it, "--setting", "model.width")
    assert compared.code == 0, compared.err
    missing = gaplab("plot", *by_it[:3], "--map", "no-such.yaml")
    assert missing.code == 2
    assert "no-such.yaml cannot be read as a mapping" in missing.err


def test_a_table_that_wandb_exported_is_a_report_in_two_commands(gaplab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["Name,State,Created,config.hidden,config.seed,num_params,train_acc,val_acc"]
    rows += [f"r{n},finished,2026-01-01T10:0{n}:00,{16 << n // 2},{n % 2},{1200 << n // 2},1.0,0.8{n}" for n in range(4)]
    Path("theirs.csv").write_text("\n".join([*rows, "r4,crashed,2026-01-01T10:04:00,32,2,2400,,"]) + "\n")
    proposed = gaplab("map", "theirs.csv")
    assert proposed.code == 0, proposed.err
    Path("map.yaml").write_text(proposed.out)
    for command in (["report", "theirs.csv"], ["plot", "theirs.csv"], ["compare", "theirs.csv", "--setting", "model.width"]):
        answer = gaplab(*command, "--map", "map.yaml")
        assert answer.code == 0, answer.err
    assert Path("report.html").stat().st_size > 0


@dataclass
class Order:
    """What happened, in order."""

    steps: list[str] = field(default_factory=list)


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_database: Path) -> study.Spec:
    """A study with a published number, all recorded, of which MLflow has nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    shutil.copy(fresh_database, tmp_path / "results" / "mlflow.db")
    fields = {name: value for name, value in flatten(TRIAL).items() if value is not None and name != "seed"}
    row = {"name": "test error", "where": {}, "column": "test_error", "value": 0.2}
    spec = study.understand(
        {"study": "made-up", "trial": fields, "replicates": 3, "published": {"source": "Nobody 2026, Table 1", "rows": [row]}}
    )
    writer = FragmentWriter("results/made-up", Provenance("made-up", None, "0.1.0"))
    writer([result(seed=seed) for seed in range(3)], "cpu")
    monkeypatch.setattr("study.spec.reading.read_spec", lambda *_: spec)
    return spec


@pytest.mark.parametrize("command", ["run", "reproduce"])
def test_results_are_on_the_terminal_before_the_rest_is_copied_and_sync_goes_on(gaplab, stored, monkeypatch, capfd, command):
    """Ctrl-C comes while the rest is copied; training is left out: everything is recorded already."""
    shown = []

    def interrupted(self: Mirror, progress: object) -> None:
        shown.append(capfd.readouterr().out)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "finish", interrupted)
        answer = gaplab(command, "made-up")
    assert answer.code == 130
    (before,) = shown
    assert ("Nobody 2026, Table 1" if command == "reproduce" else "generalization gap") in before
    assert (Path("results/made-up/reproduction.md")).exists() == (command == "reproduce")
    assert answer.out.strip() == "Interrupted: the records are complete; gaplab sync made-up copies the rest to MLflow."
    synced = gaplab("sync", "made-up")
    assert synced.code == 0, synced.err
    assert "has every record of made-up" in synced.out


def test_results_are_shown_before_the_rest_is_copied_and_ctrl_c_ends_the_copying(gaplab, tmp_path, monkeypatch, fresh_database):
    """Training is left out: everything is recorded already, and MLflow has nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    shutil.copy(fresh_database, tmp_path / "results" / "mlflow.db")
    fields = {name: value for name, value in flatten(TRIAL).items() if value is not None and name != "seed"}
    spec = study.understand({"study": "made-up", "trial": fields, "replicates": 3})
    writer = FragmentWriter("results/made-up", Provenance("made-up", None, "0.1.0"))
    writer([result(seed=seed) for seed in range(3)], "cpu")
    order = Order()

    def interrupted(self: Mirror, progress: object) -> None:
        order.steps.append("copying")
        raise KeyboardInterrupt

    monkeypatch.setattr(Mirror, "finish", interrupted)
    summary = launch.run(spec, storage="results", concluded=lambda summary: (order.steps.append("shown"), ())[1])
    assert order.steps == ["shown", "copying"]
    assert summary.copying_interrupted
    assert summary.counts == Counter(completed=3)
    monkeypatch.setattr(launch, "run", lambda *_, concluded, **__: (concluded(summary), summary)[1])
    monkeypatch.setattr("study.spec.reading.read_spec", lambda *_: spec)
    answer = gaplab("run", "made-up")
    assert answer.code == 130
    table, _, sentence = answer.out.partition("Interrupted: the records are complete; gaplab sync made-up copies the rest to MLflow.")
    assert "generalization gap" in table
    assert sentence.strip() == ""
