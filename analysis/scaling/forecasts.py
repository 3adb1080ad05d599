"""What a study's laws say of larger sizes: ten times the parameters, the data or the compute, with prediction intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import AnalysisError
from analysis.scaling.laws import compute_optimal
from analysis.scaling.studies import StudyLaw, plain
from analysis.statistics.intervals import Estimate

COMPUTE = "training_flops"
_SHORT = {"data": "data.train_size", "samples": "data.train_size", "compute": COMPUTE, "flops": COMPUTE}
_PROPORTIONAL = 3.0
"""Compute for each parameter and sample may differ by this between runs."""
Place = dict[str, float]


def forecast_table(laws: Sequence[StudyLaw], at: Sequence[str] = ("10x",)) -> pa.Table:
    """The expected value of new runs at larger sizes, with the prediction interval for one run.

    How often these intervals hold what comes is simulated by ``python -m tests.benchmarks forecasts``.

    Args:
        laws: as from `scaling_laws`.
        at: where. ``"10x"`` is ten times each of the law's sizes, one at a time, and for parameters and samples together ten times the
            compute, split as the law has it best. ``"SIZE=10x"`` and ``"SIZE=NUMBER"`` fix one size; sizes that are not named stay at
            the largest that was run. SIZE is a column of the law, ``data`` (the training samples) or ``compute``.

    Returns:
        What tells lines apart; ``side``; ``at`` in words; a column a size; the value with ``.low`` and ``.high``; ``note``: why there is
        no forecast, or what to mind. One row a place, of the side of the threshold that the line's largest setting lies on.

    Raises:
        AnalysisError: a place is none.
    """
    check_places(at)
    rows = []
    sizes: list[str] = []
    for law in _of_the_largest(laws):
        sizes += [size for size in law.sizes if size not in sizes]
        for words, place in _places(law, at):
            rows.append({**law.line, "side": law.side, "at": words, **_forecast(law, place)})
    schema = [laws[0].runs.schema.field(name) for name in laws[0].line] if laws else []
    value = laws[0].value if laws else "value"
    schema += [pa.field("side", pa.string()), pa.field("at", pa.string()), *(pa.field(size, pa.float64()) for size in sizes)]
    schema += [*(pa.field(f"{value}{end}", pa.float64()) for end in ("", ".low", ".high")), pa.field("note", pa.string())]
    return pa.Table.from_pylist(rows, pa.schema(schema))


def check_places(at: Sequence[str]) -> None:
    """Raise AnalysisError for words that are no place whatever the law, and for a size named twice; `at` as for `forecast_table`."""
    named: dict[str, str] = {}
    for text in at:
        name, equals, number = text.partition("=")
        if not equals:
            _factor(text, text)
            continue
        _number(number.removesuffix("x"), text)
        size = _SHORT.get(name, name)
        if size in named:
            raise AnalysisError(f"--at {named[size]} and --at {text} name one size, and all that are named make one place: ask one by one")
        named[size] = text


def flops_per_product(law: StudyLaw) -> float:
    """Training operations for each parameter and sample: the median over the runs of a law of parameters and samples.

    Raises:
        AnalysisError: no run says what its training took, or that is no multiple of parameters times samples: runs of very different
            numbers of epochs, or points that are solved.
    """
    runs = law.runs.filter(pc.is_valid(law.runs[COMPUTE]))
    if not runs.num_rows:
        raise AnalysisError("no record has training_flops: those of older versions have none; run the study anew under another name")
    numbers = [runs[name].cast(pa.float64()).to_numpy() for name in (COMPUTE, "parameters", "data.train_size")]
    each = numbers[0] / (numbers[1] * numbers[2])
    if np.quantile(each, 0.95) > _PROPORTIONAL * np.quantile(each, 0.05):
        raise AnalysisError(
            "training takes no multiple of parameters times samples here, so that the law does not say how to split compute"
        )
    return float(np.median(each))


def _of_the_largest(laws: Sequence[StudyLaw]) -> list[StudyLaw]:
    """The law of each line on whose side its largest setting lies."""
    best: dict[tuple[Any, ...], tuple[float, StudyLaw]] = {}
    for law in laws:
        sizes = np.stack([law.runs[size].cast(pa.float64()).to_numpy() for size in law.sizes])
        largest = float(np.log(np.maximum(sizes, 1e-300)).sum(axis=0).max())
        name = tuple(law.line.values())
        if name not in best or largest > best[name][0]:
            best[name] = largest, law
    return [law for _, law in best.values()]


def _places(law: StudyLaw, at: Sequence[str]) -> list[tuple[str, Place | AnalysisError]]:
    """The places asked for, in words and by column."""
    named = [text for text in at if "=" in text]
    found: list[tuple[str, Place | AnalysisError]] = []
    for text in at:
        if "=" not in text:
            factor = _factor(text, text)
            found += [(f"{factor:g} x {plain(size)}", _at_largest(law) | {size: factor * law.largest(size)}) for size in law.sizes]
            if set(law.sizes) == {"parameters", "data.train_size"}:
                found.append((f"{factor:g} x compute, split best", _optimum(law, factor, None)))
    if named:
        found.append(_named_place(law, named))
    return found


def _named_place(law: StudyLaw, named: Sequence[str]) -> tuple[str, Place | AnalysisError]:
    place, words = _at_largest(law), []
    for text in named:
        name, _, number = text.partition("=")
        size = _SHORT.get(name, name)
        if size == COMPUTE and COMPUTE not in law.sizes and len(law.sizes) == 2:
            if len(named) > 1:
                raise AnalysisError(f"--at {text}: the law splits compute over its sizes, so that no other is named beside it")
            factor = _factor(number, text) if number.endswith("x") else None
            return f"compute {number}, split best", _optimum(law, factor, None if factor else _number(number, text))
        if size not in law.sizes:
            over = " and ".join(law.sizes)
            raise AnalysisError(
                f"--at {text}: the law runs over {over}; say {law.sizes[0]}=..., or ask for a law over {size} by --size {size}"
            )
        place[size] = _factor(number, text) * law.largest(size) if number.endswith("x") else _number(number, text)
        words.append(f"{plain(size)} {number}")
    return ", ".join(words), place


def _optimum(law: StudyLaw, factor: float | None, compute: float | None) -> Place | AnalysisError:
    """The parameters and samples that the law spends so much compute on best; or why it cannot say."""
    fitted = law.scaling.law
    if fitted is None:
        return AnalysisError("")  # the reason stands in the row anyway
    try:
        each = flops_per_product(law)
        flops = compute or (factor or 1.0) * float(pc.max(law.runs[COMPUTE]).as_py())
        first, second = compute_optimal(fitted, flops, flops_per_product=each)
    except AnalysisError as error:
        return error
    return dict(zip(law.sizes, (first, second), strict=True))


def _forecast(law: StudyLaw, place: Place | AnalysisError) -> dict[str, Any]:
    if law.scaling.law is None:
        return {"note": f"no law: {law.scaling.reason}"}
    if isinstance(place, AnalysisError):
        return {"note": str(place)}
    across, note = _across(law, place)
    if across:
        return {**place, "note": across}
    try:
        found: Estimate = law.scaling.predict(*(place[size] for size in law.sizes))
    except AnalysisError as error:
        return {**place, "note": str(error)}
    return {**place, law.value: found.value, f"{law.value}.low": found.low, f"{law.value}.high": found.high, "note": note or None}


def _across(law: StudyLaw, place: Mapping[str, float]) -> tuple[str, str]:
    """What is to be said of a place across the interpolation threshold, and of one of which nobody knows on which side it is."""
    ratio = _parameters_per_sample(law, place)
    if ratio is None:
        return "", ""
    mine = law.runs["parameters_per_sample"].cast(pa.float64()).to_numpy()
    towards = ratio < mine.min() if law.side == "fit" else ratio > mine.max()
    if not towards:
        return "", ""
    reach = f"{mine.min():.3g} upwards" if law.side == "fit" else f"up to {mine.max():.3g}"
    other = "do not fit" if law.side == "fit" else "fit"
    if law.others.num_rows:
        return f"p/n is {ratio:.3g} there, and the law is of runs with p/n from {reach}: it does not hold across the threshold", ""
    return "", f"p/n is {ratio:.3g} there, and was {reach} here: the law holds unless runs {other} there"


def _parameters_per_sample(law: StudyLaw, place: Mapping[str, float]) -> float | None:
    """p/n at a place; None where it does not say it."""
    if "parameters_per_sample" in place:
        return place["parameters_per_sample"]
    parts = []
    for name in ("parameters", "data.train_size"):
        known = law.runs[name].unique().drop_null().to_pylist()
        if name not in place and len(known) != 1:
            return None
        parts.append(place.get(name) or float(known[0]))
    return parts[0] / parts[1]


def _at_largest(law: StudyLaw) -> Place:
    return {size: law.largest(size) for size in law.sizes}


def _factor(text: str, whole: str) -> float:
    if not text.endswith("x"):
        raise AnalysisError(f"--at {whole} is no place: say 10x, SIZE=10x or SIZE=NUMBER, such as parameters=1e6")
    return _number(text[:-1], whole)


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < np.inf:
        raise AnalysisError(f"--at {whole} is no place: say 10x, SIZE=10x or SIZE=NUMBER, such as parameters=1e6")
    return number
