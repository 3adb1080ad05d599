"""What a finished study says of points like its own: which recorded point is nearest, and how long a point takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, expm1, log
from typing import Any

import numpy as np

from analysis.records.fragments import fragments
from analysis.records.reader import load
from study.plan.packs import expected_seconds
from trainables.point.config import TrialConfig, field_types, flatten, with_fields
from trainables.point.errors import ConfigError
from trainables.point.key import KEY_VERSION

NEIGHBOURS = 8
"""RecordedCosts points whose costs say what another costs, the nearer the more."""
_CLOSE = 1e-3
"""Distances below this count alike: points that differ in their seeds."""
_OTHER_SEED = 1e-6
FOLDS = 5


class RecordedCosts:
    """Finished points with their training times.

    Distances are Euclidean over the fields that vary among them, each scaled to [0, 1]: numbers by their range (of logarithms if
    they are positive and spread over more than a factor of ten, zero a decade below the least), all else 0 if equal and 1 if
    not. The seed only parts equals.

    Args:
        rows: records by column: ``key``, ``status``, ``seconds`` and every config field.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = list(rows)
        self.points = [with_fields(TrialConfig(), {name: row[name] for name in field_types()}) for row in rows]
        self._index_of = {row["key"]: index for index, row in enumerate(rows)}
        columns = {name: [row[name] for row in rows] for name in field_types() if name != "seed"}
        self._scales = {name: _Scale(values) for name, values in columns.items() if len(set(values)) > 1}
        self._where = np.array([self._position(point) for point in self.points]).reshape(len(rows), -1)
        self._seeds = np.array([point.seed for point in self.points])
        self._costs: dict[tuple[float, ...], float] = {}

    @classmethod
    def read(cls, root: str) -> RecordedCosts:
        """Those under ``STORAGE/STUDY`` that completed or diverged, with keys of today's version.

        Raises:
            ConfigError: there are none.
        """
        columns = ["key", "status", "key_version", "seconds", "finished", *field_types()]
        rows = load(root, columns=columns).to_pylist() if fragments(root) else []
        usable = [row for row in rows if row["status"] in ("completed", "diverged") and row["key_version"] == KEY_VERSION]
        if not any(row["seconds"] for row in usable):
            raise ConfigError(f"--from: {root} holds no finished points (with keys of version {KEY_VERSION}) to learn from")
        return cls([row for row in usable if row["seconds"]])

    def nearest(self, point: TrialConfig, key: str) -> tuple[str, bool]:
        """The key of the recorded point that is nearest, and whether it is the point itself."""
        if key in self._index_of:
            return key, True
        distances = self._distances(point) + _OTHER_SEED * (self._seeds != point.seed)
        return self.rows[int(distances.argmin())]["key"], False

    def seconds(self, point: TrialConfig, key: str | None = None) -> float:
        """Training time: the recorded one, or the `NEIGHBOURS`' in proportion to what each was expected to take, geometric mean."""
        if key in self._index_of:
            return float(self.rows[self._index_of[key]]["seconds"])
        position = (*self._position(point), expected_seconds(point))
        if position not in self._costs:
            distances = np.maximum(self._distances(point), _CLOSE)
            near = np.argsort(distances, kind="stable")[:NEIGHBOURS]
            self._costs[position] = exp(np.average(self._pace[near], weights=distances[near] ** -2.0)) * position[-1]
        return self._costs[position]

    @cached_property
    def _pace(self) -> np.ndarray:
        """Logarithm of recorded over expected seconds, (points,)."""
        return np.array([log(row["seconds"] / expected_seconds(point)) for row, point in zip(self.rows, self.points, strict=True)])

    def _position(self, point: TrialConfig) -> list[float]:
        fields = flatten(point)
        return [scale.position(fields[name]) for name, scale in self._scales.items()]

    def _distances(self, point: TrialConfig) -> np.ndarray:
        off = self._where - np.array(self._position(point))
        unlike = np.array([not scale.numeric for scale in self._scales.values()], dtype=bool)
        off[:, unlike] = off[:, unlike] != 0
        return np.asarray(np.sqrt((off**2).sum(1)))


class _Scale:
    """Places the values of a field: numbers in about [0, 1], other values at whole numbers that only tell equal from unequal."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        self._names: dict[Any, int] = {}
        if self.numeric:
            positive = [value for value in values if value > 0]
            self._log = min(values) >= 0 and bool(positive) and max(positive) > 10 * min(positive)
            self._least = log(min(positive)) - log(10) if self._log else 0.0
            raw = [self._raw(value) for value in values]
            self._low, self._range = min(raw), max(raw) - min(raw)

    def position(self, value: Any) -> float:
        if not self.numeric:
            return float(self._names.setdefault(value, len(self._names)))
        return 1.0 if value is None else (self._raw(value) - self._low) / self._range

    def _raw(self, value: float) -> float:
        if not self._log:
            return float(value)
        return log(value) if value > 0 else self._least


@dataclass(frozen=True)
class BackTest:
    """How far predicted costs were off for configurations that were held out, in fractions of the recorded ones.

    Attributes:
        point: of a single point, median of absolute values.
        low, high: of the total of a fold, the least and the greatest.
    """

    point: float
    low: float
    high: float


def back_test(recorded: RecordedCosts) -> BackTest | None:
    """Predict each fifth of the recorded configurations (all seeds of one together) from the rest; None if there are not five."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(recorded.rows):
        groups.setdefault(tuple(row[name] for name in field_types() if name != "seed"), []).append(index)
    if len(groups) < FOLDS:
        return None
    order = np.random.default_rng(0).permutation(len(groups))
    members = list(groups.values())
    singles: list[float] = []
    totals: list[float] = []
    for fold in range(FOLDS):
        held = {index for number in order[fold::FOLDS] for index in members[number]}
        rest = RecordedCosts([row for index, row in enumerate(recorded.rows) if index not in held])
        predicted = np.array([rest.seconds(recorded.points[index]) for index in sorted(held)])
        actual = np.array([recorded.rows[index]["seconds"] for index in sorted(held)])
        singles += list(np.abs(np.log(predicted / actual)))
        totals.append(predicted.sum() / actual.sum() - 1)
    return BackTest(expm1(float(np.median(singles))), min(totals), max(totals))
