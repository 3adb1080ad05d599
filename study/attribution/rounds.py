"""The rounds of an attribution: networks on random subsets, then networks without the samples that these say matter most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from analysis.attribution.left_out import LeaveOut, checks_of
from analysis.errors import NothingToShow
from search_spaces.space import Assignment
from study.attribution.declared import check_group, declared, subsets, without
from study.guest import as_found
from study.launch.cluster import connected
from study.launch.run import run
from study.launch.summary import Summary
from study.plan.plan import plan_study
from study.plan.sources import read_sources
from study.spec.reading import Spec

Concluded = Callable[[Summary], Sequence[Path]]
Round = Callable[[Spec, Concluded], Summary]
"""Runs what is missing of a study, and calls what is to be called once its records are complete."""


@dataclass(frozen=True)
class Effort:
    """How much is trained.

    Attributes:
        networks: on random subsets, of each setting; at least 8.
        share: of the training samples that each of them is trained on, in (0, 1).
        checks: test samples of each setting whose strongest supporters are left out; 0 for none.
        group: training samples left out at once.
        seeds: networks with and without each group.
    """

    networks: int = 1000
    share: float = 0.5
    checks: int = 3
    group: int = 10
    seeds: int = 20

    def __str__(self) -> str:
        return f"--networks {self.networks} --share {self.share:g} --checks {self.checks} --group {self.group} --seeds {self.seeds}"


@dataclass(frozen=True)
class Attributed:
    """What an attribution came to: the summary of its last round, and what was left out."""

    summary: Summary
    checks: list[LeaveOut]


def _nothing(summary: Summary) -> Sequence[Path]:
    """More is asked for after this round."""
    return ()


def attribute_study(
    spec: Spec,
    asked: Effort = Effort(),
    *,
    storage: str = "results",
    address: str | None = None,
    one_round: Round | None = None,
    concluded: Callable[[Summary, list[LeaveOut]], Sequence[Path]] | None = None,
) -> Attributed:
    """Train the networks of an attribution under ``STORAGE/STUDY-attribution``: on random subsets, then without what these say matters.

    Ctrl-C stops it, and the same call goes on from there; once nothing is left to ask, it runs nothing. Both rounds share one Ray.

    Args:
        spec: its settings are attributed one by one; seeds and ``data.train_size`` are set here.
        asked: how much is trained.
        storage: local folder or URI.
        address: of a Ray cluster; one on this machine, for these rounds, by default.
        one_round: what runs a round; `study.run` by default.
        concluded: called once all is recorded; returns the charts that go with the study in MLflow.

    Returns:
        The summary of the last round, or of the one that was interrupted or in which points failed, and the checks.

    Raises:
        ConfigError: attribution cannot be asked of the spec, or a round cannot run.
    """

    def run_here(of: Spec, then: Concluded) -> Summary:
        return run(of, storage=storage, address=address, concluded=then)

    def conclusion(checks: list[LeaveOut]) -> Concluded:
        return (lambda summary: concluded(summary, checks)) if concluded else _nothing

    read_sources(spec)  # settings are told apart by what the user's own models fill in
    first = subsets(spec, asked.networks, asked.share)
    if asked.checks:
        check_group(spec, asked.group)
    with as_found(), ExitStack() as held:
        connections: list[object] = []

        def round_of(assignments: list[Assignment], then: Concluded) -> Summary:
            of = declared(spec, assignments, str(asked))
            if not connections and plan_study(of, storage).with_records().missing:
                connections.append(held.enter_context(connected(spec.resources, address)))
            return (one_round or run_here)(of, then)

        summary = round_of(first, _nothing if asked.checks else conclusion([]))
        if not (asked.checks and summary.goes_on):
            return Attributed(summary, [])
        checks = _checks(summary, asked)
        return Attributed(round_of([*first, *without(spec, checks, asked.seeds)], conclusion(checks)), checks)


def _checks(summary: Summary, asked: Effort) -> list[LeaveOut]:
    """What to leave out, by the subsets that are recorded; nothing where there are too few of them to say."""
    records = summary.records
    try:
        return checks_of(records, summary.root, checks=asked.checks, group=asked.group)
    except NothingToShow:
        return []
