"""What is recorded, kept up to date while a study runs: only fragments that are new are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset

from study.objectives import NEEDED
from study.records import FINAL, fragments, open_store, read_fragments, statuses

_COLUMNS = ["key", "status", "reason", *NEEDED]


class Outcomes:
    """The records of ``STORAGE/STUDY`` by key: status, reason and the columns that objectives need.

    What failed before, or was recorded without one of the `measures`, counts as not there: it runs again.
    """

    def __init__(self, root: str, measures: Sequence[str] = ()) -> None:
        self._root = root
        self._seen: set[str] = set()
        self._rows: dict[str, dict[str, Any]] = {}
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

    def curves(self, keys: Iterable[str]) -> dict[str, dict[int, dict[str, Any]]]:
        """key -> epoch -> the row of its curve, with train and validation error."""
        wanted = list(keys)
        filesystem, path = open_store(self._root)
        curves = pyarrow.dataset.dataset(f"{path}/curves", filesystem=filesystem, format="parquet", exclude_invalid_files=True)
        table = curves.to_table(columns=["key", "epoch", "train_error", "validation_error"], filter=pc.field("key").isin(wanted))
        found: dict[str, dict[int, dict[str, Any]]] = {key: {} for key in wanted}
        for row in table.to_pylist():
            found[row["key"]][row["epoch"]] = row
        return found
