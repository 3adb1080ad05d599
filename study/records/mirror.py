"""The MLflow mirror: a background thread that copies record fragments into an experiment, in batches, and may lag.

Arrow is the truth, MLflow the index: the mirror reads fragments as any reader does, so it can start late, fail, or be run
again (`gaplab sync`). A point has one run, found by its key tag: what is surplus, half written, of an earlier outcome, or nested in
a run that is gone, is replaced. How runs are written is the matter of `study.records.tracking`.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet

from analysis.records.fragments import finished_files, fragments, read_fragments
from analysis.records.store import open_store
from study.guest import environment
from study.records.copying import Connection, Copying
from study.records.earlier_rows import in_merged, oldest_first
from study.records.front.networks import log_networks
from study.records.front.views import link
from study.records.front.writing import Front, write_front
from study.records.tracking import StudyRuns, common_and_varying, make_database, open_writer
from study.records.tracking.experiment import OtherStorageError, find_experiment, find_parent, shared_by_points
from study.records.tracking.finished_runs import DRAWN, SHARED_TAGS, as_text
from study.records.tracking.storage_id import storage_id
from trainables.point.config import field_types
from trainables.redaction import redacted

POLL_SECONDS = 1.0
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default of 7 keeps a caller for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines a point
}
_LONGEST_WAIT = 30.0
_FILES_AT_ONCE = 100
"""Fragments that are read together; a merged file is read alone."""


class Mirror:
    """Copies the records under `root` to the experiment `study` at `tracking_uri`.

    Nothing is asked of the server before there is a record to copy; `error` says why it lags, if it does. `page` is the page of the study
    once `show` has been called: of a server its address, of a database what follows the address of the server that is started for it.

    Args:
        tracking_uri: of a server or a database.
        study: its name is the experiment's.
        root: ``STORAGE/STUDY``.
        varied: the fields of the study's space, by which points are named; those that vary in the records if there are none.
        declared: gives the fields of each declared point: what is constant there stands on the study's run. The records are looked
            through if it gives none.
        drawn: the most points of a metric's curve; all for None.
    """

    def __init__(
        self,
        tracking_uri: str,
        study: str,
        root: str,
        varied: Collection[str] = (),
        declared: Callable[[], Iterable[Mapping[str, Any]]] = tuple,
        drawn: int | None = DRAWN,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.error: str | None = None
        self.page: str | None = None
        self._study, self._root = study, root
        self._varied, self._declared, self._drawn = varied, declared, drawn
        self._done: set[str] = set()
        self._copying = Copying(root)
        self._connection: Connection | None = None
        self._refused = False
        self._told_moved = False
        self._stood: int | None = None
        self._known = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow-mirror", daemon=True)

    def start(self) -> None:
        """Follow the study in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end after the points that it is copying."""
        self._stop.set()

    def finish(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Stop following, and copy what is left, anew after an error for as long as the server takes in more.

        Args:
            progress: called with how many records were looked at, and of how many.
        """
        self.stop()
        if self._thread.ident:
            self._thread.join()
        total, done, stood = self._rows_left(), 0, -1
        while True:
            self._stood = None
            with self._failures_noted():
                for count in self._copy_new():
                    done += count
                    progress(done, max(done, total))
            if not self.error or self._refused or self._stood is None or self._stood <= stood:
                return
            stood = self._stood

    def log_artifacts(self, paths: Sequence[Path], folder: str | None = None) -> None:
        """Attach files to the study's run, unless the server fails."""
        with environment(_brief()), self._failures_noted():
            connection = self._connected()
            moved = self._moved_to(connection)
            for path in paths:
                if moved is None:
                    connection.client.log_artifact(connection.runs.parent, str(path), folder)
                else:
                    place = moved / (folder or "")
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, place)

    def show(self, front: Front) -> None:
        """Put what the study found on its run and experiment, unless the server fails; the charts go beside it."""
        self.log_artifacts(front.charts, "charts")
        if self.error:
            return
        with environment(_brief()), self._failures_noted():
            connection = self._connected()
            reachable = self._moved_to(connection) is None
            write_front(connection.client, connection.experiment, connection.runs.parent, front, reachable)
            if reachable:
                runs = {key: run.run_id for key, run in connection.standing.items() if not run.deleted}
                log_networks(connection.client, connection.experiment, self._root, runs)
            self.page = link(connection.experiment, server=self.tracking_uri if self.tracking_uri.startswith("http") else "")

    def _follow(self) -> None:
        """Follow the study until `stop`; a failing server is asked again later and later, and nobody waits for it."""
        wait = POLL_SECONDS
        while not self._stop.wait(wait) and not self._refused:
            with self._failures_noted():
                for _ in self._copy_new():
                    if self._stop.is_set():
                        return
            wait = min(2 * wait, _LONGEST_WAIT) if self.error else POLL_SECONDS

    @contextmanager
    def _failures_noted(self) -> Iterator[None]:
        """Set `error`. After a failure the server is asked anew what it has: a request whose answer was lost may have run."""
        try:
            yield
            self.error = None
        except Exception as error:
            self.error, self._refused = (
                redacted((str(error).splitlines() or [type(error).__name__])[0]),
                isinstance(error, OtherStorageError),
            )
            if self._connection:
                self._known = self._connection.runs_that_stand
                self._connection.writer.close()
                self._connection = None

    def _rows_left(self) -> int:
        """How many records the files hold that are not copied yet."""
        filesystem, _ = open_store(self._root)
        rows = 0
        for path in fragments(self._root):
            if path not in self._done:
                with suppress(OSError, pa.ArrowException):  # gone, or damaged: whoever reads it says so
                    rows += pyarrow.parquet.read_metadata(path, filesystem=filesystem).num_rows
        return rows

    def _copy_new(self) -> Iterator[int]:
        """Copy the fragments not copied yet; yields how many records were looked at, a batch at a time."""
        while new := [path for path in self._files() if path not in self._done]:
            merged = [path for path in new if in_merged(path)]
            small = [path for path in new if not in_merged(path)]
            parts = [small[start : start + _FILES_AT_ONCE] for start in range(0, len(small), _FILES_AT_ONCE)]
            for paths in [*([path] for path in merged), *parts]:
                yield from self._copying.copied(self._connected(), paths)
                self._done.update(paths)

    def _files(self) -> list[str]:
        """The record files, the oldest first: whoever comes again is joined with what was before."""
        filesystem, path = open_store(self._root)
        return oldest_first(finished_files(filesystem, f"{path}/records"))

    def _connected(self) -> Connection:
        """The server, with the experiment, the study's run and the runs of earlier mirrors found, and what nobody should meet deleted."""
        if self._connection:
            return self._connection
        os.environ.update(_brief())  # for good: threads share it; `study.run` and `study.sync` put it back, and the level too
        from mlflow import MlflowClient

        logger = logging.getLogger("mlflow")
        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            logger.setLevel(max(logger.level, logging.WARNING))  # a new database would be announced on the terminal
        make_database(self.tracking_uri)
        client, storage = MlflowClient(self.tracking_uri), storage_id(self._root)
        experiment = find_experiment(client, self._study, self._artifacts())
        find_parent(client, experiment, storage)  # before anything is deleted: the experiment may be another storage's
        writer = open_writer(client, experiment, storage.identifier)
        try:
            standing = writer.reconcile()
            names, common = self._described()
            empty = all(run.deleted for run in standing.values())
            parent, common = shared_by_points(client, experiment, self._study, storage, lambda: common, empty)
        except BaseException:
            writer.close()
            raise
        self._connection = Connection(client, experiment, writer, StudyRuns(parent, names, common), standing, self._drawn)
        self._stood = self._connection.runs_that_stand
        if self._stood < self._known:  # somebody has deleted runs, or the database began anew: what was copied is not all there
            self._done.clear()
        return self._connection

    def _described(self) -> tuple[list[str], dict[str, str]]:
        """The fields that vary, and what the points share, as texts by column: fields, and provenance as the first record has it."""
        common, names = common_and_varying(self._declared())
        files = fragments(self._root)
        with suppress(FileNotFoundError):
            first = (read_fragments(self._root, files[:1])[:1].to_pylist() if files else []) or [{}]
            if not (common or names):
                there = _varying_fields(self._root, files)
                names = [name for name in field_types() if name in there or name in self._varied]
                common = {name: as_text(first[0][name]) for name in field_types() if name not in names and first[0].get(name) is not None}
            common |= {name: as_text(first[0][name]) for name in SHARED_TAGS if first[0].get(name) is not None}
        if self._varied:  # what follows from these, such as the width from p/n, needs no mention
            names = [name for name in names if name in self._varied or name == "seed"]
        elif "seed" in names:  # from which the others follow unless they are given
            names = [name for name in names if name not in ("data.seed", "corruption.seed")]
        return names, common

    def _artifacts(self) -> str | None:
        """Where an SQLite database keeps artifacts: with the results, or beside itself if they are far away; a server chooses itself."""
        if not self.tracking_uri.startswith("sqlite:///"):
            return None
        filesystem, path = open_store(self._root)
        if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            return f"{path}/mlflow-artifacts"
        return str(Path(self.tracking_uri.removeprefix("sqlite:///")).resolve().parent / self._study)

    def _moved_to(self, connection: Connection) -> Path | None:
        """Where the study's artifacts lie now, if they were moved since the database noted where, which is said once; None if not."""
        here, uri = self._artifacts(), connection.client.get_run(connection.runs.parent).info.artifact_uri
        if here is None or ("://" in uri and not uri.startswith("file://")):
            return None
        noted = Path(uri.removeprefix("file://"))
        if noted.is_relative_to(here):
            return None
        place = Path(here, *noted.parts[-2:])  # RUN/artifacts
        if not self._told_moved:
            self._told_moved = True
            warnings.warn(f"the results were moved, and MLflow's database names their old place: charts are put in {place}", stacklevel=4)
        return place


def _varying_fields(root: str, files: Sequence[str]) -> set[str]:
    """The fields of which some record files hold more than one value; null counts as one.

    Raises:
        FileNotFoundError: a file has gone.
    """
    values: dict[str, set[Any]] = {name: set() for name in field_types()}
    for path in files:
        constant = [name for name, seen in values.items() if len(seen) < 2]
        table = read_fragments(root, [path], ["key", *constant])
        for name in constant:
            values[name] |= set(pc.unique(table[name]).to_pylist()[:2])
    return {name for name, seen in values.items() if len(seen) > 1}


def _brief() -> dict[str, str]:
    """What makes MLflow's client quiet and quick to give up, as far as the user has not said otherwise."""
    return {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
