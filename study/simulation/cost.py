"""What a finished study says of points like its own: which recorded point is nearest, and how long a point takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, expm1, inf, log
from typing import Any

import numpy as np

from analysis.records.fragments import fragments
from analysis.records.reader import load
from analysis.statistics.selection import SEEDS
from study.plan.packs import expected_seconds
from trainables.point.config import TrialConfig, field_types, flatten, with_fields
from trainables.point.errors import ConfigError
from trainables.point.key import KEY_VERSION

NEIGHBOURS = 8
"""Recorded points whose costs say what another costs, the nearer the more."""
_CLOSE = 1e-3
"""Distances below this count alike: points that differ in their seeds."""
_OTHER_SEED = 1e-6
FOLDS = 5


class RecordedCosts:
    """Finished points with their training times.

    Distances are Euclidean over the fields that vary among them, each scaled to [0, 1]: numbers by their range (of logarithms if
    they are positive and spread over more than a factor of ten, zero a decade below the least), all else 0 if equal and 1 if
    not. Seeds, of the subset and the corruption too, are no part of it; the point's own only parts equals.

    Args:
        rows: records by column: ``key``, ``status``, ``seconds`` and every config field.
        points: of the rows, where they are known already.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], points: Sequence[TrialConfig] | None = None) -> None:
        self.rows = list(rows)
        read = (with_fields(TrialConfig(), {name: row[name] for name in field_types()}) for row in rows)
        self.points = list(read if points is None else points)
        self._index_of = {row["key"]: index for index, row in enumerate(rows)}
        columns = {name: [row[name] for row in rows] for name in field_types() if name not in SEEDS}
        self._scales = {name: _Scale(values) for name, values in columns.items() if len(set(values)) > 1}
        self._same = {name: values[0] for name, values in columns.items() if len(set(values)) == 1}
        self._where = np.array([self._position(point) for point in self.points]).reshape(len(rows), -1)
        self._seeds = np.array([point.seed for point in self.points])
        self._costs: dict[tuple[float, ...], float] = {}

    @classmethod
    def read(cls, root: str, most: int | None = None) -> RecordedCosts:
        """Those under ``STORAGE/STUDY`` that completed or diverged, with keys of today's version.

        Args:
            most: of more than so many, those whose keys come first, which is at random.

        Raises:
            ConfigError: there are none.
        """
        columns = ["key", "status", "key_version", "seconds", "finished", *field_types()]
        rows = load(root, columns=columns).to_pylist() if fragments(root) else []
        usable = [row for row in rows if row["status"] in ("completed", "diverged") and row["key_version"] == KEY_VERSION]
        if not any(row["seconds"] for row in usable):
            raise ConfigError(f"--from: {root} holds no finished points (with keys of version {KEY_VERSION}) to learn from")
        return cls(sorted((row for row in usable if row["seconds"]), key=lambda row: str(row["key"]))[:most])

    def covers(self, point: TrialConfig) -> bool:
        """Whether the point lies among the recorded ones: numbers between the least and the greatest, all else as one of them."""
        fields = flatten(point)
        if any(fields[name] != value for name, value in self._same.items()):
            return False
        return all(scale.holds(fields[name]) for name, scale in self._scales.items())

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
        self._seen = frozenset(values)
        numbers = [value for value in values if isinstance(value, int | float)]
        self._ends = (min(numbers), max(numbers)) if numbers else (inf, -inf)
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

    def holds(self, value: Any) -> bool:
        """Whether a value is among those that were placed, or between them."""
        return value in self._seen or (isinstance(value, int | float) and self._ends[0] <= value <= self._ends[1])

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
    if not (folds := held_out(recorded)):
        return None
    singles = [np.abs(np.log(predicted / actual)) for fold in folds for predicted, actual in fold]
    totals = [sum(predicted.sum() for predicted, _ in fold) / sum(actual.sum() for _, actual in fold) - 1 for fold in folds]
    return BackTest(expm1(float(np.median(np.concatenate(singles)))), min(totals), max(totals))


HeldOut = tuple[np.ndarray, np.ndarray]
"""Seconds of a configuration's points, each of shape (seeds,): predicted from records of which it was none, and as recorded."""


def held_out(recorded: RecordedCosts) -> list[list[HeldOut]]:
    """Each of `FOLDS` parts of the recorded configurations (all seeds of one together), predicted from the rest; none if they are fewer."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(recorded.rows):
        groups.setdefault(tuple(row[name] for name in field_types() if name not in SEEDS), []).append(index)
    if len(groups) < FOLDS:
        return []
    order = np.random.default_rng(0).permutation(len(groups))
    members = list(groups.values())
    folds = []
    for fold in range(FOLDS):
        held = [members[number] for number in order[fold::FOLDS]]
        out = {index for group in held for index in group}
        others = [index for index in range(len(recorded.rows)) if index not in out]
        rest = RecordedCosts([recorded.rows[index] for index in others], [recorded.points[index] for index in others])
        predicted = [np.array([rest.seconds(recorded.points[index]) for index in group]) for group in held]
        actual = [np.array([recorded.rows[index]["seconds"] for index in group]) for group in held]
        folds.append(list(zip(predicted, actual, strict=True)))
    return folds
