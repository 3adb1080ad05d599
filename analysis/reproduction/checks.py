"""Each published claim checked against the records of a study: its interval over seeds, and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import AnalysisError, NothingToShow, unknown_column
from analysis.records.reader import load, load_curves
from analysis.records.schema import MEASURE, RECORDS
from analysis.reproduction.along import ALONG, with_curves
from analysis.reproduction.claims import Claims, NumberClaim, OrderClaim
from analysis.statistics.intervals import ERRORS, mean_estimate
from analysis.statistics.verdict import number_verdict, order_verdict

HEADS = ("", "published", "measured", "difference", "tolerance", "seeds", "train error", "p/n", "protocol", "verdict")
"""The headings of the cells of a checked claim."""
ABOVE_TRAIN = 0.01
"""How far above a published train error a run still fits as the paper's did."""
_SEEDS = ("seed", "data.seed", "corruption.seed")
_ANYWHERE = (float("-inf"), float("inf"))


@dataclass(frozen=True)
class CheckedClaim:
    """One published claim and what was measured.

    Attributes:
        published: the number or order as published.
        measured: mean over seeds with its 95 % interval where there are several, or those of the groups of an order.
        train_error: the mean of the runs that count.
        per_sample: their parameters per sample, if they agree in it.
        protocol: see `analysis.reproduction.claims.Protocol`.
        verdict: "holds", "does not hold" or "undecided"; "not compared" for a number of a stand-in, which cannot be reproduced by one;
            "passes" or "fails" for a control; "not run".
        why: the verdict in words; empty if it needs none.
    """

    name: str
    published: str
    measured: str
    difference: str
    tolerance: str
    seeds: int
    protocol: str
    verdict: str
    why: str = ""
    train_error: str = ""
    per_sample: str = ""

    def cells(self) -> tuple[str, ...]:
        """The texts under `HEADS`."""
        seeds = str(self.seeds or "")
        numbers = (self.published, self.measured, self.difference, self.tolerance, seeds, self.train_error, self.per_sample)
        return self.name, *numbers, self.protocol, self.verdict


def records_of(source: str) -> pa.Table:
    """The records of a study, with what follows from their curves; an empty table if there are none, for then nothing was run."""
    try:
        return with_curves(load(source), load_curves(source))
    except NothingToShow:
        return RECORDS.empty_table()


def check_claims(records: pa.Table, claims: Claims) -> list[CheckedClaim]:
    """Every published number and order, in this order."""
    return [*(check_number(records, one) for one in claims.numbers), *(check_order(records, one) for one in claims.orders)]


def reproduced(checked: Sequence[CheckedClaim]) -> Counter[str]:
    """How many claims have which verdict, of those that were measured by the published protocol; a stand-in never counts."""
    return Counter(one.verdict for one in checked if one.protocol == "same")


def check_number(records: pa.Table, claim: NumberClaim) -> CheckedClaim:
    """The mean over the completed points that a claim is about, beside the published value.

    Raises:
        AnalysisError: a column does not exist, or two of the points have the same seeds.
    """
    chosen = _chosen(records, claim.where, claim.column)
    tolerance = "± 4 s.e." if claim.tolerance is None else "exact" if claim.tolerance == 0 else f"± {claim.tolerance:g}"
    published = f"{claim.value:.4g}"
    if not chosen.num_rows:
        return CheckedClaim(claim.name, published, "", "", tolerance, 0, claim.protocol, "not run")
    values, fit = _numbers(chosen, claim.column), _fits(chosen, claim)
    _by_seed(chosen, values)
    counts = fit if fit is not None and fit.any() else np.ones(len(values), bool)
    kept = values[counts]
    within = ERRORS if claim.column.endswith("error") else _ANYWHERE
    mean, measured = float(kept.mean()), _decimals(float(kept.mean()))
    if len(kept) > 1:
        interval = mean_estimate(kept, within=within)
        measured += f" ({_decimals(interval.low)} to {_decimals(interval.high)})"
    verdict, why = _number_verdict(values, fit, claim, within)
    difference = "" if claim.protocol == "stand-in" else _decimals(mean - claim.value, "+")
    train_error = float(_numbers(chosen, "train_error")[counts].mean())
    trained = "" if np.isnan(train_error) else _decimals(train_error)  # least squares of Gaussian points has none
    per_sample = ", ".join(sorted({f"{ratio:.3g}" for ratio in _numbers(chosen, "parameters_per_sample")[counts]}))
    return CheckedClaim(
        claim.name, published, measured, difference, tolerance, len(kept), claim.protocol, verdict, why, trained, per_sample
    )


def check_order(records: pa.Table, claim: OrderClaim) -> CheckedClaim:
    """Whether the column rises from each group of a claim to the next, by pairs of one seed.

    Raises:
        AnalysisError: a column does not exist, or two points of a group have the same seeds.
    """
    wheres = [{name: value for name, value in where.items() if name != "column"} for where in claim.rising]
    columns = [str(where.get("column", claim.column)) for where in claim.rising]
    groups = [_chosen(records, where, column) for where, column in zip(wheres, columns, strict=True)]
    labels = _labels([where | {"column": column} for where, column in zip(wheres, columns, strict=True)])
    published = " < ".join(labels)
    if not all(group.num_rows for group in groups):
        missing = ", ".join(label for label, group in zip(labels, groups, strict=True) if not group.num_rows)
        said = f"no point with {claim.column} for {missing}"
        return CheckedClaim(claim.name, published, said, "", "", 0, claim.protocol, "not run")
    found = [_by_seed(group, _numbers(group, column)) for group, column in zip(groups, columns, strict=True)]
    fits = [_by_seed(group, _numbers(group, "interpolated")) for group in groups]
    seeds = sorted(set().union(*found), key=str)
    values = {label: [one.get(seed, float("nan")) for seed in seeds] for label, one in zip(labels, found, strict=True)}
    fitted = {label: [bool(one.get(seed, 0)) for seed in seeds] for label, one in zip(labels, fits, strict=True)}
    fitted_or_all = fitted if claim.equal_fit else None
    verdict = order_verdict(values, fitted=fitted_or_all, margin=claim.margin, resolution=_resolution(groups, claim.column))
    measured = ", ".join(f"{label} {np.nanmean(some):.4g}" for label, some in values.items())
    return CheckedClaim(claim.name, published, measured, "", "", verdict.seeds, claim.protocol, verdict.outcome, verdict.sentence)


def _number_verdict(
    values: NDArray[np.float64], fit: NDArray[np.bool_] | None, claim: NumberClaim, within: tuple[float, float]
) -> tuple[str, str]:
    """The verdict on a number, and why."""
    if claim.protocol == "stand-in":
        return "not compared", ""
    if claim.protocol == "control":
        inside = claim.tolerance is None or bool(np.all(np.abs(values - claim.value) <= claim.tolerance))
        return ("passes" if inside else "fails"), ""
    if claim.tolerance == 0:
        return ("holds" if bool(np.all(values == claim.value)) else "does not hold"), ""
    if claim.tolerance is not None:
        found = number_verdict(values, claim.value, tolerance=claim.tolerance, fitted=fit, within=within)
        return found.outcome, found.sentence
    if len(values) < 2:
        return "undecided", "one seed has no standard error"
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return ("holds" if abs(float(values.mean()) - claim.value) <= 4 * error else "does not hold"), ""


def _fits(chosen: pa.Table, claim: NumberClaim) -> NDArray[np.bool_] | None:
    """Whether each run fits as the paper says that its did; None if it does not say."""
    if claim.train_error is None:
        return None
    errors: NDArray[np.bool_] = _numbers(chosen, "train_error") <= claim.train_error + ABOVE_TRAIN
    return errors


def _resolution(groups: Sequence[pa.Table], column: str) -> float:
    """The step between possible values: a time to fit is known to one evaluation."""
    return float(max(max(group["budget.evaluate_every"].to_pylist()) for group in groups)) if column == "fit_epoch" else 0.0


def _labels(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells the groups apart."""
    names = list(dict.fromkeys(name for where in groups for name in where))
    telling = [name for name in names if len({str(where.get(name)) for where in groups}) > 1] or names
    return [", ".join(_said(name, where[name]) for name in telling if name in where) for where in groups]


def _said(name: str, value: Any) -> str:
    """A value that says by itself what it is of, or with the name of its field."""
    return value.removeprefix("curve.") if isinstance(value, str) else f"{name.rpartition('.')[2]} {value}"


def _numbers(table: pa.Table, column: str) -> NDArray[np.float64]:
    return np.asarray([np.nan if value is None else float(value) for value in table[column].to_pylist()])


def _by_seed(table: pa.Table, values: NDArray[np.float64]) -> dict[tuple[Any, ...], float]:
    """The value of each seed."""
    seeds = list(zip(*(table[name].to_pylist() for name in _SEEDS), strict=True))
    if twice := [seed for seed, count in Counter(seeds).items() if count > 1]:
        raise AnalysisError(
            f"a published claim is about one setting, but two completed runs of seed {twice[0][0]} agree with it: name more"
        )
    return dict(zip(seeds, values.tolist(), strict=True))


def _decimals(value: float, sign: str = "") -> str:
    """The value with four decimals, or with two digits where four decimals would show 0."""
    if abs(value) <= 1e-15:
        value = 0.0
    return f"{value:{sign}.2g}" if 0 < abs(value) < 1e-4 else f"{value:{sign}.4f}"


def _chosen(records: pa.Table, where: Mapping[str, Any], column: str) -> pa.Table:
    if column not in records.column_names and (column in ALONG or column.startswith(MEASURE)):
        return records.slice(0, 0)  # nothing that was run has it
    for name in (column, *where):
        if name not in records.column_names:
            raise unknown_column(name, records.column_names)
    parts = [pc.field("status") == "completed", pc.field(column).is_valid()]
    parts += [pc.field(name).is_null() if value is None else pc.field(name) == value for name, value in where.items()]
    return records.filter(reduce(and_, parts))
