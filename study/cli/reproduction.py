"""What a preset's study measured beside what was published: for the terminal, and as a page of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.spec.presets import PRESETS, preset_names
from study.spec.reading import Spec
from study.spec.sections import Published
from trainables.point.config import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.reproduction.published import Comparison


@dataclass(frozen=True)
class Compared:
    """The table and paths to print, and the page of a report in Markdown."""

    shown: list[Any]
    page: str


def reproducible() -> list[str]:
    """Presets with published numbers."""
    return [name for name in preset_names() if "\npublished:" in (PRESETS / f"{name}.yaml").read_text()]


def compared(root: str, spec: Spec) -> Compared:
    """Compare the records under `root` with what the spec says was published; what has no record is "not run"."""
    from rich.table import Table

    from analysis.reproduction.published import as_markdown

    published = spec.published
    if published is None:
        raise ConfigError(f"{spec.study} has no published numbers")
    records = _records(root)
    found = comparisons(records, published)
    drawn = Table("", "published", "measured", "difference", "tolerance", "seeds", "verdict", title=f"{spec.study}: {published.source}")
    for one in found:
        drawn.add_row(one.name, one.published, one.measured, one.difference, one.tolerance, str(one.seeds or ""), one.verdict)
    charts = [f"chart    {path}" for path in _chart(root, records, published)]
    title = spec.source.stem if spec.source else spec.study
    page = as_markdown(title, found, published.source, records, published.ours, published.differs)
    return Compared([drawn, *charts], page)


def comparisons(records: pa.Table, published: Published) -> list[Comparison]:
    """Every published number and order."""
    from analysis.reproduction.published import compare_number, compare_order

    found = [compare_number(records, row.name, row.where, row.column, row.value, row.tolerance) for row in published.rows]
    return found + [compare_order(records, order.name, order.column, order.rising) for order in published.orders]


def report(pages: Sequence[str], scale: str | None, storage: str) -> str:
    """The pages of several studies under one head."""
    if len(pages) == 1:
        return pages[0]
    command = f"gaplab reproduce --all --scale {scale or 'cpu'}"
    head = f"""# Published and measured

Made by `{command} --recorded` from the records in `{storage}`, which the same command without
`--recorded` makes, or `gaplab reproduce TARGET` for one heading below. What has no record is shown as not run. Errors are
fractions in [0, 1].
"""
    return "\n".join([head, *(page.replace("# ", "## ", 1) for page in pages)])


def _records(root: str) -> pa.Table:
    """The study's records; an empty table if there are none."""
    import analysis
    from analysis.records.schema import RECORDS

    try:
        return analysis.load(root)
    except analysis.NothingToShow:
        return RECORDS.empty_table()


def _chart(root: str, records: pa.Table, published: Published) -> list[Path]:
    """The preset's picture, drawn if there is something to show, beside a local study."""
    import analysis
    from study.cli.analysis import Picture, drawn

    if published.picture is None or "://" in root or not records.num_rows:
        return []
    try:
        figure = drawn(Picture(published.picture), records, lambda: analysis.load_curves(root), {}, {})
    except analysis.NothingToShow:
        return []
    return list(analysis.write_chart(figure, Path(root) / "charts" / published.picture))
