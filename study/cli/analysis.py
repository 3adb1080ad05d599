"""The commands of ``gaplab`` about results: plot, compare, rank, explain, export, report, map. None of them runs a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from study.cli.options import AllRecorded, Where
from study.cli.shown.chosen import chosen
from study.cli.shown.figures import FigureKind, TheoryName, drawn, write_figure
from study.cli.shown.tables import RANKED, show_table
from study.cli.terminal.printing import say
from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.records.reader import Mapped

Source = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study's folder or URI, mlflow:EXPERIMENT, or with --map a W&B export or Tune's results.")
]
Tracking = Annotated[str | None, typer.Option(help="Of an MLflow experiment.")]
Mapping = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FILE|COLUMN=NAME",
        help="For runs of other origin: the YAML that gaplab map proposes, or a metric, param or tag for a column; pairs are repeatable.",
    ),
]
Sql = Annotated[bool, typer.Option("--sql", help="Read the MLflow database itself, read-only: much faster for many runs.")]
By = Annotated[
    list[str] | None,
    typer.Option("--by", metavar="COLUMN", help="What tells lines apart: all that varies but seeds and the axis by default; repeatable."),
]


Moment = Literal["end", "fit", "best_validation"]
At = Annotated[Moment, typer.Option("--at", help="Errors at the end of a run, at the first epoch that fit, or of lowest validation error.")]
_EXPLAINED = ["term", "share", "freedom", "p", "p.holm"]
"""Columns of the table of `explain` that are shown."""
_MOST_SENTENCES = 100
"""Comparisons that are printed."""
_OF_ONE_MOMENT = (FigureKind.GAP, FigureKind.CORRUPTION, FigureKind.DESCENT, FigureKind.MAP, FigureKind.SCATTER)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (plot, compare, rank, explain, export, report):
        app.command()(command)
    app.command("map")(propose_mapping)


def plot(
    source: Source,
    kind: Annotated[FigureKind, typer.Option(help="The figure.")] = FigureKind.GAP,
    output: Annotated[Path | None, typer.Option(help="Where to write, without suffix: PNG and SVG.")] = None,
    capacity: Annotated[str | None, typer.Option(help="The capacity axis: parameters_per_sample, parameters, model.width.")] = None,
    by: By = None,
    panels: Annotated[str | None, typer.Option(help="gap-vs-capacity: a column with a row of panels for each value.")] = None,
    points: Annotated[bool, typer.Option("--points", help="gap-vs-capacity: draw single runs too.")] = False,
    theory: Annotated[
        TheoryName | None, typer.Option(help="Instead: test loss over --capacity, with what a theory predicts for the study's data.")
    ] = None,
    where: Where = None,
    at: At = "end",
    all_recorded: AllRecorded = False,
    tracking_uri: Tracking = None,
    mapping: Mapping = None,
    sql: Sql = False,
) -> None:
    """Draw one of the field's figures."""
    import analysis

    lines: dict[str, Any] = {"by": by} if by else {}
    axis: dict[str, Any] = {"capacity": capacity} if capacity else {}
    if at != "end" and kind not in _OF_ONE_MOMENT:
        raise ConfigError(f"--at {at}: {kind} shows no values of one moment; {', '.join(_OF_ONE_MOMENT)} do")
    if theory is not None and (kind is not FigureKind.GAP or panels or points or at != "end"):
        raise ConfigError(
            f"--theory {theory} draws a figure of its own, of values at the end: leave --kind, --panels, --points and --at out"
        )
    plain = kind is FigureKind.GAP and not mapping and theory is None
    only = analysis.gap_columns(source, panels=panels, **axis, **lines) if plain else None
    if only and at != "end":
        only = list(dict.fromkeys([*only, "key", "fit_epoch"]))
    if only and where:
        only = None  # which columns the conditions are about, and whether there are these, the records say
    table = chosen(loaded(source, tracking_uri, mapping, sql, only, all_recorded=all_recorded), where)

    def curves(columns: list[str] | None = None) -> pa.Table:
        mapped = _mapping(mapping)
        return analysis.load_curves(source, tracking_uri=tracking_uri, mapping=mapped, sql=sql, keys=table["key"], columns=columns)

    table = _taken(table, at, curves)
    if theory is not None:
        write_figure(analysis.theory_lines(table, theory.value, over=capacity, by=by), output or Path(f"theory-{theory.value}"))
        return
    if mapping and not axis and kind is FigureKind.GAP and table["parameters_per_sample"].null_count == table.num_rows:
        axis = {"capacity": "parameters"}  # nobody has said how many samples there are
    write_figure(drawn(kind, table, curves, lines, axis, source=source, panels=panels, points=points), output or Path(kind.value))


def compare(
    source: Source,
    other: Annotated[str | None, typer.Argument(metavar="STUDY", help="A second study: compares the two.")] = None,
    setting: Annotated[str | None, typer.Option(help="The field whose values are compared; with two studies, the study.")] = None,
    value: Annotated[str, typer.Option(help="What is compared.")] = "test_error",
    where: Where = None,
    any_fit: Annotated[bool, typer.Option("--any-fit", help="Also pairs of which only one run reached its train target.")] = False,
    all_recorded: AllRecorded = False,
    tracking_uri: Tracking = None,
    mapping: Mapping = None,
) -> None:
    """Paired differences over seeds between the values of one field, or between two studies."""
    import pyarrow as pa

    import analysis

    if (other is None) == (setting is None):
        raise ConfigError("compare takes two studies, or one study and --setting FIELD")
    table = loaded(source, tracking_uri, mapping, all_recorded=all_recorded)
    if other is not None:
        second = loaded(other, tracking_uri, None if _is_study(other) else mapping, all_recorded=all_recorded)
        if set(table["study"].unique().to_pylist()) & set(second["study"].unique().to_pylist()):
            table, second = _named(table, source), _named(second, other)
        table = pa.concat_tables([table, second], promote_options="default")
    compared = analysis.compare(chosen(table, where), setting or "study", value=value, equal_fit=not any_fit)
    if compared.num_rows > _MOST_SENTENCES:
        print(f"{compared.num_rows:,} comparisons: the {_MOST_SENTENCES} with the smallest p follow, analysis.compare has them all.")
        compared = compared.sort_by("p")[:_MOST_SENTENCES]
    for sentence in compared["sentence"].to_pylist():
        print(sentence)


def rank(
    source: Source,
    test_size: Annotated[int | None, typer.Option(help="Test samples the gaps were measured on; the data set's by default.")] = None,
    all_recorded: AllRecorded = False,
    tracking_uri: Tracking = None,
    mapping: Mapping = None,
) -> None:
    """Rank the measures of a study by how well they predict the gap."""
    from analysis.statistics.questions.ranking import rank_measures

    ranked = rank_measures(loaded(source, tracking_uri, mapping, all_recorded=all_recorded), test_size=test_size)
    show_table(ranked, f"{source}: measures by granulated psi with 95 % intervals", RANKED)


def explain(
    source: Source,
    value: Annotated[str, typer.Option(help="What is to be explained.")] = "generalization_gap",
    factors: Annotated[
        list[str] | None, typer.Option("--factor", metavar="FIELD", help="A field that may explain it; all that vary by default.")
    ] = None,
    where: Where = None,
    main_effects: Annotated[bool, typer.Option("--main-effects", help="Leave out interactions of two fields.")] = False,
    any_fit: Annotated[bool, typer.Option("--any-fit", help="Count runs too that did not reach their train target.")] = False,
    all_recorded: AllRecorded = False,
    tracking_uri: Tracking = None,
    mapping: Mapping = None,
    sql: Sql = False,
) -> None:
    """Which knob explains the gap: shares of its variance by fields and their pairs, with intervals, among runs that fit."""
    import analysis
    from analysis.statistics.selection import completed
    from analysis.statistics.tasks import own

    table = chosen(loaded(source, tracking_uri, mapping, sql, all_recorded=all_recorded), where)
    value = own(completed(table), value)
    found = analysis.decomposition_table(table, value=value, factors=factors, pairs=not main_effects, equal_fit=not any_fit)
    show_table(found, f"{source}: shares of the variance of {value}", _EXPLAINED)
    for sentence in analysis.explained(found, value, equal_fit=not any_fit):
        say(sentence)


def export(
    source: Source,
    output: Annotated[Path, typer.Argument(help="A file that ends in .parquet or .csv.")],
    curves: Annotated[bool, typer.Option("--curves", help="The learning curves instead of the records.")] = False,
    tracking_uri: Tracking = None,
    mapping: Mapping = None,
    sql: Sql = False,
) -> None:
    """Write the records, or the curves, as one Parquet or CSV file."""
    import analysis

    _check(tracking_uri)
    load = analysis.load_curves if curves else analysis.load
    table = load(source, tracking_uri=tracking_uri, mapping=_mapping(mapping), sql=sql)
    try:
        path = analysis.export(table, output)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error}") from None
    print(f"wrote {path}: {table.num_rows:,} rows")


def report(
    source: Source,
    output: Annotated[Path | None, typer.Option(help="The HTML file; report.html in the study's folder by default.")] = None,
    at: At = "end",
    serve: Annotated[bool, typer.Option("--serve", help="Serve it on this machine instead, anew as records come; Ctrl-C stops.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; 0 for any that is free.")] = 0,
    all_recorded: AllRecorded = False,
    tracking_uri: Tracking = None,
    mapping: Mapping = None,
) -> None:
    """Write one self-contained HTML page about a study, and attach it to the study's MLflow run if that lies beside it."""
    import sys

    import analysis
    from analysis.records.declared import undeclared

    _check(tracking_uri)
    if serve:
        if output is not None:
            raise ConfigError("--serve writes no file: leave --output out")
        _serve(source, port, at, tracking_uri, mapping, all_recorded)
        return
    if port:
        raise ConfigError("--port is of --serve: add that, or leave --port out")
    local = "://" not in source and not source.startswith("mlflow:") and not mapping
    path = output or (Path(source) / "report.html" if local else Path("report.html"))
    if not all_recorded and (others := undeclared(source)):
        print(f"{len(others):,} recorded points are not of this spec: --all-recorded shows them", file=sys.stderr)
    try:
        written = analysis.write_report(
            source, path, at=at, tracking_uri=tracking_uri, mapping=_mapping(mapping), all_recorded=all_recorded
        )
        print(f"wrote {written}")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None
    beside = Path(source).resolve().parent / "mlflow.db"
    if local and beside.is_file():
        from study.records.mirror import Mirror

        Mirror(f"sqlite:///{beside}", Path(source).resolve().name, source).log_artifacts([path])


def _serve(source: str, port: int, at: Moment, tracking_uri: str | None, mapping: list[str] | None, all_recorded: bool) -> None:
    """Serve the report until Ctrl-C."""
    from analysis.report.page import report_html
    from analysis.report.serving import ReportServer, version_of

    mapped = _mapping(mapping)

    def make(version: str) -> str:
        return report_html(source, at=at, tracking_uri=tracking_uri, mapping=mapped, all_recorded=all_recorded, version=version)

    try:
        server = ReportServer(make, lambda: version_of(source, listed=not mapped), port)
    except OSError as error:
        raise ConfigError(f"port {port} of this machine cannot be had ({error.strerror}): give another --port, or none") from None
    with server:
        print(f"the report of {source} is served at {server.address} on this machine alone; Ctrl-C stops", flush=True)
        server.serve_forever()


def propose_mapping(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="mlflow:EXPERIMENT, a W&B export (CSV, Parquet), or Tune's results.")],
    tracking_uri: Tracking = None,
    sql: Sql = False,
) -> None:
    """Propose what the runs of other origin mean, as YAML to edit and to give to --map."""
    from analysis.records.foreign import open_foreign, propose

    _check(tracking_uri)
    print(propose(open_foreign(source, tracking_uri=tracking_uri, sql=sql)), end="")


def loaded(
    source: str,
    tracking_uri: str | None,
    mapping: list[str] | None = None,
    sql: bool = False,
    columns: list[str] | None = None,
    *,
    all_recorded: bool = False,
) -> pa.Table:
    """The records of a study; of the points that its spec does not declare (any more) a line on the terminal gives the number."""
    import sys

    import analysis
    from analysis.records.declared import declared_rows, undeclared

    _check(tracking_uri)
    others = frozenset[str]() if all_recorded else undeclared(source)
    if others and columns is not None:
        columns = list(dict.fromkeys([*columns, "key"]))
    table = analysis.load(source, tracking_uri=tracking_uri, mapping=_mapping(mapping), sql=sql, columns=columns)
    table, line = declared_rows(table, others)
    if line:
        print(f"{line}: --all-recorded shows them", file=sys.stderr)
    return table


def _check(tracking_uri: str | None) -> None:
    """Raise ConfigError if nothing answers there."""
    from study.records.tracking.tracking_uri import check_reachable

    if tracking_uri:
        check_reachable(tracking_uri)


def _taken(table: pa.Table, at: Moment, curves: Callable[[list[str]], pa.Table]) -> pa.Table:
    """The records with their values at a moment."""
    if at == "end":
        return table
    from analysis.statistics.moments import at_moment, needed_of_curves

    return at_moment(table, curves(needed_of_curves(table, at)), at)


def _mapping(values: list[str] | None) -> Mapped | None:
    """The mapping of a file, or of pairs."""
    if not values:
        return None
    if len(values) == 1 and ("=" not in values[0] or Path(values[0]).is_file()):
        from analysis.records.foreign import read_mapping

        return read_mapping(Path(values[0]))
    parted = [value.partition("=") for value in values]
    for column, equals, name in parted:
        if not (column and equals and name):
            raise ConfigError(f"--map {column + equals + name!r} must be one file, or COLUMN=NAME, such as parameters=num_params")
    return {column: name for column, _, name in parted}


def _named(table: pa.Table, name: str) -> pa.Table:
    """The records under another name of their study."""
    import pyarrow as pa

    return table.set_column(table.column_names.index("study"), "study", pa.array([name] * table.num_rows, pa.string()))


def _is_study(source: str) -> bool:
    """Whether a source is a folder of records."""
    return "://" in source or Path(source, "records").is_dir()
