"""How well complexity measures rank runs by their generalization gap.

A measure is good if it is larger for the run with the larger gap. Four scores say how often:

- **tau**: Kendall's tau over all pairs of runs;
- **psi**: over pairs that differ in one hyperparameter only, averaged so that each hyperparameter counts alike (Jiang et al. 2020);
- **information**: what the sign of a measure's difference tells of the sign of the gap's, at the worst choice of two known
  hyperparameters (Jiang et al. 2020);
- **sign_error**: in each environment (two settings that differ in one hyperparameter) the weighted share of pairs that it orders
  wrongly; over environments the mean, the 90th percentile and the largest (Dziugaite et al. 2020, "In search of robust measures of
  generalization").

Every score comes with an interval: the value ± z times its bootstrap standard error, cut at the score's range. The bootstrap draws
runs, so that pairs which share a run are not taken for independent. The same draws serve all measures.

Runs are compared at equal fit: only completed runs that reached their train target count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow, unknown_column
from analysis.records.schema import MEASURE
from analysis.statistics.questions.rank_scores import (
    RESAMPLES,
    Floats,
    Integers,
    Pairs,
    RankedRuns,
    axis_scores,
    environment_errors,
    psis,
    scores,
)
from analysis.statistics.selection import completed, data_sets
from analysis.statistics.tasks import refuse_regression

GAP = "generalization_gap"
MOST_RUNS = 5_000
"""The most runs that all scores are computed for: time and memory grow with their square, 20 GB at 45,000."""
_MOST_PAIRS = 30_000
"""The most pairs of runs that the information is estimated from; more are thinned out at random."""


class TooManyRuns(NothingToShow):
    """More runs than can be compared pair by pair."""


class Ranking(TypedDict, total=False):
    """The options of a ranking, by name.

    Attributes:
        test_size: test images that the gaps were measured on: a pair whose gaps may differ by chance weighs less in the sign error.
            By default those of the smallest data set in the records, which is loaded to count them.
        hyperparameters: columns that were varied on purpose; by default `varied` ones.
        minimum_effective_size: environments with fewer effective pairs do not count. Two settings with k seeds each have k^2 pairs
            at most: the 12 of Dziugaite et al. 2020, the default, needs 4 seeds.
        seed: seeds the random measure and the bootstrap; 0 by default.
    """

    test_size: int | None
    hyperparameters: Sequence[str] | None
    minimum_effective_size: float
    seed: int


def rank_measures(table: pa.Table, **how: Unpack[Ranking]) -> pa.Table:
    """The scores of every measure, one row each, largest psi first.

    Two rows bound the others: ``oracle`` (the gap itself) is the ceiling, ``random`` (Gaussian noise) the floor.

    Args:
        table: records with ``measure.*`` columns.
        how: options, as in `Ranking`.

    Returns:
        ``measure`` (without prefix); ``points``, the runs for which it is finite; ``tau`` and ``psi`` in [-1, 1], 0 for no relation;
        ``information`` in [0, 1]; ``sign_error_mean``, ``sign_error_p90``, ``sign_error_max`` in [0, 1], 0.5 for no relation; each
        with ``.low`` and ``.high``; and ``environments``. NaN where nothing can be compared.

    Raises:
        NothingToShow: no completed run that fit, more than `MOST_RUNS`, no measure, or no data set whose test images could be counted.
        AnalysisError: a column does not exist.
    """
    runs, values = _runs(table, **how)
    rows = [scores(name, values[name], runs) for name in values]
    rows.sort(key=lambda row: -np.inf if np.isnan(row["psi"]) else row["psi"], reverse=True)
    return pa.Table.from_pylist(rows)


def rank_many(table: pa.Table, **how: Unpack[Ranking]) -> pa.Table:
    """The psi of every measure among thousands of runs, one row each, largest first: `rank_measures` without the scores that take longer.

    Returns:
        ``measure``; ``points``, the runs for which it is finite; ``psi`` with ``.low`` and ``.high``. Arguments and errors as in
        `rank_measures`, for as many runs as there are.
    """
    runs, values = _runs(table, any_pairs=False, **how)
    whole = [name for name, value in values.items() if np.isfinite(value).all()]
    found = dict(zip(whole, psis(np.stack([values[name] for name in whole]), runs), strict=True))
    for name in values.keys() - set(whole):
        known = replace(runs, pairs=runs.pairs.within(np.isfinite(values[name])))
        (found[name],) = psis(values[name][None], known)
    names = sorted(found, key=lambda name: -np.inf if np.isnan(found[name]["psi"]) else found[name]["psi"], reverse=True)
    return pa.Table.from_pylist([{"measure": name, "points": int(np.isfinite(values[name]).sum()), **found[name]} for name in names])


def rank_by_hyperparameter(table: pa.Table, **how: Unpack[Ranking]) -> pa.Table:
    """Psi and the sign errors of every measure on each hyperparameter by itself: one row each.

    The psi of `rank_measures` is the mean over hyperparameters. A measure may owe it to one of them, such as label corruption, which moves
    the gap most; to leave that out, rank the records of one level at a time.

    Returns:
        ``measure``, ``hyperparameter``; ``psi``, over ``setting_pairs`` pairs of settings that differ in it alone; ``sign_error_mean`` and
        ``sign_error_max`` over its ``environments``, those of them that count; each score with ``.low`` and ``.high``. NaN where nothing
        can be compared. Arguments and errors as in `rank_measures`.
    """
    runs, values = _runs(table, **how)
    rows = [row for name in values for row in axis_scores(name, values[name], runs)]
    return pa.Table.from_pylist(rows)


def sign_errors(table: pa.Table, **how: Unpack[Ranking]) -> pa.Table:
    """The weighted sign-error of every measure in each environment: one row each, for the distribution behind `rank_measures`.

    An environment is a pair of settings that differ in one hyperparameter. Over its pairs of runs, one of each setting (all seeds by all
    seeds), the error is sum_w (1 - sign(mu - mu') sign(g - g')) / 2 / sum_w, with the weight of `hoeffding_weight`.
    It counts if its effective size (sum w)^2 / sum w^2 is large enough.

    Returns:
        ``measure``, ``hyperparameter``, ``sign_error`` and ``effective_size``. Arguments and errors as in `rank_measures`.
    """
    runs, values = _runs(table, **how)
    rows = []
    for name, value in values.items():
        pairs = runs.pairs.within(np.isfinite(value))
        errors, sizes = environment_errors(pairs, value, runs, np.ones(len(runs.gap)))
        axis_of = np.zeros(len(errors), dtype=np.int64)
        axis_of[pairs.environment] = pairs.axis
        rows += [
            {"measure": name, "hyperparameter": runs.axes[axis_of[at]], "sign_error": errors[at], "effective_size": sizes[at]}
            for at in np.flatnonzero(sizes >= runs.minimum_effective_size)
        ]
    columns = [("measure", pa.string()), ("hyperparameter", pa.string()), ("sign_error", pa.float64()), ("effective_size", pa.float64())]
    return pa.Table.from_pylist(rows, pa.schema(columns))


def varied(table: pa.Table) -> list[str]:
    """The config columns that take several values, seeds aside; of those that vary together (an aim and what it resolved to) the first.

    >>> varied(pa.table({"model.width": [1, 2, 2], "model.depth": [1, 1, 1], "seed": [0, 0, 1], "measure.l2": [1, 2, 3]}))
    ['model.width']
    """
    found: dict[str, Integers] = {}
    for name in table.column_names:
        config = ("." in name and not name.startswith(MEASURE)) or name == "precision"
        if not config or name.endswith((".seed", ".digest")):
            continue
        codes = _codes(table[name])
        if codes.max(initial=0) > 0 and not any(_same_partition(codes, other) for other in found.values()):
            found[name] = codes
    return list(found)


def _runs(
    table: pa.Table,
    *,
    test_size: int | None = None,
    hyperparameters: Sequence[str] | None = None,
    minimum_effective_size: float = 12.0,
    seed: int = 0,
    any_pairs: bool = True,
) -> tuple[RankedRuns, dict[str, Floats]]:
    """The runs that count, and the values of every measure on them, random and oracle included.

    Args:
        any_pairs: whether pairs that differ in more than one hyperparameter are asked for.
    """
    everything = table
    names = [name for name in table.column_names if name.startswith(MEASURE)]
    if not names:
        computed = "a study computes those that its spec names under `measures`, a mapping has lines such as measure.path_norm"
        raise NothingToShow(f"these records hold no measure: {computed}")
    table = completed(table)
    refuse_regression(table, "measures are ranked by the gap of")
    table = table.filter(pc.and_(table["interpolated"], pc.is_finite(table[GAP])))
    if not table.num_rows:
        raise NothingToShow("no completed run reached its train target: gaps are compared at equal fit only")
    if any_pairs and table.num_rows > MOST_RUNS:
        raise TooManyRuns(
            f"{table.num_rows:,} runs fit, and at most {MOST_RUNS:,} are compared pair by pair: rank some of them (gaplab rank --where "
            "FIELD=VALUE, or a filtered table), or each data set and noise by itself (gaplab atlas build)"
        )
    axes = varied(table) if hyperparameters is None else list(hyperparameters)
    for name in axes:
        if name not in table.column_names:
            raise unknown_column(name, table.column_names)
    gap = table[GAP].to_numpy()
    settings = np.stack([_codes(table[name]) for name in axes], axis=1) if axes else np.zeros((len(gap), 0), dtype=np.int64)
    random = np.random.default_rng(seed)
    values = {name.removeprefix(MEASURE): pc.cast(table[name], pa.float64()).to_numpy() for name in names}
    values |= {"oracle": gap, "random": random.normal(size=len(gap))}
    weights = random.multinomial(len(gap), np.full(len(gap), 1 / len(gap)), size=RESAMPLES).astype(np.float64)
    pairs = np.zeros((2, 0), np.int64)
    if any_pairs:
        pairs = np.stack(np.triu_indices(len(gap), 1))
        pairs = pairs[:, gap[pairs[0]] != gap[pairs[1]]]
    if pairs.shape[1] > _MOST_PAIRS:
        pairs = pairs[:, random.choice(pairs.shape[1], _MOST_PAIRS, replace=False)]
    images = _test_images(everything) if test_size is None else test_size
    return RankedRuns(gap, axes, settings, _single_differences(settings), pairs, weights, images, minimum_effective_size), values


def _test_images(table: pa.Table) -> int:
    from trainables.data.sets.sources import load
    from trainables.point.errors import ConfigError

    try:
        return min(len(load(data).test_labels) for data in data_sets(table))
    except ConfigError as error:
        raise NothingToShow(f"the test images cannot be counted ({error}): say how many there are, as test_size") from None


def _codes(column: pa.ChunkedArray) -> Integers:
    """The values of a column as numbers from 0; null is a value."""
    indices = column.combine_chunks().dictionary_encode(null_encoding="encode").indices
    codes: Integers = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _same_partition(left: Integers, right: Integers) -> bool:
    both = len(np.unique(np.stack([left, right]), axis=1).T)
    return both == len(np.unique(left)) == len(np.unique(right))


def _single_differences(settings: Integers) -> Pairs:
    parts: list[Integers] = []
    groups = 0
    for axis in range(settings.shape[1]):
        _, members = np.unique(np.delete(settings, axis, axis=1), axis=0, return_inverse=True)
        order = np.argsort(members, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(members[order])) + 1):
            first, second = (rows[index] for index in np.triu_indices(len(rows), 1))
            low, high = np.sort([settings[first, axis], settings[second, axis]], axis=0)
            part = np.stack([first, second, np.full_like(first, axis), np.full_like(first, groups), low, high])
            parts.append(part[:, low < high])
            groups += 1
    first, second, axis_of, group, low, high = np.concatenate(parts, axis=1) if parts else np.zeros((6, 0), dtype=np.int64)
    _, environment = np.unique(np.stack([group, low, high]), axis=1, return_inverse=True)
    return Pairs(first, second, axis_of, group, environment.reshape(-1))
