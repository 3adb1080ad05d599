"""Anyone's experiment in: by hand, by MLflow's autologging, by Ray Tune and its MLflow callback, and as W&B exports it."""

from __future__ import annotations

import json
import math
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import AnalysisError, NothingToShow
from analysis.records.foreign import foreign_curves, foreign_records, open_foreign, propose, read_mapping
from analysis.records.foreign.expressions import parse
from analysis.records.foreign.runs import ForeignRuns
from analysis.records.schema import CURVES, RECORDS

pytestmark = pytest.mark.xdist_group("analysis")  # the MLflow database that test_load fills
NAN = float("nan")


def made_up(params: list[dict[str, Any]], metrics: list[dict[str, Any]], **more: Any) -> ForeignRuns:
    """Runs without a store."""
    count = len(metrics)
    runs = ForeignRuns("made-up runs", "made-up", [f"run{place}" for place in range(count)], ["completed"] * count)
    runs.ended, runs.parents = list(range(count)), [None] * count
    runs.add("params", params)
    runs.add("metrics", metrics)
    for name, value in more.items():
        setattr(runs, name, value)
    return runs


SCORES = [{"train_acc": 99.0, "val_acc": 60.0 + place} for place in range(4)]
NO_PARAMS: list[dict[str, Any]] = [{}] * 4


@pytest.fixture
def experiment(mlflow_uri: str) -> tuple[Any, str, str]:
    """A client, an experiment of its own and its name."""
    from mlflow import MlflowClient

    client, name = MlflowClient(mlflow_uri), f"by hand {time.time_ns()}"
    return client, client.create_experiment(name), name


def both_ways(name: str, uri: str) -> ForeignRuns:
    """The runs of an experiment, which the API and the database say alike."""
    by_api, by_sql = (open_foreign(f"mlflow:{name}", tracking_uri=uri, sql=sql) for sql in (False, True))
    for attribute in ("ids", "status", "ended", "parents"):
        assert getattr(by_api, attribute) == getattr(by_sql, attribute)
    assert by_api.columns.keys() == by_sql.columns.keys()
    assert {name: repr(column) for name, column in by_api.columns.items()} == {
        name: repr(column) for name, column in by_sql.columns.items()
    }
    return by_sql


def proposed(runs: ForeignRuns) -> dict[str, pa.ChunkedArray]:
    """Records by the mapping as it is proposed, unedited."""
    table = foreign_records(runs, read_mapping(propose(runs)))
    for column in RECORDS:
        assert table.schema.field(column.name).type == column.type, column.name
    return {name: table[name].to_pylist() for name in table.column_names}


def test_an_experiment_written_by_hand(experiment: tuple[Any, str, str], mlflow_uri: str) -> None:
    """Other names, percent, NaN, and deleted, failed, unfinished and nested runs."""
    client, identifier, name = experiment
    parent = client.create_run(identifier, run_name="sweep").info.run_id
    client.set_terminated(parent)
    runs = []
    for place in range(8):
        run = client.create_run(identifier, tags={"mlflow.parentRunId": parent}).info.run_id
        for param, value in {"net/hidden": 16 * (1 + place // 4), "config/lr": 0.1, "label noise %": 20 * (place // 2 % 2)}.items():
            client.log_param(run, param.replace(" %", ""), value)
        for step in range(3):
            client.log_metric(run, "train/acc", 60.0 + 10 * step, step=step)
            client.log_metric(run, "test/acc", 50.0 + 10 * step + place / 10, step=step)
            client.log_metric(run, "loss", NAN if place == 3 else 1 / (step + 1), step=step)
        client.set_terminated(run, "FAILED" if place == 4 else "FINISHED")
        runs.append(run)
    client.delete_run(runs[5])
    client.create_run(identifier, tags={"mlflow.parentRunId": parent})
    found = both_ways(name, mlflow_uri)
    text = propose(found)
    for line in ("train_error: 1 - `train/acc` / 100", "test_error: 1 - `test/acc` / 100", "model.width: '`net/hidden`'"):
        assert f"\n{line} " in text
    assert "corruption.level: label noise / 100" in text.replace("`", "").replace("'", "")
    assert "children_only: true" in text
    assert "# parameters:  # missing" in text
    assert "1 unfinished" in text
    with pytest.warns(UserWarning, match="1 unfinished run"):
        records = proposed(found)
    assert records["key"] == [run for run in runs if run != runs[5]]
    assert [records["status"][place] for place in (0, 3, 4)] == ["completed", "diverged", "failed"]
    assert records["test_error"][3] is None
    assert records["test_error"][0] == pytest.approx(0.3)
    assert records["corruption.level"] == [0.0, 0.0, 0.2, 0.2, 0.0, 0.2, 0.2]
    assert records["seed"] == [0, 1, 0, 1, 0, 0, 1]
    assert all(records["seed_assigned"])
    with pytest.warns(UserWarning, match="1 unfinished run"):
        curves = foreign_curves(found, read_mapping(text), [runs[0]])
    assert curves.schema == CURVES
    assert curves["epoch"].to_pylist() == [0, 1, 2]
    assert curves["train_error"].to_pylist() == pytest.approx([0.4, 0.3, 0.2])


def test_an_experiment_written_by_autologging(mlflow_uri: str) -> None:
    import mlflow
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    name, before = f"autologged {time.time_ns()}", mlflow.get_tracking_uri()
    x_train, x_test, y_train, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0)
    mlflow.set_tracking_uri(mlflow_uri)
    experiment = mlflow.create_experiment(name)
    try:
        mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for hidden, seed in ((2, 0), (2, 1), (8, 0)):
                with mlflow.start_run(experiment_id=experiment):
                    MLPClassifier((hidden,), max_iter=3, random_state=seed).fit(x_train, y_train).score(x_test, y_test)
    finally:
        mlflow.sklearn.autolog(disable=True, silent=True)
        mlflow.set_tracking_uri(before)
    runs = both_ways(name, mlflow_uri)
    text = propose(runs)
    assert "train_error: 1 - training_accuracy_score" in text
    assert "test_error: 1 - MLPClassifier_score_x_test" in text
    assert "keep: [hidden_layer_sizes]" in text
    records = proposed(runs)
    assert records["seed"] == [0, 1, 0]
    assert records["hidden_layer_sizes"] == ["(2,)", "(2,)", "(8,)"]
    assert records["optimizer.learning_rate"] == [0.001] * 3
    assert all(0 <= error <= 1 for error in records["test_error"] + records["train_error"])


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Path:
    """The results of a small Tune experiment, which its MLflow callback has written to the experiment ``tuned`` as well."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    folder = tmp_path_factory.mktemp("tune")

    def train(config: dict[str, Any]) -> None:
        for epoch in range(3):
            if config["model"]["width"] == 64 and epoch == 1:
                raise RuntimeError("no memory")
            error = 0.5 / config["model"]["width"] / (1 + epoch)
            tune.report({"train_acc": 1 - error, "mean_accuracy": 0.9 - error, "num_params": 10 * config["model"]["width"]})

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        space = {"model": {"width": tune.grid_search([4, 16, 64])}, "lr": tune.grid_search([0.1, 0.01])}
        callback = MLflowLoggerCallback(mlflow_uri, experiment_name="tuned")
        configuration = tune.RunConfig(name="tuned", storage_path=str(folder), callbacks=[callback], verbose=0)
        tune.Tuner(train, param_space=space, run_config=configuration).fit()
    finally:
        ray.shutdown()
    return folder / "tuned"


def test_a_folder_of_tunes_results_and_what_its_callback_wrote(tuned: Path, mlflow_uri: str) -> None:
    for runs in (open_foreign(str(tuned)), both_ways("tuned", mlflow_uri)):
        text = propose(runs)
        for line in ("train_error: 1 - train_acc ", "test_error: 1 - mean_accuracy ", "parameters: num_params "):
            assert f"\n{line}" in text, text
        assert "optimizer.learning_rate: " in text
        records = proposed(runs)
        assert sorted(records["status"]) == ["completed"] * 4 + ["failed"] * 2
        assert {(width, rate) for width, rate in zip(records["model.width"], records["optimizer.learning_rate"], strict=True)} == {
            (width, rate) for width in (4, 16, 64) for rate in (0.1, 0.01)
        }
        place = records["model.width"].index(4)
        assert records["test_error"][place] == pytest.approx(0.1 + 0.5 / 12)
        curves = foreign_curves(runs, read_mapping(text), [records["key"][place]])
        assert curves["train_error"].to_pylist() == pytest.approx([0.5 / 4, 0.5 / 8, 0.5 / 12])


def test_a_cut_off_report_is_left_out_and_a_broken_one_is_said(tmp_path: Path) -> None:
    trial = tmp_path / "exp" / "trial"
    trial.mkdir(parents=True)
    report = json.dumps({"trial_id": "a", "train_acc": NAN, "test_acc": 0.5, "config": {"lr": 1}, "training_iteration": 1, "timestamp": 10})
    (trial / "result.json").write_text(report + "\n" + report[:20])
    runs = open_foreign(str(tmp_path / "exp"))
    assert runs.ids == ["a"]
    assert runs.column("config/lr") == [1]
    assert proposed(runs)["test_error"] == [0.5]
    (trial / "result.json").write_text(report[:20] + "\n" + report)
    with pytest.raises(AnalysisError, match=r"result\.json, line 1, is no report"):
        open_foreign(str(tmp_path / "exp"))
    with pytest.raises(NothingToShow, match="there is nothing at"):
        open_foreign(str(tmp_path / "missing"))
    with pytest.raises(NothingToShow, match=r"no result\.json"):
        open_foreign(str(trial.parent / "trial" / ".."), sql=False) if (trial / "result.json").unlink() is None else None


WANDB = """Name,State,Created,Runtime,Sweep,hidden,lr,seed,train/acc,val/acc,val/loss
good-1,finished,2026-03-01T12:00:00.000Z,12,,16,0.1,0,0.99,0.61,1.5
good-2,finished,2026-03-01T11:00:00.000Z,12,,32,0.1,0,1.0,0.7,1.4
good-2,crashed,2026-03-01T13:00:00.000Z,3,,32,0.1,1,,,
slow,running,2026-03-01T14:00:00.000Z,3,,32,0.1,2,0.2,0.2,3.0
"""


def test_a_table_that_wandb_exported(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(WANDB)
    with pytest.warns(UserWarning, match="1 unfinished run"):
        records = proposed(open_foreign(str(tmp_path / "runs.csv")))
    assert records["key"][:2] == ["good-2", "good-1"], "the oldest first"
    assert records["status"] == ["completed", "completed", "failed"]
    assert records["test_error"] == pytest.approx([0.3, 0.39, None])
    assert records["model.width"] == [32, 16, 32]
    assert records["seed"] == [0, 0, 1]


def test_tables_that_wandbs_api_made(tmp_path: Path) -> None:
    """A row a run with dictionaries, as W&B's own example writes them; and a row a step."""
    rows = [
        {"name": f"run-{place}", "config": str({"width": 8 * (1 + place), "opt": {"lr": 0.1}}), "summary": str({"test_acc": 50 + place})}
        for place in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "api.parquet")
    records = proposed(open_foreign(str(tmp_path / "api.parquet")))
    assert records["model.width"] == [8, 16, 24]
    assert records["test_error"] == pytest.approx([0.5, 0.49, 0.48])
    steps = [
        {"run_id": run, "_step": step, "width": 8, "seed": seed, "train_error": 0.5 / (1 + step), "test_error": 0.6 if step == 2 else None}
        for seed, run in enumerate("ab")
        for step in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(steps), tmp_path / "steps.parquet")
    runs = open_foreign(str(tmp_path / "steps.parquet"))
    records = proposed(runs)
    assert records["generalization_gap"] == pytest.approx([0.6 - 0.5 / 3] * 2)
    assert foreign_curves(runs, read_mapping(propose(runs)))["epoch"].to_pylist() == [0, 1, 2] * 2


def test_errors_outside_zero_and_one_are_refused_with_the_right_unit() -> None:
    runs = made_up(NO_PARAMS, SCORES)
    for wrong, right in {
        "1 - val_acc": "test_error: 1 - val_acc / 100",
        "val_acc": "test_error: 1 - val_acc / 100",
        "100 - val_acc": "is it a loss",
        "2 * (1 - val_acc)": "test_error: 2 * (1 - val_acc / 100)",
    }.items():
        with pytest.raises(AnalysisError, match="must be a fraction") as refused:
            foreign_records(runs, read_mapping({"test_error": wrong}))
        assert right in str(refused.value)
    with pytest.raises(AnalysisError, match=r"corruption\.level must be a fraction.*the constant is 20"):
        foreign_records(runs, read_mapping({"corruption.level": 20}))


def test_an_accuracy_taken_for_an_error_is_pointed_out() -> None:
    runs = made_up(NO_PARAMS, [{"acc": 0.9}] * 4)
    with pytest.warns(UserWarning, match="is the error 1 - acc"):
        foreign_records(runs, read_mapping({"test_error": "acc"}))


def test_rounding_below_zero_is_taken_off_and_gaps_follow() -> None:
    runs = made_up(NO_PARAMS, [{"train": 1.0000001, "test": 0.75, "p": 2000.0}] * 4)
    mapping = read_mapping({"train_error": "1 - train", "test_error": "1-test", "parameters": "p", "data.train_size": 1000})
    table = foreign_records(runs, mapping)
    assert table["train_error"].to_pylist() == [0.0] * 4
    assert table["generalization_gap"].to_pylist() == [0.25] * 4
    assert table["parameters_per_sample"].to_pylist() == [2.0] * 4
    assert table["interpolated"].to_pylist() == [True] * 4


def test_the_train_target_decides_what_interpolated() -> None:
    runs = made_up(NO_PARAMS, SCORES)
    for target, reached in ((0.02, True), (0.0, False)):
        table = foreign_records(runs, read_mapping({"train_error": "1 - train_acc / 100", "budget.stop_at_train_error": target}))
        assert table["interpolated"].to_pylist() == [reached] * 4


def test_other_names_of_capacity_and_noise_are_known() -> None:
    for capacity, noise in (("n_weights", "label_noise_percent"), ("params", "noise_pct")):
        text = propose(made_up([{capacity: 100 * (1 + place), noise: 20 * place} for place in range(4)], SCORES))
        assert f"\nparameters: {capacity} " in text
        assert f"\ncorruption.level: {noise} / 100 " in text


def test_replicates_never_overwrite_each_other() -> None:
    params = [{"width": width, "seed": 42} for width in (8, 8, 16, 8)]
    runs = made_up(params, SCORES)
    lines = {"test_error": "1 - val_acc / 100", "model.width": "width"}
    for more in ({}, {"seed": "seed"}):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            table = foreign_records(runs, read_mapping(lines | more))
        own = [one for one in said if one.category is UserWarning]  # not the garbage of other tests
        assert bool(own) is bool(more), "runs that share a seed are said to"
        assert table["seed"].to_pylist() == [0, 1, 0, 2]
        assert table["seed_assigned"].to_pylist() == [True] * 4


def test_replicates_that_differ_in_what_nobody_named_are_pointed_out() -> None:
    runs = made_up([{"dropout": place / 10} for place in range(4)], SCORES)
    with pytest.warns(UserWarning, match="differ in dropout: map or keep"):
        foreign_records(runs, read_mapping({"test_error": "1 - val_acc / 100"}))
    table = foreign_records(runs, read_mapping({"test_error": "1 - val_acc / 100", "keep": ["dropout"]}))
    assert table["seed"].to_pylist() == [0] * 4
    assert table["dropout"].to_pylist() == [0.0, 0.1, 0.2, 0.3]


def test_steps_become_epochs() -> None:
    import numpy as np

    def history(name: str, ids: Any) -> Any:
        return np.zeros(6, np.int64), np.array([1, 2, 3, 4, 5, 6]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])

    runs = made_up([{}], [{"err": 0.4}], history=history)
    curves = foreign_curves(runs, read_mapping({"train_error": "err", "curves": {"epoch": "step / 3"}}))
    assert curves.select(["epoch", "train_error"]).to_pylist() == [{"epoch": 1, "train_error": 0.7}, {"epoch": 2, "train_error": 0.4}]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"tst_error": "x"}, "did you mean 'test_error'"),
        ({"key": "x"}, "key follows from the run"),
        ({"test_error": "valacc"}, "did you mean 'val_acc'"),
        ({"test_error": "1 - __import__('os').system('true')"}, "is no expression"),
        ({"test_error": "(lambda: 1)()"}, "is no expression"),
        ({"test_error": "val_acc ** 2"}, "is no expression"),
        ({"test_error": "sqrt(val_acc, 2)"}, "is no expression"),
        ({"test_error": "val_acc[0]"}, "is no expression"),
        ({"test_error": "1 -"}, "it cannot be read"),
        ({"test_error": "9" * 1000}, "it is too long"),
        ({"test_error": "1e999 * val_acc"}, "is too large"),
        ({"test_error": "(" * 240 + "1" + ")" * 240}, "is no expression"),
        ({"model.name": "resnet"}, "a text that is the same for all goes under constants: model.name: resnet"),
        ({"model.width": "activation"}, "run run0 has 'relu' where model.width must be a whole number"),
        ({"model.width": "val_acc / 7"}, "must be a whole number"),
        ({"train_loss": "2 * activation"}, "which is no number"),
        ({"data.train_size": 2.5}, "must be a whole number"),
        ({"parameters": "val_acc * 1000000000000000000000"}, "must be a whole number"),
        ({"interpolated": "val_acc"}, "must be true or false"),
        ({"finished": "activation"}, "must be a moment"),
        ({"keep": ["seed"]}, "is a column of every record already"),
        ({"keep": "dropout"}, "keep must be a list"),
        ({"children_only": "perhaps"}, "children_only must be true or false"),
        ({"curves": {"tst_error": "x"}}, "did you mean 'test_error'"),
        ({"constants": {"seed": 1}, "seed": "val_acc"}, "given twice"),
        ({}, "a mapping has lines such as"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(lines: dict[str, Any], said: str) -> None:
    runs = made_up([{"activation": "relu"}] * 4, SCORES)
    with pytest.raises(AnalysisError) as wrong:
        foreign_records(runs, read_mapping(lines))
    assert said in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_mapping_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("test_error: 1 - val_acc / 100\nconstants: {data.name: cifar10}\n")
    table = foreign_records(made_up(NO_PARAMS, SCORES), read_mapping(tmp_path / "map.yaml"))
    assert table["data.name"].to_pylist() == ["cifar10"] * 4
    with pytest.raises(AnalysisError, match="cannot be read as a mapping"):
        read_mapping(str(tmp_path / "none.yaml"))
    with pytest.raises(AnalysisError, match="is no YAML"):
        read_mapping("test_error: [1 - \n")


NAMES = st.text("aZ_9/.- :#'\"{[\N{GREEK SMALL LETTER ALPHA}", min_size=1, max_size=12).filter(lambda text: text == text.strip())
VALUES = st.one_of(st.text("a1 .'", max_size=5), st.floats(), st.none(), st.integers())


@given(NAMES, st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_any_name_can_stand_in_backquotes(name: str, one: float, other: float) -> None:
    import numpy as np

    expression = parse(f"(`{name}` - {other!r}) / 2")
    assert expression.names == (name,)
    assert expression.value(lambda _: np.array([one]), 1)[0] == (one - other) / 2
    again = parse(expression.in_percent())
    assert again.names == (name,)
    assert math.isclose(again.value(lambda _: np.array([one]), 1)[0], (one / 100 - other) / 2, abs_tol=1e-9)


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=3))
def test_whatever_runs_hold_a_proposal_can_be_read_and_applied(rows: list[dict[str, Any]]) -> None:
    runs = made_up(rows, [{"train_acc": 0.5, "odd: name #1": 3.0}] * len(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = foreign_records(runs, read_mapping(propose(runs)))
    assert table.num_rows == len(rows)


def test_twenty_thousand_runs(tmp_path: Path, mlflow_uri: str) -> None:
    """Read from the database, proposed and mapped in seconds."""
    from mlflow import MlflowClient

    MlflowClient(mlflow_uri).search_experiments()  # makes the database, if no other test has
    shutil.copy(mlflow_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")  # making another takes seconds
    uri, count = f"sqlite:///{tmp_path}/mlflow.db", 20_000
    identifier = MlflowClient(uri).create_experiment("many")
    fill(uri, identifier, count)
    start = time.process_time()
    runs = open_foreign("mlflow:many", tracking_uri=uri, sql=True)
    records = proposed(runs)
    seconds = time.process_time() - start
    print(f"{count:,} foreign runs: {seconds:.1f} s of CPU time")
    assert len(records["key"]) == count
    assert len(set(zip(records["model.width"], records["corruption.level"], records["seed"], strict=True))) == count
    assert seconds < 60


def fill(uri: str, experiment: str, count: int) -> None:
    """Runs of somebody else's, by the rows that MLflow would write."""
    import sqlite3

    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        ids = [f"{place:032x}" for place in range(count)]
        runs = [(run, int(experiment), "FINISHED", "active", place, place + 1) for place, run in enumerate(ids)]
        connection.executemany(
            "INSERT INTO runs (run_uuid, experiment_id, status, lifecycle_stage, start_time, end_time) VALUES (?, ?, ?, ?, ?, ?)", runs
        )
        given = [{"config/width": 8 * (1 + place % 20), "noise": place // 20 % 5 * 20, "seed": place // 100} for place in range(count)]
        params = [(run, name, str(value)) for run, named in zip(ids, given, strict=True) for name, value in named.items()]
        connection.executemany("INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)", params)
        scores = [(run, name, value) for run in ids for name, value in (("train/acc", 100.0), ("test/acc", 75.0), ("n_params", 500.0))]
        connection.executemany(
            "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES (?, ?, ?, 0, 0, 0)", scores
        )


def test_runs_that_gaplab_wrote_are_no_foreign_ones(write_study: Callable[..., Path]) -> None:
    """A study's own folder holds no results of Tune's."""
    with pytest.raises(NothingToShow, match=r"no result\.json"):
        open_foreign(str(write_study([])))
