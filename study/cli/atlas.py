"""The commands ``gaplab atlas``: build a population of networks with its tables, verify a share of it, show what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.options import Address, AllowMixed, Changes, Scale, Storage
from study.cli.shown.conclusion import charts_folder, conclude
from study.cli.terminal.printing import say
from study.cli.terminal.progress import run_drawn
from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    from study.atlas.verification import Verified
    from study.launch.summary import Summary
    from study.plan.plan import Plan
    from study.spec.reading import Spec

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of an atlas: STORAGE/STUDY/atlas, or a copy of it.")]

_MOST_ROWS = 40


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(help="A population of networks with all cheap measures: where is memorisation benign?", no_args_is_help=True)
    for command in (build, verify, show):
        group.command()(command)
    app.add_typer(group, name="atlas")


def build(
    spec: Annotated[str, typer.Argument(metavar="SPEC|PRESET", help="What the atlas is of.")] = "atlas",
    changes: Changes = None,
    scale: Scale = None,
    storage: Storage = "results",
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's, for a spec that asks for it.")] = None,
    address: Address = None,
    allow_mixed: AllowMixed = False,
    now: Annotated[bool, typer.Option("--now", help="Train nothing: tables, figures and card of what is recorded.")] = False,
) -> None:
    """Train what is missing of an atlas; then write its networks, tables, figures and data card to STORAGE/STUDY/atlas."""
    from study.atlas.population import check_population
    from study.spec.reading import read_spec

    understood = read_spec(spec, tuple(changes or ()), scale)
    check_population(understood)
    if now:
        from study.plan.plan import plan_study

        plan = plan_study(understood, storage).with_records()
        say(f"{len(plan.points) - len(plan.missing):,} of {len(plan.points):,} networks are recorded in {plan.root}.")
        _write(plan, understood)
        return

    def shown(summary: Summary) -> list[Path]:
        if summary.interrupted or summary.halted:
            return []  # the command goes on another time: `conclude` says how
        recorded = summary.declared - summary.missing
        say(f"{recorded:,} of {summary.declared:,} networks of {summary.plan.study} are recorded in {summary.root}.")
        return _write(summary.plan, understood)

    conclude(run_drawn(understood, shown, storage=storage, tracking_uri=tracking_uri, address=address, allow_mixed=allow_mixed))


def _folder(plan: Plan) -> Path:
    """``STORAGE/STUDY/atlas``, or ``STUDY/atlas`` here if the storage is remote."""
    charts = charts_folder(plan)
    return (charts if "://" in plan.root else charts.parent) / "atlas"


def _write(plan: Plan, spec: Spec) -> list[Path]:
    """Write the edition of what is declared; say what is in it."""
    import analysis
    from analysis.atlas.edition import of_keys, write_edition

    records, folder = analysis.load(plan.root), _folder(plan)
    declared = of_keys(records, plan.keys())
    if others := records.num_rows - declared.num_rows:
        say(f"{others:,} recorded points of {plan.root} are not declared, and left out.")
    try:
        edition = write_edition(declared, spec.text, folder)
    except OSError as error:
        raise ConfigError(f"the atlas cannot be written to {folder} ({error.strerror or error})") from None
    except analysis.NothingToShow as error:
        say(f"No atlas: {error}")
        return []
    for name, why in edition.missing.items():
        say(f"No {name}: {why}")
    _say_answers(folder)
    for chart in edition.charts:
        say(f"chart    {chart}")
    say(f"atlas    {folder} (README.md is its data card; gaplab report {plan.root} is a page to browse it)")
    return edition.charts


def verify(
    folder: Folder,
    share: Annotated[float, typer.Option(help="Of the networks that are trained again, at random.")] = 0.01,
    key: Annotated[list[str] | None, typer.Option("--key", help="Of one network, in place of the draw; repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another draws others.")] = 0,
    storage: Annotated[str | None, typer.Option(help="Where the study of the verification lies; FOLDER/verification by default.")] = None,
    address: Address = None,
) -> None:
    """Train a random hundredth of an atlas again, and compare: to the bit on a processor of the same kind. Exit code 1 if it differs."""
    from study.atlas.verification import verify_atlas

    def one_round(spec: Spec) -> Summary:
        place = storage or str(folder / "verification")
        return run_drawn(spec, lambda summary: (), storage=place, tracking_uri=None, address=address, allow_mixed=False)

    found = verify_atlas(folder, share=share, keys=key or (), seed=seed, storage=storage, one_round=one_round)
    if not found.summary.goes_on:
        conclude(found.summary)
        raise typer.Exit(1)
    _say_verified(found, folder)
    if not found.holds:
        raise typer.Exit(1)


def _say_verified(found: Verified, folder: Path) -> None:
    from study.atlas.verification import TOLERANCE

    summary = found.summary
    earlier = summary.declared - summary.ran
    before = f"; {earlier:,} of them by an earlier verification, whose records lie in {summary.root}" if earlier else ""
    say(f"{summary.declared:,} networks of {folder} were trained again{before}.")
    if found.exact:
        equal = found.exact - len(found.unlike)
        say(f"{equal:,} of {found.exact:,} that are promised to the bit here are equal in every outcome and measure.")
    for key, columns in list(found.unlike.items())[:_MOST_ROWS]:
        say(f"{key} differs in {', '.join(columns)}")
    if found.differences:
        said = "; ".join(f"{name} {one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})" for name, one in found.differences.items())
        say(
            f"{found.elsewhere:,} were trained on another kind of processor or by another PyTorch, where single networks take other ways; "
            f"mean differences: {said}; intervals beyond {TOLERANCE:g} would be a difference."
        )


def show(folder: Folder) -> None:
    """Say what an atlas answers, with the tables that it is read off."""
    _say_answers(folder)
    say(f"figures and data card: {folder}")


def _say_answers(folder: Path) -> None:
    from analysis.atlas.answers import answers
    from analysis.atlas.edition import read_tables
    from study.cli.shown.tables import show_table

    for answer in answers(read_tables(folder)):
        rows = min(answer.table.num_rows, _MOST_ROWS)
        show_table(answer.table.slice(0, rows), answer.question)
        if rows < answer.table.num_rows:
            say(f"{answer.table.num_rows - rows:,} more rows: see the tables in {folder}")
        for sentence in answer.sentences:
            say(f"- {sentence}")
