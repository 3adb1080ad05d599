"""Points, and their results in a form to compare."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from trainables.point.config import TrialConfig, with_fields
from trainables.resolution import resolve
from trainables.training.loop import Result, Training

CPU = torch.device("cpu")


def point(fields: dict[str, Any]) -> TrialConfig:
    """The resolved point with these dotted fields."""
    return resolve(with_fields(TrialConfig(), fields))


def finish(training: Training) -> dict[str, Result]:
    """Every result that comes from now on, by key; each key once."""
    results: dict[str, Result] = {}
    while not training.finished:
        for result in training.epoch():
            assert result.key not in results
            results[result.key] = result
    return results


def train(points: Iterable[TrialConfig], slots: int | None = None, measures: Sequence[str] = ()) -> dict[str, Result]:
    """The results of the points as one pack."""
    return finish(Training(list(points), CPU, slots=slots, measures=measures))


def only(fields: dict[str, Any]) -> Result:
    """The result of the point with these dotted fields."""
    (result,) = train([point(fields)]).values()
    return result


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as it comes back from a file that need not be trusted."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def told(result: Result) -> tuple[Any, ...]:
    """All that a result says, less the time it took: two results are bit-equal when these are equal."""
    outcome = {name: value for name, value in result.outcome.items() if name != "seconds"}
    return result.key, result.status, result.reason, _comparable(outcome), [_comparable(row) for row in result.curve]


def alone(point: TrialConfig) -> tuple[Any, ...]:
    """What the point's result says when it trains by itself."""
    (result,) = train([point]).values()
    return told(result)


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: "nan" if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
