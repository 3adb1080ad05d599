"""The MLflow mirror: a background thread that copies record fragments into an experiment, in batches, and may lag.

Arrow is the truth, MLflow the index: the mirror reads fragments as any reader does, so it can start late, fail, or be run
again (`gaplab sync`). A point has one run, found by its key tag; one that is incomplete, or of an earlier outcome, is replaced.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet

from analysis.records.fragments import MERGED, fragments, read_fragments
from analysis.records.schema import CURVES, FINAL, OUTCOMES, RECORDS
from analysis.records.store import open_store
from study.guest import environment
from trainables.point.config import ConfigError, field_types
from trainables.redaction import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

POLL_SECONDS = 1.0
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default of 7 keeps a caller for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines a point
}
_LONGEST_WAIT = 30.0
_LONGEST_TEXT = 5000
"""Characters of a param or tag; MLflow refuses a batch with a longer one."""
_METRICS_PER_BATCH = 1000
"""MLflow's limit of `log_batch`."""
_POINTS_AT_ONCE = 500
"""Records and curves of so many points are held as Python objects."""
_OUTCOME = ["key", "status", "finished"]
_RUN_STATUS = {"completed": "FINISHED", "diverged": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
NULL_TAG = "gaplab.null"
"""Names the metrics of a curve that its record lacks."""
_TAGS = ("status", "reason", *(name for name in RECORDS.names[RECORDS.names.index(OUTCOMES[-1]) + 1 :]))
_CURVE_METRICS = tuple(name for name in CURVES.names if name not in ("key", "epoch"))


def default_tracking_uri(storage: str) -> str | None:
    """An SQLite database in a local storage folder; None for storage that is not local."""
    return None if "://" in storage else f"sqlite:///{Path(storage).expanduser().resolve()}/mlflow.db"


class Mirror:
    """Copies the records under `root` to the experiment `study` at `tracking_uri`.

    Nothing is asked of the server before `start` or `finish`; `error` says why it lags, if it does.
    """

    def __init__(self, tracking_uri: str, study: str, root: str) -> None:
        self.tracking_uri = tracking_uri
        self.error: str | None = None
        self._study, self._root = study, root
        self._done: set[str] = set()
        self._runs: dict[str, _Run] = {}
        self._client: MlflowClient | None = None
        self._parent = self._experiment = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow-mirror", daemon=True)

    def start(self) -> None:
        """Follow the study in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end after the fragment that it is copying."""
        self._stop.set()

    def finish(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Stop following, and copy what is left unless the server fails."""
        self.stop()
        if self._thread.ident:
            self._thread.join()
        with self._failures_noted():
            for done, total in self._copy_new():
                progress(done, total)

    def log_artifacts(self, paths: list[Path]) -> None:
        """Attach files to the study's parent run, unless the server fails."""
        with environment(_brief()), self._failures_noted():
            client = self._connected()
            moved = self._moved_to(client)
            for path in paths:
                if moved is None:
                    client.log_artifact(self._parent, str(path))
                else:
                    moved.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, moved)

    def _follow(self) -> None:
        """Until told to stop; a failing server is asked again later and later, and nobody waits for it."""
        wait = POLL_SECONDS
        while not self._stop.wait(wait):
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
            self.error, self._client = redacted((str(error).splitlines() or [type(error).__name__])[0]), None

    def _copy_new(self) -> Iterator[tuple[int, int]]:
        """Copy the fragments not copied yet; yields how many of how many are, after each."""
        client = self._connected()
        while new := [path for path in fragments(self._root) if path not in self._done]:
            for count, path in enumerate(new):
                with suppress(FileNotFoundError):  # merged since they were listed: then the next listing has the merged file
                    self._copy(client, path)
                self._done.add(path)
                yield count + 1, len(new)

    def _connected(self) -> MlflowClient:
        """The client, with the experiment, the parent run and the runs of earlier mirrors found."""
        if self._client:
            return self._client
        os.environ.update(_brief())  # for good: threads share it; `study.run` and `study.sync` put it back, and the level too
        from mlflow import MlflowClient

        logger = logging.getLogger("mlflow")
        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            logger.setLevel(max(logger.level, logging.WARNING))  # a new database would be announced on the terminal
        client = MlflowClient(self.tracking_uri)
        experiment = client.get_experiment_by_name(self._study)
        if experiment is None:
            self._experiment = client.create_experiment(self._study, artifact_location=self._artifacts())
        else:
            self._experiment = experiment.experiment_id
        self._find_runs(client)
        self._client = client
        return client

    def _artifacts(self) -> str | None:
        """Where an SQLite database keeps artifacts: with the results, or beside itself if they are far away; a server chooses itself."""
        if not self.tracking_uri.startswith("sqlite:///"):
            return None
        filesystem, path = open_store(self._root)
        if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            return f"{path}/mlflow-artifacts"
        return str(Path(self.tracking_uri.removeprefix("sqlite:///")).resolve().parent / self._study)

    def _moved_to(self, client: MlflowClient) -> Path | None:
        """Where the parent run's artifacts lie now, if the results were moved since the database noted where; None if they were not."""
        here, uri = self._artifacts(), client.get_run(self._parent).info.artifact_uri
        if here is None or ("://" in uri and not uri.startswith("file://")):
            return None
        noted = Path(uri.removeprefix("file://"))
        if noted.is_relative_to(here):
            return None
        place = Path(here, *noted.parts[-2:])  # RUN/artifacts
        warnings.warn(f"the results were moved, and MLflow's database names their old place: charts are put in {place}", stacklevel=4)
        return place

    def _find_runs(self, client: MlflowClient) -> None:
        token, self._parent, self._runs = None, "", {}
        while True:
            page = client.search_runs([self._experiment], max_results=1000, page_token=token)
            for run in page:
                kind, key = run.data.tags.get("gaplab.kind"), run.data.tags.get("gaplab.key")
                if kind == "study":
                    self._parent = run.info.run_id
                elif kind == "point" and key:
                    self._runs[key] = _Run(run.info.run_id, run.info.status in ("FINISHED", "KILLED"), run.info.end_time or 0)
            token = page.token
            if not token:
                break
        if not self._parent:
            parent = client.create_run(self._experiment, run_name=self._study, tags={"gaplab.kind": "study"})
            client.set_terminated(parent.info.run_id)
            self._parent = parent.info.run_id

    def _copy(self, client: MlflowClient, path: str) -> None:
        """Those points of a record file into MLflow that it lacks, or knows worse: as for any reader, the latest outcome stands.

        Raises:
            FileNotFoundError: the file has gone.
        """
        outcomes = read_fragments(self._root, [path], _OUTCOME).to_pylist()
        news = {row["key"] for row in outcomes if self._is_news(row)}
        if not news:
            return
        records = read_fragments(self._root, [path])
        records = records.filter(pc.is_in(records["key"], pa.array(sorted(news), pa.string())))
        for start in range(0, records.num_rows, _POINTS_AT_ONCE):
            rows = records.slice(start, _POINTS_AT_ONCE)
            curves = self._curves_beside(path, rows["key"])
            for row in rows.to_pylist():
                if self._is_news(row):
                    self._copy_point(client, row, curves.get(row["key"], []))

    def _is_news(self, row: dict[str, Any]) -> bool:
        run = self._runs.get(row["key"])
        return run is None or (row["status"] in FINAL, _milliseconds(row["finished"])) > (run.final, run.ended)

    def _curves_beside(self, path: str, keys: pa.ChunkedArray) -> dict[str, list[dict[str, Any]]]:
        """The curves of some records of a file by key. Of a merged file, which lies in the order of keys, little else is read."""
        filesystem, _ = open_store(self._root)
        folder, _, name = path.rpartition("/records/")
        ends = pc.min_max(keys)
        between = (pc.field("key") >= ends["min"]) & (pc.field("key") <= ends["max"])
        for place in (name, MERGED):  # its curves may be merged already, or there may be none: all its points failed
            with suppress(FileNotFoundError):
                table = pyarrow.parquet.read_table(f"{folder}/curves/{place}", filesystem=filesystem, partitioning=None, filters=between)
                break
        else:
            return {}
        curves: dict[str, dict[int, dict[str, Any]]] = {}
        for point in table.to_pylist():
            curves.setdefault(point["key"], {})[point["epoch"]] = point
        return {key: list(curve.values()) for key, curve in curves.items()}

    def _copy_point(self, client: MlflowClient, row: dict[str, Any], curve: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        key, when = row["key"], _milliseconds(row["finished"])
        if key in self._runs:
            client.delete_run(self._runs.pop(key).identifier)
        own_tags = {"gaplab.kind": "point", "gaplab.key": key, "mlflow.parentRunId": self._parent}
        begun = when - int(1000 * (row["seconds"] or 0))
        run = client.create_run(self._experiment, start_time=begun, run_name=key[:8], tags=own_tags).info.run_id
        metrics = [
            Metric(name, float(point[name]), when, point["epoch"]) for point in curve for name in _CURVE_METRICS if point[name] is not None
        ]
        known = {metric.key for metric in metrics}
        single = [name for name in row if (name in OUTCOMES or name.startswith("measure.")) and name not in known]
        metrics += [Metric(name, float(row[name]), when, row["epochs"] or 0) for name in single if row[name] is not None]
        params = [Param(name, str(row[name])[:_LONGEST_TEXT]) for name in field_types() if row[name] is not None]
        tags = [RunTag(f"gaplab.{name}", _as_tag(row[name])) for name in _TAGS if row[name] is not None]
        if absent := [name for name in sorted(known) if row.get(name, 0) is None]:  # of a diverged point: its curve has values
            tags.append(RunTag(NULL_TAG, ",".join(absent)))
        first = _METRICS_PER_BATCH - len(params) - len(tags)
        client.log_batch(run, metrics[:first], params, tags)
        for start in range(first, len(metrics), _METRICS_PER_BATCH):
            client.log_batch(run, metrics[start : start + _METRICS_PER_BATCH])
        client.set_terminated(run, _RUN_STATUS[row["status"]], end_time=when)
        self._runs[key] = _Run(run, row["status"] in FINAL, when)


def _brief() -> dict[str, str]:
    """What makes MLflow's client quiet and quick to give up, as far as the user has not said otherwise."""
    return {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}


@dataclass(frozen=True)
class _Run:
    """What MLflow has of a point; `ended` in milliseconds since 1970."""

    identifier: str
    final: bool
    ended: int


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _as_tag(value: Any) -> str:
    return (value.isoformat() if isinstance(value, datetime) else redacted(str(value)))[:_LONGEST_TEXT]


def check_reachable(uri: str) -> None:
    """Ask once, shortly, so that a mistyped URI is an error now and not a silent lag. Nothing is made.

    Raises:
        ConfigError: there is no tracking server or database at the URI.
    """
    advice = "start the server, or correct --tracking-uri"
    if uri.startswith(("http://", "https://")):
        import requests

        try:
            requests.get(f"{uri.rstrip('/')}/health", timeout=5).raise_for_status()
        except requests.RequestException as error:
            raise ConfigError(f"--tracking-uri: no MLflow server answers at {uri} ({type(error).__name__}): {advice}") from None
    elif "://" in uri and not uri.startswith(("databricks", "uc:")):
        import sqlalchemy

        try:
            url = sqlalchemy.engine.make_url(uri)
            if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
                if not Path(url.database or "").parent.is_dir():
                    raise FileNotFoundError(f"there is no folder {Path(url.database or '').parent}")
            else:
                sqlalchemy.inspect(sqlalchemy.create_engine(url)).get_table_names()
        except (FileNotFoundError, ModuleNotFoundError) as error:
            raise ConfigError(f"--tracking-uri: cannot open {uri}: {error}") from None
        except Exception as error:  # not its text, which may hold the password in some form
            raise ConfigError(f"--tracking-uri: cannot open {uri} ({type(error).__name__}): {advice}") from None
    else:
        raise ConfigError(f"--tracking-uri: {uri!r} is no server or database: give http://HOST:PORT, sqlite:///PATH or postgresql://...")
