"""A search on the command line: what it declares, how far it is, what it found."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from analysis.records.searches.trials import is_brought, recorded_under, without_foreign
from study.cli.shown.tables import with_interval
from study.plan.packs import expected_seconds
from study.search.objectives import OBJECTIVES
from study.search.plan import SearchPlan
from study.search.samplers import drawn_at_random, label
from study.search.storage import for_reading
from trainables.point.errors import ConfigError
from trainables.resolution import capacity, resolve

if TYPE_CHECKING:
    import optuna
    import pyarrow as pa

    from search_spaces.axes import Distribution

_FINISHED = ("COMPLETE", "PRUNED")


def described(search: SearchPlan, root: str, workers: int) -> list[Table | Text]:
    """What is searched, with which sampler and why, how far each cell is, and what the rest may take on so many workers."""
    seeds, cells = len(search.seeds), len(search.cells)
    points = cells * search.trials * seeds
    head = (
        f"{search.study}: {_count(cells, 'cell')} x {_count(search.trials, 'suggestion')} x {_count(seeds, 'seed')} = {points:,} points\n"
        f"minimised   {', '.join(f'{name} ({OBJECTIVES[name]})' for name in search.objectives)}, mean over seeds\n"
        f"constraints {', '.join(constraint.text for constraint in search.constraints) or 'none'}\n"
        f"sampler     {label(search.sampler)}: {search.why}"
    )
    if blind := drawn_at_random(search.sampler, search.space):
        head += f"; it draws {', '.join(blind)} at random"
    head += f"\npruner      {_pruner(search)}\nat once     {search.at_once}"
    if search.start_from:
        head += f"\nstart from  {search.start_from}"
    costs = [expected_seconds(resolve(cell.trial)) * search.trials * seeds for cell in search.cells]
    cost = f"If each spends all its epochs, in the order of {sum(costs):,.0f} seconds on one core."
    studies, said = _told_apart(search, root)
    return [Text(head), _axes(search), _cells(search, studies), *map(Text, said), Text(cost), *_to_come(search, root, studies, workers)]


def _to_come(search: SearchPlan, root: str, studies: list[optuna.Study | None], workers: int) -> list[Text]:
    """What the suggestions that are left take if they are like those that are recorded; nothing if none is left, or recorded."""
    from study.simulation.outlook import pace

    asked = sum(sum(states[state] for state in _FINISHED) for states in _states(studies))
    left = max(0, len(search.cells) * search.trials - asked) * len(search.seeds)
    if not left or not (found := pace(root)):
        return []
    seconds, records = found
    duration = f"{left * seconds / workers:,.0f} seconds on {_count(workers, 'worker')}"
    like = f"if they take as long as the {_count(records, 'recorded point')} did on average"
    return [Text(f"Forecast, not measured: about {duration} for the {_count(left, 'point')} left, {like}.")]


def progress_of(search: SearchPlan, root: str) -> Text:
    """How many suggestions are in which state."""
    studies, said = _told_apart(search, root)
    states: Counter[str] = sum(_states(studies), Counter())
    wanted = len(search.cells) * search.trials
    done = sum(states[state] for state in _FINISHED)
    counts = ", ".join(f"{count:,} {state.lower()}" for state, count in sorted(states.items())) or "none asked for yet"
    rest = "" if done >= wanted else "\ngaplab run goes on with the rest: what is running was left so, unless a search runs now."
    return Text("\n".join([f"{search.study}: {wanted:,} suggestions declared; {counts}{rest}", *said]))


def concluded(search: SearchPlan, root: str, charts: Path) -> tuple[list[Table | Text], list[Path]]:
    """What a search found: the best suggestion of each cell and the comparison on fresh seeds, as tables and as files in `charts`."""
    import analysis
    from analysis.figures.search import search_figures, tuned_gap_vs_capacity, write_page
    from analysis.statistics.questions.tuning import compared_runs

    known, said = _told_apart(search, root)
    studies = [study for study in known if study]
    tables: list[Table | Text] = [_best(search, studies), *map(Text, said)]
    figures: dict[str, Any] = {}
    files: list[Path] = []
    for study in studies:
        with suppress(analysis.NothingToShow):
            figures |= {f"{study.study_name}: {name}": figure for name, figure in search_figures(study).items()}
    if figures:
        files.append(write_page(figures, charts / "search.html", search.study))
    with suppress(analysis.NothingToShow):
        runs = compared_runs(root)
        tables.append(_compared(runs, search.study))
        files += analysis.write_chart(
            tuned_gap_vs_capacity(runs, title=f"{search.study}: untuned and tuned"), charts / "tuned-gap-vs-capacity"
        )
    return tables, files


def _best(search: SearchPlan, studies: list[optuna.Study]) -> Table:
    from study.search.ablation import best_trial

    table = Table("cell", *search.objectives, "best suggestion", title=f"{search.study}: best of the search")
    for study in studies:
        best = best_trial(study)
        cell = ", ".join(f"{name} = {value}" for name, value in study.user_attrs["cell"].items())
        if best is None:
            reason = "no suggestion kept to the constraints" if search.constraints else "no suggestion completed"
            table.add_row(cell, *[""] * len(search.objectives), reason)
            continue
        chosen = ", ".join(
            f"{name} = {value:.3g}" if isinstance(value, float) else f"{name} = {value}" for name, value in best.params.items()
        )
        table.add_row(cell, *(f"{value:.4g}" for value in best.values), chosen)
    return table


def _compared(runs: pa.Table, title: str) -> Table:
    """Test error of the tuned point, the untuned one, and the ablations."""
    from analysis.statistics.questions.tuning import ablation_table

    table = Table(
        "cell", "variant", "seeds", "fit", "test error", "more than tuned", "p (Holm)", title=f"{title}: on seeds that the search never saw"
    )
    last = None
    for row in ablation_table(runs).to_pylist():
        cell = row["cell"] if row["cell"] != last else ""
        last = row["cell"]
        p = "" if row["p.holm"] is None else f"{row['p.holm']:.2g}"
        table.add_row(
            cell, row["variant"], str(row["seeds"]), str(row["fit"]), _interval(row, "test_error"), _interval(row, "difference", "+"), p
        )
    table.caption = "means with 95 % intervals; fit: seeds that reached the train target; differences are paired over seeds"
    return table


def _interval(row: dict[str, Any], name: str, sign: str = "") -> str:
    return "" if row[name] is None else with_interval(row[name], row[f"{name}.low"], row[f"{name}.high"], f"{sign}.3f")


def _pruner(search: SearchPlan) -> str:
    if search.pruning is None:
        return "none"
    if search.pruning.freezes:
        most, whole = search.pruning.total_epochs or 0, search.trials * search.pruning.epochs
        each = f"{search.pruning.min_epochs:,} at a time, at most {most:,} of the {whole:,} that"
        return f"freeze thaw: {each} {_count(search.trials, 'suggestion')} would take{' in each cell' if len(search.cells) > 1 else ''}"
    return f"custom: {search.pruning.custom.told}" if search.pruning.custom else search.pruning.name.replace("_", " ")


def _axes(search: SearchPlan) -> Table:
    table = Table("searched", "range", "when")
    for name, axis in search.space.distributions().items():
        condition = search.space.conditions.get(name, {})
        table.add_row(
            Text(name), Text(_range(axis)), ", ".join(f"{parent} = {' or '.join(map(str, values))}" for parent, values in condition.items())
        )
    if search.function:
        table.add_row(Text(search.function), "what the function asks for", "")
    return table


def _range(axis: Distribution) -> str:
    if axis.kind == "choice":
        return ", ".join(map(str, axis.choices))
    scale = {"log_uniform": ", logarithmic", "int": ", whole" + (", logarithmic" if axis.log else "")}.get(axis.kind, "")
    return f"{axis.low:g} to {axis.high:g}{scale}"


def _cells(search: SearchPlan, studies: list[optuna.Study | None]) -> Table:
    table = Table("cell", "parameters", "p/n", "reported", "open", "failed")
    for cell, states in zip(search.cells, _states(studies), strict=True):
        point = resolve(cell.trial)
        parameters = capacity(point)
        reported = sum(states[state] for state in _FINISHED)
        counts = (f"{number:,}" for number in (reported, states["RUNNING"], states["FAIL"]))
        where = ", ".join(f"{name} = {value}" for name, value in cell.assignment.items()) or "the trial"
        table.add_row(where, f"{parameters:,}", f"{parameters / (point.data.train_size or 1):.3g}", *counts)
    return table


def _told_apart(search: SearchPlan, root: str) -> tuple[list[optuna.Study | None], list[str]]:
    """The Optuna study of each cell, as far as it has begun, and what is to be said of them: of trials without a record, or that none
    can be read."""
    try:
        opened = _studies(search, root)
    except ConfigError as error:
        return [None] * len(search.cells), [str(error)]
    rows_of = recorded_under(root)
    ranked = [without_foreign(study, rows_of) if study else (None, None) for study in opened]
    return [study for study, _ in ranked], [said for _, said in ranked if said]


def _states(studies: list[optuna.Study | None]) -> list[Counter[str]]:
    """How many suggestions of each cell are in which state."""
    asked = [[trial for trial in study.get_trials(deepcopy=False) if not is_brought(trial)] if study else [] for study in studies]
    return [Counter(trial.state.name for trial in trials) for trials in asked]


def _studies(search: SearchPlan, root: str) -> list[optuna.Study | None]:
    """The Optuna study of each cell, as far as it has begun."""
    import optuna

    opened = for_reading(search.storage, root)
    known = set(optuna.get_all_study_names(opened)) if opened else set()
    names = [search.study_name(cell) for cell in search.cells]
    return [optuna.load_study(study_name=name, storage=opened) if opened and name in known else None for name in names]


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
