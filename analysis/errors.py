"""The errors of the analysis: each says in one sentence for the user what is wrong with a question that was put to a study."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from trainables.redaction import redacted


class AnalysisError(ValueError):
    """A question cannot be answered as it was put: the message says which part is wrong, and what would be right."""

    def __init__(self, sentence: str) -> None:
        super().__init__(redacted(sentence.replace("$", "")))  # the names of columns in figures are TeX


class NothingToShow(AnalysisError):  # noqa: N818 - what the user reads it as
    """There is no study, no record, or no record that the figure or table could show."""


def unknown_column(name: str, known: Iterable[str]) -> AnalysisError:
    """The error for a column that is not there, with the nearest name that is."""
    names = list(known)
    near = [one for one in names if one.rpartition(".")[2] == name] or difflib.get_close_matches(name, names, n=1)
    return AnalysisError(f"there is no column {name!r}: " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"))
