"""The spec: one YAML file that declares a study, checked at the boundary.

Every mistake is one sentence that names the file, the field and what would be right.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from search_spaces.axes import MOST_VALUES, Axis, Distribution, Values, parse_axis
from search_spaces.conditional import SWITCH, parse_condition
from search_spaces.regularizers import regularizer_axes
from search_spaces.space import Assignment, Space, draw
from study.spec.scales import at_scale
from study.spec.search_section import Search
from trainables.point.config import ConfigError, TrialConfig, field_types, with_fields

PRESETS = Path(__file__).parents[1] / "presets"
_LARGEST = 2**63 - 1


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Resources(_Section):
    """What one worker takes, how many there are at once, and how long things may last.

    Attributes:
        gpus: a fraction of one shares it.
        processes: of data from image files alone: so many train a point together, each with these cpus and gpus.
        memory_gib: reserved of its node; Ray ends what takes so much more that the node has none left.
        accelerator: Ray's name of the GPU that a worker must have, such as H100.
        point_seconds: after which a point that is not done has failed.
        hours: after which the study stops; the same command goes on.
    """

    workers: Annotated[int, Field(ge=1)] | None = None
    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    processes: Annotated[int, Field(ge=1)] | None = None
    memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    accelerator: str | None = None
    point_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class Tracking(_Section):
    """Whether results are mirrored to MLflow."""

    mlflow: bool = True


class PublishedRow(_Section):
    """One published number: the mean of `column` over the points that agree with `where`.

    Without a tolerance the mean must lie within four of its own standard errors.
    """

    name: str
    where: dict[str, Any]
    column: str
    value: float
    tolerance: float | None = None


class PublishedOrder(_Section):
    """A published order: the mean of `column` rises from each of the groups to the next."""

    name: str
    column: str
    rising: list[dict[str, Any]]


class Published(_Section):
    """What a preset reproduces: numbers and orders with their source, what the paper leaves open (`ours`), where we differ from it, and
    the picture that `gaplab plot --kind` draws of it.
    """

    source: str
    rows: list[PublishedRow] = []
    orders: list[PublishedOrder] = []
    ours: list[str] = []
    differs: list[str] = []
    picture: Literal["learning-curves", "time-to-fit", "error-vs-corruption", "double-descent", "ridgeless-risk"] | None = None


class _Written(_Section):
    """The spec as written, before its fields and axes are understood."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    trial: dict[str, Any] = {}
    space: dict[str, Any] = {}
    search: Search = Search()
    replicates: Annotated[int, Field(ge=1, le=MOST_VALUES)] | None = None
    resources: Resources = Resources()
    measures: list[str] = []
    tracking: Tracking = Tracking()
    imports: list[str] = []
    published: Published | None = None


@dataclass(frozen=True)
class Spec:
    """A study, understood: its trial, its space, how it is searched, with what.

    Attributes:
        text: the YAML that declares it.
        source: the file it was read from, if any.
    """

    study: str
    trial: TrialConfig
    space: Space
    search: Search
    resources: Resources
    tracking: Tracking
    measures: tuple[str, ...]
    imports: tuple[Path, ...]
    published: Published | None
    text: str
    source: Path | None = None

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


def read_spec(source: str | Path, changes: tuple[str, ...] = (), scale: str | None = None) -> Spec:
    """A spec from a YAML file or a preset's name, at one of its scales, with ``FIELD=VALUE`` changes applied to it.

    Raises:
        ConfigError: one sentence that begins with the file.
    """
    path = _find(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        written = _yaml().load(text)
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date, a number of 5,000 digits
        raise ConfigError(f"{path}: not valid YAML: {_one_line(error)}") from None
    if not isinstance(written, dict):
        raise ConfigError(f"{path}: a spec is a mapping that begins with study: NAME")
    try:
        written = at_scale(written, scale)
        fixed = _apply(written, changes)
        return understand(written, text + _run_with(changes, scale), path, fixed)
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
        parts = _Written.model_validate(dict(written))
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None
    fixed = {name: checked_value(name, value, "--set ") for name, value in (fixed or {}).items()}
    declared = {name: checked_value(name, value, "trial.") for name, value in _dotted(parts.trial).items()}
    trial = with_fields(TrialConfig(), declared | fixed)
    space = _space(parts.space, trial)
    if parts.replicates is not None:
        if "seed" in space.fields():
            raise ConfigError("replicates and space.seed both set the seed: keep one of them")
        space = replace(space, axes={**space.axes, "seed": Values(tuple(range(parts.replicates)))})
    space = space.fixed(fixed)
    if misplaced := parts.search.misplaced():
        raise ConfigError(f"search.{misplaced[0]} has no meaning for search.kind {parts.search.kind}: leave it out")
    folder = source.parent if source else Path()
    imports = tuple(_existing(folder / name) for name in parts.imports)
    return Spec(
        study=parts.study,
        trial=trial,
        space=space,
        search=parts.search,
        resources=parts.resources,
        tracking=parts.tracking,
        measures=tuple(parts.measures),
        imports=imports,
        published=parts.published,
        text=text or _dump(written),
        source=source,
    )


def _run_with(changes: Sequence[str], scale: str | None) -> str:
    """A last line for the spec's text that tells which options it was run with."""
    options = [*(["--scale", scale] if scale else []), *(part for change in changes for part in ("--set", change))]
    return f"\n# run with {' '.join(shlex.join(options).splitlines())}\n" if options else ""


def _find(source: str | Path) -> Path:
    path = Path(source)
    if _is_file(path):
        return path
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise ConfigError(f"{path}: there is no such spec file")
    names = preset_names()
    if str(source) in names:
        return PRESETS / f"{source}.yaml"
    near = difflib.get_close_matches(str(source), names, n=1)
    raise ConfigError(
        f"{source}: no such preset or spec file" + (f": did you mean {near[0]!r}?" if near else f": presets are {', '.join(names)}")
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or one that no file can have
        return False


def preset_names() -> list[str]:
    """Names of the bundled presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _yaml() -> YAML:
    """YAML 1.2 (1e-3 is a number, `no` a word) without tags that build objects; a duplicate key is an error."""
    return YAML(typ="safe", pure=True)


def _dump(written: Mapping[str, Any]) -> str:
    import io

    stream = io.StringIO()
    YAML(typ="safe").dump(dict(written), stream)
    return stream.getvalue()


def _apply(written: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE: of the spec, such as replicates=3, changed in place; or of the points: these are returned."""
    fixed: dict[str, Any] = {}
    for change in changes:
        name, equals, value_text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change!r} must be FIELD=VALUE, such as model.depth=2")
        try:
            value = _yaml().load(value_text)
        except (YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"--set {change!r}: the value is not valid YAML: {_one_line(error)}") from None
        head, _, tail = name.partition(".")
        if name in field_types():
            fixed[name] = value
        elif name in _Written.model_fields:
            written[name] = value
        elif head in ("search", "resources", "tracking") and isinstance(written.get(head, {}), dict):
            written[head] = {**written.get(head, {}), tail: value}
        else:
            raise ConfigError(f"--set {name}: " + _unknown(name, [*field_types(), *_Written.model_fields]))
    return fixed


def _space(written: Mapping[str, Any], trial: TrialConfig) -> Space:
    written = dict(written)
    switches = written.pop("switches", [])
    if not isinstance(switches, list) or not all(isinstance(name, str) for name in switches) or set(switches) & set(field_types()):
        raise ConfigError(f"space.switches must be a list of names that are no fields, such as use_mixup; it is {switches!r}")
    if "regularizers" in written:
        if "model.name" in written:
            raise ConfigError("space.regularizers has the ranges of one architecture, so model.name cannot vary: write the axes out")
        ours = regularizer_axes(written.pop("regularizers"), trial)
        ours = {name: axis for name, axis in ours.items() if name not in written}
        asked = {axis.get("when") for axis in ours.values() if isinstance(axis, dict) and isinstance(axis.get("when"), str)}
        switches = [*switches, *(name for name in ours.pop("switches") if name in asked)]
        written = ours | written
    conditions = {
        name: parse_condition(name, axis["when"]) for name, axis in written.items() if isinstance(axis, Mapping) and "when" in axis
    }
    for name in conditions:
        written[name] = {part: value for part, value in written[name].items() if part != "when"}
    zipped, added, excluded = (written.pop(word, []) for word in ("zip", "add", "exclude"))
    for word, part in (("zip", zipped), ("add", added), ("exclude", excluded)):
        if not isinstance(part, list) or not all(isinstance(one, dict) and one for one in part):
            raise ConfigError(f"space.{word} must be a list of mappings from fields; it is {part!r}")
    groups = []
    for group in zipped:
        axes = {name: _axis(name, axis) for name, axis in group.items()}
        if not all(isinstance(axis, Values) for axis in axes.values()):
            raise ConfigError("space.zip takes listed axes (values, range, lin_grid, log_grid)")
        groups.append({name: axis for name, axis in axes.items() if isinstance(axis, Values)})
    added, excluded = (
        tuple({name: checked_value(name, value, f"space.{word}.") for name, value in one.items()} for one in part)
        for word, part in (("add", added), ("exclude", excluded))
    )
    axes = {name: _axis(name, axis) for name, axis in written.items()}
    return Space({**dict.fromkeys(switches, SWITCH), **axes}, tuple(groups), added, excluded, conditions, tuple(switches))


def _axis(name: str, written: Any) -> Axis:
    if name not in field_types():
        raise ConfigError(f"space.{name}: " + _unknown(str(name), list(field_types())))
    axis = parse_axis(name, written)
    if isinstance(axis, Values):
        return Values(tuple(checked_value(name, value, "space.") for value in axis.values))
    probes = axis.choices if axis.kind == "choice" else (axis.at(0.0), axis.at(0.999999))
    checked = tuple(checked_value(name, value, "space.") for value in probes)
    return Distribution("choice", choices=checked) if axis.kind == "choice" else axis


def _dotted(trial: Mapping[str, Any]) -> dict[str, Any]:
    """{"data": {"name": ...}} or {"data.name": ...} as {"data.name": ...}."""
    flat: dict[str, Any] = {}
    groups = {name.partition(".")[0] for name in field_types() if "." in name}
    for name, value in trial.items():
        if name in groups and not isinstance(value, Mapping):
            raise ConfigError(f"trial.{name} must be a mapping of its fields, such as {{{_first_field(name)}: ...}}; it is {value!r}")
        inner = {f"{name}.{inner}": inner_value for inner, inner_value in value.items()} if name in groups else {name: value}
        if twice := flat.keys() & inner:
            raise ConfigError(f"trial names {', '.join(sorted(twice))} twice: keep one of them")
        flat |= inner
    return flat


def _first_field(group: str) -> str:
    return next(name for name in field_types() if name.startswith(f"{group}.")).partition(".")[2]


def checked_value(name: str, value: Any, where: str) -> Any:
    """The value of a field, of its type and in its range; an error begins with `where` and the name."""
    types = field_types()
    if name not in types:
        raise ConfigError(f"{where}{name}: " + _unknown(str(name), list(types)))
    if name.endswith(".digest"):
        raise ConfigError(f"{where}{name} is filled in by gaplab: leave it out")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ConfigError(f"{where}{name} is beyond {_LARGEST:,}, the largest whole number that a record holds")
    try:
        value = _adapter(types[name]).validate_python(value, strict=True)
        with_fields(TrialConfig(), {name: value})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"].replace("Input", "it", 1)
        raise ConfigError(f"{where}{name} is {value!r}: {problem}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None
    return value


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _unknown(name: str, known: list[str]) -> str:
    """There is no such field; the nearest of the known and their groups, by its whole name or by its last part."""
    groups = {full.partition(".")[0] for full in known}
    last = {full.rpartition(".")[2]: full for full in known}
    near = difflib.get_close_matches(name, [*known, *groups], n=1, cutoff=0.7)
    near = near or [last[part] for part in difflib.get_close_matches(name.rpartition(".")[2], last, n=1)]
    return "no such field" + (f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}")


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        sections: dict[str, type[BaseModel]] = {"search": Search, "resources": Resources, "tracking": Tracking, "published": Published}
        section = sections.get(str(first["loc"][0]), _Written)
        prefix = f"{first['loc'][0]}." if len(first["loc"]) > 1 else ""
        return f"{where}: " + _unknown(where, [prefix + name for name in section.model_fields])
    if first["type"] == "missing":
        return f"{where} is missing"
    if where == "study" and first["type"] == "string_pattern_mismatch":
        return f"study is {first['input']!r}: a name is at most 100 letters, digits, '.', '_' and '-', and begins with a letter or digit"
    return f"{where} is {first['input']!r}: {first['msg'].replace('Input', 'it', 1)}"


def _existing(path: Path) -> Path:
    if not _is_file(path):
        raise ConfigError(f"imports: there is no file {path}")
    return path


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1})" if mark else str(problem)
