"""The id of a study's storage: it tells two storages of one study name apart where they meet, on a tracking server."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from uuid import uuid4

import pyarrow.fs

from analysis.records.store import open_store
from study.records.writer import write_whole

_FILE = ".storage-id"


@dataclass(frozen=True)
class StorageId:
    """Names a storage.

    Attributes:
        identifier: random, kept beside the records, so that it moves with them.
        place: a digest of where they lie: what is stored there anew follows what was there.
    """

    identifier: str
    place: str

    def is_same(self, identifier: str | None, place: str | None) -> bool:
        """Whether this id and place, as kept elsewhere, are of this storage; nothing kept says nothing."""
        return identifier is None or identifier == self.identifier or place == self.place


def storage_id(root: str, *, make: bool = True) -> StorageId:
    """The id of ``STORAGE/STUDY``, made if it has none; one that cannot be written is made of the place.

    Args:
        make: otherwise a storage that has none is known by its place alone, and nothing is written.
    """
    filesystem, path = open_store(root)
    host = socket.gethostname() if isinstance(filesystem, pyarrow.fs.LocalFileSystem) else root.partition("://")[0]
    place = blake2b(f"{host}\0{path}".encode(), digest_size=16).hexdigest()
    with suppress(OSError), filesystem.open_input_stream(f"{path}/{_FILE}") as stream:
        if kept := stream.read().decode(errors="replace").strip():
            return StorageId(kept, place)
    if not make:
        return StorageId(place, place)
    made = uuid4().hex
    try:
        write_whole(filesystem, f"{path}/{_FILE}", made.encode())
    except OSError:
        made = place
    return StorageId(made, place)
