"""Paired comparisons over seeds between settings, corrected for their number, each with a sentence that says what was tested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import AnalysisError, NothingToShow
from analysis.statistics.intervals import LEVEL, range_of
from analysis.statistics.selection import SEEDS, checked, completed, numeric, varying_fields
from analysis.statistics.tasks import own
from analysis.statistics.verdict import ROUNDING, sign_test
from analysis.words import words

_TESTED = ("difference.low", "difference.high", "effect", "p", "p.holm")
_ALONG = "changed along"
_MOST_ALONG = 3
"""The most fields that a sentence names as changed along with the setting."""


@dataclass(frozen=True)
class _Question:
    """What is compared: values of a setting, by a column, within cells of these fields."""

    setting: str
    value: str
    cell_fields: tuple[str, ...]
    equal_fit: bool
    level: float


def compare(
    table: pa.Table, setting: str, *, value: str = "test_error", against: Any = None, equal_fit: bool = True, level: float = LEVEL
) -> pa.Table:
    """Compare every two values of a setting by the paired differences of runs that agree in all else, seeds included.

    Runs are paired when they have the same seeds and the same value of every field that varies under some value of
    the setting. Each comparison is a paired Student t test of a mean difference of 0 within such a cell (a sign test where all
    differences are equal, which leaves the t test nothing to go by); all p-values of the table are corrected together (Holm 1979). Pairs
    that both reached their train target and pairs that both did not are compared apart; pairs of which one did are counted, not compared.
    To compare two studies, put their tables together and compare ``study``. A field that has one value with one setting and another with
    the other may be what makes the difference: the sentence names it.

    Args:
        table: records; only completed ones count.
        setting: a column: a config field, or ``study``.
        value: a numeric column; of regression `test_error` stands for `test_nmse`, and the gap for its own.
        against: compare only with this value of the setting.
        equal_fit: compare pairs that fit and pairs that did not apart, and no others. False for questions in which not to fit is
            part of the effect, such as which setting has the lower test error.
        level: confidence, in (0, 1). Intervals are not corrected for the number of comparisons.

    Returns:
        The fields that tell cells apart, then ``a`` and ``b`` (the two values, as text), ``pairs``, ``fit`` (of these, pairs in which
        both runs reached their target: all or none at equal fit), ``unequal`` (pairs of the cell in which one run did), ``mean.a``,
        ``mean.b``, ``difference`` (b - a) with ``.low`` and ``.high``, which stay where differences can be, ``effect`` (Hedges' g
        of the differences: their mean over their deviation, corrected for few pairs; null for two pairs, which leave it open), ``p``,
        ``p.holm``, and ``sentence``.

    Raises:
        NothingToShow: no completed record, fewer than two values, or no two runs that agree in all else.
        AnalysisError: a column does not exist, or two runs have one value of the setting and agree in all else, seeds included.
    """
    runs = completed(table)
    value = own(runs, value)
    numeric(checked(runs, [setting]), [value])
    runs = runs.filter(pc.fill_null(pc.is_finite(runs[value].cast(pa.float64())), False))
    values = sorted(runs[setting].unique().to_pylist(), key=lambda one: (one is None, one))
    cell_fields = _cell_fields(runs, setting, values)
    question = _Question(setting, value, tuple(cell_fields), equal_fit, level)
    rows = [row for a, b in _two(values, against) for row in _compared(runs, question, a, b)]
    if not rows:
        raise NothingToShow(f"no two completed runs differ in {setting} and agree in all else, seeds included: nothing can be compared")
    tested = [row for row in rows if row["p"] is not None]
    for row, corrected in zip(tested, holm(np.array([row["p"] for row in tested])), strict=True):
        row["p.holm"] = float(corrected)
    for row in rows:
        row["sentence"] = _sentence(row, question, len(tested))
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


def _compared(runs: pa.Table, question: _Question, a: Any, b: Any) -> Iterator[dict[str, Any]]:
    """The compared values ``a`` and ``b`` in each cell, one row a cell, or at equal fit up to two."""
    setting, fields = question.setting, question.cell_fields
    seeds = [name for name in SEEDS if name in runs.column_names and name != setting]
    sides = [_by_pairing(runs.filter(_is(setting, one)), [*fields, *seeds], question.value, f"{setting} {_text(one)}") for one in (a, b)]
    along = _changed_along(runs, question, a, b)
    cells: dict[tuple[Any, ...], list[tuple[float, float, bool, bool]]] = {}
    for pairing, (number, fit) in sides[0].items():
        if pairing in sides[1]:
            other, other_fit = sides[1][pairing]
            cells.setdefault(pairing[: len(fields)], []).append((number, other, fit, other_fit))
    for cell, pairs in cells.items():
        first, second = np.array([pair[:2] for pair in pairs], np.float64).T
        reached, other_reached = np.array([pair[2:] for pair in pairs], bool).T
        row = dict(zip(fields, cell, strict=True)) | {"a": _text(a), "b": _text(b), "unequal": int((reached != other_reached).sum())}
        row[_ALONG] = along
        apart = [reached & other_reached, ~reached & ~other_reached] if question.equal_fit else [np.ones(len(pairs), bool)]
        apart = [some for some in apart if some.any()]
        if not apart:
            yield row | {"pairs": 0, "fit": 0} | dict.fromkeys(("mean.a", "mean.b", "difference", *_TESTED))
        for some in apart:
            row |= {"pairs": int(some.sum()), "fit": int((reached & other_reached)[some].sum())}
            means = {"mean.a": float(first[some].mean()), "mean.b": float(second[some].mean())}
            yield row | means | _tested((second - first)[some], range_of(question.value), question.level)


def _changed_along(runs: pa.Table, question: _Question, a: Any, b: Any) -> str:
    """The fields that change whenever the setting does, in words; empty for none. Width is what a change of capacity is."""
    sides = [runs.filter(_is(question.setting, one)) for one in (a, b)]
    group = "corruption." if question.setting.startswith("corruption.") else "model.width" if "parameters" in question.setting else " "
    changed = []
    for name in varying_fields(pa.concat_tables(sides)):
        if name not in (question.setting, *question.cell_fields) and not name.startswith(group):
            first, second = (_text(side[name][0].as_py()) for side in sides)
            changed.append(f"{words(name).replace('$', '')} ({second} against {first})")
    more = f" and {len(changed) - _MOST_ALONG} more fields" if len(changed) > _MOST_ALONG else ""
    return ", ".join(changed[:_MOST_ALONG]) + more


def _by_pairing(runs: pa.Table, pairing: Sequence[str], value: str, which: str) -> dict[tuple[Any, ...], tuple[float, bool]]:
    """The value of each run and whether it fit, by the fields that pair it with another run."""
    columns = (runs[name].to_pylist() for name in (*pairing, value, "interpolated"))
    found: dict[tuple[Any, ...], tuple[float, bool]] = {}
    for *where, number, fit in zip(*columns, strict=True):
        if tuple(where) in found:
            same = ", ".join(f"{name} {_text(one)}" for name, one in zip(pairing, where, strict=True) if one is not None) or "no seed"
            raise AnalysisError(f"two completed runs of {which} agree in all else ({same}): which of them is to be compared? Keep one")
        found[tuple(where)] = (number, bool(fit))
    return found


def _tested(differences: NDArray[np.float64], within: tuple[float, float], level: float) -> dict[str, float | None]:
    """The mean difference, its interval, Hedges' g and the p-value; null where one pair leaves them open."""
    from scipy.special import stdtr, stdtrit

    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return {"difference": mean} | dict.fromkeys(_TESTED)
    deviation, freedom = float(differences.std(ddof=1)), count - 1
    if deviation <= ROUNDING * abs(mean):
        return {"difference": mean} | dict.fromkeys(_TESTED) | {"p": sign_test(mean, count), "effect": None if mean else 0.0}
    half = float(stdtrit(freedom, (1 + level) / 2)) * deviation / count**0.5
    most = within[1] - within[0]
    effect = mean / deviation
    return {
        "difference": mean,
        "difference.low": max(mean - half, -most),
        "difference.high": min(mean + half, most),
        "effect": (1 - 3 / (4 * freedom - 1)) * effect if count > 2 else None,
        "p": float(2 * stdtr(freedom, -abs(effect) * count**0.5)),
        "p.holm": None,
    }


def _sentence(row: dict[str, Any], question: _Question, tests: int) -> str:
    value, level = question.value, question.level
    where = ", ".join(f"{words(name)} {_text(row[name])}" for name in question.cell_fields)
    head = f"{words(question.setting)} {row['b']} against {row['a']}" + (f" at {where}" if where else "")
    apart = f"{row['unequal']} pair{'' if row['unequal'] == 1 else 's'} of which one run reached its train target and one did not"
    if not row["pairs"]:
        return f"{head}: nothing was compared, for there are only {apart}."
    left_out = row["unequal"] and question.equal_fit
    also = f"; {apart} {'is' if row['unequal'] == 1 else 'are'} not compared" if left_out else ""
    also += f"; what changes along with it: {row[_ALONG]}" if row[_ALONG] else ""
    change = f"{words(value)} {row['mean.b']:.4g} against {row['mean.a']:.4g}, difference {row['difference']:+.4g}"
    if row["p"] is None:
        return f"{head}: {change}; one pair only, nothing was tested{also}."
    shown = "differs" if row["p.holm"] < 1 - level else "no difference shown"
    interval, test = "all differences are equal", "sign test"
    if row["difference.low"] is not None:
        interval, test = f"{100 * level:.0f} % interval {row['difference.low']:+.4g} to {row['difference.high']:+.4g}", "paired t test"
    effect = "" if row["effect"] is None else f", Hedges' g {row['effect']:+.2g}"
    fit = f"{'both' if row['fit'] else 'neither'} reached the train target"
    if not question.equal_fit:
        fit = f"in {row['fit']} both reached the train target, in {row['unequal']} one did"
    return (
        f"{head}: {change} ({interval}{effect}); "
        f"{test} over {row['pairs']} seeds, of which {fit}, p = {row['p']:.2g}, "
        f"p = {row['p.holm']:.2g} after Holm's correction for {tests} test{'s' if tests > 1 else ''}: "
        f"{shown} at {100 * (1 - level):.0f} %{also}."
    )


def _is(name: str, value: Any) -> pc.Expression:
    return pc.field(name).is_null() if value is None else pc.field(name) == value


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _schema(runs: pa.Table, cell_fields: Sequence[str]) -> pa.Schema:
    texts, counts = (("a", pa.string()), ("b", pa.string())), (("pairs", pa.int64()), ("fit", pa.int64()), ("unequal", pa.int64()))
    names = ("mean.a", "mean.b", "difference", "difference.low", "difference.high", "effect", "p", "p.holm")
    numbers = [(name, pa.float64()) for name in names]
    return pa.schema([*(runs.schema.field(name) for name in cell_fields), *texts, *counts, *numbers, ("sentence", pa.string())])
