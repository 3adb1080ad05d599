"""gaplab against what users would write: digits, MLP 64, 30 epochs of 1,024 samples, batch 128, seeds vary.

Three ways on this machine, each whole: plain Ray Tune as its tutorial teaches (a DataLoader, one report an epoch), the
same with ``reuse_actors=True``, and gaplab from the spec to the last record (MLflow off in all three; all models train
on the same samples). A way's time leaves out starting Ray, which all share, for the plain ones and includes it for
gaplab. Goals: 300 times plain, 40 times reuse.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from typing import Any

PLAIN_TRIALS, REUSE_TRIALS, GAPLAB_TRIALS = 10, 60, 20_000
SPEC: dict[str, Any] = {
    "study": "against-ray",
    "trial": {
        "data": {"name": "digits", "train_size": 1024, "seed": 0},
        "model": {"name": "mlp", "depth": 1, "width": 64},
        "optimizer": {"learning_rate": 0.1, "batch_size": 128},
        "budget": {"epochs": 30, "stop_at_train_error": None},
    },
    "space": {"seed": {"range": GAPLAB_TRIALS}},
    "tracking": {"mlflow": False},
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


def gaplab_trials_per_second() -> float:
    import study

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        summary = study.run(study.understand(SPEC), storage=folder)
        seconds = time.perf_counter() - start
        assert summary.counts["completed"] == GAPLAB_TRIALS
    return GAPLAB_TRIALS / seconds


def measure() -> dict[str, Any]:
    for name in ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS",):
        os.environ.pop(name, None)  # plain Tune runs as it comes
    rates = {
        "plain_trials_per_second": ray_trials_per_second(PLAIN_TRIALS, reuse=False),
        "reuse_actors_trials_per_second": ray_trials_per_second(REUSE_TRIALS, reuse=True),
        "gaplab_trials_per_second": gaplab_trials_per_second(),
    }
    rates["gaplab_over_plain"] = rates["gaplab_trials_per_second"] / rates["plain_trials_per_second"]
    rates["gaplab_over_reuse_actors"] = rates["gaplab_trials_per_second"] / rates["reuse_actors_trials_per_second"]
    for name, value in rates.items():
        print(f"{name:35} {value:10.2f}")
    return rates
