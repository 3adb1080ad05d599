"""Where is memorisation benign? What a network that memorised wrong labels lost to its twin on true labels, for each wrong label.

Bartlett et al. 2020 call overfitting benign where it costs nothing, Mallinar et al. 2022 tempered where the cost stays between nothing and
that of chance. The cost here is paired: both networks of a pair have one seed and agree in everything but the labels, and both fit every
label that they were given.

With C classes, a network of test error e has the skill s = 1 - e/(1 - 1/C): 1 is without error, 0 is chance. Labels of which a share r is
wrong carry as much as if r/(1 - 1/C) of them were drawn anew. The cost of memorising them is the share of skill lost, over that share of
labels lost: (1 - s'/s)/(r/(1 - 1/C)). It is 0 where memorisation is benign; 1 where skill goes with labels, as that of a nearest neighbour
does whose labels are drawn anew, and as all skill does with random ones; more where wrong labels harm beyond their number.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.atlas.population import CAPACITY, CELL, TRUE
from analysis.errors import NothingToShow
from analysis.statistics.aggregate import seed_means
from analysis.statistics.selection import SEEDS, codes, sorted_by

COST = "cost"
"""Column: the share of skill lost, over the share of labels lost."""
_PAIRED = (*(name for name in CELL if name != "noise"), "seed", "data.seed")
"""The seed of a corruption is no seed of its twin, which has none."""
_OVER = ("data_set", "noise", CAPACITY)


def benign_table(networks: pa.Table) -> pa.Table:
    """What memorised wrong labels cost, in each cell of an atlas.

    Args:
        networks: as from `analysis.atlas.population.population`.

    Returns:
        A row a cell with noise (the columns `CELL`): ``cost``, the mean over pairs, with ``.low``, ``.high`` and ``.seeds``; ``added``,
        the test error added, likewise; ``fit``, of all networks of the cell the share that reached the train target. Cells without a pair
        that fit are null; pairs whose twin is not better than chance are left out.

    Raises:
        NothingToShow: no network with wrong labels, or none without.
    """
    clean = pc.equal(networks["noise"], TRUE)
    rate = networks["wrong_label_rate"].cast(pa.float64())
    noisy = pc.and_(pc.invert(clean), pc.fill_null(pc.greater(rate, 0), False))
    if not (pc.any(clean).as_py() and pc.any(noisy).as_py()):
        raise NothingToShow("what wrong labels cost is told by networks with them and without: let corruption.level take 0 and more")
    code = codes(networks, _PAIRED)
    fits = networks["interpolated"].fill_null(False).to_numpy()
    error = networks["test_error"].to_numpy()
    twin = np.full(code.max() + 1, np.nan)
    chosen = clean.to_numpy() & fits
    twin[code[chosen]] = error[chosen]
    added = np.where(fits, error - twin[code], np.nan)
    chance = 1 - 1 / networks["classes"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        lost, labels = added / (chance - twin[code]), rate.to_numpy() / chance
        cost = np.where(twin[code] < chance, lost / labels, np.nan)
    rows = noisy.to_numpy()
    runs = networks.filter(noisy).select([*CELL, *SEEDS])
    for name, values in (("added", added[rows]), (COST, cost[rows]), ("fit", fits[rows].astype(np.float64))):
        runs = runs.append_column(name, pa.array(values))
    found = seed_means(runs, CELL, [COST, "added", "fit"])
    return found.drop_columns(["fit.low", "fit.high", "fit.seeds", "seeds"])


def benign_map(costs: pa.Table) -> pa.Table:
    """The cost over settings: how much it varies with depth, optimizer and regularizer at each capacity.

    Args:
        costs: as from `benign_table`.

    Returns:
        A row a data set, noise and capacity: ``settings``; ``known``, those with a pair that fit; the ``median`` and both quartiles
        (``lower``, ``upper``) of their costs: what the design holds, no interval of an error. Null where ``known`` is 0.
    """
    code = codes(costs, _OVER)
    cost = costs[COST].to_numpy(zero_copy_only=False).astype(np.float64)
    rows = []
    for one in np.unique(code):
        members = np.flatnonzero(code == one)
        known = cost[members][np.isfinite(cost[members])]
        lower, median, upper = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else (None, None, None)
        counts = {"settings": len(members), "known": len(known)}
        rows.append(
            {name: costs[name][int(members[0])].as_py() for name in _OVER} | counts | {"lower": lower, "median": median, "upper": upper}
        )
    schema = pa.schema(
        [("data_set", pa.string()), ("noise", pa.string()), (CAPACITY, pa.float64()), ("settings", pa.int64()), ("known", pa.int64())]
        + [(name, pa.float64()) for name in ("lower", "median", "upper")]
    )
    return sorted_by(pa.Table.from_pylist(rows, schema), _OVER)
