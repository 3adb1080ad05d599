"""How a study runs.

>>> import study
>>> spec = study.read_spec("gap-vs-capacity", ("replicates=1", "space={corruption.level: {values: [0, 1]}}"))
>>> len(spec.assignments())
2

``study.run(spec, storage="results")`` says the same as ``gaplab run``. On its way every stage takes the frozen product of the one
before: the spec (`study.spec`), its plan (`study.plan`), the run (`study.launch`, which trains, searches with `study.search`, and
writes `study.records`), the mirror and the report.
"""

from __future__ import annotations

import importlib
from typing import Any

from study.packages import hidden_here

__all__ = ["Progress", "Spec", "Summary", "attribute_study", "measure_capacity", "plan_study", "read_spec", "run", "sync", "understand"]
_HOMES = {
    **dict.fromkeys(("read_spec", "understand", "Spec"), "spec.reading"),
    "plan_study": "plan.plan",
    "run": "launch.run",
    "attribute_study": "attribution.rounds",
    "measure_capacity": "capacity.rounds",
    "Summary": "launch.summary",
    "sync": "launch.mirroring",
    "Progress": "launch.progress",
}


def __getattr__(name: str) -> Any:
    """Loaded at first use: ``gaplab --help`` must not wait for Ray, nor `analysis` for the planner."""
    if name not in _HOMES:
        raise AttributeError(f"module 'study' has no attribute {name!r}")
    if hidden := hidden_here():
        raise ImportError(hidden)
    return getattr(importlib.import_module(f"study.{_HOMES[name]}"), name)
