"""Presets with published numbers: their comparison printed, and their pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.spec.presets import PRESETS, preset_names
from study.spec.reading import Spec
from study.spec.sections import Published, PublishedOrder, PublishedRow
from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.reproduction import CheckedClaim, Claims
    from analysis.reproduction.claims import Protocol


@dataclass(frozen=True)
class Compared:
    """The table and paths to print, the page of a report in Markdown, the claims on it, and the charts."""

    shown: list[Any]
    page: str
    checked: list[CheckedClaim]
    charts: list[Path]


def reproducible() -> list[str]:
    """Presets with published numbers."""
    return [name for name in preset_names() if "\npublished:" in (PRESETS / f"{name}.yaml").read_text()]


def compared(root: str, spec: Spec) -> Compared:
    """Compare the records under `root` with what the spec says was published; what has no record is "not run"."""
    from rich.table import Table

    from analysis.reproduction import HEADS, check_claims, records_of, study_page

    if spec.published is None:
        raise ConfigError(f"{spec.study} has no published numbers")
    claims, records = _claims(spec.published), records_of(root)
    checked = check_claims(records, claims)
    drawn = Table(*HEADS, title=f"{spec.study}: {claims.source}")
    for one in checked:
        drawn.add_row(*one.cells())
    charts = _chart(root, records, spec.published)
    title = spec.source.stem if spec.source else spec.study
    lines = [f"chart    {path}" for path in charts]
    return Compared([drawn, *lines], study_page(title, claims, checked, records, len(spec.assignments())), checked, charts)


def report(comparisons: Sequence[Compared], scale: str | None, storage: str) -> str:
    """The pages of several studies under one head."""
    from analysis.reproduction import combined_page

    command = f"gaplab reproduce --all --scale {scale or 'cpu'}"
    head = f"""# Published and measured

Made by `{command} --recorded` from the records in `{storage}`, which the same command without
`--recorded` makes, or `gaplab reproduce TARGET` for one heading below. What has no record is shown as not run. Errors are
fractions in [0, 1].

A claim holds, or does not, only if its interval over seeds says so, at 95 % for the whole claim; else it is undecided, as all are that rest
on one seed. Settings are compared by pairs of one seed, among runs that fit equally. What is measured on less data, other data or smaller
networks than published is a stand-in: an order may hold there, a published number is not compared.
"""
    return combined_page([one.page for one in comparisons], head, [claim for one in comparisons for claim in one.checked])


def _claims(published: Published) -> Claims:
    """The spec's section as the analysis takes it."""
    from analysis.reproduction import Claims, NumberClaim, OrderClaim

    numbers = [
        NumberClaim(row.name, row.where, row.column, row.value, row.tolerance, row.train_error, _protocol(published, row))
        for row in published.rows
    ]
    orders = [
        OrderClaim(one.name, one.column, one.rising, one.equal_fit, one.margin, _protocol(published, one)) for one in published.orders
    ]
    return Claims(published.source, numbers, orders, published.ours, published.differs)


def _protocol(published: Published, claim: PublishedRow | PublishedOrder) -> Protocol:
    if isinstance(claim, PublishedRow) and claim.control:
        return "control"
    return "stand-in" if published.stand_in or claim.stand_in else "same"


def _chart(root: str, records: pa.Table, published: Published) -> list[Path]:
    """The preset's figure, drawn if there is something to show, beside a local study."""
    import analysis
    from study.cli.shown.figures import FigureKind, drawn

    if published.picture is None or "://" in root or not records.num_rows:
        return []
    try:
        figure = drawn(FigureKind(published.picture), records, lambda: analysis.load_curves(root), {}, {})
    except analysis.NothingToShow:
        return []
    return list(analysis.write_chart(figure, Path(root) / "charts" / published.picture))
