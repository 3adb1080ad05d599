"""The command line: ``gaplab``. A user's error is one sentence and exit code 2; Ctrl-C is 130."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from study.cli import analysis as cli_analysis
from study.cli import cluster as cli_cluster
from study.cli import files as cli_files
from study.cli import interrupts
from study.cli import simulate as cli_simulate
from study.cli.streams import redacting
from study.guest import hooks_kept
from trainables.redaction import redacted
from trainables.reproducibility import keep_bits

if TYPE_CHECKING:
    from rich.table import Table

    from study.launch.run import Summary
    from study.plan.plan import Plan
    from study.records.mirror import Mirror
    from study.spec.reading import Spec

app = typer.Typer(
    help="Why do networks that can memorise random labels generalize? Declare a study, run it once, chart the gap.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SpecName = Annotated[str, typer.Argument(metavar="SPEC|PRESET", help="A YAML file, or a preset's name.")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the spec; repeatable.")]
Scale = Annotated[str | None, typer.Option(help="Of a preset that has scales: smoke, cpu (the default) or paper.")]
Storage = Annotated[str, typer.Option(help="Folder or URI under which every study has its folder.")]
TrackingUri = Annotated[str | None, typer.Option(help="MLflow's; an SQLite database beside the results by default.")]
AllowMixed = Annotated[bool, typer.Option("--allow-mixed", help="Also on nodes with other versions than here.")]


def main() -> None:
    """The entry point: runs `app` and turns the user's errors into sentences; no secret is printed."""
    with redacting():
        _main()


def _main() -> None:
    keep_bits()
    try:
        with warnings.catch_warnings(), hooks_kept(), interrupts.delivered():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            app()
    except KeyboardInterrupt:
        print("\nInterrupted: what is recorded stays, and the same command goes on from there.", file=sys.stderr)
        sys.exit(interrupts.CODE)
    except ValueError as error:
        if not _is_the_users(error):
            _report_defect(error)
        print(f"gaplab: {' '.join(str(error).splitlines())}", file=sys.stderr)
        for line in getattr(error, "table", ()):  # of nodes (see study.launch.node_checks)
            print(f"  {line}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        _report_defect(error)


def _report_defect(error: Exception) -> NoReturn:
    """A traceback as Python prints it, but not beside `redacting`."""
    print("".join(traceback.format_exception(error)), end="", file=sys.stderr)
    sys.exit(1)


def _is_the_users(error: ValueError) -> bool:
    from trainables.point.config import ConfigError

    if isinstance(error, ConfigError):
        return True
    from analysis.errors import AnalysisError  # later: it brings all of analysis

    return isinstance(error, AnalysisError)


@app.command()
def run(
    spec: SpecName,
    changes: Changes = None,
    scale: Scale = None,
    storage: Storage = "results",
    tracking_uri: TrackingUri = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster; this machine by default.")] = None,
    allow_mixed: AllowMixed = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and start nothing.")] = False,
    all_recorded: cli_analysis.AllRecorded = False,
) -> None:
    """Run what is missing of a study, then show the gap by capacity and corruption."""
    from study.spec.reading import read_spec

    understood = read_spec(spec, tuple(changes or ()), scale)
    if dry_run:
        _describe(understood, storage)
        return
    from study.launch import run as launch

    charts: list[Path] = []

    def concluded(summary: Summary) -> None:
        if not summary.interrupted:
            charts.extend(_show_results(summary, all_recorded))

    with _drawn_progress() as progress:
        summary = launch.run(
            understood,
            storage=storage,
            tracking_uri=tracking_uri,
            address=address,
            progress=progress,
            concluded=concluded,
            allow_mixed=allow_mixed,
        )
    _conclude(summary, charts)


@app.command()
def reproduce(
    target: Annotated[str | None, typer.Argument(metavar="PRESET", help="A preset with published numbers.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every preset with published numbers, in one report.")] = False,
    scale: Scale = None,
    recorded: Annotated[bool, typer.Option("--recorded", help="Run nothing: compare what is recorded.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="The report; reproduction.md in the study's folder, or with --all in STORAGE.")
    ] = None,
    changes: Changes = None,
    storage: Storage = "results",
    tracking_uri: TrackingUri = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster; this machine by default.")] = None,
    allow_mixed: AllowMixed = False,
) -> None:
    """Run or resume a preset of the paper, then set what was measured beside what was published."""
    from analysis.records.store import study_root
    from study.cli.reproduction import compared, report, reproducible
    from study.launch import run as launch
    from study.spec.reading import read_spec
    from trainables.point.config import ConfigError

    if (target is None) == (not everything):
        raise ConfigError("reproduce takes one preset, or --all")
    specs = [read_spec(name, tuple(changes or ()), scale) for name in ([target] if target else reproducible())]
    pages = []
    for spec in specs:
        if spec.published is None:
            raise ConfigError(f"{spec.study} has no published numbers: use gaplab run")
        root = study_root(storage, spec.study)
        if not recorded:
            with _drawn_progress() as progress:
                summary = launch.run(
                    spec, storage=storage, tracking_uri=tracking_uri, address=address, progress=progress, allow_mixed=allow_mixed
                )
            if summary.interrupted or summary.halted:
                _conclude(summary, [] if summary.interrupted else _show_results(summary))
            if summary.copying_interrupted:
                _end_copying(summary)
        comparison = compared(root, spec)
        for line in comparison.shown:
            _print(line)
        pages.append(comparison.page)
    path = output or (Path() if "://" in storage else Path(storage if everything else root)) / "reproduction.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report(pages, scale, Path(storage).name))
    _print(f"wrote {path}")


@app.command()
def presets() -> None:
    """List the bundled studies: what each shows and costs."""
    from rich.text import Text

    from study.spec.presets import PRESETS, preset_names

    for name in preset_names():
        head = [line[2:] for line in (PRESETS / f"{name}.yaml").read_text().splitlines() if line.startswith("# ")]
        _print(Text.assemble((name, "bold"), "\n  ", "\n  ".join(head), "\n"))


@app.command()
def show(spec: SpecName, changes: Changes = None, scale: Scale = None, storage: Storage = "results") -> None:
    """Say what a spec declares: its points, their capacities, what is recorded already."""
    from study.spec.reading import read_spec

    _describe(read_spec(spec, tuple(changes or ()), scale), storage)


@app.command()
def status(spec: SpecName, changes: Changes = None, scale: Scale = None, storage: Storage = "results") -> None:
    """Say which points of a study are recorded, which are missing, and why."""
    from study.plan.missing import explained
    from study.plan.plan import plan_study
    from study.records.folder import active_driver
    from study.records.verify import damaged_files
    from study.spec.reading import read_spec

    plan = plan_study(read_spec(spec, tuple(changes or ()), scale), storage)
    if who := active_driver(plan.root):
        _print(f"A run is active: {who}.")
    if plan.search:
        from study.cli.search import progress_of

        _print(progress_of(plan.search, plan.root))
        return
    plan = plan.with_records()
    keys = {point.key for point in plan.points}
    counts = Counter(plan.recorded.get(key, "without a measure" if key in plan.unmeasured else "missing") for key in keys)
    _print(
        f"{plan.study}: {len(plan.points):,} points declared; " + ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    )
    if counts["failed"]:
        _print_failures(plan.root, keys)
    for line in explained(plan.points, plan.recorded, plan.root, plan.varied):
        _print(line)
    for line in plan.trained_again(plan.points):
        _print(line.replace(" are ", " will be ", 1) + ".")
    if damaged := damaged_files(plan.root):
        _print(f"{damaged:,} files of records or curves are damaged; gaplab verify {plan.root} names them.")
    if counts["missing"] or counts["failed"] or counts["without a measure"]:
        _print(f"gaplab run {spec} runs what is missing or failed.")


@app.command()
def sync(
    spec: SpecName, changes: Changes = None, scale: Scale = None, storage: Storage = "results", tracking_uri: TrackingUri = None
) -> None:
    """Copy the records of a study that MLflow does not have yet."""
    from study.launch import run as launch
    from study.spec.reading import read_spec

    understood = read_spec(spec, tuple(changes or ()), scale)
    with _drawn_progress() as progress:
        mirror = launch.sync(understood, storage=storage, tracking_uri=tracking_uri, progress=progress)
    if mirror is None:
        _print(f"{understood.study} has tracking.mlflow: false: nothing to copy to.")
        return
    if mirror.error:
        _fail(f"{mirror.tracking_uri}: {mirror.error}")
    _print(f"{mirror.tracking_uri} has every record of {understood.study}.")


@app.command()
def doctor(
    storage: Storage = "results",
    tracking_uri: TrackingUri = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, whose every node is looked at too.")] = None,
) -> None:
    """Check Python, packages, GPUs, Ray, storage, tracking and data; one remedy a failing line."""
    from rich.table import Table as RichTable
    from rich.text import Text

    from study.launch.doctor import checks

    table = RichTable("check", "found", "remedy")
    bad = 0
    for check in checks(storage, tracking_uri, address):
        bad += not check.good
        verdict = Text("ok ", "green") if check.good else Text("no ", "red")
        table.add_row(verdict + Text(check.name), Text(redacted(check.found)), Text("" if check.good else redacted(check.remedy)))
    _print(table)
    if bad:
        raise typer.Exit(1)


def _describe(spec: Spec, storage: str) -> None:
    """What a spec declares, in a table of capacities, or of what is searched."""
    from study.plan.plan import plan_study

    plan = plan_study(spec, storage)
    if plan.search:
        from study.cli.search import described

        for part in described(plan.search, plan.root):
            _print(part)
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
    _print(table)
    missing = f"{len(plan.missing):,} points to run"
    for line in plan.trained_again(plan.points):
        _print(line)
    _print(f"{missing}; if each spends all its epochs, in the order of {_duration(plan.missing_seconds)} on one core.")
    if plan.measures:
        from study.cli.measures import costs

        if costly := costs(plan):
            _print(costly[0])
            _print(f"They may add in the order of {_duration(costly[1])} on one core.")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _show_results(summary: Summary, all_recorded: bool = False) -> list[Path]:
    """The table and the paths, as soon as the records are complete; returns the charts."""
    import analysis

    plan = summary.plan
    if not summary.ran:
        _print(f"Nothing to run: all {summary.declared:,} points of {plan.study} are recorded.")
    try:
        tables, charts = _shown(plan, all_recorded)
        for table in tables:
            _print(table)
    except analysis.NothingToShow as error:
        _print(f"No chart: {error}")
        charts = []
    _print(f"records  {summary.root}/records ({', '.join(f'{count:,} {name}' for name, count in summary.counts.most_common())})")
    for chart in charts:
        _print(f"chart    {chart}")
    return charts


def _conclude(summary: Summary, charts: list[Path]) -> None:
    """What came of a run besides its results, and how to go on."""
    plan = summary.plan
    if summary.interrupted:
        recorded = f"{summary.declared - summary.missing:,} of {summary.declared:,} points"
        _print(f"\nInterrupted: {recorded} are recorded in {summary.root}. The same command goes on from there.")
        raise typer.Exit(interrupts.CODE)
    if summary.copying_interrupted:
        _end_copying(summary)
    if summary.mirror:
        _attach(summary.mirror, plan, charts)
    if summary.counts["failed"]:
        _print_failures(summary.root, None)
    if summary.halted:
        _fail(f"stopped: {summary.halted}. The same command goes on from here")
    if summary.counts["failed"]:
        raise typer.Exit(1)
    if summary.missing:
        _fail(f"{summary.missing:,} points have no record that can be read: run the same command again")


def _end_copying(summary: Summary) -> None:
    plan = summary.plan
    _print(f"\nInterrupted: the records are complete; gaplab sync {plan.source or plan.study} copies the rest to MLflow.")
    raise typer.Exit(interrupts.CODE)


def _shown(plan: Plan, all_recorded: bool) -> tuple[list[Any], list[Path]]:
    """The tables, and sentences, to print and the charts written."""
    import analysis

    folder = _charts(plan)
    if plan.search:
        from study.cli.search import concluded

        return concluded(plan.search, plan.root, folder)
    from analysis.records.declared import declared_rows, undeclared
    from study.cli import measures as cli_measures

    records, others = declared_rows(analysis.load(plan.root), frozenset() if all_recorded else undeclared(plan.root))
    if others:
        _print(f"{others}: --all-recorded shows them.")
    tables = [_gap_table(analysis.gap_table(records), plan.study), *cli_measures.concluded(records, plan)]
    return tables, analysis.write_chart(analysis.gap_vs_capacity(records, title=plan.study), folder / "gap-vs-capacity")


def _attach(mirror: Mirror, plan: Plan, charts: list[Path]) -> None:
    """Log the charts to the parent run; say how to open MLflow, or that it lags."""
    if not mirror.error:
        mirror.log_artifacts(charts)
    if mirror.error:
        _print(f"MLflow lags behind the records ({mirror.error}): gaplab sync {plan.source or plan.study} copies the rest.")
    is_server = mirror.tracking_uri.startswith("http")
    _print(f"MLflow   {mirror.tracking_uri}" if is_server else f"MLflow   mlflow ui --backend-store-uri {mirror.tracking_uri}")


def _charts(plan: Plan) -> Path:
    """The folder of charts: with the study, or in a folder of its name here if its storage is remote."""
    return Path(plan.study) if "://" in plan.root else Path(plan.root) / "charts"


def _gap_table(table: Any, title: str) -> Table:
    """Capacity down, corruption across: mean gap and its interval."""
    from rich.table import Table as RichTable

    rows = table.to_pylist()
    lines = table.column_names[: table.column_names.index("parameters_per_sample")]
    heads = sorted({tuple(row[name] for name in lines) for row in rows}, key=str)
    drawn = RichTable(
        "p/n", *[", ".join(f"{part}" for part in head) for head in heads], title=f"{title}: generalization gap, mean ± 95 % interval"
    )
    cells: dict[float, dict[tuple[Any, ...], str]] = {}
    for row in rows:
        if row["generalization_gap"] is None:
            continue
        half = "" if row["generalization_gap.high"] is None else f" ± {row['generalization_gap.high'] - row['generalization_gap']:.3f}"
        text = f"{row['generalization_gap']:.3f}{half}" + ("" if row["interpolated"] else " *")
        cell = cells.setdefault(row["parameters_per_sample"], {})
        head = tuple(row[name] for name in lines)
        cell[head] = f"{cell[head]}; {text}" if head in cell else text
    for capacity, cell in sorted(cells.items()):
        drawn.add_row(f"{capacity:.3g}", *[cell.get(head, "") for head in heads])
    drawn.caption = f"columns: {', '.join(lines)}; * did not reach the train target; Student's t over seeds"
    return drawn


def _print_failures(root: str, keys: set[str] | None) -> None:
    import analysis

    table = analysis.load(root, columns=["key", "status", "reason"])
    reasons: dict[str, int] = {}
    for row in table.to_pylist():
        if row["status"] == "failed" and (keys is None or row["key"] in keys):
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1])[:10]:
        _print(f"failed   {count:,}: {' '.join(reason.split())[:300]}")


@contextmanager
def _drawn_progress() -> Iterator[Any]:
    """A bar with an ETA, on the terminal or, in a log, a line now and then."""
    from study.cli.progress import drawn

    with drawn() as progress:
        yield progress


def _print(text: Any) -> None:
    from rich.console import Console

    Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160).print(text)


def _fail(message: str) -> None:
    print(f"gaplab: {message}", file=sys.stderr)
    raise typer.Exit(1)


cli_analysis.register(app)
cli_files.register(app)
cli_cluster.register(app)
cli_simulate.register(app)
