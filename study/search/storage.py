"""Where a search keeps its Optuna studies: a journal file beside the results, or a database.

`optuna-dashboard` opens both while a search runs. Only the search writes.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from analysis.errors import NothingToShow
from analysis.records.searches.trials import trial_database
from analysis.records.store import open_store
from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna.journal"


class GroupCommit(BaseJournalBackend):
    """A journal whose entries reach the disk together, at `flush`.

    A suggestion is a dozen entries; Optuna's own journal locks and syncs the file for each (7 ms on an ext4 disk). Nothing
    is trained before its suggestion is flushed, so a crash loses only what was never used.
    """

    def __init__(self, file_path: str) -> None:
        self._path = Path(file_path)
        _end_with_a_whole_line(self._path)
        self._file = JournalFileBackend(file_path) if self._path.is_file() else None
        self._on_disk = sum(1 for _ in self._file.read_logs(0)) if self._file else 0
        self._since: list[dict[str, Any]] = []
        self._flushed = 0

    @property
    def begun(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._since += [json.loads(json.dumps(log)) for log in logs]

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        if self._file and log_number_from < self._on_disk:
            for index, log in enumerate(self._file.read_logs(log_number_from), start=log_number_from):
                if index < self._on_disk:
                    yield log
        yield from self._since[max(0, log_number_from - self._on_disk) :]

    def flush(self) -> None:
        """Put on disk what is not there yet, in one write."""
        if new := self._since[self._flushed :]:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._file or JournalFileBackend(str(self._path))  # makes the file, which no search has that never asked
            self._file.append_logs(new)
            self._flushed = len(self._since)


class OwnJournal(JournalStorage):
    """A search's storage on its journal, to which nobody else writes: it knows when no trial waits to be suggested.

    Optuna looks for enqueued trials before every suggestion, among all there are: time that grows with their square.
    """

    def __init__(self, journal: GroupCommit) -> None:
        super().__init__(journal)
        self._none_waits: set[int] = set()  # Optuna studies

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is not None:
            self._none_waits.discard(study_id)
        return super().create_new_trial(study_id, template_trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if state == TrialState.WAITING:
            self._none_waits.clear()
        return super().set_trial_state_values(trial_id, state, values)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        waiting = states == (TrialState.WAITING,)
        if waiting and study_id in self._none_waits:
            return []
        found = super().get_all_trials(study_id, deepcopy, states)
        if waiting and not found:
            self._none_waits.add(study_id)
        return found


def _end_with_a_whole_line(path: Path) -> None:
    """Cut off what a kill has left of a line, which would make the journal unreadable once another follows it; a whole one is ended."""
    if not path.is_file() or not (content := path.read_bytes()) or content.endswith(b"\n"):
        return
    last = content.rfind(b"\n") + 1
    with path.open("r+b") as file:
        try:
            json.loads(content[last:])  # of an object no part is one: so this is whole
        except ValueError:
            file.truncate(last)
        else:
            file.seek(0, 2)
            file.write(b"\n")


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
            self.optuna = _database(where, make=True)
            return
        if "://" in root:
            raise ConfigError(
                f"search.storage: a journal cannot lie in {root}: give the URL of a database, such as postgresql://USER@HOST/NAME"
            )
        path = Path(open_store(root)[1]) / JOURNAL
        try:
            self._journal = GroupCommit(str(path))
            self.optuna = OwnJournal(self._journal)
        except Exception as error:  # what Optuna raises of a damaged line is whatever it stumbles over
            raise _damaged(path, error) from None

    @property
    def begun(self) -> bool:
        """Whether there is anything on disk."""
        return self._journal is None or self._journal.begun

    def flush(self) -> None:
        """Everything so far is on disk when this returns."""
        if self._journal:
            self._journal.flush()


def for_reading(where: str, root: str) -> BaseStorage | None:
    """The storage of a search as it is, also while that runs; None if there is none yet.

    Raises:
        ConfigError: it cannot be read.
    """
    if where != "journal":
        return _database(where, make=False)
    path = Path(open_store(root)[1]) / JOURNAL
    if not path.is_file():
        return None
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # what Optuna raises of a damaged line is whatever it stumbles over
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{path} is damaged ({type(error).__name__}: {error}): move it away, and the search learns anew from its records")


def _database(url: str, *, make: bool) -> BaseStorage:
    try:
        return trial_database(url, make=make)
    except NothingToShow as error:
        raise ConfigError(str(error)) from None
