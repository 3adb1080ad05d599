"""Which points the attribution of a spec asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.attribution.left_out import LeaveOut
from analysis.attribution.memory import check_memory
from analysis.attribution.subsets import FEWEST
from analysis.errors import AnalysisError
from search_spaces.space import Assignment, Space
from study.spec.reading import Spec
from study.spec.sections import SearchSection
from trainables.data.sets.sources import load
from trainables.point.config import TrialConfig, flatten, with_fields
from trainables.point.errors import ConfigError
from trainables.resolution import resolve
from trainables.training.samples import PER_SAMPLE

SIZE, LEFT_OUT = "data.train_size", "data.left_out"
_OURS = ("seed", "data.seed", "corruption.seed", SIZE, LEFT_OUT, "data.replaced")
"""Fields that attribution sets: which samples a network is trained on, and its seeds."""


def study_name(spec: Spec) -> str:
    """The name of the study in which a spec's attribution is recorded."""
    return f"{spec.study}-attribution"


def cells_of(spec: Spec) -> list[Assignment]:
    """The settings of a spec: its assignments, seeds left aside.

    Raises:
        ConfigError: attribution cannot be asked of the spec's points; the sentence says why.
    """
    if spec.search.kind == "optuna":
        raise ConfigError("attribution trains every setting of a grid, or of drawn points: search.kind optuna chooses its points by errors")
    if taken := sorted(spec.space.fields() & {SIZE, LEFT_OUT, "data.replaced"}):
        raise ConfigError(f"space.{taken[0]} is set by attribution, which trains on random subsets of all samples: leave it out")
    cells: dict[str, Assignment] = {}
    for assignment in spec.assignments():
        cell = {name: value for name, value in assignment.items() if name not in _OURS}
        cells.setdefault(repr(sorted(cell.items(), key=lambda item: item[0])), cell)
    return list(cells.values())


def subsets(spec: Spec, networks: int, share: float) -> list[Assignment]:
    """The networks of every setting on random, class-balanced subsets of the training samples; seed s draws subset s.

    Args:
        networks: of each setting.
        share: of the training samples that a network is trained on, in (0, 1).

    Raises:
        ConfigError: as for `cells_of`, or one of the numbers is out of range.
    """
    if networks < FEWEST:
        raise ConfigError(f"--networks is {networks}: a difference between networks needs {FEWEST} or more, and datamodels some hundreds")
    if not 0 < share < 1:
        raise ConfigError(f"--share is {share:g}: it is the share of the training samples that a network is trained on, between 0 and 1")
    if spec.trial.data.train_size is not None:
        raise ConfigError("trial.data.train_size is set by attribution, which draws from all samples: leave it out, --share says how many")
    found = []
    for cell in cells_of(spec):
        point = with_fields(spec.trial, cell)
        _check(point)
        dataset = load(point.data)
        available = len(dataset.train_labels) - point.data.validation_size
        try:
            check_memory(networks, len(dataset.train_labels), len(dataset.test_labels))
        except AnalysisError as error:
            raise ConfigError(f"--networks is {networks:,}: {error}") from None
        size = max(1, round(share * available))
        if size >= available:
            raise ConfigError(
                f"--share is {share:g}: that is all of the {available:,} training samples of {point.data.name}, and a part is needed"
            )
        found += [cell | _fixed(spec, seed) | {SIZE: size} for seed in range(networks)]
    return found


def _check(point: TrialConfig) -> None:
    """Raise ConfigError for a setting of which attribution could say nothing once its networks are trained."""
    data, corruption = point.data, point.corruption
    if data.streamed:
        raise ConfigError(
            "attribution asks what each network says of every sample, which image files are too large for: use another data set"
        )
    if load(data).is_regression:
        raise ConfigError(f"attribution asks which samples a network classifies rightly, but the targets of {data.name} are numbers")
    for name in (LEFT_OUT, "data.replaced"):
        if getattr(data, name.removeprefix("data.")) is not None:
            raise ConfigError(f"trial.{name} is set by attribution, which trains on random subsets of all samples: leave it out")
    if point.is_solved:
        raise ConfigError(
            "attribution asks what each network says of every sample, which optimizer.name closed_form does not record: train it"
        )
    if corruption.of_pixels and corruption.level != 0:
        raise ConfigError(
            f"corruption.kind is {corruption.kind}: networks on such pixels are recorded on the images that they were trained on alone, "
            "and attribution asks about the others too; use a corruption of labels"
        )
    if point.model.parameters_per_sample is not None:
        raise ConfigError(
            "model.parameters_per_sample ties the network to the size of a subset, and attribution compares networks on subsets of several "
            "sizes: give model.width"
        )


def check_group(spec: Spec, group: int) -> None:
    """Raise ConfigError if a group of samples to leave out, and as many others, are more than there are."""
    for cell in cells_of(spec):
        data = with_fields(spec.trial, cell).data
        available = len(load(data).train_labels) - data.validation_size
        if 2 * group > available:
            raise ConfigError(
                f"--group is {group:,}: that many samples, and as many others, are left out of the {available:,} training samples of "
                f"{data.name}: at most {available // 2:,}"
            )


def without(spec: Spec, checks: Sequence[LeaveOut], seeds: int) -> list[Assignment]:
    """The networks on all samples, and on all but each group that a check leaves out, with the same seeds.

    Args:
        checks: of the subsets that are recorded.
        seeds: networks of each.
    """
    found: dict[str, Assignment] = {}
    for cell in cells_of(spec):
        # As records have it: with all filled in that the spec leaves to a default. What a probe chooses is no setting.
        values = flatten(resolve(with_fields(spec.trial, cell | _fixed(spec, 0) | {SIZE: None})))
        groups: list[str | None] = [None]
        for check in checks:
            if all(values[name] == value for name, value in check.setting.items() if name != SIZE and name not in spec.left_open):
                groups += [",".join(map(str, one)) for one in (check.supporters, check.others)]
        if len(groups) > 1:
            for group in groups:
                for seed in range(seeds):
                    one = cell | _fixed(spec, seed) | {LEFT_OUT: group, SIZE: None}
                    found.setdefault(repr(one), one)
    return list(found.values())


def _fixed(spec: Spec, seed: int) -> Assignment:
    """A network's seeds: a sample has one label in all of them."""
    return {"seed": seed, "data.seed": seed, "corruption.seed": spec.trial.corruption.seed or 0}


def declared(spec: Spec, assignments: Sequence[Assignment], asked: str) -> Spec:
    """The study of these points: ``STUDY-attribution``, which lists them and keeps what each network does on every sample.

    Args:
        asked: the options that they follow from, as they are written.
    """
    return replace(
        spec,
        study=study_name(spec),
        space=Space({}, added=tuple(assignments)),
        search=SearchSection(),
        measures=tuple(dict.fromkeys([*spec.measures, PER_SAMPLE])),
        text=f"# What gaplab attribute asked for, with {asked}, of this spec:\n{spec.text}",
        published=None,
    )
