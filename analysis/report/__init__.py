"""The report of a study: one HTML file that holds everything and works without a network.

`page` puts it together from the template, style and code in `assets`. Its parts are `figures` and `measures` (interactive figures, made
of the `traces` that plotly.js draws), `explorer` (every point, packed for the page's own code), `tables`, and `search` for a study that is
one. `serving` serves it on this machine while a study runs.
"""

from typing import TYPE_CHECKING

from analysis.lazy import lazy_exports

if TYPE_CHECKING:
    from analysis.report.page import write_report

__all__ = [
    "write_report",
]

__getattr__, __dir__ = lazy_exports(__name__)
