"""The look of all figures: colours for print and for every eye, markers, and files that are equal when redrawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.whole_files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito 2008: seven colours that stay apart for the colour-blind; yellow is left out, for it fades on white."""
MARKERS = ("o", "s", "^", "D", "<", ">", "h", "p")


def colours(values: Sequence[Any], *, dark: bool = False) -> list[Any]:
    """One colour a line: along viridis for numbers, Okabe and Ito's for names. Both survive a grey print with markers.

    On a dark page viridis starts lighter, and black is white.
    """
    from matplotlib import colormaps

    ordered = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if ordered or len(values) > len(OKABE_ITO):
        low, high = (0.3, 1.0) if dark else (0.0, 0.88)
        count = max(len(values) - 1, 1)
        return [colormaps["viridis"](low + (high - low) * index / count) for index in range(len(values))]
    return ["#FFFFFF" if dark and colour == "#000000" else colour for colour in OKABE_ITO[: len(values)]]


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's settings, under which every figure is drawn; the caller's come back afterwards."""
    from matplotlib import rc_context

    _show_in_notebooks()
    with rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 9.5,
            "axes.titlesize": 10.5,
            "axes.titlelocation": "left",
            "axes.labelsize": 9.5,
            "axes.labelcolor": "#333333",
            "axes.edgecolor": "#888888",
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.7,
            "xtick.color": "#555555",
            "ytick.color": "#555555",
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "lines.linewidth": 1.8,
            "lines.markersize": 5.5,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "figure.facecolor": "white",
            "figure.dpi": 100,
        }
    ):
        yield


def _show_in_notebooks() -> None:
    """In a notebook a figure at the end of a cell is shown, as after ``%matplotlib inline``, unless something shows figures already."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        return
    from matplotlib.figure import Figure

    formatter = shell.display_formatter.formatters["image/png"]
    if not any(Figure in found.type_printers for found in shell.display_formatter.formatters.values()):
        formatter.for_type(Figure, _png)


def _png(figure: Figure) -> bytes:
    image = BytesIO()
    figure.savefig(image, format="png", dpi=100)
    return image.getvalue()


def write_chart(figure: Figure, stem: str | Path) -> list[Path]:
    """Write a figure as ``STEM.png`` (200 dots an inch) and ``STEM.svg``; equal figures make equal files.

    Returns:
        The two paths.
    """
    from matplotlib import rc_context

    paths = [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout stands; it would be made anew for each file
    with rc_context({"svg.hashsalt": "gaplab", "svg.fonttype": "path"}):
        with whole_file(paths[0]) as unfinished:
            figure.savefig(unfinished, format="png", dpi=200, metadata={"Software": None})
        with whole_file(paths[1]) as unfinished:
            figure.savefig(unfinished, format="svg", metadata={"Date": None, "Creator": None})
    return paths
