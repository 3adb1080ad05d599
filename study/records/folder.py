"""A study's folder: made, kept from a second driver, and left as it was if nothing could be started."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.fs
from filelock import FileLock, Timeout

from analysis.records.fragments import Recorded, recorded
from analysis.records.store import open_store
from study.records.lease import AlreadyLeasedError, leased
from trainables.point.config import ConfigError


@contextmanager
def claimed(root: str) -> Iterator[None]:
    """The study's folder, made, and kept from any other driver: by a lock on a file system, by a lease on an object store.

    If what follows raises ConfigError, nothing was started: what was made here is removed.
    """
    filesystem, path = open_store(root)
    local = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    folder = Path(path)
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()] if local else []
    with ExitStack() as held:
        try:
            try:
                filesystem.create_dir(path, recursive=True)
                held.enter_context(FileLock(folder / ".lock", timeout=0) if local else leased(filesystem, path, root))
            except (Timeout, AlreadyLeasedError):
                raise ConfigError(f"another gaplab is at work on {root}: wait until it ends, or stop it") from None
            except OSError as error:
                raise _unwritable(root, error) from None
            yield
        except ConfigError:
            if made:
                shutil.rmtree(made[-1], ignore_errors=True)
            raise


def write_spec(root: str, text: str) -> None:
    """Put the YAML that declares a study beside its records."""
    filesystem, path = open_store(root)
    try:
        with filesystem.open_output_stream(f"{path}/spec.yaml") as stream:
            stream.write(text.encode())
    except OSError as error:
        raise _unwritable(root, error) from None


def _unwritable(root: str, error: Exception) -> ConfigError:
    return ConfigError(f"--storage: {root} cannot be written ({str(error).splitlines()[0]}): give a folder or URI that can")


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
