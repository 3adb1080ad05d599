"""Paired comparisons over seeds between settings, corrected for their number, each with a sentence that says what was tested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import NothingToShow, unknown_column
from analysis.statistics.intervals import LEVEL
from analysis.statistics.selection import SEEDS, completed, varying_fields
from analysis.words import words


def compare(table: pa.Table, setting: str, *, value: str = "test_error", against: Any = None, level: float = LEVEL) -> pa.Table:
    """Compare every two values of a setting by the paired differences of runs that agree in all else, seeds included.

    Runs are paired when they have the same seeds and the same value of every field that varies under some value of
    the setting. Each comparison is a paired Student t test of a mean difference of 0 within such a cell; all p-values of the
    table are corrected together (Holm 1979). To compare two studies, put their tables together and compare ``study``.

    Args:
        table: records; only completed ones count.
        setting: a column: a config field, or ``study``.
        value: a numeric column.
        against: compare only with this value of the setting.
        level: confidence, in (0, 1). Intervals are not corrected for the number of comparisons.

    Returns:
        The fields that tell cells apart, then ``a`` and ``b`` (the two values, as text), ``pairs``, ``fit`` (pairs in which
        both runs reached their target), ``mean.a``, ``mean.b``, ``difference`` (b - a) with ``.low`` and ``.high``, ``effect`` (Hedges' g
        of the differences: their mean over their deviation, corrected for few pairs; null for two pairs, which leave it open), ``p``,
        ``p.holm``, and ``sentence``.

    Raises:
        NothingToShow: no completed record, fewer than two values, or no two runs that agree in all else.
        AnalysisError: a column does not exist.
    """
    runs = completed(table)
    for name in (setting, value):
        if name not in runs.column_names:
            raise unknown_column(name, runs.column_names)
    runs = runs.filter(pc.fill_null(pc.is_finite(runs[value].cast(pa.float64())), False))
    values = sorted(runs[setting].unique().to_pylist(), key=lambda one: (one is None, one))
    cell_fields = _cell_fields(runs, setting, values)
    rows = [row for a, b in _two(values, against) for row in _compared(runs, setting, value, a, b, cell_fields, level)]
    if not rows:
        raise NothingToShow(f"no two completed runs differ in {setting} and agree in all else, seeds included: nothing can be compared")
    tested = [row for row in rows if row["p"] is not None]
    for row, corrected in zip(tested, holm(np.array([row["p"] for row in tested])), strict=True):
        row["p.holm"] = float(corrected)
    for row in rows:
        row["sentence"] = _sentence(row, setting, value, cell_fields, len(tested), level)
    return pa.Table.from_pylist(rows, _schema(runs, cell_fields))


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down correction (1979): the p-values at which each test would just be rejected among all of them.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def _cell_fields(runs: pa.Table, setting: str, values: Sequence[Any]) -> list[str]:
    """The fields that vary under some value of the setting: pairs must agree in them."""
    varying = {name for one in values for name in varying_fields(runs.filter(_is(setting, one)))}
    return [name for name in runs.column_names if name in varying and name != setting]


def _two(values: Sequence[Any], against: Any) -> Iterator[tuple[Any, Any]]:
    if against is None:
        return combinations(values, 2)
    return ((against, one) for one in values if one != against)


def _compared(
    runs: pa.Table, setting: str, value: str, a: Any, b: Any, cell_fields: Sequence[str], level: float
) -> Iterator[dict[str, Any]]:
    """The compared values ``a`` and ``b`` in each cell, one row a cell."""
    seeds = [name for name in SEEDS if name in runs.column_names and name != setting]
    sides = [_by_pairing(runs.filter(_is(setting, one)), [*cell_fields, *seeds], value) for one in (a, b)]
    cells: dict[tuple[Any, ...], list[tuple[float, float, bool]]] = {}
    for pairing, (number, fit) in sides[0].items():
        if pairing in sides[1]:
            other, other_fit = sides[1][pairing]
            cells.setdefault(pairing[: len(cell_fields)], []).append((number, other, fit and other_fit))
    for cell, pairs in cells.items():
        first, second, both = (np.array(column) for column in zip(*pairs, strict=True))
        row = dict(zip(cell_fields, cell, strict=True)) | {"a": _text(a), "b": _text(b), "pairs": len(pairs), "fit": int(both.sum())}
        yield row | {"mean.a": float(first.mean()), "mean.b": float(second.mean())} | _tested(second - first, level)


def _by_pairing(runs: pa.Table, pairing: Sequence[str], value: str) -> dict[tuple[Any, ...], tuple[float, bool]]:
    """The value of each run and whether it fit, by the fields that pair it with another run."""
    columns = (runs[name].to_pylist() for name in (*pairing, value, "interpolated"))
    return {tuple(where): (number, bool(fit)) for *where, number, fit in zip(*columns, strict=True)}


def _tested(differences: NDArray[np.float64], level: float) -> dict[str, float | None]:
    """The mean difference, its interval, Hedges' g and the p-value of the t test; null where one pair leaves them open."""
    from scipy.special import stdtr, stdtrit

    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return {"difference": mean, "difference.low": None, "difference.high": None, "effect": None, "p": None, "p.holm": None}
    deviation, freedom = float(differences.std(ddof=1)), count - 1
    half = float(stdtrit(freedom, (1 + level) / 2)) * deviation / count**0.5
    effect = 0.0 if mean == 0 else float(np.float64(mean) / deviation) if deviation else float(np.copysign(np.inf, mean))
    t = abs(effect) * count**0.5
    small = 1 - 3 / (4 * freedom - 1)
    return {
        "difference": mean,
        "difference.low": mean - half,
        "difference.high": mean + half,
        "effect": small * effect if count > 2 else None,
        "p": float(2 * stdtr(freedom, -t)),
        "p.holm": None,
    }


def _sentence(row: dict[str, Any], setting: str, value: str, cell_fields: Sequence[str], tests: int, level: float) -> str:
    where = ", ".join(f"{words(name)} {_text(row[name])}" for name in cell_fields)
    head = f"{words(setting)} {row['b']} against {row['a']}" + (f" at {where}" if where else "")
    change = f"{words(value)} {row['mean.b']:.4g} against {row['mean.a']:.4g}, difference {row['difference']:+.4g}"
    if row["p"] is None:
        return f"{head}: {change}; one pair only, nothing was tested."
    shown = "differs" if row["p.holm"] < 1 - level else "no difference shown"
    interval = f"{100 * level:.0f} % interval {row['difference.low']:+.4g} to {row['difference.high']:+.4g}"
    effect = "" if row["effect"] is None else f", Hedges' g {row['effect']:+.2g}"
    return (
        f"{head}: {change} ({interval}{effect}); "
        f"paired t test over {row['pairs']} seeds ({row['fit']} with both runs fit), p = {row['p']:.2g}, "
        f"p = {row['p.holm']:.2g} after Holm's correction for {tests} test{'s' if tests > 1 else ''}: {shown} at {100 * (1 - level):.0f} %."
    )


def _is(name: str, value: Any) -> pc.Expression:
    return pc.field(name).is_null() if value is None else pc.field(name) == value


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _schema(runs: pa.Table, cell_fields: Sequence[str]) -> pa.Schema:
    texts, counts = (("a", pa.string()), ("b", pa.string())), (("pairs", pa.int64()), ("fit", pa.int64()))
    names = ("mean.a", "mean.b", "difference", "difference.low", "difference.high", "effect", "p", "p.holm")
    numbers = [(name, pa.float64()) for name in names]
    return pa.schema([*(runs.schema.field(name) for name in cell_fields), *texts, *counts, *numbers, ("sentence", pa.string())])
