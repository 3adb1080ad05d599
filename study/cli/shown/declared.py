"""What a spec declares: its points by capacity, or what it searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.cli.terminal.printing import say

if TYPE_CHECKING:
    from study.plan.plan import Plan
    from study.spec.reading import Spec


def describe(spec: Spec, storage: str, address: str | None = None) -> None:
    """What a spec declares, in a table of capacities, or of what is searched; and what is left of it would take.

    Args:
        address: of the cluster that it is to run on, if it is not this machine: how many workers fit there is not asked.
    """
    from study.plan.packs import duration
    from study.plan.plan import plan_study

    plan = plan_study(spec, storage)
    for line in plan.pending:
        say(line)
    if plan.search:
        from study.cli.shown.search import described

        for part in described(plan.search, plan.root, _workers(plan, address)):
            say(part)
        return
    from rich.table import Table as RichTable

    from analysis.records.schema import FINAL
    from trainables.resolution import capacity

    plan = plan.with_records()
    table = RichTable("model", "width", "parameters", "p/n", "points", "recorded", title=f"{plan.study}: {len(plan.points):,} points")
    rows: dict[tuple[Any, ...], list[bool]] = {}
    for point in plan.points:
        config = point.config
        parameters = capacity(config)
        row = (config.model.name, config.model.width, parameters, f"{parameters / (config.data.train_size or 1):.3g}")
        rows.setdefault(row, []).append(plan.recorded.get(point.key) in FINAL)
    for row, done in sorted(rows.items(), key=lambda item: item[0][2]):
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row), f"{len(done):,}", f"{sum(done):,}")
    say(table)
    missing = f"{len(plan.missing):,} points to run"
    for line in plan.trained_again(plan.points):
        say(line)
    say(f"{missing}; if each spends all its epochs, in the order of {duration(plan.missing_seconds)} on one core.")
    from study.simulation.outlook import outlook

    if found := outlook(plan, _workers(plan, address)):
        say(" ".join(found.sentences(duration(found.seconds))))
    if plan.measures:
        from study.cli.shown.measures import costs

        if costly := costs(plan):
            say(costly[0])
            say(f"They may add in the order of {duration(costly[1])} on one core.")


def look(spec: Spec, storage: str) -> list[str]:
    """A short table of the networks of a study: whether each trains, and what its points would take; returns what is to be changed."""
    from rich.table import Table as RichTable

    from study.plan.check import looked_at
    from study.plan.packs import duration
    from study.plan.plan import plan_study
    from trainables.probe.fitting import SAMPLES

    plan = plan_study(spec, storage, probing=lambda: None)
    for line in plan.told:
        say(line)
    found = looked_at(plan)
    if not found:
        say(f"{plan.study} trains no network of which the images are in memory: there is nothing to look at.")
        return []
    table = RichTable("data", "model", "width", "parameters", "p/n", f"fits {SAMPLES} samples", "points", "one core", title=plan.study)
    for one in found:
        model, data = one.point.model, one.point.data
        ratio = f"{one.parameters / (data.train_size or 1):.3g}"
        row = (data.name, model.name, f"{model.width:,}", f"{one.parameters:,}", ratio, one.fits, f"{one.points:,}", duration(one.seconds))
        table.add_row(*row)
    say(table)
    if not plan.search:
        say(f"All {len(plan.points):,} points take in the order of {duration(sum(one.seconds for one in found))} on one core.")
    return [one.problem for one in found if one.problem]


def _workers(plan: Plan, address: str | None) -> int:
    """How many workers a forecast is for: as the spec says, or as many as this machine has room for; one of a cluster that is not asked."""
    from study.launch.cluster import workers_here

    return (plan.resources.workers or 1) if address else workers_here(plan.resources)
