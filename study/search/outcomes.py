"""What is recorded, kept up to date while a study runs: only fragments that are new are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from analysis.records.fragments import earlier, finished_files, fragments, read_fragments, statuses
from analysis.records.schema import FINAL
from analysis.records.searches.objectives import NEEDED
from analysis.records.soundness import UNREADABLE, read_whole
from analysis.records.store import open_store

_COLUMNS = ["key", "status", "reason", "finished", *NEEDED]
_CURVE = ["key", "epoch", "train_error", "validation_error"]


class Answers(Protocol):
    """What a search reads of records."""

    def __contains__(self, key: str) -> bool:
        """Whether the point is recorded."""

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        """The record of a point, as far as objectives need it."""

    def refresh(self) -> None:
        """Read what was recorded since the last time."""

    def curve(self, key: str) -> Mapping[int, Mapping[str, Any]]:
        """The train and validation error of a recorded point by epoch."""


class Outcomes:
    """The records of ``STORAGE/STUDY`` by key: status, reason and the columns that objectives need.

    What failed before, or was recorded without one of the `measures`, counts as not there: it runs again.
    """

    def __init__(self, root: str, measures: Sequence[str] = ()) -> None:
        self._root = root
        self._seen: set[str] = set()
        self._rows: dict[str, dict[str, Any]] = {}
        self._seen_rows: set[tuple[Any, ...]] = set()
        self._seen_curves: set[str] = set()
        self._curves: dict[str, dict[int, dict[str, Any]]] = {}
        self.refresh()
        final = {key for key, status in statuses(root, measures).items() if status in FINAL}
        self._rows = {key: row for key, row in self._rows.items() if key in final}

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        return self._rows[key]

    def refresh(self) -> None:
        """Read what was recorded since the last time."""
        while new := [path for path in fragments(self._root) if path not in self._seen]:
            try:
                rows = read_fragments(self._root, new, _COLUMNS).to_pylist()
            except FileNotFoundError:  # merged since they were listed
                continue
            for row in rows:
                outcome = (row["key"], row["status"], row["finished"])
                if outcome not in self._seen_rows and self._stands(row):
                    self._rows[row["key"]] = row
                self._seen_rows.add(outcome)  # a merged file has it again
            self._seen.update(new)
            return

    def _stands(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is to be taken: a final one instead of a failure, and of two final ones the first, as by every reader."""
        known = self._rows.get(row["key"])
        if known is None or known["status"] not in FINAL:
            return row["status"] in FINAL or known is None
        return row["status"] in FINAL and earlier(row["finished"], known["finished"])

    def curve(self, key: str) -> Mapping[int, Mapping[str, Any]]:
        """The train and validation error of a recorded point by epoch; curves are written before records, so it is there."""
        if key not in self._curves:
            self._read_curves()
        return self._curves.get(key, {})

    def _read_curves(self) -> None:
        filesystem, path = open_store(self._root)
        while new := [info.path for info in finished_files(filesystem, f"{path}/curves") if info.path not in self._seen_curves]:
            for name in new:
                try:
                    for row in read_whole(filesystem, name, _CURVE).to_pylist():
                        self._curves.setdefault(row["key"], {})[row["epoch"]] = row
                except FileNotFoundError:  # merged since they were listed
                    break
                except UNREADABLE:
                    pass  # a damaged file is named by whoever shows curves
                self._seen_curves.add(name)
