"""The scaling laws of a study: one for each line of its records and each side of the interpolation threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.scaling.choice import Scaling, choose_law
from analysis.scaling.laws import RESAMPLES
from analysis.statistics.intervals import LEVEL
from analysis.statistics.selection import agreeing, checked, completed, groups, lines_over, outcomes, seed_codes
from analysis.statistics.tasks import own
from analysis.words import words

Side = Literal["fit", "unfit"]
SIDES: dict[Side, str] = {"fit": "runs that fit", "unfit": "runs that did not fit"}
SIZES = ("parameters", "data.train_size")
"""What a study is taken to vary the size by, if nobody says."""
_CONSTANTS = ("E", "A", "alpha", "B", "beta", "c", "w")


@dataclass(frozen=True)
class StudyLaw:
    """The law of one line on one side of the threshold, or why there is none.

    Attributes:
        line: what tells the line apart, by column.
        side: the settings all of whose runs fit, or none of whose did.
        value: the column that the law is of.
        sizes: the columns that it runs over.
        scaling: the law, with the forms that were tried.
        runs: the records that it was fitted to.
        others: of the line's records, those on the other side.
        mixed: settings that lie on neither side, for some of their seeds fit.
    """

    line: dict[str, Any]
    side: Side
    value: str
    sizes: tuple[str, ...]
    scaling: Scaling
    runs: pa.Table
    others: pa.Table
    mixed: int

    @property
    def label(self) -> str:
        """The line and the side in words."""
        named = [f"{words(name)} {_short(value)}" for name, value in self.line.items() if value is not None]
        return ", ".join([*named, SIDES[self.side]]).replace("$", "")

    def sentence(self) -> str:
        """The law in words, or why there is none."""
        return f"{self.label}: {self.scaling.sentence(plain(self.value), [plain(size) for size in self.sizes])}"

    def largest(self, size: str) -> float:
        """The largest that was run."""
        return float(pc.max(self.runs[size]).as_py())


def scaling_laws(
    table: pa.Table,
    *,
    value: str = "test_error",
    sizes: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    side: Side | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> list[StudyLaw]:
    """The scaling law of every line of a study, on each side of the interpolation threshold by itself.

    No law holds across the threshold: a setting all of whose runs reached their train target is on one side, one none of whose did on
    the other, and one of which some did on neither.

    Args:
        table: records.
        value: a numeric column.
        sizes: one or two columns of positive numbers; by default those of `SIZES` that vary.
        by: what tells lines apart; by default every field that varies, but for seeds and for what changes with the sizes.
        side: the only one wanted.
        resamples: bootstrap fits of each form.
        level: confidence, in (0, 1).

    Returns:
        One entry a line and side that has settings, in order. Where no law can be fitted (too few sizes, a missing value, a run that did
        not complete) its `Scaling.reason` says why.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist, no size varies, or lines would average over a field.
    """
    over = tuple(sizes) if sizes else sizes_that_vary(table)
    if len(over) > 2:
        raise AnalysisError(f"a law runs over one or two sizes, not {len(over)}")
    runs, lines = lines_of(table, over, by)
    value = own(runs, value)
    checked(runs, [value])
    found = []
    for line, some in groups(runs, lines):
        incomplete = _incomplete(table, line)
        for one, fitted in _sides(some, over).items():
            if fitted.any() and side in (None, one):
                kept, mixed = some.filter(pa.array(fitted)), _mixed(some, over)
                scaling = Scaling(None, incomplete, (), ()) if incomplete else _law(kept, value, over, resamples, level)
                others = some.filter(pa.array(_sides(some, over)["unfit" if one == "fit" else "fit"]))
                found.append(StudyLaw(line, one, value, over, scaling, kept, others, mixed))
    return found


def scaling_of(
    table: pa.Table,
    *,
    value: str = "test_error",
    sizes: Sequence[str] = ("parameters",),
    side: Side | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Scaling:
    """The scaling law of one line of a study.

    Args:
        table: records that differ in ``sizes``, seeds and what changes with the sizes alone; only completed ones count.
        value: a numeric column.
        sizes: one or two columns of positive numbers.
        side: of the interpolation threshold. It may be left out where all runs lie on one side.
        resamples: bootstrap fits of each form.
        level: confidence, in (0, 1).

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist; a run has no value or did not complete; runs lie on both sides of the threshold and no
            side was asked for; too few sizes.
    """
    laws = scaling_laws(table, value=value, sizes=sizes, by=(), side=side, resamples=resamples, level=level)
    if side is None and (len(laws) > 1 or any(law.mixed for law in laws)):
        fit, of = (sum(law.runs.num_rows for law in laws if law.side in some) for some in (("fit",), SIDES))
        raise AnalysisError(
            f"{fit} of {of} runs are of settings that fit: no law holds across the interpolation threshold; ask for one side of it"
        )
    if not laws:
        raise AnalysisError(f"no setting has {SIDES[side] if side else 'runs'} alone: nothing can be fitted on that side")
    (law,) = laws
    if not law.scaling.candidates:
        raise AnalysisError(law.scaling.reason)
    return law.scaling


def scaling_table(laws: Sequence[StudyLaw]) -> pa.Table:
    """Laws as a table.

    Args:
        laws: as from `scaling_laws`.

    Returns:
        What tells lines apart; ``side``; ``form`` (null where there is no law); the constants E, A, alpha, B, beta, c and w of those forms,
        each with ``.low`` and ``.high``; ``settings`` that were fitted, ``mixed`` that lie on neither side; ``held_out``, the mean squared
        error on the largest decade in variances of its noise; ``note``, why there is no law.
    """
    rows = []
    for one in laws:
        scaling, law = one.scaling, one.scaling.law
        row: dict[str, Any] = {**one.line, "side": one.side, "mixed": one.mixed, "note": scaling.reason or None}
        row["settings"] = len(_places(one.runs, one.sizes)[1])
        if law is not None:
            row["form"] = law.form.name
            row["held_out"] = next(candidate.held_out for candidate in scaling.candidates if candidate.form == law.form.name)
            for name, estimate in law.parameters.items():
                row |= {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}
        rows.append(row)
    known = [name for name in _CONSTANTS if any(name in row for row in rows)]
    numbers = [pa.field(f"{name}{end}", pa.float64()) for name in known for end in ("", ".low", ".high")]
    head = [laws[0].runs.schema.field(name) for name in laws[0].line] if laws else []
    texts = [pa.field("side", pa.string()), pa.field("form", pa.string())]
    counts = [pa.field("settings", pa.int64()), pa.field("mixed", pa.int64()), pa.field("held_out", pa.float64())]
    return pa.Table.from_pylist(rows, pa.schema([*head, *texts, *numbers, *counts, pa.field("note", pa.string())]))


def plain(column: str) -> str:
    """The name of a column in a sentence."""
    return words(column).replace("$", "")


def sizes_that_vary(table: pa.Table) -> tuple[str, ...]:
    """Those of `SIZES` that vary among completed records; only one of two that change together.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: neither varies.
    """
    runs = completed(table)
    vary = [name for name in SIZES if pc.count_distinct(runs[name]).as_py() > 1]
    if not vary:
        raise AnalysisError("neither parameters nor data.train_size varies: a scaling law needs a size that does; name it with sizes")
    if len(vary) == 2 and len(_places(runs, vary)[1]) == max(pc.count_distinct(runs[name]).as_py() for name in vary):
        return ("parameters",) if pc.count_distinct(runs["model.width"]).as_py() > 1 else ("data.train_size",)
    return tuple(vary)


def lines_of(table: pa.Table, sizes: Sequence[str], by: Sequence[str] | None = None) -> tuple[pa.Table, list[str]]:
    """The completed records, and the columns that tell lines over these sizes apart: see `analysis.statistics.selection.lines_over`.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist, or ``by`` leaves something that varies besides seeds.
    """
    runs, lines = lines_over(table, sizes[0], by, apart=sizes[1:])
    return runs, lines if by is not None else [name for name in lines if pc.count_distinct(runs[name], mode="all").as_py() > 1]


def _incomplete(table: pa.Table, line: dict[str, Any]) -> str:
    """What is to be said of a line's runs that did not complete; empty if all did."""
    here = table.filter(pc.not_equal(table["status"], "completed"))
    known = {name: value for name, value in line.items() if value is not None or name != "corruption.kind"}  # level 0 has any kind
    here = here.filter(agreeing(list(known), list(known.values()))) if known else here
    if not here.num_rows:
        return ""
    return (
        f"{here.num_rows:,} runs did not complete ({outcomes(here)}): a law of the others would be biased; "
        "leave their settings out of the spec, or have them complete"
    )


def _places(runs: pa.Table, sizes: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The sizes of each run, of each setting, and which setting a run is of."""
    sizes_of_runs = np.stack([runs[name].cast(pa.float64()).to_numpy() for name in sizes])
    settings, cell = np.unique(sizes_of_runs, axis=1, return_inverse=True)
    return sizes_of_runs, settings.T, cell.ravel()


def _shares(runs: pa.Table, sizes: Sequence[str]) -> NDArray[np.float64]:
    """The share of runs that fit in the setting of each run."""
    fitted = runs["interpolated"].fill_null(False).to_numpy()
    _, _, cell = _places(runs, sizes)
    return np.asarray((np.bincount(cell, fitted) / np.bincount(cell))[cell])


def _sides(runs: pa.Table, sizes: Sequence[str]) -> dict[Side, NDArray[np.bool_]]:
    share = _shares(runs, sizes)
    return {"fit": share == 1, "unfit": share == 0}


def _mixed(runs: pa.Table, sizes: Sequence[str]) -> int:
    share, (_, _, cell) = _shares(runs, sizes), _places(runs, sizes)
    return len(np.unique(cell[(share > 0) & (share < 1)]))


def _law(runs: pa.Table, value: str, sizes: Sequence[str], resamples: int, level: float) -> Scaling:
    try:
        places, _, _ = _places(runs, sizes)
        values = runs[value].cast(pa.float64()).to_numpy(zero_copy_only=False)
        within = _within(value, values)
        possible = (_chance(runs), within[1]) if value == "test_error" else None
        return choose_law(places, values, seeds=seed_codes(runs), within=within, possible=possible, resamples=resamples, level=level)
    except AnalysisError as error:
        return Scaling(None, str(error), (), ())


def _within(value: str, values: NDArray[np.float64]) -> tuple[float, float]:
    """Where a quantity can be."""
    if value == "generalization_gap":
        return -1.0, 1.0
    return (0.0, 1.0) if value.endswith("error") else (-np.inf if (values < 0).any() else 0.0, np.inf)


def _chance(runs: pa.Table) -> float:
    """The lowest test error that is possible: chance where every label was redrawn, else 0."""
    all_labels = pc.is_in(runs["corruption.kind"], pa.array(["redraw", "random_labels"]))
    redrawn = pc.all(pc.and_(all_labels, pc.greater_equal(runs["corruption.level"], 1.0)))
    rates = runs["wrong_label_rate"].drop_null().to_numpy() if redrawn.as_py() else []
    # the measured rate of wrong labels, (C - 1)/C, with what it varies by
    return float(np.mean(rates) - 3 * np.std(rates) - 0.01) if len(rates) else 0.0


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
