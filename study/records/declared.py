"""What a study declares, beside its records: its spec, and the keys of recorded points that the spec does not declare."""

from __future__ import annotations

import json
from collections.abc import Collection

from analysis.records.declared import FILE, undeclared
from analysis.records.store import open_store


def write_undeclared(root: str, recorded: Collection[str], declared: Collection[str]) -> frozenset[str]:
    """Say which of the recorded points are not declared, and return their keys. There is no such file where there were never any.

    Raises:
        OSError: the storage cannot be written.
    """
    others = frozenset(recorded).difference(declared)
    if others != undeclared(root):
        filesystem, path = open_store(root)
        with filesystem.open_output_stream(f"{path}/{FILE}") as stream:
            stream.write(json.dumps(sorted(others)).encode())
    return others
