"""Folders of Ray Tune's results: a folder a trial, with `result.json`, a line a report, and `params.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import AnalysisError, NothingToShow
from analysis.records.foreign.runs import UNFINISHED, ForeignRuns, History

STEP = "training_iteration"
_STATUSES = {"TERMINATED": "completed", "ERROR": "failed"}
_ABOUT = ("done", "trial_id", "experiment_id", "experiment_tag", "date", "hostname", "node_ip", "pid", "timestamp", "should_checkpoint")
"""What Tune says of the trial in each report, and is neither measured nor set."""


def tune_runs(folder: Path) -> ForeignRuns:
    """The trials below a folder, the oldest first, each with its last report.

    Raises:
        NothingToShow: there is no trial.
        AnalysisError: a file is no result of Tune's.
    """
    trials = sorted(path.parent for path in folder.rglob("result.json"))
    if not trials:
        raise NothingToShow(f"there is no result.json of Tune's below {folder}, and it is no CSV or Parquet table")
    states = _states(folder)
    found = []
    for trial in trials:
        reports = list(_reports(trial / "result.json"))
        if reports or (trial / "error.txt").exists():
            found.append((trial, _params(trial, reports), reports))
    found.sort(key=lambda one: (_begun(one[2]), one[0].name))
    runs = ForeignRuns(f"folder {folder}", folder.resolve().name)
    for trial, _, reports in found:
        last = reports[-1] if reports else {}
        runs.ids.append(str(last.get("trial_id") or trial.name))
        runs.status.append(_status(trial, last, states))
        runs.ended.append(1000 * int(last["timestamp"]) if isinstance(last.get("timestamp"), int | float) else None)
    if len(set(runs.ids)) < len(runs.ids):  # folders of several experiments
        runs.ids = [str(trial.relative_to(folder)) for trial, _, _ in found]
    runs.parents = [None] * len(found)
    runs.add("params", [{f"config/{name}": value for name, value in params.items()} for _, params, _ in found])
    runs.add("metrics", [_measured(reports[-1]) if reports else {} for _, _, reports in found])
    by_id = {run_id: reports for run_id, (_, _, reports) in zip(runs.ids, found, strict=True)}

    def history(name: str, ids: Sequence[str]) -> History:
        points = [
            (index, int(report.get(STEP, line + 1)), float(report[name]))
            for index, run_id in enumerate(ids)
            for line, report in enumerate(by_id[run_id])
            if isinstance(report.get(name), int | float)
        ]
        indices, steps, values = zip(*points, strict=True) if points else ((), (), ())
        return np.array(indices, np.int64), np.array(steps, np.int64), np.array(values, float)

    runs.history, runs.quick = history, True
    return runs


def _reports(path: Path) -> Iterator[dict[str, Any]]:
    """The reports of a trial, flat. A last line that a kill cut off is left out."""
    lines = path.read_text(errors="replace").splitlines()
    for index, line in enumerate(lines):
        try:
            report = json.loads(line)
        except ValueError:
            if index == len(lines) - 1:
                return
            raise AnalysisError(f"{path}, line {index + 1}, is no report of Tune's: it is no JSON") from None
        if not isinstance(report, dict):
            raise AnalysisError(f"{path}, line {index + 1}, is no report of Tune's")
        yield dict(_flat(report))


def _flat(report: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in report.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}/")
        else:
            yield f"{before}{name}", value


def _params(trial: Path, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the trial was given: `params.json`, or else what its reports say."""
    try:
        return dict(_flat(json.loads((trial / "params.json").read_text())))
    except (OSError, ValueError):
        last = reports[-1] if reports else {}
        return {name.removeprefix("config/"): value for name, value in last.items() if name.startswith("config/")}


def _measured(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if not name.startswith("config/") and name not in _ABOUT and _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _begun(reports: Sequence[Mapping[str, Any]]) -> float:
    if not reports or not _is_number(reports[0].get("timestamp")):
        return 0.0
    return float(reports[0]["timestamp"]) - float(reports[0].get("time_total_s") or 0)


def _states(folder: Path) -> dict[str, str]:
    """What Tune's latest own notes say of each trial."""
    states: dict[str, str] = {}
    for path in sorted(folder.rglob("experiment_state-*.json")):
        try:
            for trial, *_ in json.loads(path.read_text())["trial_data"]:
                said = json.loads(trial)
                states[said["trial_id"]] = said["status"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # they are internal to Tune; the reports say what was measured
    return states


def _status(trial: Path, last: Mapping[str, Any], states: Mapping[str, str]) -> str:
    if (trial / "error.txt").exists():
        return "failed"
    state = states.get(str(last.get("trial_id")), "TERMINATED")
    return "completed" if last.get("done") else _STATUSES.get(state, UNFINISHED)
