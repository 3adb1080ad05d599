"""The report: one HTML file with everything in it, which asks for nothing from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from analysis.errors import NothingToShow
from analysis.figures.drawing.style import colours
from analysis.records.declared import declared_rows, undeclared
from analysis.records.mlflow import MLFLOW
from analysis.records.parquet.samples import load_samples
from analysis.records.reader import Mapped, load, load_curves
from analysis.records.store import open_store
from analysis.report import tables
from analysis.report.embedded import embedded
from analysis.report.explorer import CURVES_READ, Explorer, explorer, stated_beside
from analysis.report.figures import interactive_figures
from analysis.report.findings import as_facts
from analysis.report.measures import measure_figures
from analysis.report.search import searched_cells
from analysis.report.traces import InteractiveFigure
from analysis.statistics.moments import Moment, at_moment, needed_of_curves
from analysis.statistics.questions.ranking import TooManyRuns
from analysis.whole_files import whole_file
from trainables.redaction import redacted

SCRIPTS = ("figures", "columns", "scatter", "parallel", "explorer", "page")
"""The page's own code, in the order in which it runs once opening.js has unpacked what it needs."""


def write_report(
    source: str,
    path: str | Path,
    *,
    at: Literal["end"] | Moment = "end",
    tracking_uri: str | None = None,
    mapping: Mapped | None = None,
    all_recorded: bool = False,
) -> Path:
    """Write the report of a study: what was asked, what ran and what failed and why, figures, tables, the data, how to reproduce.

    The figures are interactive: zoom, hover over a point for its key, click on a legend to filter. The explorer shows every point over
    axes of the reader's choice, with filters, parallel coordinates and a table that share one selection. The file needs no network, and
    a policy in it forbids any.

    Args:
        source: as for `analysis.load`.
        path: the HTML file; its folder is made.
        at: when the errors of a run are taken: at its end, or as for `analysis.at_moment`.
        tracking_uri: where an MLflow experiment lives.
        mapping: of an experiment that gaplab did not write; as for `analysis.load`.
        all_recorded: show the points too that the study's spec does not declare (any more); otherwise they are counted.

    Returns:
        The path.

    Raises:
        NothingToShow: there is no such study, or it has no records.
    """
    path = Path(path)
    html = report_html(source, at=at, tracking_uri=tracking_uri, mapping=mapping, all_recorded=all_recorded)
    with whole_file(path) as unfinished:
        unfinished.write_text(html, encoding="utf-8")
    return path


def report_html(
    source: str,
    *,
    at: Literal["end"] | Moment = "end",
    tracking_uri: str | None = None,
    mapping: Mapped | None = None,
    all_recorded: bool = False,
    version: str | None = None,
) -> str:
    """The page that `write_report` writes.

    Args:
        source: as for `write_report`; so are ``at``, ``tracking_uri``, ``mapping`` and ``all_recorded``.
        version: of a page that is served: it asks its server for the version that there is by now, and is loaded anew when that is another.

    Raises:
        NothingToShow: there is no such study, or it has no records.
    """
    records = load(source, tracking_uri=tracking_uri, mapping=mapping)
    table, others = declared_rows(records, frozenset() if all_recorded or mapping else undeclared(source))
    if not table.num_rows:
        raise NothingToShow(f"the study at {source} has no records yet: there is nothing to report")

    def curves_of(records: pa.Table, columns: list[str] | None = None) -> pa.Table:
        return load_curves(source, tracking_uri=tracking_uri, mapping=mapping, keys=records["key"], columns=columns)

    if at != "end":
        table = at_moment(table, curves_of(table, needed_of_curves(table, at)), at)
    drawn = [*interactive_figures(table, curves_of), *measure_figures(table, lambda: load_samples(source, keys=table["key"]))]
    drawn += [f"{others}: they are not shown"] if others else []
    ranked = None
    try:
        ranked = tables.ranked_part(table)
    except TooManyRuns as error:
        drawn.append(f"how well measures predict the gap, as {error}")
    spec = _spec(source)
    points = explorer(
        table, lambda records: curves_of(records, ["key", "epoch", *CURVES_READ]), spec=None if mapping else stated_beside(spec)
    )
    page = {"source": redacted(source), "spec": spec, "searched": searched_cells(source, spec), "version": version}
    return _render(table, drawn, points, page | {"ablation": tables.ablation_part(source), "ranked": ranked})


def _render(table: pa.Table, drawn: Sequence[InteractiveFigure | str], points: Explorer, page: dict[str, Any]) -> str:
    """The template, filled in; ``page`` holds source, spec, version, searched cells, and the tables ablation and ranked."""
    import jinja2
    from plotly.offline import get_plotlyjs

    loader = jinja2.PackageLoader("analysis.report", "assets")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["embedded"] = embedded
    shown = [one for one in drawn if isinstance(one, InteractiveFigure)]
    parts = (
        page["ablation"],
        tables.gap_part(table),
        tables.threshold_part(table),
        tables.scaling_part(table),
        page["ranked"],
    )
    return environment.get_template("report.html.j2").render(
        title=table["study"][0].as_py() or page["source"],
        facts=[*tables.facts(table), *as_facts(table)],
        figures=shown,
        figure_data=_finite({one.name: asdict(one) | {"colours": _palettes(one.lines)} for one in shown}),
        missing=[one for one in drawn if isinstance(one, str)],
        searched=[asdict(one) | {"best": tables.best_part(one)} for one in page["searched"]],
        tables=[part for part in parts if part],
        problems=tables.problems_part(table),
        explored=points,
        spec=page["spec"],
        origin=tables.origin(table),
        source=page["source"],
        version=page["version"],
        data=tables.as_csv(table),
        most_data=tables.MOST_DATA,
        plotly=get_plotlyjs(),
        style=_asset("report.css"),
        opening=_asset("opening.js"),
        script="\n".join(['"use strict";', *(_asset(f"{name}.js") for name in SCRIPTS)]),
    )


def _asset(name: str) -> str:
    return (files("analysis.report") / "assets" / name).read_text(encoding="utf-8")


def _finite(value: Any) -> Any:
    """Null for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _spec(source: str) -> str | None:
    """The spec that lies beside the results, if it does."""
    if source.startswith(MLFLOW):
        return None
    filesystem, root = open_store(source)
    try:
        with filesystem.open_input_stream(f"{root}/spec.yaml") as stream:
            text: bytes = stream.read()
    except OSError:
        return None
    return redacted(text.decode(errors="replace"))  # an older one may hold secrets


def _palettes(lines: Sequence[Sequence[Any]]) -> dict[str, list[str]]:
    """A colour for each line, for a light and for a dark page."""
    from matplotlib.colors import to_hex

    values = [line[0] if len(line) == 1 else str(line) for line in lines] or [""]
    return {theme: [to_hex(colour) for colour in colours(values, dark=theme == "dark")] for theme in ("light", "dark")}
