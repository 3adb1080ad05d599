"""A study's folder: made, kept from a second driver, and taken away again if it stayed empty.

Only empty folders that this process made are removed, one by one and never with what is in them: what lies there is a result,
or somebody else's.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.fs
from filelock import FileLock, Timeout

from analysis.records.fragments import Recorded, recorded
from analysis.records.store import open_store
from study.records.claim.lease import PATIENCE_SECONDS, AlreadyLeasedError, leased
from study.records.compaction import COMPACTING
from study.records.writer import probe_store, write_whole
from trainables.point.errors import ConfigError
from trainables.redaction import redacted

_BRIEFLY = 0.25
"""Seconds for which a lock is tried: as long as somebody may hold it who only looks whether it is held."""
LOCK, DRIVER = ".lock", ".driver"
"""The file that a driver locks, and the one that says who that is: the lock's own is emptied by whoever tries it."""


@contextmanager
def claimed(root: str) -> Iterator[None]:
    """The study's folder, made, and kept from any other driver: by a lock on a file system, by a lease on an object store.

    Afterwards folders that were made here and in which nothing lies are removed: nothing was started then.

    Raises:
        ConfigError: another driver has it, or the storage fails, then or later.
    """
    filesystem, path = open_store(root)
    local = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    folder = Path(path)
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()] if local else []
    with ExitStack() as held:
        held.callback(_remove_empty, made)
        try:
            filesystem.create_dir(path, recursive=True)
            held.enter_context(_locked(folder, made) if local else leased(filesystem, path, root))
        except (Timeout, AlreadyLeasedError):
            who = active_driver(root)
            raise ConfigError(f"another gaplab is at work on {root}{f' ({who})' if who else ''}: wait until it ends, or stop it") from None
        except OSError as error:
            raise _unwritable(root, error) from None
        with _failures_said(root, path):
            yield


@contextmanager
def _failures_said(root: str, path: str) -> Iterator[None]:
    """A storage that fails meanwhile is a sentence, wherever it was needed. Other errors of the system stay what they are."""
    try:
        yield
    except OSError as error:
        below = f"{path.partition('/')[2]}/" if "://" in root else path  # a bucket is named apart
        if below not in f"{error} {error.filename}":
            raise
        said = str(error).splitlines()[0]
        raise ConfigError(f"--storage: {root} failed ({said}): what is recorded stays, and the same command goes on from there") from None


@contextmanager
def _locked(folder: Path, made: Sequence[Path]) -> Iterator[None]:
    """The folder's lock, with a file beside it that says who holds it."""
    lock, driver = folder / LOCK, folder / DRIVER
    with FileLock(lock, timeout=_BRIEFLY, poll_interval=_BRIEFLY / 5):
        holder = {"process": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        driver.write_text(json.dumps(holder), encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):  # a disk that has turned read-only: without the lock, the file says nothing
                driver.unlink(missing_ok=True)
            if folder in made and set(os.listdir(folder)) <= {LOCK, COMPACTING}:
                (folder / COMPACTING).unlink(missing_ok=True)
                lock.unlink()  # still locked: whoever has opened it meanwhile finds that it is not the file of that name


def _remove_empty(made: Sequence[Path]) -> None:
    """Remove these folders, the innermost first, as far as nothing lies in them."""
    with suppress(OSError):
        for folder in made:
            folder.rmdir()


def active_driver(root: str) -> str | None:
    """Who runs the study now, in words; None if nobody does. A driver that was killed holds no lock."""
    filesystem, path = open_store(root)
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        try:
            claims = filesystem.get_file_info(pyarrow.fs.FileSelector(f"{path}/.drivers", allow_not_found=True))
        except OSError:  # whoever reads the records says so
            return None
        alive = [
            claim.mtime_ns
            for claim in claims
            if claim.is_file and claim.base_name.startswith("driver") and time.time() - claim.mtime_ns / 1e9 < PATIENCE_SECONDS
        ]
        return f"its claim was renewed at {_clock(max(alive) / 1e9)}" if alive else None
    lock, driver = Path(path) / LOCK, Path(path) / DRIVER
    if not driver.is_file():
        return None
    try:
        with FileLock(lock, timeout=0):
            return None
    except Timeout:
        return _holder(driver)
    except OSError:  # a folder that this user cannot write in: the file says as much as is known
        return _holder(driver)


def _holder(driver: Path) -> str:
    """What the file beside a lock that is held says of its holder."""
    try:
        holder = json.loads(driver.read_text("utf-8"))
        return f"process {int(holder['process'])} on {holder['host']}, since {_clock(datetime.fromisoformat(holder['since']).timestamp())}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that does not say which"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def write_spec(root: str, text: str) -> None:
    """Put the YAML that declares a study beside its records, without the secrets in it: whoever may read results may not have them."""
    filesystem, path = open_store(root)
    try:
        write_whole(filesystem, f"{path}/spec.yaml", redacted(text).encode())
    except OSError as error:
        raise _unwritable(root, error) from None


def _unwritable(root: str, error: Exception) -> ConfigError:
    return ConfigError(f"--storage: {root} cannot be written ({str(error).splitlines()[0]}): give a folder or URI that can")


def check_writable(root: str) -> None:
    """See that results can be written where they go.

    Raises:
        ConfigError: they cannot.
    """
    try:
        probe_store(root)
    except OSError as error:
        raise _unwritable(root, error) from None


def read_recorded(root: str, measures: Sequence[str] = ()) -> Recorded:
    """What is recorded under ``STORAGE/STUDY``.

    Raises:
        ConfigError: the storage cannot be read.
    """
    try:
        return recorded(root, measures)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ConfigError(f"--storage: {root} cannot be read ({str(error).splitlines()[0]})") from None


def read_statuses(root: str, measures: Sequence[str] = ()) -> dict[str, str]:
    """The status of every point that is recorded with the measures; raises as `read_recorded`."""
    return read_recorded(root, measures).measured
