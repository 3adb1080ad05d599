"""The command `simulate`: what a planned study would find and cost, from the records of another."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from study.plan.plan import Plan
    from study.search.outcomes import Outcomes
    from study.search.plan import SearchPlan
    from study.simulation.cost import RecordedCosts
    from study.simulation.replay import Replay
    from study.spec.reading import Spec
    from study.spec.sections import SearchSection


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(simulate)


def simulate(
    spec: Annotated[str, typer.Argument(metavar="SPEC|PRESET", help="What is planned: a YAML file, or a preset's name.")],
    source: Annotated[str, typer.Option("--from", metavar="STUDY", help="A study's folder or URI with records of points like these.")],
    workers: Annotated[list[int] | None, typer.Option(min=1, max=1_000_000, help="Workers at once; repeatable, to compare.")] = None,
    samplers: Annotated[list[str] | None, typer.Option("--sampler", help="Of a search; repeatable, to compare.")] = None,
    pruners: Annotated[list[str] | None, typer.Option("--pruner", help="Of a search; repeatable, to compare.")] = None,
    ran_with: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Workers that STUDY ran with, for a back-test.")] = None,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Replays of a search, each with another seed.")] = 5,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the spec.")] = None,
    scale: Annotated[str | None, typer.Option(help="Of a preset that has scales: smoke, cpu (the default) or paper.")] = None,
) -> None:
    """Say what a study would find and cost, on a simulated clock: samplers, pruners and cluster sizes, before paying for them."""
    from rich.console import Console

    from analysis.records.store import study_root
    from study.plan.plan import plan_study
    from study.plan.sources import read_sources
    from study.search.outcomes import Outcomes
    from study.simulation.cost import RecordedCosts
    from study.spec.reading import read_spec

    understood = read_spec(spec, tuple(changes or ()), scale)
    folder, _, name = source.rstrip("/").rpartition("/")
    root = study_root(folder or ".", name)
    recorded = RecordedCosts.read(root)
    sizes = workers or [understood.resources.workers or 1]
    searches = understood.search.kind == "optuna"
    if not searches and (samplers or pruners):
        raise ConfigError("--sampler and --pruner compare searches: this spec has search.kind " + understood.search.kind)
    if searches:
        read_sources(understood)
        ways = _replayed(_planned(understood, samplers, pruners, repeats), Outcomes(root), recorded, sizes)
    else:
        ways = _scheduled(plan_study(understood, folder or "."), recorded, sizes)
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    console.print(ways)
    for line in _errors(recorded, root, ran_with):
        console.print(line, markup=False)


def _scheduled(plan: Plan, recorded: RecordedCosts, sizes: Sequence[int]) -> Table:
    from rich.table import Table

    from study.simulation.replay import forecast

    known = sum(recorded.nearest(point.config, point.key)[1] for point in plan.points)
    title = f"{plan.study}: {len(plan.points):,} points, {known:,} recorded"
    table = Table("workers", "wall-clock", "worker-hours", "GPU-hours", title=title)
    for size in sizes:
        found = forecast(plan.points, recorded, size)
        gpu_hours = f"{found.worker_hours * plan.resources.gpus:.3g}" if plan.resources.gpus else ""
        table.add_row(f"{size:,}", _time(found.hours), f"{found.worker_hours:.3g}", gpu_hours)
    return table


_Way = tuple[str, str]
"""A sampler and a pruner, as the spec or an option names them."""


def _planned(spec: Spec, samplers: Sequence[str] | None, pruners: Sequence[str] | None, repeats: int) -> dict[_Way, list[SearchPlan]]:
    """Every combination, `repeats` times, each with another seed."""
    from study.search.plan import plan_search

    section = spec.search
    ways: dict[_Way, list[SearchPlan]] = {}
    for sampler, pruner in product(samplers or [section.sampler], pruners or [section.pruner]):
        searches = [_changed(section, sampler=sampler, pruner=pruner, seed=section.seed + repeat) for repeat in range(repeats)]
        ways[sampler, pruner] = [plan_search(replace(spec, search=search)) for search in searches]
    return ways


def _replayed(plans: Mapping[_Way, Sequence[SearchPlan]], outcomes: Outcomes, recorded: RecordedCosts, sizes: Sequence[int]) -> Table:
    """What each way found by the same times on each number of workers; the last of the times is the end of the quickest."""
    from rich.table import Table

    from study.simulation.replay import replay

    first = next(iter(plans.values()))
    ways: dict[tuple[str, str, int], list[Replay]] = {}
    for (sampler, pruner), size in product(plans, sizes):
        ways[sampler, pruner, size] = [replay(plan, recorded, outcomes, size) for plan in plans[sampler, pruner]]
    runs = [run for found in ways.values() for run in found]
    times = [min(run.hours for run in runs) / part for part in (4, 2, 1)]
    heads = [
        "sampler",
        "pruner",
        "workers",
        "wall-clock",
        "worker-hours",
        "pruned",
        *(f"after {_time(hours)}" for hours in times),
        "at its end",
    ]
    table = Table(*heads, title=f"{first[0].study}: best {first[0].objectives[0]} found")
    for (sampler, pruner, size), found in ways.items():
        hours, worker_hours = (_mean([getattr(run, name) for run in found]) for name in ("hours", "worker_hours"))
        pruned = sum(run.pruned for run in found) / sum(run.points for run in found)
        best = [_spread([run.best_by(time) for run in found]) for time in (*times, float("inf"))]
        table.add_row(sampler, pruner, f"{size:,}", _time(hours), f"{worker_hours:.3g}", f"{pruned:.0%}", *best)
    exact = sum(run.exact for run in runs) / sum(run.points for run in runs)
    table.caption = (
        f"{len(first)} replays each, mean ± 95 % interval (Student's t); {exact:.0%} of the points were answered by themselves, "
        "the others by the recorded point that is nearest"
    )
    return table


def _changed(search: SearchSection, **values: Any) -> SearchSection:
    """The section with some fields changed, checked as when it is read."""
    from pydantic import ValidationError

    try:
        return type(search).model_validate(search.model_dump(exclude_unset=True) | values)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigError(f"--{wrong['loc'][0]}: {wrong['input']!r}: {wrong['msg'].removeprefix('Value error, ')}") from None


def _errors(recorded: RecordedCosts, root: str, ran_with: int | None) -> list[str]:
    """What the predictions are worth."""
    from study.simulation.cost import back_test
    from study.simulation.replay import span

    lines = []
    if tested := back_test(recorded):
        lines.append(
            f"Back-test of costs: each fifth of the recorded configurations, predicted from the rest: their total is off by "
            f"{tested.low:+.0%} to {tested.high:+.0%}, a single point by {tested.point:.0%} (median)."
        )
    else:
        lines.append("No back-test of costs: fewer than five configurations are recorded.")
    if ran_with:
        scheduled, actual = span(recorded, ran_with)
        lines.append(
            f"Back-test of the schedule: from the first to the last record of {root}, workers: {ran_with:,}: {scheduled:,.1f} s "
            f"scheduled, {actual:,.1f} s recorded{f' ({scheduled / actual - 1:+.0%})' if actual else ''}; a pause counts."
        )
    else:
        lines.append("No back-test of the schedule: say with --ran-with how many workers the recorded study had.")
    return lines


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _spread(values: Sequence[float | None]) -> str:
    """Mean and half of its 95 % interval; empty where a replay has none yet."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return ""
    if len(known) == 1:
        return f"{known[0]:.4f}"
    from statistics import stdev

    from scipy.special import stdtrit

    return f"{_mean(known):.4f} ± {stdtrit(len(known) - 1, 0.975) * stdev(known) / len(known) ** 0.5:.4f}"


def _time(hours: float) -> str:
    for unit, length in (("days", 24.0), ("h", 1.0), ("min", 1 / 60)):
        if hours >= 2 * length:
            return f"{hours / length:.3g} {unit}"
    return f"{3600 * hours:.3g} s"
