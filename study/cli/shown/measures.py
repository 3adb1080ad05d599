"""What the command line says of measures and theories: their cost before a run, and what they came to after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.table import Table

import analysis
from study.cli.shown.tables import RANKED, as_rich
from trainables.measures import find_measure

if TYPE_CHECKING:
    import pyarrow as pa

    from study.plan.plan import Plan

FEW = 5
"""A study that computes fewer measures than this does not compare them."""
MOST_MEMORISED = 10


def costs(plan: Plan) -> tuple[Table, float] | None:
    """What the costly measures of a study take, and the seconds that this may add to the missing points on one core; None without any."""
    from study.plan.packs import expected_seconds

    sharing: dict[tuple[str, float], list[str]] = defaultdict(list)
    for one in map(find_measure, plan.measures):
        if not one.cheap:
            sharing[one.cost, one.epochs].append(one.name)
    if not sharing:
        return None
    cheap = len(plan.measures) - sum(map(len, sharing.values()))
    table = Table("costly measures", "what they take, a point", "at most, in epochs of training", title=f"{cheap} cheap measures, and")
    for (cost, epochs), names in sharing.items():
        table.add_row(", ".join(names), cost, f"{epochs:g}")
    epochs = sum(epochs for _, epochs in sharing)
    return table, sum(expected_seconds(point.config) / max(1, point.config.budget.epochs) * epochs for point in plan.missing)


def concluded(records: pa.Table, plan: Plan) -> list[Table | str]:
    """The tables of theories, memorisation and ranked measures that the points of a study answer; a sentence where they are too many."""
    from analysis.statistics.questions.ranking import TooManyRuns, rank_measures

    found: list[Table | str] = []

    def add(title: str, table: Callable[[], pa.Table], columns: list[str] | None = None) -> None:
        try:
            found.append(as_rich(table(), title, columns))
        except TooManyRuns as error:
            found.append(f"Not shown, {title.partition(':')[2].strip() or title}: {error}.")
        except analysis.NothingToShow:
            return

    add("Rademacher complexity: correlation with random signs, and bounds of the gap", lambda: analysis.rademacher_table(records))
    if "forgetting_events" in plan.measures:
        samples = analysis.load_samples(plan.root, keys=records["key"])
        add("uniform stability: change of the loss when one sample is replaced", lambda: analysis.stability_table(records, samples))
        add(f"the {MOST_MEMORISED} most memorised images of each setting", lambda: _top(analysis.memorisation_table(records, samples)))
    if len(plan.measures) >= FEW:
        title = f"{plan.study}: measures by granulated psi with 95 % intervals; a random measure and an oracle for comparison"
        add(title, lambda: rank_measures(records), RANKED)
    return found


def _top(scores: pa.Table) -> pa.Table:
    import pyarrow as pa

    from analysis.figures.drawing.lines import split

    by = scores.column_names[: scores.column_names.index("index")]
    return pa.concat_tables([line.rows.slice(0, MOST_MEMORISED) for line in split(scores, by)[0]])
