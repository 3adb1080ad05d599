"""Searches: how good suggestions are when they come in packs, and trials a second against Ray's own OptunaSearch.

Quality: a cheap objective with a known optimum of 0, told through the same `study.search.search.Search` (records and journal on
disk, only the training left out). TPE one at a time, eight and 32 at once, and random search have 96 trials each, over 24
seeds. Differences are paired over seeds; intervals are Student's t, 95 %.

Speed: 500 trials of digits, MLP 64, 30 epochs of 1,024 samples, batch 128, four axes, TPE. Plain Ray Tune with
``OptunaSearch`` and ``reuse_actors`` (the tutorial's training function), and gaplab from
the spec to the last record. Tune's function evaluates 200 validation samples every epoch, gaplab 1,584 of train, validation and
test every fifth, which is half as much again. Both find Ray running for some seconds, Tune as ``ray.init`` starts it and gaplab
as it starts it itself; then once more with the start of Ray in the time, and so with MLflow switched off, too. gaplab is at its
defaults, with MLflow on, into an SQLite database beside the results; Tune does not log to MLflow. Goal: 20 times.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from math import log10
from types import MappingProxyType
from typing import Any

import numpy as np

SEEDS, TRIALS = 24, 96
SPEED_TRIALS = 500
SETTLED_SECONDS = 5.0
QUALITY: dict[str, Any] = {
    "study": "known-optimum",
    "trial": {"data": {"name": "synthetic", "train_size": 50, "validation_size": 50}, "model": {"width": 4}},
    "space": {"regularizers": ["weight_decay", "dropout", "label_smoothing", "learning_rate"]},
}
SPEED: dict[str, Any] = {
    "study": "search-speed",
    "trial": {
        "data": {"name": "digits", "train_size": 1024, "validation_size": 200},
        "model": {"name": "mlp", "depth": 1, "width": 64},
        "optimizer": {"learning_rate": 0.1, "batch_size": 128},
        "budget": {"epochs": 30, "stop_at_train_error": None, "evaluate_every": 5},
    },
    "space": {
        "optimizer.learning_rate": {"log_uniform": {"low": 0.003, "high": 0.3}},
        "optimizer.momentum": {"uniform": {"low": 0.0, "high": 0.99}},
        "regularizers.weight_decay": {"log_uniform": {"low": 1e-6, "high": 1e-2}},
        "regularizers.label_smoothing": {"uniform": {"low": 0.0, "high": 0.5}},
    },
    "search": {"kind": "optuna", "trials": SPEED_TRIALS, "at_once": 32},
}


def known(point: Any) -> float:
    """An error in [0, 1] that is 0 at learning rate 0.1, weight decay 1e-3, dropout 0.3 and no label smoothing."""
    regularizers = point.regularizers
    decay = (log10(regularizers.weight_decay) + 3) ** 2 / 20 if regularizers.weight_decay else 0.2
    dropout = 2 * (regularizers.dropout - 0.3) ** 2
    return min(1.0, (log10(point.optimizer.learning_rate) + 1) ** 2 / 4 + decay + dropout + regularizers.label_smoothing / 4)


def best_found(sampler: str, at_once: int, seed: int, trials: int = TRIALS) -> float:
    """The best value of one search on the known objective."""
    from study.records.writer import FragmentWriter, Provenance
    from study.search.plan import plan_search
    from study.search.search import Search
    from study.spec.reading import understand
    from trainables.training.loop import Result

    search = {"kind": "optuna", "sampler": sampler, "at_once": at_once, "seed": seed, "trials": trials}
    with tempfile.TemporaryDirectory() as root:
        writer = FragmentWriter(root, Provenance("known-optimum", None, ""))
        running = Search(plan_search(understand(QUALITY | {"search": search})), root)
        while not running.finished:
            pack = running.next_pack() or []
            outcomes = [{"validation_error": known(point.config), "train_error": 0.0} for point in pack]
            writer(
                [Result(point.config, point.key, "completed", "", outcome, []) for point, outcome in zip(pack, outcomes, strict=True)], None
            )
            running.collect()
        return float(running.cells[0].study.best_value)


def quality(seeds: int = SEEDS) -> dict[str, Any]:
    ways = {"tpe_one_at_a_time": ("tpe", 1), "tpe_eight_at_once": ("tpe", 8), "tpe_32_at_once": ("tpe", 32), "random": ("random", 8)}
    best = {way: np.array([best_found(*how, seed) for seed in range(seeds)]) for way, how in ways.items()}
    measured: dict[str, Any] = {f"best_{way}": _mean(values) for way, values in best.items()}
    measured["random_minus_tpe_eight_at_once"] = _mean(best["random"] - best["tpe_eight_at_once"])
    measured["eight_at_once_minus_one"] = _mean(best["tpe_eight_at_once"] - best["tpe_one_at_a_time"])
    measured["32_at_once_minus_one"] = _mean(best["tpe_32_at_once"] - best["tpe_one_at_a_time"])
    return measured


def _mean(values: np.ndarray) -> dict[str, float]:
    """Mean and half of its 95 % interval."""
    from scipy.special import stdtrit

    half = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / len(values) ** 0.5
    return {"mean": float(values.mean()), "half_interval": float(half)}


def train(config: dict[str, Any]) -> None:
    """The tutorial's training function of a search."""
    import torch
    from ray import tune
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    bundle = load_digits()
    images, labels = torch.tensor(bundle.data / 16, dtype=torch.float32), torch.tensor(bundle.target)
    loader = DataLoader(TensorDataset(images[:1024], labels[:1024]), batch_size=128, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    rule = {"lr": config["learning_rate"], "momentum": config["momentum"], "weight_decay": config["weight_decay"]}
    optimizer = torch.optim.SGD(model.parameters(), **rule)
    loss = nn.CrossEntropyLoss(label_smoothing=config["label_smoothing"])
    for _ in range(30):
        for inputs, truth in loader:
            optimizer.zero_grad()
            loss(model(inputs), truth).backward()
            optimizer.step()
        with torch.no_grad():
            error = (model(images[1024:1224]).argmax(1) != labels[1024:1224]).float().mean().item()
        tune.report({"validation_error": error})


def search_with_tune() -> None:
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    axes = {
        "learning_rate": tune.loguniform(0.003, 0.3),
        "momentum": tune.uniform(0.0, 0.99),
        "weight_decay": tune.loguniform(1e-6, 1e-2),
        "label_smoothing": tune.uniform(0.0, 0.5),
    }
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            train,
            param_space=axes,
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(metric="validation_error", mode="min", sampler=optuna.samplers.TPESampler(seed=0)),
                num_samples=SPEED_TRIALS,
                reuse_actors=True,
                max_concurrent_trials=os.cpu_count(),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
        assert len(results) == SPEED_TRIALS
        assert not results.num_errors


@contextmanager
def tunes_ray() -> Iterator[None]:
    import ray

    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def search_with_gaplab(tracking: Mapping[str, Any] = MappingProxyType({})) -> None:
    """The whole search; its runs are in MLflow at the end unless that is switched off."""
    import study

    with tempfile.TemporaryDirectory() as folder:
        summary = study.run(study.understand(SPEED | tracking), storage=folder)
        assert summary.counts.total() == SPEED_TRIALS


def seconds(search: Callable[[], None], cluster: AbstractContextManager[object]) -> tuple[float, float]:
    """Of the search, and of the start of Ray with it, less the time in which that settles."""
    begun = time.perf_counter()
    with cluster:
        starting = time.perf_counter() - begun
        time.sleep(SETTLED_SECONDS)
        begun = time.perf_counter()
        search()
        searching = time.perf_counter() - begun
    return searching, starting + searching


def speed() -> dict[str, float]:
    from ray import tune  # noqa: F401 - imported by now, for both

    from study.launch import searcher  # noqa: F401
    from study.launch.cluster import connected
    from study.spec.sections import Resources

    os.environ.pop("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", None)  # plain Tune runs as it comes
    tune_running, tune_all = seconds(search_with_tune, tunes_ray())
    gaplab_running, _ = seconds(search_with_gaplab, connected(Resources(workers=os.cpu_count()), None))
    begun = time.perf_counter()
    search_with_gaplab()  # starts Ray, and ends it
    gaplab_all = time.perf_counter() - begun
    begun = time.perf_counter()
    search_with_gaplab({"tracking": {"mlflow": False}})
    without_mlflow = time.perf_counter() - begun
    return {
        "tune_optuna_trials_per_second": SPEED_TRIALS / tune_running,
        "gaplab_trials_per_second": SPEED_TRIALS / gaplab_running,
        "gaplab_over_tune": tune_running / gaplab_running,
        "gaplab_over_tune_with_the_start_of_ray": tune_all / gaplab_all,
        "gaplab_with_mlflow_off_over_tune_with_the_start_of_ray": tune_all / without_mlflow,
    }


def measure() -> dict[str, Any]:
    measured: dict[str, Any] = dict(speed())
    measured |= quality()
    for name, value in measured.items():
        shown = f"{value:10.2f}" if isinstance(value, float) else f"{value['mean']:10.4f} ± {value['half_interval']:.4f}"
        print(f"{name:35} {shown}")
    return measured
