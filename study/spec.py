"""The spec: one YAML file that declares a study, checked at the boundary.

Every mistake is one sentence that names the file, the field and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from search_spaces.axes import Axis, Distribution, Values, parse_axis
from search_spaces.space import Assignment, Space, draw
from trainables.config import ConfigError, TrialConfig, field_types, with_fields

PRESETS = Path(__file__).parent / "presets"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Search(_Section):
    """How points are chosen from the space."""

    kind: Literal["grid", "random", "quasi_random"] = "grid"
    samples: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class Resources(_Section):
    """What one worker takes, and how many there are."""

    workers: Annotated[int, Field(ge=1)] | None = None
    cpus: Annotated[float, Field(gt=0)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0


class Tracking(_Section):
    """Whether results are mirrored to MLflow."""

    mlflow: bool = True


class _Written(_Section):
    """The spec as written, before its fields and axes are understood."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    trial: dict[str, Any] = {}
    space: dict[str, Any] = {}
    search: Search = Search()
    replicates: Annotated[int, Field(ge=1)] | None = None
    resources: Resources = Resources()
    measures: list[str] = []
    tracking: Tracking = Tracking()
    imports: list[str] = []


@dataclass(frozen=True)
class Spec:
    """A study, understood: its trial, its space, how it is searched, with what."""

    study: str
    trial: TrialConfig
    space: Space
    search: Search
    resources: Resources
    tracking: Tracking
    measures: tuple[str, ...]
    imports: tuple[Path, ...]
    text: str

    def assignments(self) -> list[Assignment]:
        """Every assignment of the declared points, in order.

        Raises:
            ConfigError: there is none, or the search does not fit the space.
        """
        if self.search.kind == "grid":
            if random := self.space.distributions():
                raise ConfigError(f"space.{next(iter(random))} is random, which search.kind grid cannot list: use random or quasi_random")
            found = list(self.space.assignments())
        else:
            if self.search.samples is None:
                raise ConfigError(f"search.kind {self.search.kind} needs search.samples, the number of draws")
            draws = draw(self.space.distributions(), self.search.samples, self.search.seed, quasi_random=self.search.kind == "quasi_random")
            found = list(self.space.assignments(draws))
        if not found:
            raise ConfigError("the space is empty: every point of the grid is excluded")
        return found


def read_spec(source: str | Path, changes: tuple[str, ...] = ()) -> Spec:
    """A spec from a YAML file or a preset's name, with ``FIELD=VALUE`` changes applied to it.

    Raises:
        ConfigError: one sentence that begins with the file.
    """
    path = _find(source)
    try:
        text = path.read_text()
        written = _yaml().load(text)
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {_one_line(error)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(written, dict):
        raise ConfigError(f"{path}: a spec is a mapping that begins with study: NAME")
    try:
        for change in changes:
            _apply(written, change)
        return understand(written, text, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def understand(written: Mapping[str, Any], text: str = "", folder: Path = Path()) -> Spec:
    """A spec from its mapping.

    Raises:
        ConfigError: a field is unknown or has an impossible value.
    """
    try:
        parts = _Written.model_validate(dict(written))
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None
    trial = with_fields(TrialConfig(), {name: _checked(name, value, "trial") for name, value in _dotted(parts.trial).items()})
    space = _space(parts.space)
    if parts.replicates is not None:
        if "seed" in space.fields():
            raise ConfigError("replicates and space.seed both set the seed: keep one of them")
        space = replace(space, axes={**space.axes, "seed": Values(tuple(range(parts.replicates)))})
    imports = tuple(_existing(folder / name) for name in parts.imports)
    return Spec(
        parts.study, trial, space, parts.search, parts.resources, parts.tracking, tuple(parts.measures), imports, text or _dump(written)
    )


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.exists():
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such spec file")
        return path
    names = preset_names()
    if str(source) in names:
        return PRESETS / f"{source}.yaml"
    near = difflib.get_close_matches(str(source), names, n=1)
    raise ConfigError(
        f"{source}: no such preset or spec file" + (f": did you mean {near[0]!r}?" if near else f": presets are {', '.join(names)}")
    )


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


def _apply(written: dict[str, Any], change: str) -> None:
    """FIELD=VALUE: a field of the trial (which then no longer varies), or of the spec, such as replicates=3."""
    name, equals, value_text = change.partition("=")
    if not equals:
        raise ConfigError(f"--set {change!r} must be FIELD=VALUE, such as model.depth=2")
    try:
        value = _yaml().load(value_text)
    except YAMLError as error:
        raise ConfigError(f"--set {change!r}: the value is not valid YAML: {_one_line(error)}") from None
    head, _, tail = name.partition(".")
    if name in field_types():
        trial = written.setdefault("trial", {})
        if tail:
            trial[head] = {**(trial.get(head) or {}), tail: value}
        else:
            trial[head] = value
        (written.get("space") or {}).pop(name, None)
    elif head in _Written.model_fields and not tail:
        written[head] = value
    elif head in ("search", "resources", "tracking"):
        written[head] = {**(written.get(head) or {}), tail: value}
    else:
        raise ConfigError(f"--set {name}: " + _unknown(name, [*field_types(), *_Written.model_fields]))


def _space(written: Mapping[str, Any]) -> Space:
    written = dict(written)
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
    by_hand = [
        tuple({name: _checked(name, value, f"space.{word}") for name, value in one.items()} for one in part)
        for word, part in (("add", added), ("exclude", excluded))
    ]
    return Space({name: _axis(name, axis) for name, axis in written.items()}, tuple(groups), *by_hand)


def _axis(name: str, written: Any) -> Axis:
    if name not in field_types():
        raise ConfigError(f"space.{name}: " + _unknown(name, list(field_types())))
    axis = parse_axis(name, written)
    if isinstance(axis, Values):
        return Values(tuple(_checked(name, value, "space") for value in axis.values))
    probes = axis.choices if axis.kind == "choice" else (axis.at(0.0), axis.at(0.999999))
    checked = tuple(_checked(name, value, "space") for value in probes)
    return Distribution("choice", choices=checked) if axis.kind == "choice" else axis


def _dotted(trial: Mapping[str, Any]) -> dict[str, Any]:
    """{"data": {"name": ...}} or {"data.name": ...} as {"data.name": ...}."""
    flat: dict[str, Any] = {}
    groups = {name.partition(".")[0] for name in field_types() if "." in name}
    for name, value in trial.items():
        if name in groups:
            if not isinstance(value, Mapping):
                raise ConfigError(f"trial.{name} must be a mapping of its fields, such as {{{_first_field(name)}: ...}}; it is {value!r}")
            flat |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[name] = value
    return flat


def _first_field(group: str) -> str:
    return next(name for name in field_types() if name.startswith(f"{group}.")).partition(".")[2]


def _checked(name: str, value: Any, where: str) -> Any:
    """The value of a field, of its type and in its range."""
    types = field_types()
    if name not in types:
        raise ConfigError(f"{where}.{name}: " + _unknown(name, list(types)))
    if name.endswith(".digest"):
        raise ConfigError(f"{where}.{name} is filled in by gaplab: leave it out")
    try:
        value = _adapter(types[name]).validate_python(value, strict=True)
        with_fields(TrialConfig(), {name: value})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"].replace("Input", "it", 1)
        raise ConfigError(f"{where}.{name} is {value!r}: {problem}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None
    return value


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _unknown(name: str, known: list[str]) -> str:
    """There is no such field; the nearest of the known, by its whole name or by its last part."""
    last = {full.rpartition(".")[2]: full for full in known}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    near = near or [last[part] for part in difflib.get_close_matches(name.rpartition(".")[2], last, n=1)]
    return "no such field" + (f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}")


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section = {"search": Search, "resources": Resources, "tracking": Tracking}.get(str(first["loc"][0]), _Written)
        prefix = f"{first['loc'][0]}." if len(first["loc"]) > 1 else ""
        return f"{where}: " + _unknown(where, [prefix + name for name in section.model_fields])
    if first["type"] == "missing":
        return f"{where} is missing"
    if where == "study" and first["type"] == "string_pattern_mismatch":
        return f"study is {first['input']!r}: a name is letters, digits, '.', '_' and '-', at most 100 of them, and begins with a letter or digit"
    return f"{where} is {first['input']!r}: {first['msg'].replace('Input', 'it', 1)}"


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"imports: there is no file {path}")
    return path


def _one_line(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1})" if mark else str(problem)
