"""What an atlas answers: where memorisation is benign, which measure predicts the gap, which regularizer moves the threshold, and whether
the room between true and random labels predicts the gap. Each in sentences, with the table that they are read off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.atlas.benign import COST, benign_map
from analysis.atlas.measures import best_measures
from analysis.atlas.population import CAPACITY
from analysis.atlas.thresholds import capacity_ranks, shift_summary
from analysis.statistics.selection import groups

_NAMED = 3
"""The most measures that a sentence names."""


@dataclass(frozen=True)
class Answer:
    """One question's answer.

    Attributes:
        question: as asked.
        sentences: what is said.
        table: the summary that they are read off.
    """

    question: str
    sentences: tuple[str, ...]
    table: pa.Table


def answers(tables: Mapping[str, pa.Table]) -> list[Answer]:
    """The answers that the tables of an edition give (see `analysis.atlas.edition.read_tables`)."""
    asked: dict[str, Callable[[pa.Table], Answer]] = {
        "costs": _benign,
        "measures": _measures,
        "shifts": _regularizers,
        "capacities": _capacities,
    }
    return [answer(tables[name]) for name, answer in asked.items() if name in tables]


def _benign(costs: pa.Table) -> Answer:
    summary = benign_map(costs)
    sentences, tops = [], []
    for group, some in groups(summary, ["data_set"]):
        largest = pc.max(some[CAPACITY]).as_py()
        tops.append(some.filter(pc.equal(some[CAPACITY], largest)))
        rows = tops[-1].to_pylist()
        parts = [f"{row['noise']} {row['median']:.2f}" if row["known"] else f"{row['noise']} not known" for row in rows]
        sentences.append(
            f"{group['data_set']} at p/n = {largest:g}, share of skill lost over share of labels lost, medians over settings that fit: "
            f"{'; '.join(parts)}."
        )
    known = costs.filter(pc.is_valid(costs[f"{COST}.high"]))
    if known.num_rows:
        low = known[f"{COST}.low"]
        free, half = (int(pc.sum(test).as_py() or 0) for test in (pc.less_equal(low, 0), pc.greater_equal(low, 0.5)))
        sentences.append(
            f"Of {known.num_rows:,} cells with an interval, it reaches 0 in {free:,}, so that no cost is shown, and lies wholly at a half "
            f"or more in {half:,}."
        )
    return Answer("Where is memorisation benign?", tuple(sentences), pa.concat_tables(tops))


def _measures(ranked: pa.Table) -> Answer:
    summary = best_measures(ranked)
    rows = summary.to_pylist()
    question = "Which measure predicts the gap at fixed corruption?"
    if not rows:
        return Answer(question, ("No two networks that fit differ in one hyperparameter: none can be ranked.",), summary)
    strata = max(row["strata"] for row in rows)
    best = ", ".join(f"{row['measure']} ({row['median']:.2f}; above chance in {row['above']} of {row['strata']})" for row in rows[:_NAMED])
    worst = [row for row in reversed(rows) if row["median"] < 0 and row["below"]][:_NAMED]
    sentences = [
        f"Over {strata} {'stratum' if strata == 1 else 'strata'} of one data set and one noise each, the largest median psi have {best}."
    ]
    if worst:
        named = ", ".join(f"{row['measure']} ({row['median']:.2f}; below chance in {row['below']} of {row['strata']})" for row in worst)
        sentences.append(f"The wrong way go {named}.")
    always = [row["measure"] for row in rows if row["above"] == row["strata"] == strata]
    sentences.append(f"Above chance in every stratum: {', '.join(always) if always else 'none'}.")
    return Answer(question, tuple(sentences), summary)


def _regularizers(shifts: pa.Table) -> Answer:
    summary = shift_summary(shifts)
    sentences = []
    for group, some in groups(summary, ["regularizer"]):
        rows = some.to_pylist()
        parts = [f"{row['data_set']} {_times(row['median'])} (of {row['known']})" for row in rows if row["median"] is not None]
        up, down, settings = (sum(row[name] for row in rows) for name in ("up", "down", "settings"))
        moved = ", ".join(parts) or "no threshold within the capacities"
        shown = f"shown to be higher in {up} of {settings} settings, lower in {down}"
        sentences.append(f"{group['regularizer']}, median where both thresholds are known: {moved}; {shown}.")
    return Answer("Which regularizer moves the interpolation threshold?", tuple(sentences), summary)


def _capacities(capacities: pa.Table) -> Answer:
    ranks = list(capacity_ranks(capacities))
    sentences = [
        f"{row['data_set']}: rank correlation {row['rho']:.2f} over {row['settings']} of {row['of']} settings (permutation "
        f"p = {row['p']:.2g}" + (f"; of {row['least']}, whose random labels fit nowhere, the least is taken)." if row["least"] else ").")
        for row in ranks
    ]
    if ranks:
        falls = {bool(row["rho"] < 0) for row in ranks if row["p"] < 0.05}
        known = "the more room true labels leave, the smaller the gap" if falls == {True} else "the more room, the larger the gap"
        said = "the data sets disagree" if len(falls) > 1 else known
        sentences.append(f"Within data sets, where p < 0.05: {said}." if falls else "Within no data set is p < 0.05.")
        if between := _between(capacities):
            sentences.append(between)
    else:
        sentences.append("Too few settings have both thresholds to correlate anything.")
    question = "Does it predict the gap how many more parameters random labels take than true ones?"
    return Answer(question, tuple(sentences), pa.Table.from_pylist(ranks) if ranks else capacities)


def _between(capacities: pa.Table) -> str | None:
    """The medians of the data sets beside each other, in the order of the room; None for a single one."""
    medians = [
        (float(np.median(some["more"].to_numpy())), float(np.median(some["gap"].to_numpy())), group["data_set"])
        for group, some in groups(capacities, ["data_set"])
    ]
    said = ", ".join(f"{name} {_times(more)} the parameters and a gap of {gap:.3f}" for more, gap, name in sorted(medians))
    return f"Between data sets (medians over settings): {said}." if len(medians) > 1 else None


def _times(shift: float) -> str:
    return f"{np.exp2(shift):.2f} times"


def as_text(found: list[Answer]) -> Iterator[str]:
    """The answers as Markdown, without their tables."""
    for answer in found:
        yield f"### {answer.question}\n\n" + "\n".join(f"- {sentence}" for sentence in answer.sentences)
