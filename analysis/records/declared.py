"""Recorded points that a study's spec does not declare: those of what the study was before its spec changed.

A run puts their keys into ``STORAGE/STUDY/undeclared.json``, beside the spec that it stores. Figures and tables of a study leave them out:
in lines that differ in nothing else they would count as further seeds.
"""

from __future__ import annotations

import json
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import AnalysisError
from analysis.records.mlflow import MLFLOW
from analysis.records.store import open_store

FILE = "undeclared.json"


def undeclared(source: str) -> frozenset[str]:
    """The keys of those points under ``STORAGE/STUDY`` that the spec of its last run did not declare; none where no run has said so.

    Raises:
        AnalysisError: the storage cannot be read, or the file that says so is damaged.
    """
    if source.startswith(MLFLOW):
        return frozenset()
    filesystem, path = open_store(source)
    try:
        with filesystem.open_input_stream(f"{path}/{FILE}") as stream:
            found = json.loads(stream.read())
    except (FileNotFoundError, NotADirectoryError):  # a table of runs is no folder
        return frozenset()
    except OSError as error:  # who does not know may not mix them
        raise AnalysisError(f"{source}/{FILE} cannot be read ({str(error).splitlines()[0]})") from None
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(key, str) for key in found):
        raise AnalysisError(f"{source}/{FILE} is damaged: the next gaplab run of the study writes it anew")
    return frozenset(found)


def declared_rows(table: pa.Table, others: Collection[str]) -> tuple[pa.Table, str | None]:
    """The rows of declared points, and a sentence that counts the others if there are some.

    Args:
        table: with a column ``key``.
        others: keys that are not declared.
    """
    if not others:
        return table, None
    found = table.filter(pc.invert(pc.is_in(table["key"], pa.array(sorted(others), pa.string()))))
    left = table.num_rows - found.num_rows
    return found, f"{left:,} recorded points are not of this spec" if left else None
