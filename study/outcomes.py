"""What is recorded, kept up to date while a study runs: only fragments that are new are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from pyarrow.fs import FileSelector

from study.objectives import NEEDED
from study.records import FINAL, fragments, open_store, read_fragments, statuses

_COLUMNS = ["key", "status", "reason", *NEEDED]
_CURVE = ["key", "epoch", "train_error", "validation_error"]


class Outcomes:
    """The records of ``STORAGE/STUDY`` by key: status, reason and the columns that objectives need.

    What failed before, or was recorded without one of the `measures`, counts as not there: it runs again.
    """

    def __init__(self, root: str, measures: Sequence[str] = ()) -> None:
        self._root = root
        self._seen: set[str] = set()
        self._rows: dict[str, dict[str, Any]] = {}
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
        new = [path for path in fragments(self._root) if path not in self._seen]
        if not new:
            return
        for row in read_fragments(self._root, new, _COLUMNS).to_pylist():
            if row["status"] in FINAL or row["key"] not in self:
                self._rows[row["key"]] = row
        self._seen.update(new)

    def curve(self, key: str) -> Mapping[int, Mapping[str, Any]]:
        """epoch -> train and validation error of a recorded point; curves are written before records, so it is there."""
        if key not in self._curves:
            self._read_curves()
        return self._curves.get(key, {})

    def _read_curves(self) -> None:
        filesystem, path = open_store(self._root)
        listed = filesystem.get_file_info(FileSelector(f"{path}/curves", allow_not_found=True))
        names = {info.path for info in listed if info.base_name.endswith(".parquet") and not info.base_name.startswith(".")}
        for name in sorted(names - self._seen_curves):
            with suppress(pa.ArrowException, OSError):  # a damaged file is named by whoever shows curves
                for row in pyarrow.parquet.read_table(name, columns=_CURVE, filesystem=filesystem, partitioning=None).to_pylist():
                    self._curves.setdefault(row["key"], {})[row["epoch"]] = row
        self._seen_curves |= names
