"""The driver at scale, without GPUs: 100,000 points that train for no epoch, in at least 250 packs, on four raylets of this machine.

At the defaults, MLflow on, into an SQLite database beside the results and complete at the end.
Over the tenths of the run: the driver's memory, and how long its event loop is away from its events (the duration of a step of
Tune's controller, in which every callback runs). Goal: neither grows.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

WIDTHS, SEEDS, RAYLETS = 250, 400, 4


def measure() -> dict[str, Any]:
    from ray.cluster_utils import Cluster
    from ray.tune.execution.tune_controller import TuneController

    import study

    cluster = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(RAYLETS):
        cluster.add_node(num_cpus=1)
    steps: list[tuple[float, float]] = []
    memory: list[tuple[float, int]] = []
    original = TuneController.step

    def timed(self: TuneController) -> None:
        begun = time.perf_counter()
        original(self)
        steps.append((begun, time.perf_counter() - begun))
        memory.append((begun, _resident()))

    TuneController.step = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            summary = study.run(_spec(folder), storage=f"{folder}/results", address=cluster.address)
            seconds = time.perf_counter() - start
    finally:
        TuneController.step = original
        cluster.shutdown()
    assert summary.counts == {"completed": WIDTHS * SEEDS}
    parts = np.array_split(np.arange(len(steps)), 10)
    lags = 1e3 * np.array([lag for _, lag in steps])
    measured = {
        "points": WIDTHS * SEEDS,
        "raylets": RAYLETS,
        "seconds": round(seconds, 1),
        "milliseconds_per_point": seconds / (WIDTHS * SEEDS) * 1e3,
        "seconds_of_tenths": [round(steps[part[-1]][0] - start, 1) for part in parts],
        "driver_memory_mib": [round(memory[part[-1]][1] / 2**20) for part in parts],
        "step_milliseconds_median": [round(float(np.median(lags[part])), 1) for part in parts],
        "step_milliseconds_longest": [round(float(lags[part].max()), 1) for part in parts],
    }
    for name, value in measured.items():
        print(f"{name:28} {value}")
    return measured


def _spec(folder: str) -> Any:
    import study

    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (20, 2, 2), dtype=np.uint8), np.arange(20) % 2
    np.savez(Path(folder) / "tiny.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return study.understand(
        {
            "study": "scale",
            "trial": {"data": {"name": f"npz:{folder}/tiny.npz"}, "budget": {"epochs": 0}},
            "space": {"model.width": {"values": list(range(1, WIDTHS + 1))}, "seed": {"range": SEEDS}},
        }
    )


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
