"""The report's part about a search: what it found in each cell, and Optuna's figures of how."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from analysis.errors import NothingToShow
from analysis.figures.search import search_figures
from analysis.records.mlflow import MLFLOW
from analysis.statistics.questions.tuning import ablation_table, compared_runs, optuna_studies

if TYPE_CHECKING:
    import optuna

_SLICE, _COORDINATE = 220, 90
"""The least width in pixels of one of Optuna's slices, and of one of its parallel coordinates."""


@dataclass(frozen=True)
class OptunaFigure:
    """One of Optuna's figures: what plotly.js takes, and the pixels that it needs at least."""

    title: str
    figure: dict[str, Any]
    height: int
    width: int


@dataclass(frozen=True)
class SearchedCell:
    """The search of one cell of the grid.

    Attributes:
        title: its fields, or the study's name for a search without a grid.
        best: rows of objective values and chosen parameters: the best suggestion, or those of the Pareto front.
        figures: in the order of `analysis.search_figures`.
    """

    title: str
    objectives: list[str]
    best: list[list[Any]]
    figures: list[OptunaFigure]


def searched_cells(source: str, spec: str | None) -> list[SearchedCell]:
    """The cells of a study that is a search, as far as they have completed trials; empty for one that is none.

    Args:
        source: as for `analysis.load`; Optuna's trials are found from a study's folder only.
        spec: the text of its spec.
    """
    if source.startswith(MLFLOW):
        return []
    cells = []
    storage = _storage(spec)
    try:
        studies = optuna_studies(source, storage)
    except NothingToShow as error:
        if storage != "journal":
            warnings.warn(f"{error}: the report shows the records, and no trials of the search", stacklevel=2)
        return []
    for study in studies:
        with suppress(NothingToShow):
            cells.append(_cell(study))
    return cells


def ablation_rows(source: str) -> list[list[Any]]:
    """Rows of cell, variant, seeds, those that fit, test error and its interval's ends, difference to the tuned point and its interval's
    ends, and Holm's p; no rows for a study without such a comparison."""
    if source.startswith(MLFLOW):
        return []
    try:
        table = ablation_table(compared_runs(source))
    except NothingToShow:
        return []
    rows = []
    for row in table.to_pylist():
        own = [row[name] for name in ("cell", "variant", "seeds", "fit", "test_error", "test_error.low", "test_error.high")]
        difference = None if row["difference"] is None else round(row["difference"], 9) + 0.0  # a difference of means of equals
        rows.append([*own, difference, row["difference.low"], row["difference.high"], row["p.holm"]])
    return rows


def _storage(spec: str | None) -> str:
    """Where the trials of the search are kept, as its spec says; the journal in its folder by default."""
    try:
        storage = YAML(typ="safe", pure=True).load(spec or "")["search"]["storage"]
    except (YAMLError, TypeError, KeyError, ValueError, RecursionError):  # no spec: what follows says whether there is a journal
        return "journal"
    return storage if isinstance(storage, str) else "journal"


def _cell(study: optuna.Study) -> SearchedCell:
    fields = study.user_attrs.get("cell") or {}
    title = ", ".join(f"{name} = {value}" for name, value in fields.items()) or study.study_name
    objectives = study.user_attrs.get("objectives") or ["objective"]
    drawn = [_optuna_figure(study, name, figure) for name, figure in search_figures(study).items()]
    with suppress(ValueError):  # no trial keeps to the constraints
        front = sorted(study.best_trials, key=lambda trial: trial.values)
        return SearchedCell(title, objectives, [_chosen(trial) for trial in front], drawn)
    return SearchedCell(title, objectives, [], drawn)


def _chosen(trial: optuna.trial.FrozenTrial) -> list[Any]:
    chosen = (f"{name} = {value:.3g}" if isinstance(value, float) else f"{name} = {value}" for name, value in trial.params.items())
    return [trial.number, *trial.values, ", ".join(chosen)]


def _optuna_figure(study: optuna.Study, title: str, figure: Any) -> OptunaFigure:
    """One of Optuna's figures without the template and size of a page of its own; parameters go by the last part of their names."""
    plain = json.loads(figure.to_json())
    own = ("template", "title", "width", "height")
    layout = {"xaxis": {}, "yaxis": {}} | {name: value for name, value in plain["layout"].items() if name not in own}
    axes = [layout[name] | {"automargin": True} for name in layout if name.startswith(("xaxis", "yaxis"))]
    layout |= dict(zip([name for name in layout if name.startswith(("xaxis", "yaxis"))], axes, strict=True))
    names = sorted({name for trial in study.trials for name in trial.params})
    for axis in axes:
        axis["title"] = {"text": _short(axis.get("title", {}).get("text", ""), names)}
        if "ticktext" in axis:
            axis["ticktext"] = [_short(text, names) for text in axis["ticktext"]]
    for trace in plain["data"]:
        if trace.get("type") == "bar":
            trace["y"] = [_short(text, names) for text in trace["y"]]
    slices, coordinates = sum(name.startswith("xaxis") for name in layout), len(layout["xaxis"].get("ticktext", ()))
    return OptunaFigure(
        title, {"data": plain["data"], "layout": layout}, figure.layout.height or 380, max(_SLICE * slices, _COORDINATE * coordinates)
    )


def _short(text: str, names: list[str]) -> str:
    """The last part of a parameter's dotted name, which may have been cut (``optimizer.lear...``)."""
    whole = next((name for name in names if text == name or (text.endswith("...") and name.startswith(text[:-3]))), None)
    return whole.rpartition(".")[2].replace("_", " ") if whole else text
