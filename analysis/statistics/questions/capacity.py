"""Capacity in bits: how many labels a network memorises with its optimizer and budget, from runs over numbers of training samples.

Every seed has a number of samples up to which it fits, which runs show only between two of their sizes. What a cell memorises is the
geometric mean of its seeds' numbers, estimated as an interpolation threshold is (`analysis.statistics.interpolation`), for it is one: of
p/n, with p held. n random labels of C classes are n log2 C bits. The ability to fit more true labels than random ones was found to go with
a small generalization gap (Shwartz-Ziv et al. 2024, arXiv 2406.11463).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, isfinite, log, log2
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.statistics.aggregate import over_seeds
from analysis.statistics.interpolation import Threshold, seed_threshold, threshold_of
from analysis.statistics.intervals import LEVEL
from analysis.statistics.selection import checked, completed, data_sets, groups, seed_codes, varying_fields
from analysis.statistics.tasks import refuse_regression

SIZE = "data.train_size"
GAP = "generalization_gap"
RANDOM_KINDS = ("redraw", "random_labels", "random_signs")
"""The kinds of corruption of which level 1 draws every label uniformly over the classes."""
_ALWAYS = ("model.name", "model.width")
_LEVEL = "corruption.level"
_FEWEST = 4
"""Cells, at least, of which a rank correlation is said."""

Bracket = tuple[float, float]
"""A seed's number of samples lies from the first, which fit (0 if none did), to below the second, which did not (infinite if all fit)."""


@dataclass(frozen=True)
class Memorised:
    """How many samples the seeds of a cell fit.

    Attributes:
        brackets: seed -> where its number lies.
        found: of 1/n, which has a threshold as p/n has: it is fit from a smallest value on.
    """

    brackets: dict[int, Bracket]
    found: Threshold

    @property
    def fitted(self) -> float | None:
        """The largest n that fit, its geometric mean over seeds; None where a seed fit none."""
        return _mean_of([low for low, _ in self.brackets.values()])


def capacity_table(table: pa.Table, *, level: float = LEVEL) -> pa.Table:
    """How many random and how many true labels each setting memorises.

    Args:
        table: records that differ in ``data.train_size`` and seeds, at corruption level 1 (random labels) and 0 (true ones); other levels
            are left out. A run fits that is ``interpolated``; one that diverged did not fit.
        level: confidence, in (0, 1).

    Returns:
        A row a setting: ``model.name``, ``model.width`` and the other fields that vary; ``parameters`` p, ``classes`` C, ``inputs`` d (the
        numbers of an input), ``seeds``, the ``smallest`` and ``largest`` n tried. Then

        - for ``random`` and for ``true`` labels: the n that is memorised, with ``.low`` and ``.high`` over seeds (null for one seed, and
          where the sizes tried leave it open); ``.fitted``, the geometric mean over seeds of the largest n that fit; ``.all``, ``.none``
          and ``.mixed``, of how many seeds every n fit, none did, and an n fit above one that did not;
        - ``bits``, n log2 C / p of random labels, with its ends and ``.fitted``;
        - ``difference``, the bits a parameter that true labels have more, and ``ratio``, true over random n, with its ends, paired over
          seeds; both have ``.fitted``;
        - ``generalization_gap`` with its ends, of the runs on true labels at the largest n; ``gap.fit``, the share of these that fit.

        A value is null where all seeds fit every n, or all none. Where all of them fit true labels of every n tried, ``ratio.fitted``
        and ``difference.fitted`` are lower bounds.

    Raises:
        NothingToShow: no such record is completed, or its data cannot be had, which say how many classes there are.
        AnalysisError: a column does not exist.
    """
    refuse_regression(completed(table), "the labels that are memorised are counted of")
    ended = checked(table, [SIZE, _LEVEL]).filter(pc.is_in(table["status"], pa.array(["completed", "diverged"])))
    kinds = pc.is_in(ended["corruption.kind"], pa.array(RANDOM_KINDS))
    random = pc.and_(pc.equal(ended[_LEVEL], 1.0), kinds)
    runs = ended.filter(pc.fill_null(pc.or_(random, pc.equal(ended[_LEVEL], 0.0)), False))
    if not runs.num_rows:
        raise NothingToShow("no run on random labels (corruption.level 1) or on true ones (0) has ended: gaplab capacity runs both")
    by = list(dict.fromkeys([*_ALWAYS, *(name for name in varying_fields(runs) if name not in (SIZE, _LEVEL))]))
    rows = [line | _row(some, level) for line, some in groups(runs, by)]
    head = [runs.schema.field(name) for name in by]
    return pa.Table.from_pylist(rows, pa.schema([*head, *_COLUMNS]))


def capacity_ranks(table: pa.Table) -> str | None:
    """Whether settings that fit more true labels than random ones have a smaller gap, in a sentence; None for too few settings.

    Args:
        table: as from `capacity_table`.
    """
    from scipy.stats import kendalltau

    rows = [row for row in table.to_pylist() if row["ratio.fitted"] is not None and row[GAP] is not None]
    if len(rows) < _FEWEST:
        return None
    found = kendalltau([row["ratio.fitted"] for row in rows], [row[GAP] for row in rows])
    if not isfinite(found.statistic):
        return None
    open_ends = sum(row["true.all"] > 0 for row in rows)
    censored = f"; {open_ends} of the ratios are lower bounds, for true labels fit with all samples" if open_ends else ""
    return (
        f"Over {len(rows)} settings the ratio of the largest n that fit, true over random labels, has Kendall's tau {found.statistic:.2f} "
        f"(p = {found.pvalue:.2g}) with the generalization gap{censored}."
    )


_NUMBERS = ("random", "true", "bits", "difference", "ratio", GAP)
_PARTS = {
    "random": (".low", ".high", ".fitted"),
    "true": (".low", ".high", ".fitted"),
    "bits": (".low", ".high", ".fitted"),
    "difference": (".fitted",),
    "ratio": (".low", ".high", ".fitted"),
    GAP: (".low", ".high"),
}
_COUNTS = ("parameters", "classes", "inputs", "seeds", "smallest", "largest")
_COLUMNS = [
    *(pa.field(name, pa.int64()) for name in _COUNTS),
    *(pa.field(name + part, pa.float64()) for name in _NUMBERS for part in ("", *_PARTS[name])),
    *(pa.field(f"{name}.{count}", pa.int64()) for name in ("random", "true") for count in ("all", "none", "mixed")),
    pa.field("gap.fit", pa.float64()),
]


def _row(runs: pa.Table, level: float) -> dict[str, Any]:
    """The row of one setting."""
    classes, inputs = _task(runs)
    parameters = int(pc.max(runs["parameters"]).as_py())
    sizes = pc.min_max(runs[SIZE]).as_py()
    row: dict[str, Any] = {
        "parameters": parameters,
        "classes": classes,
        "inputs": inputs,
        "smallest": sizes["min"],
        "largest": sizes["max"],
    }
    row["seeds"] = len(np.unique(seed_codes(runs)))
    seed = seed_codes(runs)
    found: dict[str, Memorised] = {}
    for name, corruption in (("random", 1.0), ("true", 0.0)):
        mine = pc.equal(runs[_LEVEL], corruption).to_numpy()
        if mine.any():
            found[name] = _memorised(runs.filter(pa.array(mine)), seed[mine], level)
            row |= _inverse(name, found[name].found) | {f"{name}.fitted": found[name].fitted}
            threshold = found[name].found
            row |= {f"{name}.all": threshold.always, f"{name}.none": threshold.never, f"{name}.mixed": threshold.mixed}
    each = log2(classes) / parameters
    row |= {f"bits{part}": _times(row.get(f"random{part}"), each) for part in ("", *_PARTS["bits"])}
    if len(found) > 1:
        for part in ("", ".fitted"):
            more, fewer = row[f"true{part}"], row[f"random{part}"]
            row[f"difference{part}"] = None if more is None or fewer is None else (more - fewer) * each
        row |= _ratio(found["random"].brackets, found["true"].brackets, level)
    return row | _gap(runs.filter(pc.and_(pc.equal(runs[_LEVEL], 0.0), pc.equal(runs[SIZE], sizes["max"]))))


def _task(runs: pa.Table) -> tuple[int, int]:
    """The classes of the setting's labels, and how many numbers an input has."""
    from trainables.data.corruption import classes_of
    from trainables.data.inputs import input_shape
    from trainables.data.sets.sources import load
    from trainables.point.config import Corruption
    from trainables.point.errors import ConfigError

    try:
        dataset = load(data_sets(runs)[0])
    except ConfigError as error:
        raise NothingToShow(f"how many classes the labels have is known from the data alone, which cannot be had: {error}") from None
    kind, preprocessing = runs["corruption.kind"][0].as_py(), runs["data.preprocessing"][0].as_py()
    return classes_of(dataset.classes, Corruption(kind=kind)), int(np.prod(input_shape(dataset, preprocessing)))


def _memorised(runs: pa.Table, seed: np.ndarray, level: float) -> Memorised:
    """What the seeds fit of one kind of labels."""
    sizes = runs[SIZE].cast(pa.float64()).to_numpy()
    fit = pc.and_(pc.equal(runs["status"], "completed"), pc.fill_null(runs["interpolated"], False)).to_numpy()
    ends = {int(one): seed_threshold(1 / sizes[seed == one], fit[seed == one]) for one in np.unique(seed)}
    mixed = sum(bool(some.any() and not some.all() and size[some].max() > size[~some].min()) for size, some in _each(sizes, fit, seed))
    brackets = {one: (0.0 if high == inf else 1 / high, inf if low == 0 else 1 / low) for one, (low, high) in ends.items()}
    return Memorised(brackets, threshold_of(list(ends.values()), mixed=mixed, level=level))


def _each(sizes: np.ndarray, fit: np.ndarray, seed: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(sizes[seed == one], fit[seed == one]) for one in np.unique(seed)]


def _ratio(random: Mapping[int, Bracket], true: Mapping[int, Bracket], level: float) -> dict[str, float | None]:
    """True over random n with its ends, paired over the seeds that have both."""
    seeds = sorted(random.keys() & true.keys())
    if not seeds:
        return {}
    ends = [(true[one][0] / random[one][1], _over(true[one][1], random[one][0])) for one in seeds]
    fitted = [_over(true[one][0], random[one][0]) for one in seeds]
    found = threshold_of(ends, level=level)
    values = {"ratio": found.value, "ratio.low": found.low, "ratio.high": found.high}
    return {name: _known(value) for name, value in values.items()} | {"ratio.fitted": _mean_of(fitted)}


def _over(more: float, fewer: float) -> float:
    """The quotient; infinite where nothing was fit to divide by."""
    return more / fewer if fewer else inf


def _mean_of(numbers: list[float]) -> float | None:
    """The geometric mean; None if a number is 0 or infinite."""
    return exp(float(np.mean([log(number) for number in numbers]))) if all(0 < number < inf for number in numbers) else None


def _inverse(name: str, found: Threshold) -> dict[str, float | None]:
    """The n of a threshold of 1/n, with its ends."""
    values = {name: found.value, f"{name}.low": found.high, f"{name}.high": found.low}
    return {one: None if (known := _known(value)) is None else 1 / known for one, value in values.items()}


def _known(value: float) -> float | None:
    return value if isfinite(value) and value > 0 else None


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _gap(runs: pa.Table) -> dict[str, Any]:
    """The gap of the runs on true labels with all samples, over seeds."""
    done = runs.filter(pc.equal(runs["status"], "completed"))
    if not done.num_rows:
        return {}
    (row,) = over_seeds(done, ["model.name"], [GAP]).to_pylist()
    fit = pc.mean(pc.fill_null(done["interpolated"], False).cast(pa.float64())).as_py()
    return {name: row[name] for name in (GAP, f"{GAP}.low", f"{GAP}.high")} | {"gap.fit": fit}
