"""A run without Ray: what a study lacks is trained in the process of the test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

import study
from study.plan.plan import Plan, plan_study
from study.records.writer import FragmentWriter, Provenance
from tests.study.disturbances import rows
from tests.trainables.made_up_points import CPU, finish
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
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as a worker: small products on several threads wait for each other, on a busy machine for long
        try:
            self._train(plan, of.measures)
        finally:
            torch.set_num_threads(threads)
        self.ran.append(len(plan.missing))
        recorded = plan.with_records().recorded
        summary = study.Summary(plan, len(plan.points), len(plan.missing), Counter(recorded[point.key] for point in plan.points))
        then(summary)
        return summary

    def _train(self, plan: Plan, measures: tuple[str, ...]) -> None:
        writer = FragmentWriter(plan.root, Provenance(plan.study, None, "0"))
        for _, pack in groupby(sorted(plan.missing, key=signature), key=signature):
            writer(list(finish(Training([point.config for point in pack], CPU, measures=measures)).values()), "cpu")


def rows_without_ray(of: study.Spec, folder: Path) -> list[dict[str, Any]]:
    """The table of a study that nothing has disturbed: a point's bits do not depend on where, or beside whom, it trains (promise 3)."""
    InThisProcess()(of, lambda summary: None, storage=str(folder))
    return rows(str(folder / of.study))


def signature(point: Any) -> str:
    return repr(point.config.signature())
