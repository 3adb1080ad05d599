"""Where a search keeps its Optuna studies: a journal file beside the results, or a database.

`optuna-dashboard` opens both while a search runs. Only the search writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from analysis.records.store import open_store
from trainables.point.config import ConfigError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna.journal"


class GroupCommit(BaseJournalBackend):
    """A journal whose entries reach the disk together, at `flush`.

    A suggestion is a dozen entries; Optuna's own journal locks and syncs the file for each (7 ms on an ext4 disk). Nothing
    is trained before its suggestion is flushed, so a crash loses only what was never used.
    """

    def __init__(self, file_path: str) -> None:
        _cut_torn_end(Path(file_path))
        self._file = JournalFileBackend(file_path)
        self._on_disk = sum(1 for _ in self._file.read_logs(0))
        self._since: list[dict[str, Any]] = []
        self._flushed = 0

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._since += [json.loads(json.dumps(log)) for log in logs]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        if log_number_from < self._on_disk:
            for index, log in enumerate(self._file.read_logs(log_number_from), start=log_number_from):
                if index < self._on_disk:
                    yield log
        yield from self._since[max(0, log_number_from - self._on_disk) :]

    def flush(self) -> None:
        """Put on disk what is not there yet, in one write."""
        if new := self._since[self._flushed :]:
            self._file.append_logs(new)
            self._flushed = len(self._since)


def _cut_torn_end(path: Path) -> None:
    """A line that a kill cut off would make the journal unreadable once another follows it."""
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


class Storage:
    """The Optuna storage of a search.

    Args:
        where: "journal", or the URL of a database.
        root: ``STORAGE/STUDY``.

    Raises:
        ConfigError: it cannot be opened there.
    """

    def __init__(self, where: str, root: str) -> None:
        self._journal: GroupCommit | None = None
        self.optuna: BaseStorage
        if where != "journal":
            self.optuna = _database(where)
            return
        if "://" in root:
            raise ConfigError(
                f"search.storage: a journal cannot lie in {root}: give the URL of a database, such as postgresql://USER@HOST/NAME"
            )
        path = Path(open_store(root)[1]) / JOURNAL
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._journal = GroupCommit(str(path))
            self.optuna = JournalStorage(self._journal)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{path} is damaged ({error}): move it away, and the search learns anew from its records") from None

    def flush(self) -> None:
        """Everything so far is on disk when this returns."""
        if self._journal:
            self._journal.flush()


def for_reading(where: str, root: str) -> BaseStorage | None:
    """The storage of a search as it is, also while that runs; None if there is none yet."""
    if where != "journal":
        return _database(where)
    path = Path(open_store(root)[1]) / JOURNAL
    return JournalStorage(JournalFileBackend(str(path))) if path.is_file() else None


def _database(url: str) -> BaseStorage:
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, StorageInternalError, ImportError, ValueError, RuntimeError) as error:
        raise ConfigError(f"search.storage: no database answers at {url.rpartition('@')[2]} ({str(error).splitlines()[0]})") from None
