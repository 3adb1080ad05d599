"""What a notebook shows of a run: its progress while it goes, and its summary."""

from __future__ import annotations

import sys
import time
from base64 import b64encode
from collections import Counter
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

from study.launch.progress import Progress

if TYPE_CHECKING:
    from study.launch.run import Summary

_SECONDS = 0.5
"""Between two changes of what is shown."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is not imported for it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class _Bar:
    """HTML's own progress element, shown once and changed in place."""

    def __init__(self) -> None:
        self._shown: Any = None
        self._last = 0.0
        self.what, self.done, self.total = "planning", 0, 0
        self.counts: Counter[str] = Counter()

    def to(self, what: str, done: int, total: int) -> None:
        """Show a state; states that follow one another too fast are left out, but not the last of a stage."""
        changed = what != self.what
        self.what, self.done, self.total = what, done, total
        if changed or done == total or time.monotonic() - self._last > _SECONDS:
            self._last = time.monotonic()
            self._show()

    def _repr_html_(self) -> str:
        share = f' max="{self.total}" value="{self.done}"' if self.total else ""
        of = f"{self.done:,} of {self.total:,}" if self.total else f"{self.done:,}"
        others = "".join(f", {count:,} {name}" for name, count in sorted(self.counts.items()) if name != "completed")
        return f"<div>{escape(self.what)} <progress{share}></progress> {of}{escape(others)}</div>"

    def __repr__(self) -> str:
        return f"{self.what}: {self.done:,} of {self.total:,}"

    def _show(self) -> None:
        from IPython.display import display

        if self._shown is None:
            self._shown = display(self, display_id=True)
        else:
            self._shown.update(self)


def notebook_progress() -> Progress:
    """Progress that draws itself under the cell of a notebook."""
    bar = _Bar()

    def advanced(statuses: Counter[str], seconds: float) -> None:
        bar.counts.update(statuses)
        bar.to("training", bar.counts.total(), bar.total)

    return Progress(
        planned=lambda done: bar.to("planning", done, 0),
        started=lambda points, seconds: bar.to("training", bar.counts.total(), bar.counts.total() + points),
        advanced=advanced,
        mirrored=lambda done, total: bar.to("copying to MLflow", done, total),
        noted=print,
    )


def summary_html(summary: Summary) -> str:
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
