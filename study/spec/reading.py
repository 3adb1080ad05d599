"""A spec read from a file, or a mapping: a `Spec` whose every field and axis is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search_spaces.axes import Values
from search_spaces.space import Assignment, Space, draw
from study.spec.fields import OPEN, dotted, value_or_open
from study.spec.kept import Kept, read_kept
from study.spec.overrides import as_comment, overridden
from study.spec.presets import find_spec, is_file
from study.spec.scales import at_scale
from study.spec.sections import Published, Resources, SearchSection, TrackingSection, WrittenSpec, in_a_sentence
from study.spec.space import read_space
from study.spec.text import NOT_YAML, one_line, parsed, written_out
from trainables.point.config import TrialConfig, flatten, left_open_words, with_fields
from trainables.point.errors import ConfigError
from trainables.probe.left_open import LEFT_OPEN
from trainables.resolution import resolve

_EPOCHS = "budget.epochs"
_LOSS = "optimizer.loss"


@dataclass(frozen=True)
class Spec:
    """A study as declared: its trial, its space, how points are chosen, with what.

    Attributes:
        trial: what all points share; what is left open has its default there.
        left_open: of the fields that a probe of the data may choose, those that neither the trial nor the space gives a value: True if the
            spec asks for the probe by the field's word, False if it does not name the field, so that a study keeps what it has recorded.
        named_losses: the values of `optimizer.loss` that the spec names.
        text: the YAML that declares it.
        source: the file it was read from, if any.
    """

    study: str
    trial: TrialConfig
    left_open: Mapping[str, bool]
    space: Space
    search: SearchSection
    resources: Resources
    tracking: TrackingSection
    measures: tuple[str, ...]
    keeps: Kept | None
    imports: tuple[Path, ...]
    published: Published | None
    text: str
    source: Path | None = None
    named_losses: frozenset[str] = frozenset()

    def assignments(self) -> list[Assignment]:
        """Every assignment of the declared points, in order.

        Raises:
            ConfigError: there is none, or the search does not fit the space.
        """
        if self.search.kind == "grid":
            if random := self.space.distributions():
                raise ConfigError(f"space.{next(iter(random))} is random, which search.kind grid cannot list: use random or quasi_random")
            found = list(self.space.assignments())
        elif self.search.kind == "optuna":
            raise ConfigError("search.kind optuna chooses its points as it goes: they cannot be listed beforehand")
        else:
            if self.search.samples is None:
                raise ConfigError(f"search.kind {self.search.kind} needs search.samples, the number of draws")
            draws = draw(self.space.distributions(), self.search.samples, self.search.seed, quasi_random=self.search.kind == "quasi_random")
            found = list(self.space.assignments(draws))
        if not found:
            raise ConfigError("the space is empty: every point of it is excluded")
        return found

    def keys(self) -> frozenset[str]:
        """The keys of the declared points; the user's own models, if any, are known by then (``imports`` are read with the plan).

        Raises:
            ConfigError: a point cannot be run, the points cannot be listed, or a field of theirs is left open: which value was chosen for
                it, the study's plan knows (`study.plan_study`).
        """
        points = [resolve(with_fields(self.trial, assignment)) for assignment in self.assignments()]
        for field in self.left_open:
            if any(LEFT_OPEN[field].group(point) for point in points):
                raise ConfigError(
                    f"{f'{self.source}: ' if self.source else ''}the spec leaves {field} open, and what was chosen stands with the study's "
                    f"records: take the keys of study.plan_study(spec, storage), or of its run's summary.plan, or name {field}"
                )
        return frozenset(point.key() for point in points)


def read_spec(source: str | Path, changes: tuple[str, ...] = (), scale: str | None = None) -> Spec:
    """A spec from a YAML file or a preset's name, at one of its scales, with ``FIELD=VALUE`` changes applied to it.

    Raises:
        ConfigError: one sentence that begins with the file.
    """
    path = find_spec(source)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text in UTF-8 (byte {error.start:,} is none of it): a spec is a YAML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        written = parsed(text)
    except NOT_YAML as error:
        raise ConfigError(f"{path}: not valid YAML: {one_line(error)}") from None
    if not isinstance(written, dict):
        raise ConfigError(f"{path}: a spec is a mapping that begins with study: NAME")
    try:
        written = at_scale(written, scale)
        fixed = overridden(written, changes)
        return understand(written, text + as_comment(changes, scale), path, fixed)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def understand(written: Mapping[str, Any], text: str = "", source: Path | None = None, fixed: Mapping[str, Any] | None = None) -> Spec:
    """A spec from its mapping.

    Args:
        text: the YAML it stands in, if it does.
        source: the file it stands in, to which `imports` are relative.
        fixed: dotted fields that have one value, whatever the spec says of them.

    Raises:
        ConfigError: a field is unknown or has an impossible value.
    """
    try:
        parts = WrittenSpec.model_validate(dict(written))
    except ValidationError as error:
        raise ConfigError(in_a_sentence(error)) from None
    fixed = {name: value_or_open(name, value, "--set ") for name, value in (fixed or {}).items()}
    declared = {name: value_or_open(name, value, "trial.") for name, value in dotted(parts.trial).items()}
    named = declared | fixed
    trial = with_fields(TrialConfig(), {name: value for name, value in named.items() if value is not OPEN})
    fixed = {name: flatten(trial)[name] for name in fixed}
    if parts.replicates is not None and "seed" in declared:
        raise ConfigError("replicates and trial.seed both set the seed: keep one of them")
    space = _replicated(read_space(parts.space, trial), parts.replicates).fixed(fixed)
    if misplaced := parts.search.misplaced():
        raise ConfigError(f"search.{misplaced[0]} has no meaning for search.kind {parts.search.kind}: leave it out")
    folder = source.parent if source else Path()
    return Spec(
        study=parts.study,
        trial=trial,
        left_open=_left_open(named, space, parts.search),
        space=space,
        search=parts.search,
        resources=parts.resources,
        tracking=parts.tracking,
        measures=tuple(parts.measures),
        keeps=read_kept(parts.keep.networks),
        imports=tuple(_existing(folder / name) for name in parts.imports),
        published=parts.published,
        text=text or written_out(written),
        source=source,
        named_losses=_named_losses(named, space),
    )


def _named_losses(named: Mapping[str, Any], space: Space) -> frozenset[str]:
    """The values of `optimizer.loss` that the trial names, or the axis of listed values that all others are crossed with."""
    axis = space.axes.get(_LOSS)
    if isinstance(axis, Values):
        return frozenset(map(str, axis.values))
    return frozenset({str(named[_LOSS])} if _LOSS in named and _LOSS not in space.fields() else ())


def _left_open(named: Mapping[str, Any], space: Space, search: SearchSection) -> dict[str, bool]:
    """The fields that neither the trial nor the space gives a value, and whether the spec says so by their word.

    A search has the budget that its pruner and its suggestions are planned for; and where the user's own function suggests fields, of
    which nobody knows beforehand, what is not named is its business.

    Raises:
        ConfigError: a search leaves its budget open.
    """
    if search.kind == "optuna" and named.get(_EPOCHS) is OPEN:
        raise ConfigError(f"trial.{_EPOCHS} is auto, and a search is planned for a number of epochs: name it")
    if search.kind == "optuna":
        named = {_EPOCHS: None, **named}
    by_word = {name for name, value in named.items() if value is OPEN}
    silent = set() if search.function is not None else left_open_words().keys() - named.keys()
    return {name: name in by_word for name in left_open_words() if name in by_word | silent and name not in space.fields()}


def _replicated(space: Space, replicates: int | None) -> Space:
    """The space with so many seeds."""
    if replicates is None:
        return space
    if "seed" in space.fields():
        raise ConfigError("replicates and space.seed both set the seed: keep one of them")
    return replace(space, axes={**space.axes, "seed": Values(tuple(range(replicates)))})


def _existing(path: Path) -> Path:
    if not is_file(path):
        raise ConfigError(f"imports: there is no file {path}")
    return path
