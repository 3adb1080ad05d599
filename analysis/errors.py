"""What can be wrong with a question put to a study, said in one sentence for the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AnalysisError(ValueError):
    """A question that cannot be answered as it was put: which part is wrong, and what would be right."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence.replace("$", ""))  # the names of columns in figures are TeX


class NothingToShow(AnalysisError):  # noqa: N818 - what the user reads it as
    """There is no study, no record, or none that the figure could show."""


def unknown_column(name: str, known: Iterable[str]) -> AnalysisError:
    """The error for a column that is not there, with the nearest name that is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return AnalysisError(f"there is no column {name!r}: " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"))
