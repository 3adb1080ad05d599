"""What a study declares, beside its records: its spec, and the keys of recorded points that the spec does not declare."""

from __future__ import annotations

import json
from collections.abc import Collection

from analysis.errors import AnalysisError
from analysis.records.declared import FILE, undeclared
from analysis.records.store import open_store
from study.records.writer import write_whole


def write_undeclared(root: str, recorded: Collection[str], declared: Collection[str]) -> frozenset[str]:
    """Say which of the recorded points are not declared, and return their keys. There is no such file where there were never any.

    Raises:
        OSError: the storage cannot be written.
    """
    others = frozenset(recorded).difference(declared)
    known: frozenset[str] | None
    try:
        known = undeclared(root)
    except AnalysisError:  # what cannot be read is written anew
        known = None
    if others != known:
        filesystem, path = open_store(root)
        write_whole(filesystem, f"{path}/{FILE}", json.dumps(sorted(others)).encode())
    return others
