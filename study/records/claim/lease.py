"""One driver at a time where files cannot be locked: a claim beside the results, renewed while its driver lives."""

from __future__ import annotations

import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow.fs

from study.records.claim.conditional import ConditionalObject, RefusedError, conditional_object

RENEWAL_SECONDS = 15.0
"""Between two renewals of a claim."""
PATIENCE_SECONDS = 60.0
"""A claim that was not renewed for so long is of a driver that was killed."""
_POLL_SECONDS = 1.0
_CANDIDATE = "candidate-"
_DRIVER = "driver"


class AlreadyLeasedError(Exception):
    """Another driver is alive."""


@contextmanager
def leased(filesystem: pyarrow.fs.FileSystem, path: str, uri: str = "") -> Iterator[None]:
    """A claim in the folder ``path/.drivers`` of an object store, which one driver has at a time.

    Where the store takes conditional requests (S3, with boto3 installed), the claim is one object that only one of all drivers
    can make. Elsewhere each makes one of its own, as a candidate, *before* it lists the others': of two, the one whose list comes
    last sees the other. Who sees nobody becomes the driver; of candidates that see each other the one whose name is first in the
    alphabet (names are random) waits until the others have left. That needs a store whose lists hold what was written before, as
    those of S3, Google and Azure do. Both kinds see each other.

    A claim that nobody renews is waited for, then removed. A driver that was frozen for longer than that, and goes on, is no harm to
    records: a point that ran twice counts once.

    Args:
        uri: of the store, with its options.

    Raises:
        AlreadyLeasedError: another driver renews its claim, or came first.
        OSError: the store cannot be written.
    """
    single = conditional_object(uri, f"{path}/.drivers/{_DRIVER}")
    claim = _SingleClaim(single, path) if single else _ListedClaim(filesystem, path)
    claim.take()
    try:
        _outwait(filesystem, path, claim)
        claim.won()
        ended = threading.Event()
        renewals = threading.Thread(target=_renew, args=(claim, ended), name="lease", daemon=True)
        renewals.start()
        try:
            yield
        finally:
            ended.set()
            renewals.join()
    finally:
        claim.leave()


def _renew(claim: _ListedClaim | _SingleClaim, ended: threading.Event) -> None:
    while not ended.wait(RENEWAL_SECONDS):
        with suppress(OSError):
            claim.renew()


class _ListedClaim:
    """An object of this driver's own, which others find in a list."""

    def __init__(self, filesystem: pyarrow.fs.FileSystem, path: str) -> None:
        self._filesystem, self._folder, self._identifier = filesystem, f"{path}/.drivers", uuid.uuid4().hex
        self.name = _CANDIDATE + self._identifier

    def take(self) -> None:
        self.renew()

    def renew(self) -> None:
        with self._filesystem.open_output_stream(f"{self._folder}/{self.name}") as stream:
            stream.write(b"gaplab")

    def won(self) -> None:
        """Become the driver: under the new name before the old one goes, so that no list lacks both."""
        old, self.name = self.name, f"{_DRIVER}-{self._identifier}"
        self.renew()
        self._filesystem.delete_file(f"{self._folder}/{old}")

    def leave(self) -> None:
        for name in {self.name, _CANDIDATE + self._identifier}:
            with suppress(OSError):
                self._filesystem.delete_file(f"{self._folder}/{name}")


class _SingleClaim:
    """The one object that the store lets only one driver make."""

    name = _DRIVER

    def __init__(self, single: ConditionalObject, path: str) -> None:
        self._single, self._path, self._lost = single, path, False

    def take(self) -> None:
        """Make it, or take over one that nobody renews.

        Raises:
            AlreadyLeasedError: another driver has it.
        """
        seen: str | None = None
        patience = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._single.make()
                return
            except RefusedError:
                now = self._single.tag()
            if seen is None and now is not None:
                _warn(self._path)
            if now != seen and seen is not None:
                raise AlreadyLeasedError
            seen = now
            if seen is not None and time.monotonic() > patience:
                try:
                    self._single.renew(seen)
                except RefusedError:
                    raise AlreadyLeasedError from None
                return
            time.sleep(_POLL_SECONDS)

    def renew(self) -> None:
        if self._lost:
            return
        try:
            self._single.renew()
        except RefusedError:
            self._lost = True
            warnings.warn(f"another driver has taken over {self._path}: this one was not heard of for too long", stacklevel=2)
        except Exception as error:  # botocore's kinds; the next renewal may pass
            raise OSError(str(error)) from error

    def won(self) -> None:
        """Nothing is left to do: it is the driver's since it was taken."""

    def leave(self) -> None:
        with suppress(Exception):  # what cannot be removed is outwaited by the next
            self._single.remove()


def _outwait(filesystem: pyarrow.fs.FileSystem, path: str, own: _ListedClaim | _SingleClaim) -> None:
    """Return when no other claim is alive.

    Raises:
        AlreadyLeasedError: another driver is, or a candidate whose name comes first.
    """
    found = _claims(filesystem, path, own.name)
    if found:
        _warn(path)
    patience = time.monotonic() + PATIENCE_SECONDS
    while found:
        time.sleep(_POLL_SECONDS)
        with suppress(OSError):
            own.renew()
        now = _claims(filesystem, path, own.name)
        alive = [claim for claim, written in now.items() if found.get(claim) != written]
        if any(not _yields(claim, own.name) for claim in alive):
            raise AlreadyLeasedError
        if alive or now.keys() != found.keys():
            patience = time.monotonic() + PATIENCE_SECONDS
        found = now
        if time.monotonic() > patience:
            for claim in found:
                filesystem.delete_file(claim)
            return


def _yields(claim: str, own: str) -> bool:
    """Whether another claim leaves before this one: a candidate does for a driver, and for candidates before it in the alphabet."""
    name = claim.rpartition("/")[2]
    return name.startswith(_CANDIDATE) and (own < name or not own.startswith(_CANDIDATE))


def _warn(path: str) -> None:
    warnings.warn(f"another driver claims {path}: waiting up to {PATIENCE_SECONDS:g} s for a sign of its life", stacklevel=5)


def _claims(filesystem: pyarrow.fs.FileSystem, path: str, own: str) -> dict[str, int]:
    """Other drivers' claims, and when they were written by the store's clock."""
    files = filesystem.get_file_info(pyarrow.fs.FileSelector(f"{path}/.drivers", allow_not_found=True))
    others = [file for file in files if file.is_file and not file.path.endswith(f"/{own}") and "-probe-" not in file.path]
    return {file.path: file.mtime_ns for file in others}
