"""What a study found, and what it could not tell, in sentences: each finding has its interval and rests on more than one seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import NothingToShow
from analysis.figures.drawing.lines import label_of, only_shown, shown_combinations, title_of
from analysis.statistics.interpolation import line_thresholds
from analysis.statistics.intervals import LEVEL, Estimate, mean_estimate, range_of
from analysis.statistics.selection import agreeing, checked, lines_over, outcomes, seed_codes
from analysis.statistics.tasks import own
from analysis.statistics.verdict import order_verdict
from analysis.words import words

Floats = NDArray[np.float64]
_SEED = "number of the seed"
_SHORT = {"parameters_per_sample": "p/n", "parameters": "p"}
ENOUGH = 10.0
"""With so many parameters a sample a network that does not fit lacks training."""
_TRAINING = ("budget.epochs", "optimizer.learning_rate")
_MOST_LINES = 8
"""More lines than these are not told one by one."""


@dataclass(frozen=True)
class Findings:
    """What a study says: ``found`` is shown at 95 %, ``left_open`` is what its seeds and sizes do not decide; whole sentences."""

    found: list[str]
    left_open: list[str]


@dataclass(frozen=True)
class _Line:
    """One line: its value and whether it fit, shape (seeds, sizes), NaN where nothing was run; its name in a list and in a sentence.

    `seeds` are numbers that name the same seed in all lines of a study.
    """

    label: str
    name: str
    level: float | None
    sizes: Floats
    values: Floats
    fit: NDArray[np.bool_]
    seeds: NDArray[np.int64]

    def at_the_largest(self) -> dict[int, float]:
        """The value at the largest size by seed, of seeds that fit there."""
        ends = zip(self.seeds.tolist(), self.values[:, -1].tolist(), self.fit[:, -1].tolist(), strict=True)
        return {seed: value for seed, value, fit in ends if fit and np.isfinite(value)}

    def pairs(self) -> tuple[float, float, Floats] | None:
        """The smallest size at which the most seeds fit, the largest one, and the values of seeds that fit at both, shape (2, seeds)."""
        both = self.fit[:, -1:] & self.fit & np.isfinite(self.values) & np.isfinite(self.values[:, -1:])
        counts = both.sum(axis=0)[:-1]
        if not len(counts) or counts.max() < 2:
            return None
        first = int(counts.argmax())
        chosen = both[:, first]
        return self.sizes[first], self.sizes[-1], self.values[chosen][:, [first, -1]].T


def findings(table: pa.Table, *, capacity: str = "parameters_per_sample", value: str = "generalization_gap") -> Findings:
    """The findings of a study of capacity and corruption.

    They are the interpolation thresholds, the value at the largest capacity among seeds that fit there, whether it is in the order of
    the corruption levels (`analysis.statistics.verdict.order_verdict`), and whether it changes with capacity: differences, paired by seed,
    between the smallest capacity at which the most seeds fit and the largest, at 95 % for all lines together (Bonferroni).

    Args:
        table: records; only completed ones count.
        capacity: the column that says how large a model is.
        value: a numeric column; of regression the gap stands for its own.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist.
    """
    runs, by = lines_over(table, capacity)
    value = own(runs, value)
    shown, of = only_shown(checked(runs, [value]), by)
    shown = shown.append_column(_SEED, pa.array(seed_codes(shown)))  # one number a seed, whatever line it is in
    combinations = shown_combinations(shown, by, _MOST_LINES)[0] if by else [()]
    lines = [line for one in combinations if (line := _line(shown, by, one, capacity, value))]
    found, left_open = _thresholds(shown, by, capacity, lines)
    for part in (
        _at_the_largest(lines, by, runs, capacity, value),
        _order(lines, by, runs, capacity, value),
        _change(lines, capacity, value),
    ):
        found += part[0]
        left_open += part[1]
    left_open += _mixed(lines, capacity)
    if len(lines) < of:
        left_open.append(
            f"{of - len(lines):,} of {of:,} lines are not told of here: gaplab fit prints every threshold, gaplab report has every gap "
            "(analysis.threshold_table, analysis.gap_table)."
        )
    if runs.num_rows < table.num_rows and len(set(table["status"].to_pylist())) > 1:
        left_open.append(f"Of the points, {outcomes(table)}: those that are not completed count nowhere above.")
    return Findings(found, left_open)


def as_facts(table: pa.Table) -> list[tuple[str, list[str]]]:
    """The findings as facts of the report, (name, sentences); none without a completed record."""
    try:
        findings_of = findings(table)
    except NothingToShow:
        return []
    facts = [("Found", findings_of.found), ("Left open", findings_of.left_open)]
    return [(name, sentences) for name, sentences in facts if sentences]


def _line(runs: pa.Table, by: Sequence[str], values: Sequence[object], capacity: str, value: str) -> _Line | None:
    some = runs.filter(agreeing(by, values)) if by else runs
    sizes, index = np.unique(some[capacity].cast(pa.float64()).to_numpy(), return_inverse=True)
    seeds, seed = np.unique(some[_SEED].to_numpy(), return_inverse=True)
    if not np.isfinite(sizes).all() or not len(sizes):
        return None
    numbers, fit = np.full((len(seeds), len(sizes)), np.nan), np.zeros((len(seeds), len(sizes)), bool)
    numbers[seed, index] = some[value].cast(pa.float64()).to_numpy()
    fit[seed, index] = some["interpolated"].fill_null(False).to_numpy()
    level = values[list(by).index("corruption.level")] if list(by) == ["corruption.level"] else None
    label = label_of(by, values)
    name = label if level is None else f"{_title(by, runs)} {level:.3g}" if level else "true labels"
    return _Line(label, name, float(level) if isinstance(level, int | float) else None, sizes, numbers, fit, seeds)


def _thresholds(runs: pa.Table, by: Sequence[str], capacity: str, lines: Sequence[_Line]) -> tuple[list[str], list[str]]:
    """The thresholds that lie within the grid, and why others do not."""
    said, left_open = [], []
    known = {line.label: line for line in lines}
    for row in line_thresholds(runs, by, capacity).to_pylist():
        label = label_of(by, [row[name] for name in by])
        if label not in known or len(known[label].sizes) < 2:
            continue
        some = runs.filter(agreeing(by, [row[name] for name in by])) if by else runs
        why = _left_open(row, known[label], capacity, some)
        if why:
            left_open.append(f"{_at(known[label].name)}{why}")
        else:
            said.append(f"{_at(label)}{Estimate(row['threshold'], row['threshold.low'], row['threshold.high'])}")
    head = f"Networks reach their train target from these {_name(capacity)} on (95 % intervals){_by(by, runs)}"
    return ([f"{head}: {'; '.join(said)}."] if said else []), left_open


def _left_open(row: Mapping[str, Any], line: _Line, capacity: str, runs: pa.Table) -> str | None:
    """What a line's grid and seeds leave open of its threshold, a sentence; None where its interval is all there is to say.

    Args:
        row: of `line_thresholds`.
        line: the same one.
        capacity: the column that its sizes are of.
        runs: of the line.
    """
    seeds, always, never, short = row["seeds"], row["always"], row["never"], _SHORT.get(capacity, _plain(capacity))
    ran = np.isfinite(line.values)
    smallest, largest = (  # of all seeds, which need not have the same ones
        _size(capacity, line.sizes[end]) if ran[:, end].all() else f"the {what} {short} that they ran at"
        for end, what in ((0, "smallest"), (-1, "largest"))
    )
    if (line.fit | ~ran).all():
        return f"{'every seed' if seeds > 1 else 'the only seed'} fits already at {smallest}: the threshold lies below."
    if not line.fit.any():
        none = "no seed fits" if seeds > 1 else "the only seed does not fit"
        return f"{none}, not even at {largest}: {_short_of_training(runs, capacity) or 'the threshold lies above.'}"
    few, many = f"{always} of {seeds} seeds fitted already at {smallest}", f"{never} of {seeds} seeds did not fit even at {largest}"
    low, high = (row[f"threshold.{end}"] for end in ("low", "high"))
    below, above = always and (low is None or low < line.sizes[0]), never and (high is None or high > line.sizes[-1])
    if below and above:
        return f"the threshold is open on both sides: {few}, and {many}."
    if below:
        return f"the threshold lies {f'below {short} {high:.3g} (95 %)' if high else 'low'}; how far down is open, since {few}."
    if above:
        return f"the threshold lies {f'above {short} {low:.3g} (95 %)' if low else 'high'}; how far up is open, since {many}."
    if low is None or high is None:
        return f"the threshold of the only seed is near {short} {row['threshold']:.3g}: one seed has no interval."
    return None


def _short_of_training(runs: pa.Table, capacity: str) -> str | None:
    """What to change where networks with room for every sample do not fit: then training falls short, not capacity.

    A network can memorise about as many samples as it has parameters, whatever the labels (Zhang et al. 2017, theorem 1: 2n + d weights).
    """
    if capacity != "parameters_per_sample":
        return None
    roomy = runs.filter(pc.greater_equal(runs[capacity], ENOUGH))
    train = own(runs, "train_error")
    if not roomy.num_rows or not {train, "budget.epochs", "optimizer.learning_rate"} <= set(runs.column_names):
        return None
    error = np.nanmedian(roomy[train].cast(pa.float64()).to_numpy())
    epochs, rates = (" or ".join(f"{one:g}" for one in sorted(set(roomy[name].drop_null().to_pylist()))) for name in _TRAINING)
    some = "1 network" if roomy.num_rows == 1 else f"{roomy.num_rows:,} networks"
    ends = "ends" if roomy.num_rows == 1 else "end"
    return (
        f"{some} with at least {ENOUGH:g} parameters a sample {ends} at a train error of {error:.2g} (median), so "
        f"training falls short and not capacity, and no gap is at equal fit: raise budget.epochs ({epochs}) to several times that, or "
        f"change optimizer.learning_rate ({rates}; a third of it is the first to try)."
    )


def _at_the_largest(lines: Sequence[_Line], by: Sequence[str], runs: pa.Table, capacity: str, value: str) -> tuple[list[str], list[str]]:
    """The value of each line at its largest size, among seeds that fit."""
    said, left_open, seeds = [], [], set()
    for line in lines:
        values = np.array(list(line.at_the_largest().values()))
        if len(values) > 1:
            said.append(f"{_at(line.label)}{mean_estimate(values, within=range_of(value, values))}")
            seeds.add(len(values))
        elif line.fit.any():
            how_many = "only one seed fits" if len(values) else "no seed fits"
            left_open.append(f"{_at(line.name)}{how_many} at {_size(capacity, line.sizes[-1])}: of others that says nothing.")
    found = []
    if said:
        count = " to ".join(f"{one}" for one in sorted({min(seeds), max(seeds)}))
        found.append(
            f"At {_largest(lines, capacity)}, among seeds that fit ({count}), the {_plain(value)} is{_by(by, runs)}: {'; '.join(said)}."
        )
    return found, left_open


def _order(lines: Sequence[_Line], by: Sequence[str], runs: pa.Table, capacity: str, value: str) -> tuple[list[str], list[str]]:
    """Whether the value at the largest size is in the order of the levels of corruption, where that is one size."""
    ends = [line.at_the_largest() for line in lines]
    if len(lines) < 2 or len({line.sizes[-1] for line in lines}) > 1 or any(line.level is None for line in lines) or not all(ends):
        return [], []
    seeds = sorted(set().union(*ends))
    verdict = order_verdict({line.label: [end.get(seed, np.nan) for seed in seeds] for line, end in zip(lines, ends, strict=True)})
    rises = f"the {_plain(value)} at {_largest(lines, capacity)} rises from each level to the next ({_title(by, runs)}), paired by seed"
    if verdict.outcome == "undecided":
        return [], [f"Whether {rises}, is {verdict.sentence}."]
    return [f"That {rises}, {verdict.outcome}."], []


def _largest(lines: Sequence[_Line], capacity: str) -> str:
    """The largest size of the lines, by its number where it is one."""
    return _size(capacity, lines[0].sizes[-1]) if len({line.sizes[-1] for line in lines}) == 1 else f"the largest {_name(capacity)}"


def _change(lines: Sequence[_Line], capacity: str, value: str) -> tuple[list[str], list[str]]:
    """Whether the value of each line changes with capacity at equal fit."""
    compared = [(line, pair) for line in lines if (pair := line.pairs())]
    level = 1 - (1 - LEVEL) / max(len(compared), 1)
    found, left_open = [], []
    for line, (small, large, values) in compared:
        verdict = order_verdict(dict(zip(("small", "large"), values, strict=True)), level=level)
        (step,) = verdict.steps
        where = f"{_at(line.name)}from {_size(capacity, small)} to {large:.3g} the {_plain(value)}"
        over = f"over {step.seeds} seeds that fit at both"
        if verdict.outcome == "undecided":
            left_open.append(f"{where} changes by {_signed(step.difference)} {over}: neither a rise nor a fall is shown.")
        else:
            rises = verdict.outcome == "holds"
            found.append(f"{where} {'rises' if rises else 'falls'} by {_signed(step.difference, 1 if rises else -1)} {over}.")
    return found, left_open


def _mixed(lines: Sequence[_Line], capacity: str) -> Iterator[str]:
    """Sizes at which some seeds fit and some did not: their means are of a selection."""
    for line in lines:
        ran = np.isfinite(line.values)
        share = [(size, int(fit.sum()), int(run.sum())) for size, fit, run in zip(line.sizes, (line.fit & ran).T, ran.T, strict=True)]
        some = [(size, f"{_size(capacity, size)} ({fit} of {run})") for size, fit, run in share if 0 < fit < run]
        if some:
            largest, listed = max(size for size, _ in some), ", ".join(words for _, words in some)
            short = capacity == "parameters_per_sample" and largest >= ENOUGH
            longer = f"; with {ENOUGH:g} parameters a sample and more the others want a larger budget.epochs" if short else ""
            yield f"{_at(line.name)}only some seeds fit at {listed}: means over them are of a selection{longer}."


def _by(by: Sequence[str], runs: pa.Table) -> str:
    return f", by {_title(by, runs)}" if by else ""


def _signed(change: Estimate, sign: float = 1.0) -> str:
    if np.isnan(change.low):
        return f"{sign * change.value:.2g} (all differences are equal)"
    low, high = sorted((sign * change.low, sign * change.high))
    return f"{sign * change.value:.2g} ({low:.2g} to {high:.2g})"


def _at(label: str) -> str:
    return f"{label}: " if label else ""


def _size(capacity: str, size: float) -> str:
    return f"{_SHORT.get(capacity, _plain(capacity))} {size:.3g}"


def _name(capacity: str) -> str:
    return _plain(capacity).removesuffix(" p/n").removesuffix(" p")


def _title(by: Sequence[str], runs: pa.Table) -> str:
    return title_of(by, runs).replace("$", "")


def _plain(column: str) -> str:
    return words(column).replace("$", "")
