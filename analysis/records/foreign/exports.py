"""Tables of runs as W&B exports them: a row a run, or a row a step."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from analysis.errors import AnalysisError
from analysis.records.foreign.roles import role
from analysis.records.foreign.runs import UNFINISHED, ForeignRuns, History

_ENDINGS = (".csv", ".parquet")
_ID, _NAME = ("id", "run_id", "run id", "run"), ("name", "run name", "run_name")
_STATE, _CREATED, _STEP = ("state", "status"), ("created", "created_at", "start time", "createdat"), ("_step", "step")
_STATUSES = {"finished": "completed", "failed": "failed", "crashed": "failed", "killed": "pruned", "preempted": "pruned"}
_NESTED = {"config": "config/", "summary": "", "summary_metrics": ""}
"""Columns that hold a dictionary, as tables made with W&B's API do, and what stands before its names."""


def is_export(path: Path) -> bool:
    """Whether a path is a table of runs by its name."""
    return path.suffix.lower() in _ENDINGS


def export_runs(path: Path) -> ForeignRuns:
    """The runs of a table, the oldest first. A table with a step has a row a step: the last row of a run says how it ended.

    Raises:
        AnalysisError: it cannot be read, or has no row.
    """
    rows = [_flat(row) for row in _rows(path)]
    if not rows:
        raise AnalysisError(f"{path} has no row: nothing can be shown")
    names = {name.lower(): name for name in dict.fromkeys(name for row in rows for name in row)}
    special = {kind: next((names[one] for one in options if one in names), None) for kind, options in _SPECIAL.items()}
    ids, step = special["id"] or special["name"], special["step"]
    if step is not None and (ids is None or special["state"] is not None or len({row.get(ids) for row in rows}) == len(rows)):
        step = None  # a row a run, which says its last step
    grouped: dict[str, list[dict[str, Any]]] = {}
    for index, row in enumerate(rows):
        found = "" if ids is None or row.get(ids) is None else str(row[ids])
        grouped.setdefault(found if step is not None else _own_id(found, index, grouped), []).append(row)
    if step is not None:
        for several in grouped.values():
            several.sort(key=lambda row, step=step: _whole(row.get(step)))  # type: ignore[misc]
    if (created := special["created"]) is not None:
        grouped = dict(sorted(grouped.items(), key=lambda item: _moment(item[1][0].get(created))))
    return _runs(path, grouped, special, step)


_SPECIAL = {"id": _ID, "name": _NAME, "state": _STATE, "created": _CREATED, "step": _STEP}


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix.lower() == ".csv":
            return list(pyarrow.csv.read_csv(path).to_pylist())
        return list(pyarrow.parquet.read_table(path).to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise AnalysisError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the dictionaries among its values laid out; what starts with an underscore in a config is W&B's own."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        inner = _dictionary(value) if name.lower() in _NESTED else None
        if inner is None:
            found[name] = None if isinstance(value, float) and math.isnan(value) and name.lower() in _NESTED else value
        else:
            found |= {name: one for name, one in _laid_out(inner, _NESTED[name.lower()]) if not name.startswith("config/_")}
    return found


def _dictionary(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, dict) else None
    return None


def _laid_out(named: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in named.items():
        if isinstance(value, dict):
            found += (
                [(f"{before}{name}", value["value"])] if set(value) <= {"value", "desc"} and value else _laid_out(value, f"{before}{name}/")
            )
        else:
            found.append((f"{before}{name}", value))
    return found


def _own_id(found: str, index: int, taken: Mapping[str, Any]) -> str:
    """A run's id; names in W&B may repeat."""
    return found if found and found not in taken else f"{found or 'row'} {index + 1}"


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def _moment(value: Any) -> float:
    """Seconds since 1970; 0 for what is no moment."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float):
        return float(value)
    try:
        return _moment(datetime.fromisoformat(str(value)))
    except ValueError:
        return 0.0


def _runs(path: Path, grouped: Mapping[str, list[dict[str, Any]]], special: Mapping[str, str | None], step: str | None) -> ForeignRuns:
    runs = ForeignRuns(str(path), path.stem, list(grouped))
    ends = [_ended(several) for several in grouped.values()]
    state, created = special["state"], special["created"]
    for row in ends:
        said = str((state and row.get(state)) or "finished").lower()
        runs.status.append(_STATUSES.get(said, UNFINISHED))
        moment = _moment(row.get(created)) if created else 0.0
        runs.ended.append(round(1000 * moment) if moment else None)
    runs.parents = [None] * len(ends)
    not_said = {name for name in special.values() if name is not None}
    columns = [name for name in dict.fromkeys(name for row in ends for name in row) if name not in not_said]
    measured = {name for name in columns if _is_measured(name, step, grouped)}
    for kind in ("metrics", "params"):
        runs.add(kind, [{name: row.get(name) for name in columns if (name in measured) == (kind == "metrics")} for row in ends])
    if step is not None:
        runs.history, runs.quick = _history(grouped, step), True
    return runs


def _ended(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last value of each column: W&B leaves those empty that a step did not log."""
    last: dict[str, Any] = {}
    for row in several:
        last |= {name: value for name, value in row.items() if value is not None or name not in last}
    return last


def _is_measured(name: str, step: str | None, grouped: Mapping[str, list[dict[str, Any]]]) -> bool:
    """Whether a column is a metric: by its name; in a table of steps also one that changes within a run."""
    if name.startswith("config/"):
        return False
    if name.startswith("_") or role(name) is not None:
        return True
    return step is not None and any(len({repr(row.get(name)) for row in several} - {"None"}) > 1 for several in grouped.values())


def _history(grouped: Mapping[str, list[dict[str, Any]]], step: str) -> Callable[[str, Sequence[str]], History]:
    def history(name: str, ids: Sequence[str]) -> History:
        points = [
            (index, _whole(row.get(step)), float(row[name]))
            for index, run_id in enumerate(ids)
            for row in grouped[run_id]
            if isinstance(row.get(name), int | float)
        ]
        indices, steps, values = zip(*points, strict=True) if points else ((), (), ())
        return np.array(indices, np.int64), np.array(steps, np.int64), np.array(values, float)

    return history
