"""Samplers in long searches: seconds a suggestion after so many, of gaplab's own loop with its journal, the training left out.

A sampler whose last thousand suggestions take no longer than its first is linear in the trials. Goal: the one that `auto` chooses for
10,000 trials takes at most twice as long for a suggestion at the end as at the beginning.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from study.search.plan import plan_search
from study.search.quiet import quiet
from study.search.search import Search
from study.spec.reading import understand
from tests.benchmarks.bench_search import QUALITY, known

SAMPLERS = ("random", "qmc", "cma_es", "nsga2", "tpe")
TRIALS = 10_000
WINDOW = 1_000
MOST_SECONDS = 200.0
"""After which a sampler is given up: what it took by then stands in the table."""


class Told:
    """Outcomes in memory (see `study.search.outcomes.Answers`)."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        return self.rows[key]

    def refresh(self) -> None:
        """Nothing: they are there."""

    def curve(self, key: str) -> Mapping[int, Mapping[str, Any]]:
        return {}


def seconds_each(sampler: str, trials: int) -> list[float]:
    """Seconds a suggestion, of each thousand of a search (or as many as it reaches in `MOST_SECONDS`)."""
    space = {  # numbers that are always asked for, as CMA-ES needs them
        "optimizer.learning_rate": {"log_uniform": {"low": 1e-3, "high": 1.0}},
        "optimizer.momentum": {"uniform": {"low": 0.0, "high": 0.99}},
        "regularizers.weight_decay": {"log_uniform": {"low": 1e-6, "high": 1e-2}},
        "regularizers.dropout": {"uniform": {"low": 0.0, "high": 0.5}},
        "regularizers.label_smoothing": {"uniform": {"low": 0.0, "high": 0.5}},
    }
    section = {"kind": "optuna", "sampler": sampler, "at_once": 8, "trials": trials}
    told = Told()
    with tempfile.TemporaryDirectory() as root, quiet():
        search = Search(replace(plan_search(understand(QUALITY | {"space": space, "search": section})), study="long"), root, told)
        begun = last = time.perf_counter()
        asked, taken = 0, list[float]()
        while not search.finished and time.perf_counter() - begun < MOST_SECONDS:
            for point in search.next_pack() or []:
                told.rows[point.key] = {"status": "completed", "reason": "", "validation_error": known(point.config), "train_error": 0.0}
                asked += 1
            search.collect()
            if asked >= WINDOW * (len(taken) + 1):
                now = time.perf_counter()
                taken.append((now - last) / WINDOW)
                last = now
        return taken


def measure(trials: int = TRIALS) -> dict[str, list[float]]:
    """Of every sampler; the lines of the table in docs/search.md are printed."""
    measured = {}
    for sampler in SAMPLERS:
        measured[sampler] = seconds_each(sampler, trials)
        first, *_, last = (1000 * seconds for seconds in measured[sampler] * 2)
        reached = len(measured[sampler]) * WINDOW
        print(f"| {sampler} | {reached:,} | {first:.1f} | {last:.1f} | {last / first:.1f} |")
    return measured
