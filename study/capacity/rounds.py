"""The rounds of a bisection: each runs the points that the outcomes so far ask for, as one study that grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from analysis.errors import NothingToShow
from analysis.records.reader import load
from analysis.records.schema import FINAL
from analysis.records.store import study_root
from study.capacity.bisection import RESOLUTION, Fits, asked, declared, study_name, tracks_of
from study.guest import as_found
from study.launch.cluster import connected
from study.launch.run import run
from study.launch.summary import Summary
from study.plan.left_open import LeftOpen
from study.plan.sources import read_sources
from study.spec.reading import Spec

Concluded = Callable[[Summary], Sequence[Path]]
Round = Callable[[Spec, Concluded], Summary]
"""Runs what is missing of a study, and calls what is to be called once its records are complete."""


def _nothing(summary: Summary) -> Sequence[Path]:
    """More is asked for after this round."""
    return ()


def measure_capacity(
    spec: Spec,
    *,
    resolution: float = RESOLUTION,
    storage: str = "results",
    address: str | None = None,
    one_round: Round | None = None,
    concluded: Concluded = _nothing,
) -> Summary:
    """Bisect the number of samples that each cell of a spec fits, on random and on true labels, under ``STORAGE/STUDY-capacity``.

    A point fits that reaches its train target (see `budget.stop_at_train_error`) within its budget; one that diverged does not. Ctrl-C
    stops it, and the same call goes on from there; once nothing is left to ask, it runs nothing. Ray is started once for all rounds.

    Args:
        resolution: as for `study.capacity.bisection.tracks_of`.
        storage: local folder or URI.
        address: of a Ray cluster; one on this machine, for these rounds, by default.
        one_round: what runs a round; `study.run` by default.
        concluded: called once all is recorded; returns the charts that go with the study in MLflow.

    Returns:
        The summary of the last round: of the round that was interrupted, or in which points failed, or of all that was asked for. Its
        `records` are what `analysis.capacity_table` takes.

    Raises:
        ConfigError: the spec cannot be bisected, or a round cannot run.
    """

    def run_here(of: Spec, then: Concluded) -> Summary:
        return run(of, storage=storage, address=address, concluded=then)

    run_round = one_round or run_here
    sources = read_sources(spec)
    tracks = tracks_of(spec, resolution)
    root = study_root(storage, study_name(spec))
    connection: AbstractContextManager[object] | None = None
    with as_found(), ExitStack() as held:
        while True:
            wanted = asked(tracks, spec.trial, LeftOpen(spec, root, sources, None), _fits(root))
            if wanted.missing and connection is None:
                connection = connected(spec.resources, address)
                held.enter_context(connection)
            summary = run_round(declared(spec, wanted.assignments, resolution), _nothing if wanted.missing else concluded)
            if not (wanted.missing and summary.goes_on):
                return summary


def _fits(root: str) -> Fits:
    """Of the study's points that have ended, which fit."""
    try:
        table = load(root, columns=["key", "status", "interpolated"])
    except NothingToShow:
        return {}
    return {row["key"]: row["status"] == "completed" and bool(row["interpolated"]) for row in table.to_pylist() if row["status"] in FINAL}
