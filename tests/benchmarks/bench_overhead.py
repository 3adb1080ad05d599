"""What gaplab costs beside training: 100,000 points that train for no epoch, planned, scheduled and recorded.

First at its defaults, with MLflow on, into an SQLite database beside the results and complete at the end; then with MLflow off. Goals:
less than 2 ms a point all told, driver memory below 1 GiB and flat, the first result within 10 s.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

POINTS = 100_000


def measure(points: int = POINTS) -> dict[str, Any]:
    measured = {}
    for way, tracking in (("default", {}), ("mlflow_off", {"tracking": {"mlflow": False}})):
        process = multiprocessing.get_context("spawn").Pool(1)  # the peak of a process is of its whole life
        with process:
            measured[way] = process.apply(run, (points, tracking))
        print(f"| {way} | |")
        for name, value in measured[way].items():
            print(f"{name:40} {value:10.2f}")
    return measured


def run(points: int, tracking: dict[str, Any]) -> dict[str, float]:
    """One study, whole."""
    import study

    with tempfile.TemporaryDirectory() as folder:
        draw = np.random.default_rng(0)
        images, labels = draw.integers(0, 256, (20, 2, 2), dtype=np.uint8), np.arange(20) % 2
        np.savez(Path(folder) / "tiny.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
        trial = {"data": {"name": f"npz:{folder}/tiny.npz"}, "model": {"name": "linear"}, "budget": {"epochs": 0}}
        spec = study.understand({"study": "overhead", "trial": trial, "space": {"seed": {"range": points}}} | tracking)
        start = time.perf_counter()
        moments: dict[str, float] = {}
        memory: list[int] = []

        def note(name: str) -> None:
            moments.setdefault(name, time.perf_counter() - start)
            memory.append(_resident())

        progress = study.Progress(
            started=lambda points, seconds: note("planned"),
            advanced=lambda statuses, seconds: note("first_result"),
            trained=lambda: note("results"),
        )
        summary = study.run(spec, storage=f"{folder}/results", progress=progress)
        seconds = time.perf_counter() - start
        assert summary.counts["completed"] == points
    return {
        "milliseconds_per_point": seconds / points * 1e3,
        "milliseconds_per_point_to_results": moments["results"] / points * 1e3,
        "seconds_to_plan_and_start": moments["planned"],
        "seconds_to_first_result": moments["first_result"],
        "driver_memory_mib_at_first_result": memory[1] / 2**20,
        "driver_memory_mib_at_last_result": memory[-1] / 2**20,
        "driver_memory_mib_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
