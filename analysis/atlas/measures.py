"""Which complexity measure predicts the gap, at fixed corruption: a ranking in each data set and each noise by itself."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from analysis.atlas.population import CAPACITY
from analysis.errors import NothingToShow
from analysis.statistics.questions.ranking import rank_many
from analysis.statistics.selection import groups

HYPERPARAMETERS = (CAPACITY, "network", "optimizer", "regularizer")


def measure_table(networks: pa.Table) -> pa.Table:
    """Psi of every measure in each stratum, among networks that fit: does the measure rise where the gap does, one thing changed at a time?

    Args:
        networks: as from `analysis.atlas.population.population`, with ``measure.*`` columns.

    Returns:
        A row a ``data_set``, ``noise`` and ``measure``: ``psi`` in [-1, 1] with ``.low`` and ``.high`` (bootstrap over networks), and
        ``points``, the networks that count. ``random`` (Gaussian noise) is the floor; ``oracle``, the gap itself, is left out.

    Raises:
        NothingToShow: nothing could be ranked in any stratum, and why.
    """
    rows, why = [], ""
    for stratum, some in groups(networks, ["data_set", "noise"]):
        varied = [name for name in HYPERPARAMETERS if len(some[name].unique()) > 1]
        try:
            found = rank_many(some, hyperparameters=varied)
        except NothingToShow as error:
            why = str(error)
            continue
        kept = ("measure", "psi", "psi.low", "psi.high", "points")
        rows += [stratum | {name: row[name] for name in kept} for row in found.to_pylist() if row["measure"] != "oracle"]
    if not rows:
        raise NothingToShow(why or "there is nothing to rank")
    return pa.Table.from_pylist(rows)


def best_measures(ranked: pa.Table) -> pa.Table:
    """Over all strata: a row a measure, that of the largest median psi first.

    Returns:
        ``measure``; ``strata``, where its psi is known; ``median``, ``lower`` and ``upper``: median and quartiles of psi over them;
        ``above`` and ``below``: in how many its interval lies above, or below, that of the random measure.
    """
    rows = ranked.to_pylist()
    floor = {(row["data_set"], row["noise"]): row for row in rows if row["measure"] == "random"}
    found = []
    for measure in sorted({row["measure"] for row in rows} - {"random"}):
        own = [row for row in rows if row["measure"] == measure and np.isfinite(row["psi"])]
        if own:
            lower, median, upper = np.quantile([row["psi"] for row in own], [0.25, 0.5, 0.75])
            beside = [(row, floor[row["data_set"], row["noise"]]) for row in own]
            above = sum(row["psi.low"] > other["psi.high"] for row, other in beside)
            below = sum(row["psi.high"] < other["psi.low"] for row, other in beside)
            counts = {"strata": len(own), "above": above, "below": below}
            found.append({"measure": measure, "median": median, "lower": lower, "upper": upper} | counts)
    kinds = [pa.field("measure", pa.string()), *(pa.field(name, pa.float64()) for name in ("median", "lower", "upper"))]
    schema = pa.schema([*kinds, *(pa.field(name, pa.int64()) for name in ("strata", "above", "below"))])
    return pa.Table.from_pylist(sorted(found, key=lambda row: -row["median"]), schema)
