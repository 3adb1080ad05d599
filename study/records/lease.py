"""One driver at a time where files cannot be locked: a claim beside the results, renewed while its driver lives."""

from __future__ import annotations

import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow.fs

RENEWAL_SECONDS = 15.0
"""Between two renewals of a claim."""
PATIENCE_SECONDS = 60.0
"""A claim that was not renewed for so long is of a driver that was killed."""
_POLL_SECONDS = 1.0


class AlreadyLeasedError(Exception):
    """Another driver is alive."""


@contextmanager
def leased(filesystem: pyarrow.fs.FileSystem, path: str) -> Iterator[None]:
    """A claim in the folder ``path/.drivers`` of an object store.

    Every driver writes its own claim before it looks for others, so that of two at least one sees the other, and leaves; of two
    that start within the same second both may. A claim that nobody renews is waited for, then removed. One whose driver was
    frozen for longer than that, and goes on, is no harm to records: a point that ran twice counts once.

    Raises:
        AlreadyLeasedError: another driver renews its claim.
        OSError: the store cannot be written.
    """
    own = f"{path}/.drivers/{uuid.uuid4().hex}"
    ended = threading.Event()

    def write() -> None:
        with filesystem.open_output_stream(own) as stream:
            stream.write(b"gaplab")

    def renew() -> None:
        while not ended.wait(RENEWAL_SECONDS):
            with suppress(OSError):
                write()

    write()
    renewals = threading.Thread(target=renew, name="lease", daemon=True)
    renewals.start()
    try:
        _outwait(filesystem, path, own)
        yield
    finally:
        ended.set()
        renewals.join()
        with suppress(OSError):
            filesystem.delete_file(own)


def _outwait(filesystem: pyarrow.fs.FileSystem, path: str, own: str) -> None:
    """Return when no other claim is alive."""
    found = _claims(filesystem, path, own)
    if found:
        warnings.warn(f"another driver claims {path}: waiting up to {PATIENCE_SECONDS:g} s for a sign of its life", stacklevel=4)
    patience = time.monotonic() + PATIENCE_SECONDS
    while found:
        time.sleep(_POLL_SECONDS)
        now = _claims(filesystem, path, own)
        if any(found.get(claim) != written for claim, written in now.items()):
            raise AlreadyLeasedError
        found = now
        if time.monotonic() > patience:
            for claim in found:
                filesystem.delete_file(claim)
            return


def _claims(filesystem: pyarrow.fs.FileSystem, path: str, own: str) -> dict[str, int]:
    """Other drivers' claims, and when they were written by the store's clock."""
    files = filesystem.get_file_info(pyarrow.fs.FileSelector(f"{path}/.drivers", allow_not_found=True))
    return {file.path: file.mtime_ns for file in files if file.is_file and file.path != own}
