"""Views of a study's experiment in MLflow's pages: what its charts and its table of runs show to whoever opens their link.

MLflow keeps a saved view as a tag of the experiment (`mlflow.sharedViewState.KEY`), which its pages make and read; a tracking store
does not look into it, and pages that do not know the form ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.statistics.tasks import named

TAG = "mlflow.sharedViewState."
GAP, POINTS = "gaplab-gap", "gaplab-points"
"""The keys of the two views, as links name them."""
_SHARED: dict[str, Any] = {
    "searchFilter": "",
    "orderByKey": "attributes.start_time",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "runsHiddenMode": "SHOW_ALL",
    "isAccordionReordered": True,  # the order of sections is the view's
}
_COLUMNS = ("generalization_gap", "train_error", "test_error", "parameters_per_sample", "epochs")
_LEARNING = ("train_error", "test_error")
_LARGEST_SERIES = 32
"""Series that one chart can tell apart."""


def views(curves: Mapping[str, Sequence[str]], moment: int, *, regression: bool = False) -> dict[str, str]:
    """The experiment's tags of both views.

    Args:
        curves: by title, metrics of the study's run that are drawn in one chart, over capacity.
        moment: when they are made, in milliseconds since 1970.
        regression: whether the points' errors are those of regression.
    """
    columns, shown = (named(some, regression=regression) for some in (_COLUMNS, _LEARNING))
    study = [
        _card("LINE", f"gaplab-{index}", "gaplab-study") | _series(title, list(names)[:_LARGEST_SERIES])
        for index, (title, names) in enumerate(curves.items())
    ]
    scatter = _card("SCATTER", "gaplab-scatter", "gaplab-points") | {
        "displayName": "Gap against parameters per sample",
        "xaxis": {"key": "parameters_per_sample", "type": "METRIC"},
        "yaxis": {"key": columns[0], "type": "METRIC"},
    }
    learning = [_card("LINE", f"gaplab-{name}", "gaplab-points") | {"metricKey": name, "selectedMetricKeys": [name]} for name in shown]
    by_group = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "gaplab.group"}]}
    points = {
        "searchFilter": "tags.`gaplab.kind` = 'point'",
        "groupBy": by_group,
        "useGroupedValuesInCharts": True,
        "selectedColumns": [f"metrics.`{name}`" for name in columns],
    }
    return {
        TAG + GAP: _saved("Gap by capacity", moment, study, _section("gaplab-study", "Study")),
        TAG + POINTS: _saved("Points, averaged over seeds", moment, [scatter, *learning], _section("gaplab-points", "Points"), points),
    }


def link(experiment_id: str, view: str = GAP, server: str = "") -> str:
    """The page of an experiment with one of the views: charts, or for `POINTS` the table."""
    mode = "TABLE" if view == POINTS else "CHART"
    page = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{page}?workflowType=machine_learning&compareRunsMode={mode}&viewStateShareKey={view}"


def _card(kind: str, identifier: str, section: str) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": identifier,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def _series(title: str, metrics: Sequence[str]) -> dict[str, Any]:
    """What a card says of metrics whose step is a capacity."""
    return {
        "displayName": title,
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "xAxisKey": "step",
        "xAxisScaleType": "log",
        "useGlobalXaxisKey": False,
        "displayPoints": True,
        "lineSmoothness": 0,
    }


def _section(identifier: str, name: str) -> dict[str, Any]:
    shown = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return {"uuid": identifier, "name": name, "columns": 2, "cardHeight": 420} | shown


def _saved(name: str, moment: int, cards: Sequence[Any], section: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> str:
    state = _SHARED | {"groupBy": None, "compareRunCharts": list(cards), "compareRunSections": [section]} | dict(more or {})
    compact = json.dumps(state, separators=(",", ":"))
    return json.dumps({"name": name, "createdAt": moment, "updatedAt": moment, "state": compact}, separators=(",", ":"))
