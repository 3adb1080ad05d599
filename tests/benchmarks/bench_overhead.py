"""What gaplab costs beside training: 100,000 points that train for no epoch, planned, scheduled and recorded.

Goals: less than 2 ms a point all told, driver memory below 1 GiB and flat, the first result within 10 s.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

POINTS = 100_000


def measure() -> dict[str, Any]:
    import study

    with tempfile.TemporaryDirectory() as folder:
        draw = np.random.default_rng(0)
        images, labels = draw.integers(0, 256, (20, 2, 2), dtype=np.uint8), np.arange(20) % 2
        np.savez(Path(folder) / "tiny.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
        spec = study.understand(
            {
                "study": "overhead",
                "trial": {"data": {"name": f"npz:{folder}/tiny.npz"}, "model": {"name": "linear"}, "budget": {"epochs": 0}},
                "space": {"seed": {"range": POINTS}},
                "tracking": {"mlflow": False},
            }
        )
        start = time.perf_counter()
        moments: dict[str, float] = {}
        memory: list[int] = []

        def note(name: str) -> None:
            moments.setdefault(name, time.perf_counter() - start)
            memory.append(_resident())

        progress = study.Progress(started=lambda points, seconds: note("planned"), advanced=lambda statuses, seconds: note("first_result"))
        summary = study.run(spec, storage=f"{folder}/results", progress=progress)
        seconds = time.perf_counter() - start
        assert summary.counts["completed"] == POINTS
    measured = {
        "milliseconds_per_point": seconds / POINTS * 1e3,
        "seconds_to_plan_and_start": moments["planned"],
        "seconds_to_first_result": moments["first_result"],
        "driver_memory_mib_at_first_result": memory[1] / 2**20,
        "driver_memory_mib_at_last_result": memory[-1] / 2**20,
        "driver_memory_mib_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }
    for name, value in measured.items():
        print(f"{name:40} {value:10.2f}")
    return measured


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
