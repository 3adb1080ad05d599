"""What moves the interpolation threshold: regularizers, setting by setting, and labels; does the second predict the gap?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.atlas.population import CAPACITY, LABELS, RANDOM, TRUE
from analysis.errors import NothingToShow
from analysis.statistics.aggregate import seed_means
from analysis.statistics.interpolation import line_thresholds
from analysis.statistics.selection import groups

REACHED = "parameters_per_sample"
_SETTING = ("data_set", "network", "optimizer", "regularizer")
_ROUNDING = 1e-9


def thresholds(networks: pa.Table) -> pa.Table:
    """The interpolation threshold of each setting, in parameters per sample, as of `analysis.threshold_table`, by the columns `LABELS`."""
    return line_thresholds(networks, LABELS, REACHED)


def regularizer_shifts(found: pa.Table) -> pa.Table:
    """How far each regularizer moves the threshold, setting by setting.

    Args:
        found: as from `thresholds`.

    Returns:
        A row a setting (`LABELS`) with a regularizer whose twin without any is there: ``shift``, log2 of the two thresholds' ratio, null
        where one of them lies outside of the capacities; ``shown``, ``"up"`` or ``"down"`` where the 95 % intervals of both thresholds
        are disjoint, else null. One that fits at no capacity has an interval with a lower end.

    Raises:
        NothingToShow: no regularizer varies.
    """
    rows = found.to_pylist()
    plain = {tuple(row[name] for name in LABELS[:-1]): row for row in rows if row["regularizer"] == "none"}
    shifts = []
    for row in rows:
        other = plain.get(tuple(row[name] for name in LABELS[:-1]))
        if other is not None and row is not other:
            known = row["threshold"] and other["threshold"]
            shift = float(np.log2(row["threshold"] / other["threshold"])) if known else None
            shifts.append({name: row[name] for name in LABELS} | {"shift": shift, "shown": _shown(row, other)})
    if not shifts:
        raise NothingToShow("no regularizer varies beside none: nothing is said of what moves the threshold")
    schema = pa.schema([*((name, pa.string()) for name in LABELS), ("shift", pa.float64()), ("shown", pa.string())])
    return pa.Table.from_pylist(shifts, schema)


def shift_summary(shifts: pa.Table) -> pa.Table:
    """Over the settings of a data set: a row a regularizer, with median and quartiles of the shift, and in how many it is shown."""
    rows = []
    for group, some in groups(shifts, ["data_set", "regularizer"]):
        known = some["shift"].drop_null().to_numpy()
        lower, median, upper = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else (None, None, None)
        shown = some["shown"].to_pylist()
        counts = {"settings": some.num_rows, "known": len(known), "up": shown.count("up"), "down": shown.count("down")}
        rows.append(group | counts | {"median": median, "lower": lower, "upper": upper})
    return pa.Table.from_pylist(rows)


def label_capacities(networks: pa.Table, found: pa.Table) -> pa.Table:
    """How many more parameters random labels take than true ones, beside the gap on true labels, in each setting.

    Shwartz-Ziv et al. 2024 (arXiv 2406.11463) measure how many samples a network fits, and find that the difference between true and
    random labels predicts generalization. Here samples are fixed and parameters vary: the ratio of the two thresholds.

    Args:
        networks: as from `analysis.atlas.population.population`.
        found: as from `thresholds`.

    Returns:
        A row a setting (data set, network, optimizer, regularizer): ``true`` and ``random``, the thresholds; ``more``, log2 of random
        over true, with ``least`` set where random labels fit at no capacity, so that it is at least that of the setting's largest; ``gap``,
        the mean gap on true labels over seeds that fit, at the largest capacity of the data set, with ``.low``, ``.high`` and ``.seeds``;
        ``of``, how many settings the data set has. Settings are left out whose true labels fit at no capacity or at every one, whose random
        labels fit at every one, or that have no gap.

    Raises:
        NothingToShow: there are no random labels (redraw at level 1), no true ones, or no setting that fit.
    """
    rows: list[dict[str, Any]] = []
    by_noise = {noise: {_setting(row): row for row in found.to_pylist() if row["noise"] == noise} for noise in (TRUE, RANDOM)}
    fit = networks.filter(pc.and_(pc.equal(networks["noise"], TRUE), networks["interpolated"].fill_null(False)))
    largest = _largest(networks, ("data_set",), CAPACITY)
    means = seed_means(fit, (*_SETTING, CAPACITY), ["generalization_gap"]).to_pylist()
    gaps = {_setting(row): row for row in means if row[CAPACITY] == largest[row["data_set"],]}
    tried = _largest(networks.filter(pc.equal(networks["noise"], RANDOM)), _SETTING, REACHED)
    settings = Counter(at[0] for at in {**by_noise[TRUE], **by_noise[RANDOM]})
    for setting, true in by_noise[TRUE].items():
        random, gap = by_noise[RANDOM].get(setting), gaps.get(setting)
        if random is None or gap is None or not true["threshold"] or random["always"] == random["seeds"]:
            continue
        least = not random["threshold"]
        top = tried[setting] if least else random["threshold"]
        ends = {f"gap{end}": gap[f"generalization_gap{end}"] for end in ("", ".low", ".high", ".seeds")}
        more = {"true": true["threshold"], "random": random["threshold"], "more": float(np.log2(top / true["threshold"])), "least": least}
        rows.append(dict(zip(_SETTING, setting, strict=True)) | more | ends | {"of": settings[setting[0]]})
    if not rows:
        raise NothingToShow("no setting has a threshold on true and on random labels (redraw at level 1): nothing is said of the two")
    return pa.Table.from_pylist(rows)


def capacity_ranks(capacities: pa.Table) -> Iterator[dict[str, Any]]:
    """For each data set: the rank correlation of ``more`` with the gap, over how many settings of how many.

    Settings are a design and no sample: the p of a permutation test says how often settings matched at random would correlate as much.
    """
    from scipy.stats import permutation_test, spearmanr

    for group, some in groups(capacities, ["data_set"]):
        more, gap = (some[name].to_numpy() for name in ("more", "gap"))
        if len(more) < 4 or len(np.unique(more)) < 2 or len(np.unique(gap)) < 2:
            continue

        def rho(values: np.ndarray, gap: np.ndarray = gap) -> float:
            return float(spearmanr(values, gap).statistic)

        test = permutation_test((more,), rho, permutation_type="pairings", n_resamples=2_000, rng=np.random.default_rng(0))
        yield group | {
            "settings": len(more),
            "of": some["of"][0].as_py(),
            "least": int(sum(some["least"].to_pylist())),
            "rho": test.statistic,
            "p": float(test.pvalue),
        }


def _largest(networks: pa.Table, by: Sequence[str], column: str) -> dict[tuple[Any, ...], float]:
    """The largest number of a column in each group."""
    found = networks.group_by(list(by)).aggregate([(column, "max")]).to_pylist()
    return {tuple(row[name] for name in by): row[f"{column}_max"] for row in found}


def _setting(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _SETTING)


def _shown(row: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Whether the threshold is shown to lie above, or below, the other; ends that meet at a capacity are apart, for one excludes it."""
    for one, beside, said in ((row, other, "up"), (other, row, "down")):
        low, high = one["threshold.low"], beside["threshold.high"]
        if low is not None and high is not None and low > high * (1 - _ROUNDING):
            return said
    return None
