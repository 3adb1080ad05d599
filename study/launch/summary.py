"""What came of a run."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from analysis.records.schema import FINAL
from study.plan.plan import Plan
from study.records.mirror import Mirror

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Attributes:
        plan: what was run, and where its results lie.
        declared: points of the study.
        ran: points that there were to train.
        counts: how many of the declared points have which status.
        interrupted: whether the user stopped it.
        mirror: what copies the records to MLflow; its `error` says why it lags, if it does.
        copying_interrupted: whether the user stopped it while it copied what was left: the records are complete.
        halted: why it was stopped before its end, if nobody asked for that (see `study.launch.breaker`).
    """

    plan: Plan
    declared: int
    ran: int
    counts: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    mirror: Mirror | None = None
    halted: str | None = None
    copying_interrupted: bool = False

    @property
    def root(self) -> str:
        """``STORAGE/STUDY``."""
        return self.plan.root

    @property
    def missing(self) -> int:
        """How many declared points have no final record."""
        return self.declared - sum(self.counts[status] for status in FINAL)

    @property
    def goes_on(self) -> bool:
        """Whether what comes after this run may begin: nobody stopped it or its copying, and no point is missing."""
        return not (self.interrupted or self.copying_interrupted or self.halted or self.missing)

    @cached_property
    def records(self) -> pa.Table:
        """The records of the declared points, one row a point (see `analysis.load`)."""
        import analysis
        from analysis.records.declared import declared_rows, undeclared

        return declared_rows(analysis.load(self.root), undeclared(self.root))[0]

    def figure(self) -> Figure:
        """Draw the generalization gap against capacity (see `analysis.gap_vs_capacity`)."""
        import analysis

        return analysis.gap_vs_capacity(self.records, title=self.plan.study)

    def _repr_html_(self) -> str:
        return _html(self)


def _html(summary: Summary) -> str:
    """A summary as HTML: how many points ended how, where they lie, and the gap against capacity if there is one to draw."""
    import analysis

    counts = ", ".join(f"{count:,} {name}" for name, count in summary.counts.most_common())
    missing = f", {summary.missing:,} missing" if summary.missing else ""
    head = (
        f"<p><b>{escape(summary.plan.study)}</b>: {summary.declared:,} points: {counts}{missing}; <code>{escape(summary.root)}</code></p>"
    )
    try:
        image = BytesIO()
        summary.figure().savefig(image, format="png", dpi=100)
    except analysis.AnalysisError as error:
        return f"{head}<p>{escape(str(error))}</p>"
    return f'{head}<img alt="The generalization gap against capacity" src="data:image/png;base64,{b64encode(image.getvalue()).decode()}">'
