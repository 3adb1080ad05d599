"""Processes of the tests' own, such as can be killed, and often: forked from one that has the imports behind it, which take seconds."""

from __future__ import annotations

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "mlflow",
        "ray.tune",
        "study.launch.run",
        "study.launch.breaker",
        "study.launch.tuner",
        "study.records.compaction",
        "tests.study.drivers",
    ]
)
