"""Which points a bisection of the number of training samples asks for.

Every cell of a spec (an assignment of its space, seed included) is bisected twice, on random labels (corruption level 1) and on true ones
(level 0). The sizes that can be asked for stand on one ladder, so that cells which are at the same step train in one pack, and a
finer or an interrupted bisection finds what an earlier one has recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log, log1p

import numpy as np

from search_spaces.space import Assignment, Space
from study.plan.left_open import LeftOpen
from study.spec.reading import Spec
from study.spec.sections import SearchSection
from trainables.data.corruption import classes_of
from trainables.data.sets.sources import load
from trainables.point.config import TrialConfig, with_fields
from trainables.point.errors import ConfigError
from trainables.point.fit import is_regression
from trainables.resolution import capacity, resolve

SIZE, LEVEL = "data.train_size", "corruption.level"
LEVELS = (1.0, 0.0)
"""Random labels, and true ones."""
KINDS = ("redraw", "random_signs")
"""The kinds of corruption of which level 1 draws every label uniformly over the classes."""
RESOLUTION = 0.1
"""By which share the smallest size that did not fit lies above the largest that did, at the end of a bisection."""

Fits = Mapping[str, bool]
"""Key -> whether the point fit, of all points that have ended."""


@dataclass(frozen=True)
class Track:
    """One cell with one kind of labels, and the sizes that its bisection can ask for, ascending."""

    assignment: Assignment
    sizes: tuple[int, ...]

    def at(self, index: int) -> Assignment:
        """The assignment with the size at that place of the ladder."""
        return self.assignment | {SIZE: self.sizes[index]}


def tracks_of(spec: Spec, resolution: float = RESOLUTION) -> list[Track]:
    """What of a spec is bisected.

    Args:
        spec: its own corruption levels are left out of account. Its trial's ``data.train_size`` is the largest size tried, all that the
            data has by default; the smallest is one sample a class.
        resolution: greater than 0; steps of the ladder are about this share of a size, and one sample at least.

    Raises:
        ConfigError: the spec's points cannot be bisected; the sentence says why.
    """
    if not 0 < resolution < float("inf"):
        raise ConfigError(f"--resolution is {resolution:g}: it is a share of n above 0, such as {RESOLUTION:g}")
    if spec.search.kind == "optuna":
        raise ConfigError("capacity bisects a grid, or drawn points: search.kind optuna chooses its points by what they give")
    if SIZE in spec.space.fields():
        raise ConfigError(f"space.{SIZE} is what capacity finds: leave it out; trial.{SIZE} is the largest number of samples tried")
    cells: dict[str, Assignment] = {}
    for assignment in replace(spec, space=spec.space.fixed({LEVEL: LEVELS[0]})).assignments():
        cells.setdefault(repr(sorted(assignment.items(), key=lambda item: item[0])), assignment)
    ladders = [(cell, _sizes(spec, cell, resolution)) for cell in cells.values()]
    return [Track(cell | {LEVEL: level}, sizes) for cell, sizes in ladders for level in LEVELS]


def _sizes(spec: Spec, cell: Assignment, resolution: float) -> tuple[int, ...]:
    """The ladder of a cell, which is checked first."""
    largest = resolve(with_fields(spec.trial, cell | {LEVEL: LEVELS[0]}))
    if largest.corruption.kind not in KINDS:
        raise ConfigError(
            f"corruption.kind is {largest.corruption.kind}, whose labels are not random at level 1: capacity takes {' or '.join(KINDS)}"
        )
    if is_regression(largest):
        raise ConfigError(f"capacity counts the random classes that are memorised, but the targets of {largest.data.name} are numbers")
    if largest.model.parameters_per_sample is not None:
        raise ConfigError("model.parameters_per_sample makes the network as large as the number of samples asks: set model.width instead")
    most = largest.data.train_size or 1
    fewest = min(most, classes_of(load(largest.data).classes, largest.corruption))
    if capacity(largest) != capacity(resolve(with_fields(largest, {SIZE: fewest}))):
        raise ConfigError(
            f"model.name is {largest.model.name}, whose parameters grow with the number of samples: it has no capacity of its own"
        )
    return ladder(fewest, most, resolution)


def ladder(fewest: int, most: int, resolution: float) -> tuple[int, ...]:
    """Sizes from the smallest to the largest, each about this share above the one before (rounded to whole samples), or by one sample.

    >>> ladder(2, 9, 0.5)
    (2, 3, 4, 6, 9)
    >>> ladder(7, 7, 0.5)
    (7,)
    >>> ladder(3, 6, 1e-12)
    (3, 4, 5, 6)
    """
    resolution = max(resolution, 0.5 / most)  # steps of less than half a sample find no further sizes, and are made one by one
    steps = ceil(log(most / fewest) / log1p(resolution) - 1e-9)
    return tuple(np.unique(np.rint(np.geomspace(fewest, most, steps + 1)).astype(int)).tolist())


@dataclass(frozen=True)
class Asked:
    """What bisections have asked for.

    Attributes:
        assignments: in the order in which they were asked for.
        missing: how many of their points have not ended.
    """

    assignments: list[Assignment]
    missing: int


def asked(tracks: Sequence[Track], trial: TrialConfig, left_open: LeftOpen, fits: Fits) -> Asked:
    """All that the bisections ask for by now: points that have ended, and of each bisection that is not at its end the next one.

    Both ends of a ladder are asked for first, so that there is always a run on true labels with all samples.

    Args:
        trial: what all points share.
        left_open: gives resolved points what the spec leaves open.
        fits: what is known of points that have ended.
    """
    found: list[Assignment] = []
    missing = 0
    brackets = [(0, len(track.sizes) - 1) for track in tracks]
    wanted: dict[int, tuple[int, ...]] = {number: (0, len(track.sizes) - 1) for number, track in enumerate(tracks)}
    while wanted:
        places = [(number, index) for number, indices in wanted.items() for index in dict.fromkeys(indices)]
        assignments = [tracks[number].at(index) for number, index in places]
        points = left_open.settled([resolve(with_fields(trial, one)) for one in assignments])
        fit = {place: fits.get(point.key()) for place, point in zip(places, points, strict=True)}
        found += assignments
        missing += sum(outcome is None for outcome in fit.values())
        following: dict[int, tuple[int, ...]] = {}
        for number, indices in wanted.items():
            outcomes = [fit[number, index] for index in indices]
            low, high = brackets[number]
            if None in outcomes or (len(indices) > 1 and outcomes != [True, False]):
                continue  # not known yet, or even the smallest size does not fit, or the largest does
            if len(indices) == 1:
                low, high = (indices[0], high) if outcomes[0] else (low, indices[0])
            brackets[number] = low, high
            if high - low > 1:
                following[number] = ((low + high) // 2,)
        wanted = following
    return Asked(found, missing)


def declared(spec: Spec, assignments: Sequence[Assignment], resolution: float) -> Spec:
    """The study of these points: ``STUDY-capacity``, which lists them."""
    text = f"# What gaplab capacity asked for, with --resolution {resolution:g}, of this spec:\n{spec.text}"
    space = Space({}, added=tuple(assignments))
    return replace(spec, study=study_name(spec), space=space, search=SearchSection(), text=text, published=None)


def study_name(spec: Spec) -> str:
    """The name of the study in which a spec's bisections are recorded."""
    return f"{spec.study}-capacity"
