"""The plan of a study: all that its run, its status and its report need to know of the spec."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from analysis.records.schema import FINAL
from analysis.records.store import study_root
from study.plan.left_open import LeftOpen
from study.plan.packs import expected_seconds
from study.plan.points import declared_points
from study.plan.sources import read_sources
from study.records.chosen import Chosen
from study.records.folder import read_recorded
from study.records.networks import NETWORK, kept_networks
from study.search.plan import CellPlan, SearchPlan, plan_search
from study.spec.kept import Kept
from study.spec.reading import Spec
from study.spec.sections import Resources, TrackingSection
from trainables.data.sets.sources import load
from trainables.point.config import IMAGE_FILES, TrialConfig, flatten, with_fields
from trainables.point.errors import ConfigError
from trainables.point.fit import is_regression
from trainables.resolution import Point, resolve


@dataclass(frozen=True)
class Plan:
    """A study as planned.

    Attributes:
        storage: the folder or URI given for all studies.
        root: ``STORAGE/STUDY``, where everything of the study lies.
        text: the YAML that declares it.
        source: the file that declares it, if any.
        varied: the fields of the space.
        points: every declared point, resolved, each key once; a search has none.
        search: what is searched, if anything is.
        sources: the user's own modules, path -> text.
        measures: of every trained network, by name.
        tracking: whether and how results are mirrored to MLflow.
        keeps: of which points the trained network is kept.
        recorded: key -> status, of everything recorded under `root` with the measures; empty until `with_records`.
        chosen: what was chosen of that which the spec leaves open (see `study.records.chosen`).
        told: in sentences, what a probe has chosen just now.
        pending: in sentences, what a run would choose first.
        unmeasured: key -> those measures that a completed point was recorded without, or `NETWORK`.
    """

    study: str
    storage: str
    root: str
    text: str
    source: Path | None
    varied: frozenset[str]
    points: tuple[Point, ...]
    search: SearchPlan | None
    sources: Mapping[str, str]
    measures: tuple[str, ...]
    resources: Resources
    tracking: TrackingSection
    keeps: Kept | None = None
    chosen: Chosen = field(default_factory=dict)
    told: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    recorded: Mapping[str, str] = field(default_factory=dict)
    unmeasured: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def keys(self) -> frozenset[str]:
        """The keys of the declared points, with what was chosen of that which the spec leaves open.

        Raises:
            ConfigError: the study is a search, which chooses its points as it goes.
        """
        if self.search:
            raise ConfigError("search.kind optuna chooses its points as it goes: they cannot be listed beforehand")
        return frozenset(point.key for point in self.points)

    def with_records(self) -> Plan:
        """The plan with what is recorded now.

        Raises:
            ConfigError: the storage cannot be read.
        """
        found = read_recorded(self.root, self.measures)
        recorded, unmeasured = dict(found.measured), dict(found.unmeasured)
        if self.keeps:
            kept = kept_networks(self.root)
            for point in self.points:
                if recorded.get(point.key) == "completed" and self.keeps(point.config) and point.key not in kept:
                    del recorded[point.key]
                    unmeasured[point.key] = frozenset({NETWORK})
        return replace(self, recorded=recorded, unmeasured=unmeasured)

    def by_measures(self, points: Iterable[Point]) -> dict[tuple[str, ...], list[Point]]:
        """The points by the measures that each is to be trained for: all, or those that it was recorded without."""
        groups: dict[tuple[str, ...], list[Point]] = {}
        for point in points:
            lacking = self.unmeasured.get(point.key)
            names = self.measures if lacking is None else tuple(name for name in self.measures if name in lacking)
            groups.setdefault(names, []).append(point)
        return groups

    def trained_again(self, points: Iterable[Point]) -> list[str]:
        """Say in sentences how many of the points are trained again, and for which measures."""
        counts = Counter(", ".join(sorted(self.unmeasured[point.key])) for point in points if point.key in self.unmeasured)
        return [f"{count:,} points are trained again for {names}" for names, count in sorted(counts.items())]

    def unrecorded(self, points: Iterable[Point]) -> list[Point]:
        """Those of the points that have no final record."""
        return [point for point in points if self.recorded.get(point.key) not in FINAL]

    @property
    def missing(self) -> list[Point]:
        """The declared points that have no final record."""
        return self.unrecorded(self.points)

    @property
    def missing_seconds(self) -> float:
        """What the missing points take on one core if each spends all its epochs, in order of magnitude."""
        return sum(expected_seconds(point.config) for point in self.missing)


def plan_study(
    spec: Spec, storage: str, progress: Callable[[int], None] = lambda done: None, probing: Callable[[], None] | None = None
) -> Plan:
    """The plan of a study, without its records.

    Args:
        storage: local folder or URI; everything of the study lies under ``storage/STUDY``.
        progress: called with the number of points that are resolved.
        probing: called before what the spec leaves open is probed; without it nothing is, and points whose fields nobody has chosen yet
            have the defaults.

    Raises:
        ConfigError: a point cannot be run, or a search not be done; nothing is started or written.
    """
    sources = read_sources(spec)
    root = study_root(storage, spec.study)
    left_open = LeftOpen(spec, root, sources, probing)
    search = plan_search(spec) if spec.search.kind == "optuna" else None
    if search:
        _check_together(spec, [spec.trial])
        _check_searched(search.cells)
        search = replace(search, cells=_settled_cells(search.cells, left_open))

    def settled(points: list[TrialConfig]) -> list[TrialConfig]:
        _check_together(spec, points)  # before anything is probed
        return left_open.settled(points)

    points = [] if search else declared_points(spec, progress, settled)
    return Plan(
        study=spec.study,
        storage=storage,
        root=root,
        text=spec.text,
        source=spec.source,
        varied=frozenset(spec.space.fields()),
        points=tuple(points),
        search=search,
        sources=sources,
        measures=spec.measures,
        resources=spec.resources,
        tracking=spec.tracking,
        keeps=spec.keeps,
        chosen=left_open.chosen,
        told=tuple(left_open.told),
        pending=tuple(left_open.pending),
    )


def _settled_cells(cells: tuple[CellPlan, ...], left_open: LeftOpen) -> tuple[CellPlan, ...]:
    """The cells of a search, whose suggestions share what is chosen for the cell's trial; as they are where a trial cannot stand alone."""
    try:
        settled = left_open.settled([resolve(cell.trial) for cell in cells])
    except ConfigError:
        return cells
    chosen = [{field: flatten(trial)[field] for field in left_open.fields} for trial in settled]
    return tuple(replace(cell, trial=with_fields(cell.trial, values)) for cell, values in zip(cells, chosen, strict=True))


def _check_searched(cells: tuple[CellPlan, ...]) -> None:
    """Raise ConfigError for a search on numbers: what it minimises and prunes by is the error of classes."""
    if numbers := [cell.trial.data.name for cell in cells if load(cell.trial.data).is_regression]:
        raise ConfigError(
            f"search.kind optuna minimises a classification error, but the targets of {numbers[0]} are numbers: declare a grid, or "
            "random draws"
        )


def _check_together(spec: Spec, trials: Collection[TrialConfig]) -> None:
    """Raise ConfigError for what the spec asks for beside points that do not go with it."""
    if not spec.resources.gpus and any(trial.precision == "tf32" for trial in trials):
        raise ConfigError("precision tf32 is a format of GPUs, and resources.gpus is 0: set resources.gpus, or precision float32")
    numbers = [trial.data.name for trial in trials if is_regression(trial)]
    if numbers and spec.measures:
        raise ConfigError(f"measures are of classifiers, and the targets of {numbers[0]} are numbers: leave out {', '.join(spec.measures)}")
    if numbers and "cross_entropy" in spec.named_losses:
        raise ConfigError(
            f"optimizer.loss is cross_entropy, which is for classes, but the targets of {numbers[0]} are numbers: leave it out, or "
            "name squared"
        )
    on_files = {trial.data.name.startswith(IMAGE_FILES) for trial in trials}
    if spec.resources.processes and False in on_files:
        raise ConfigError("resources.processes is for data from image files (imagefolder: or webdataset:): leave it out")
    if spec.measures and True in on_files:
        raise ConfigError(f"measures need the training images in memory, which image files are not: leave out {', '.join(spec.measures)}")
