"""A good guest: `study.run` leaves its caller's process as it found it, also for a plain run of Tune in it afterwards."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from study.guest import as_found, environment, levels, unbroken

pytestmark = pytest.mark.xdist_group("ray")

HOST = """
import logging, os, signal, sys, threading, warnings
from pathlib import Path

import torch

if {libraries_first}:
    import mlflow, optuna, ray
    from ray import tune

import study

folder = Path({folder!r})
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGUSR1, lambda *_: None)
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "0"
logging.getLogger("ray.tune").setLevel(logging.INFO)
warnings.filterwarnings("ignore", message="one of the caller's")


def loggers():
    return {{name: one.level for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)}}


def found():
    return {{
        "signals": {{number: signal.getsignal(number) for number in signal.valid_signals()}},
        "environment": dict(os.environ),
        "root level": logging.root.level,
        "denormal": (torch.tensor(sys.float_info.min, dtype=torch.float64) / 2).item(),
        "threads": sorted(one.name for one in threading.enumerate()),
        "folder": os.getcwd(),
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "unraisablehook": sys.unraisablehook,
        "excepthook": sys.excepthook,
        "random": torch.random.get_rng_state().tolist(),
        "threads of torch": torch.get_num_threads(),
    }}


def compared(before, levels, what):
    after, levels_after = found(), loggers()
    for name, value in before.items():
        assert after[name] == value, (what, name, value, after[name])
    changed = {{name: (level, levels_after[name]) for name, level in levels.items() if levels_after[name] != level}}
    assert not changed, (what, changed)


DATA = {{"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60, "validation_size": 20}}
TRIAL = {{"data": DATA, "model": {{"width": 4}}, "optimizer": {{"learning_rate": 0.1}}, "budget": {{"epochs": 2}}}}
grid = {{"study": "grid", "trial": TRIAL, "resources": {{"workers": 1}}, "space": {{"seed": {{"range": 2}}}}}}
rate = {{"optimizer.learning_rate": {{"log_uniform": {{"low": 0.01, "high": 1.0}}}}}}
search = {{"kind": "optuna", "trials": 4, "pruner": "median"}}
searched = grid | {{"study": "searched", "space": rate, "search": search}}
wrong = grid | {{"study": "wrong", "resources": {{"gpus": 99}}}}

run, sync = study.run, study.sync  # what importing gaplab brings is not what a run leaves
for written in {studies}:
    spec = study.understand(written)
    before, levels = found(), loggers()
    try:
        summary = run(spec, storage=str(folder / "results"))
        assert set(summary.counts) <= {{"completed", "pruned"}} and not summary.missing, summary
    except ValueError as error:
        assert written is wrong, error
    compared(before, levels, written["study"])
    for name, level in {{"ray.tune": logging.INFO, "ray.air": logging.NOTSET, "mlflow": logging.INFO, "optuna": logging.INFO}}.items():
        assert logging.getLogger(name).level in (level, logging.NOTSET), (name, logging.getLogger(name).level)

spec, before, levels = study.understand({studies}[0]), found(), loggers()
sync(spec, storage=str(folder / "results"))
compared(before, levels, "sync")

import ray
from ray import tune
from ray.tune.execution import class_cache

assert "PL_DISABLE_FORK" in class_cache.DEFAULT_ENV_VARS, class_cache.DEFAULT_ENV_VARS


def train(config):
    assert Path.cwd() != Path({cwd!r}), "Tune sends its workers to the trial's folder"
    tune.report({{"loss": config["x"]}})


ray.init(address="local", num_cpus=1, include_dashboard=False)
run_config = tune.RunConfig(name="plain", storage_path=str(folder / "plain"))
results = tune.Tuner(train, param_space={{"x": tune.grid_search([1.0])}}, run_config=run_config).fit()
assert not results.errors, results.errors
for result in results:
    names = {{path.name for path in Path(result.path).iterdir()}}
    assert {{"result.json", "progress.csv", "params.json"}} <= names, names
ray.shutdown()
print("as found")
"""


@pytest.mark.parametrize(("libraries_first", "studies"), [(False, "(searched,)"), (True, "(grid, wrong)")])
def test_a_study_leaves_its_callers_process_as_it_found_it(libraries_first: bool, studies: str, tmp_path: Path) -> None:
    code = HOST.format(folder=str(tmp_path), cwd=str(Path.cwd()), libraries_first=libraries_first, studies=studies)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert answer.stdout.splitlines()[-1:] == ["as found"], answer.stderr[-3000:]


def test_what_is_set_for_a_while_is_put_back_also_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("GAPLAB_TEST_SET", "before")
    monkeypatch.delenv("GAPLAB_TEST_UNSET", raising=False)
    logger = logging.getLogger("gaplab.test")
    handler = signal.getsignal(signal.SIGTERM)

    def act() -> None:
        with environment({"GAPLAB_TEST_SET": "meanwhile", "GAPLAB_TEST_UNSET": "meanwhile"}), levels({"gaplab.test": logging.ERROR}):
            assert (os.environ["GAPLAB_TEST_SET"], logger.level) == ("meanwhile", logging.ERROR)
        assert (os.environ["GAPLAB_TEST_SET"], logger.level) == ("before", logging.NOTSET)
        assert "GAPLAB_TEST_UNSET" not in os.environ
        with as_found():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            os.environ["GAPLAB_TEST_UNSET"] = "left"
            del os.environ["GAPLAB_TEST_SET"]
            logger.setLevel(logging.DEBUG)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        act()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert (os.environ["GAPLAB_TEST_SET"], logger.level) == ("before", logging.NOTSET)
    assert "GAPLAB_TEST_UNSET" not in os.environ


def test_ctrl_c_waits_for_what_must_not_be_broken_off() -> None:
    ended = threading.Event()

    def call() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)  # while the interrupt is raised in the main thread
        ended.set()
        return "done"

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            unbroken(call)
        assert ended.is_set()
    finally:
        signal.signal(signal.SIGINT, before)
    assert unbroken(lambda: 7) == 7
    with pytest.raises(OSError, match="told"):
        unbroken(lambda: (_ for _ in ()).throw(OSError("told")))


def test_flush_to_zero_is_put_back() -> None:
    import torch

    tiny = sys.float_info.min
    with as_found():
        assert torch.set_flush_denormal(True)
        assert tiny / 2 == 0.0
    assert tiny / 2 > 0.0
