"""A run without Ray: what a study lacks is trained in the process of the test, where Ray is not what the test is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

import study
from study.launch.context import Run
from study.plan.plan import Plan, plan_study
from study.records.writer import FragmentWriter, Provenance
from tests.study.disturbances import rows
from tests.trainables.made_up_points import CPU, finish
from trainables.point.config import TrialConfig
from trainables.resolution import Point
from trainables.training.loop import Training


class InThisProcess:
    """Stands for a run: trains what a study lacks, in packs, with its measures, and says what came of it.

    Attributes:
        ran: how many points each run has trained.
    """

    def __init__(self) -> None:
        self.ran: list[int] = []

    def __call__(self, of: study.Spec, then: Callable[[study.Summary], Any], *, storage: str, **others: Any) -> study.Summary:
        plan = plan_study(of, storage).with_records()
        with one_thread():
            self._train(plan, of.measures)
        self.ran.append(len(plan.missing))
        recorded = plan.with_records().recorded
        summary = study.Summary(plan, len(plan.points), len(plan.missing), Counter(recorded[point.key] for point in plan.points))
        then(summary)
        return summary

    def _train(self, plan: Plan, measures: tuple[str, ...]) -> None:
        writer = FragmentWriter(plan.root, Provenance(plan.study, None, "0"))
        for _, pack in groupby(sorted(plan.missing, key=signature), key=signature):
            record([point.config for point in pack], measures, writer)


def record(points: list[TrialConfig], measures: tuple[str, ...], writer: FragmentWriter) -> Counter[str]:
    """Train points as one pack, and record them; how many ended in which way."""
    results = list(finish(Training(points, CPU, measures=measures)).values())
    writer(results, "cpu")
    return Counter(result.status for result in results)


def fit_packs(run: Run, packs: list[list[Point]]) -> tuple[list[Any], list[Any]]:
    """Stands for `study.launch.tuner.fit_packs`, and with it for Ray: everything else of `study.run` is as it is."""
    run.progress.started(sum(map(len, packs)), float(len(packs)))
    with one_thread():
        for pack in packs:
            run.progress.advanced(record([point.config for point in pack], run.plan.measures, run.writer), 1.0)
    return [], []


@contextmanager
def one_thread() -> Iterator[None]:
    """As a worker: small products on several threads wait for each other, on a busy machine for long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def rows_without_ray(of: study.Spec, folder: Path) -> list[dict[str, Any]]:
    """The table of a study that nothing has disturbed: a point's bits do not depend on where, or beside whom, it trains (promise 3)."""
    InThisProcess()(of, lambda summary: None, storage=str(folder))
    return rows(str(folder / of.study))


def signature(point: Any) -> str:
    return repr(point.config.signature())
