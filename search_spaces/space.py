"""A space: axes crossed with each other, axes that move together, points added and excluded by hand.

A space knows nothing of points: it yields assignments ``{dotted field: value}``, which a study applies to its trial.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search_spaces.axes import Axis, Distribution, Values
from search_spaces.conditional import Condition, check_conditions, settled, under
from trainables.point.errors import ConfigError

Assignment = dict[str, Any]

MOST_POINTS = 10_000_000
"""Points of one study at most: more is a slip, and would take for ever to list."""


@dataclass(frozen=True)
class Space:
    """What varies in a study.

    Attributes:
        axes: field -> axis; listed axes are crossed.
        zipped: groups of fields whose listed axes move together, all of one length.
        added: assignments that join the grid; without axes they are all there is.
        excluded: assignments; a point that agrees with one in all its fields is dropped.
        conditions: field -> when its axis is in force (see `search_spaces.conditional`).
        switches: axes that are no fields: only conditions ask for them.

    Raises:
        ConfigError: the parts do not fit together.
    """

    axes: dict[str, Axis]
    zipped: tuple[dict[str, Values], ...] = ()
    added: tuple[Assignment, ...] = ()
    excluded: tuple[Assignment, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    switches: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for group in self.zipped:
            lengths = {name: len(axis.values) for name, axis in group.items()}
            if len(set(lengths.values())) > 1:
                raise ConfigError(f"space.zip moves fields together, but their lists differ in length: {lengths}")
        crossed: list[Mapping[str, Axis]] = [self.axes, *self.zipped]
        names = [name for part in crossed for name in part]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"space names {', '.join(sorted(twice))} twice: a field has one axis")
        if fixed := {name for pattern in self.excluded for name in pattern} - self.fields():
            raise ConfigError(f"space.exclude names {', '.join(sorted(fixed))}, which the space does not vary: it would exclude nothing")
        check_conditions({name: axis for part in crossed for name, axis in part.items()}, self.conditions, self.switches)

    def fields(self) -> set[str]:
        """Collect every field that the space sets."""
        parts: list[Mapping[str, Any]] = [self.axes, *self.zipped, *self.added]
        return {name for part in parts for name in part} - set(self.switches)

    def distributions(self) -> dict[str, Distribution]:
        """Select the random axes."""
        return {name: axis for name, axis in self.axes.items() if isinstance(axis, Distribution)}

    def fixed(self, values: Assignment) -> Space:
        """Return the space in which these fields have one value and no longer vary.

        >>> Space({"seed": Values((0, 1))}, excluded=({"seed": 1},)).fixed({"seed": 2})
        Space(axes={}, zipped=(), added=(), excluded=(), conditions={}, switches=())
        """

        def others(part: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in part.items() if name not in values}

        zipped = tuple(rest for group in self.zipped if (rest := others(group)))
        excluded = tuple(others(pattern) for pattern in self.excluded if all(values.get(name, own) == own for name, own in pattern.items()))
        conditions, barred = under(self.conditions, values)
        asked = {parent for condition in conditions.values() for parent in condition}
        switches = tuple(name for name in self.switches if name in asked)
        idle = set(self.switches) - set(switches)
        axes = {name: axis for name, axis in others(self.axes).items() if name not in barred | idle}
        return Space(axes, zipped, tuple(map(others, self.added)), excluded, conditions, switches)

    def assignments(self, draws: list[Assignment] | None = None) -> Iterator[Assignment]:
        """List the grid (each of its points with each draw of the random axes), then the added points, without the excluded.

        Raises:
            ConfigError: they are more than MOST_POINTS.

        >>> space = Space({"seed": Values((0, 1))}, excluded=({"seed": 1},))
        >>> list(space.assignments())
        [{'seed': 0}]
        """
        groups: list[list[Assignment]] = [draws if draws is not None else [{}]]
        groups += [[{name: value} for value in axis.values] for name, axis in self.axes.items() if isinstance(axis, Values)]
        groups += [_moving_together(group) for group in self.zipped]
        if self.added and not (self.axes or self.zipped):
            groups = [[]]  # points listed by hand are all there is
        size = math.prod(len(group) for group in groups) + len(self.added)
        if size > MOST_POINTS:
            raise ConfigError(f"the space has {size:,} points: a study takes at most {MOST_POINTS:,}")
        grid: Iterator[Assignment] = (
            {name: value for part in parts for name, value in part.items()} for parts in itertools.product(*groups)
        )
        for assignment in itertools.chain(grid, self.added):
            assigned = settled(assignment, self.conditions, self.switches)
            if not any(_agrees(assigned, excluded) for excluded in self.excluded):
                yield assigned


def _moving_together(group: dict[str, Values]) -> list[Assignment]:
    return [dict(zip(group, values, strict=True)) for values in zip(*(axis.values for axis in group.values()), strict=True)]


def _agrees(assignment: Assignment, pattern: Assignment) -> bool:
    return all(name in assignment and assignment[name] == value for name, value in pattern.items())


def draw(distributions: dict[str, Distribution], samples: int, seed: int, *, quasi_random: bool) -> list[Assignment]:
    """Draw `samples` assignments of the random axes: independent ones, or a scrambled Sobol sequence (Owen 1998, by SciPy).

    The first draws of a longer list are those of a shorter one, so a study can be extended.
    """
    if not distributions:
        raise ConfigError("search draws at random, but the space has no random axis: add uniform, log_uniform, int or choice")
    if quasi_random:
        from scipy.stats import qmc

        power = max(0, (samples - 1).bit_length())
        quantiles = qmc.Sobol(len(distributions), rng=np.random.default_rng(seed)).random_base2(power)[:samples]
    else:
        quantiles = np.random.default_rng(seed).random((samples, len(distributions)))
    below_one = np.nextafter(1.0, 0.0)
    return [
        {name: axis.at(min(float(quantile), below_one)) for (name, axis), quantile in zip(distributions.items(), row, strict=True)}
        for row in quantiles
    ]
