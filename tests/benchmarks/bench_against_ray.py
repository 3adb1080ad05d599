"""gaplab against what users would write: digits, MLP 64, 30 epochs of 1,024 samples, batch 128, seeds vary.

Each way whole, on this machine: plain Ray Tune as its tutorial teaches (a DataLoader, one report an epoch), the same with
``reuse_actors=True``, neither of which logs to MLflow; and gaplab from the spec to the last record, at its defaults: MLflow on, into an
SQLite database beside the results, and complete at the end. Then gaplab with MLflow switched off, and into an MLflow server on this
machine, with fewer points. All models train on the same samples. A way's time leaves out starting Ray for the plain ones and
includes it for gaplab. Goals at defaults: 300 times plain, 40 times reuse, and 1.3 times as long as with MLflow off.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.mlflow_servers import mlflow_server

PLAIN_TRIALS, REUSE_TRIALS, GAPLAB_TRIALS, HTTP_TRIALS = 10, 60, 20_000, 500
SPEC: dict[str, Any] = {
    "study": "against-ray",
    "trial": {
        "data": {"name": "digits", "train_size": 1024, "seed": 0},
        "model": {"name": "mlp", "depth": 1, "width": 64},
        "optimizer": {"learning_rate": 0.1, "batch_size": 128},
        "budget": {"epochs": 30, "stop_at_train_error": None},
    },
}


def train(config: dict[str, Any]) -> None:
    """The tutorial's training function."""
    import torch
    from ray import tune
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(config["seed"])
    bundle = load_digits()
    images, labels = torch.tensor(bundle.data / 16, dtype=torch.float32), torch.tensor(bundle.target)
    loader = DataLoader(TensorDataset(images[:1024], labels[:1024]), batch_size=128, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        for inputs, truth in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), truth).backward()
            optimizer.step()
        with torch.no_grad():
            train_error = (model(images[:1024]).argmax(1) != labels[:1024]).float().mean().item()
            test_error = (model(images[1024:]).argmax(1) != labels[1024:]).float().mean().item()
        tune.report({"train_error": train_error, "test_error": test_error})


def ray_trials_per_second(trials: int, reuse: bool) -> float:
    import ray
    from ray import tune

    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            tuner = tune.Tuner(
                train,
                param_space={"seed": tune.grid_search(list(range(trials)))},
                tune_config=tune.TuneConfig(reuse_actors=reuse),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            start = time.perf_counter()
            results = tuner.fit()
            seconds = time.perf_counter() - start
            assert len(results) == trials
            assert not results.num_errors
        finally:
            ray.shutdown()
    return trials / seconds


def gaplab_seconds(trials: int, *, mlflow: bool = True, tracking_uri: str | None = None) -> tuple[float, float]:
    """Seconds until the results are complete, and until MLflow is too."""
    import study

    spec = SPEC | {"space": {"seed": {"range": trials}}} | ({} if mlflow else {"tracking": {"mlflow": False}})
    concluded: list[float] = []

    def results_complete(_: study.Summary) -> list[Path]:
        concluded.append(time.perf_counter())
        return []  # no charts

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        summary = study.run(study.understand(spec), storage=folder, tracking_uri=tracking_uri, concluded=results_complete)
        seconds = time.perf_counter() - start
        assert summary.counts["completed"] == trials
        if summary.mirror:
            assert not summary.mirror.error, summary.mirror.error
    return concluded[0] - start, seconds


def measure(trials: int = GAPLAB_TRIALS) -> dict[str, Any]:
    for name in ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS",):
        os.environ.pop(name, None)  # plain Tune runs as it comes
    plain, reuse = ray_trials_per_second(PLAIN_TRIALS, reuse=False), ray_trials_per_second(REUSE_TRIALS, reuse=True)
    measured: dict[str, Any] = {"plain_trials_per_second": plain, "reuse_actors_trials_per_second": reuse, "gaplab_trials": trials}
    with mlflow_server("sqlite:///" + tempfile.mkdtemp() + "/server.db") as server:
        over_http = gaplab_seconds(HTTP_TRIALS, tracking_uri=server)
    found = {"default": (trials, gaplab_seconds(trials)), "mlflow_off": (trials, gaplab_seconds(trials, mlflow=False))}
    for way, (points, (results, everything)) in (found | {"http": (HTTP_TRIALS, over_http)}).items():
        rate = points / everything
        of_way = {"trials_per_second": rate, "over_plain": rate / plain, "over_reuse_actors": rate / reuse, "seconds": everything}
        measured[f"gaplab_{way}"] = of_way | {"seconds_to_results": results}
        print(f"gaplab, {way:12} {points:6,} points: " + ", ".join(f"{name} {value:.2f}" for name, value in of_way.items()))
    measured["default_over_mlflow_off"] = found["default"][1][1] / found["mlflow_off"][1][1]
    print(f"plain {plain:.2f}, reuse_actors {reuse:.2f} trials a second; default over MLflow off {measured['default_over_mlflow_off']:.2f}")
    return measured
