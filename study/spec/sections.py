"""The sections of a spec as pydantic checks them: names, types and ranges of what is written."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from search_spaces.axes import MOST_VALUES
from study.spec.fields import problem_of, unknown_field
from study.spec.labels import checked_labels

_COMMON = {"kind", "seed"}
_DRAWN = {"samples"}


class Section(BaseModel):
    """A part of a spec: no other fields, no conversion of types, no change afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


SAMPLER_NAMES = ("auto", "tpe", "gp", "cma_es", "nsga2", "nsga3", "qmc", "random")
PRUNER_NAMES = ("none", "successive_halving", "hyperband", "median", "wilcoxon", "freeze_thaw")


def _named_or_custom(names: Sequence[str]) -> Callable[[str], str]:
    """A check that a value is one of the names, or refers to one's own or to OptunaHub's (see `study.search.custom`)."""

    def check(written: str) -> str:
        if written in names or ":" in written:
            return written
        near = difflib.get_close_matches(written, names, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"{meant}It is one of {', '.join(names)}; one's own is FILE.py:NAME, one of OptunaHub's optunahub:PACKAGE")

    return check


class SearchSection(Section):
    """How points are chosen from the space.

    Attributes:
        kind: `grid` takes every point, `random` and `quasi_random` draw `samples`, `optuna` searches.
        samples: draws of the random axes.
        seed: of all that is random in the choice.
        trials: suggestions that Optuna makes in each cell of the listed axes.
        objective: what it minimises: one of `study.search.objectives.OBJECTIVES`, or a list of them for a Pareto front.
        constraints: bounds such as ``train_error <= 0.01``; only what keeps to them is compared.
        sampler: `auto` follows Optuna's table of samplers; also ``FILE.py:NAME`` of one's own, and ``optunahub:PACKAGE``.
        pruner: which members leave their pack early, by their validation error at every evaluation; or as a sampler. `freeze_thaw`
            trains all for `min_epochs`, and what promises most on from there.
        min_epochs: what no member leaves before; a ninth of the epochs by default.
        total_epochs: that `freeze_thaw` trains in each cell at most, those of a suggestion counted once for all its seeds; a third of
            what it would be without pruning by default.
        at_once: suggestions asked for together, and trained in one pack where their shapes agree.
        start_from: another study, by its name in the same storage, or its folder or URI: what it has recorded of this search's points is
            told to the sampler, and the best of what lies in the space is tried first.
        storage: `journal` (a file beside the results), or the URL of a database.
        function: ``FILE.py:NAME`` of a define-by-run space: a function of an `optuna.Trial` that returns fields.
        ablation_seeds: fresh seeds on which the best point, the untuned one, and the best without each of its
            regularizers are compared afterwards; 0 for none.
    """

    kind: Literal["grid", "random", "quasi_random", "optuna"] = "grid"
    samples: Annotated[int, Field(ge=1, le=MOST_VALUES)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    trials: Annotated[int, Field(ge=1, le=MOST_VALUES)] | None = None
    objective: str | list[str] = "validation_error"
    constraints: list[str] = []
    sampler: Annotated[str, AfterValidator(_named_or_custom(SAMPLER_NAMES))] = "auto"
    pruner: Annotated[str, AfterValidator(_named_or_custom(PRUNER_NAMES))] = "none"
    min_epochs: Annotated[int, Field(ge=1)] | None = None
    total_epochs: Annotated[int, Field(ge=1)] | None = None
    at_once: Annotated[int, Field(ge=1, le=10_000)] = 8
    start_from: Annotated[str, Field(min_length=1)] | None = None
    storage: str = "journal"
    function: str | None = None
    ablation_seeds: Annotated[int, Field(ge=0, le=1000)] = 0

    def misplaced(self) -> list[str]:
        """Fields that are set and have no meaning for this kind."""
        own = {"grid": set(), "random": _DRAWN, "quasi_random": _DRAWN}.get(self.kind, set(type(self).model_fields) - _DRAWN)
        return sorted(self.model_fields_set - own - _COMMON)


class Resources(Section):
    """What one worker takes, how many there are at once, and how long things may last.

    Attributes:
        gpus: a fraction of one shares it.
        processes: of data from image files alone: so many train a point together, each with these cpus and gpus.
        memory_gib: reserved of its node; Ray ends what takes so much more that the node has none left.
        accelerator: Ray's name of the GPU that a worker must have, such as H100.
        labels: Ray's labels that a worker's node must have, such as ``{ray.io/accelerator-type: "in(A100, H100)"}``.
        point_seconds: after which a point that is not done has failed.
        hours: after which the study stops; the same command goes on.
    """

    workers: Annotated[int, Field(ge=1)] | None = None
    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    processes: Annotated[int, Field(ge=1)] | None = None
    memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    accelerator: str | None = None
    labels: Annotated[dict[str, str] | None, AfterValidator(checked_labels)] = None
    point_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class TrackingSection(Section):
    """Whether and how results are mirrored to MLflow.

    Attributes:
        mlflow: whether they are.
        curves: `thinned` to the points that a chart can draw, both ends and the epoch of the fit among them; or `all`.
    """

    mlflow: bool = True
    curves: Literal["thinned", "all"] = "thinned"


class KeepSection(Section):
    """What is kept of points beside their records.

    Attributes:
        networks: fields with a value, or a list of values, that a point must have: then its trained network is kept. The section may also
            be ``[networks]``, for all points.
    """

    networks: dict[str, Any] | None = None


def _kept(written: Any) -> Any:
    """The section from its short form."""
    if written == ["networks"]:
        return {"networks": {}}
    if isinstance(written, dict | KeepSection):
        return written
    raise ValueError("what can be kept is networks: give [networks], or networks: {FIELD: VALUE} for some points")


class PublishedRow(Section):
    """One published number: the mean of `column` over the points that agree with `where`.

    Attributes:
        tolerance: 0 for what is exact; without one the mean must lie within four of its own standard errors.
        train_error: that the paper states beside it: runs that fit worse do not count.
        control: it cannot fail unless gaplab is broken, as the test error of random labels, and says nothing about networks.
        stand_in: it is measured on less or on other data, or on a smaller network, and never counts as reproduced.
    """

    name: str
    where: dict[str, Any]
    column: str
    value: float
    tolerance: Annotated[float, Field(ge=0)] | None = None
    train_error: float | None = None
    control: bool = False
    stand_in: bool = False


class PublishedOrder(Section):
    """A published order: `column` rises from each of the groups to the next, for runs of one seed.

    Attributes:
        rising: what the points of each group agree in; ``column`` there names another column for it.
        equal_fit: only runs count that reached their train target.
        margin: by how much it rises at least.
        stand_in: as for a row.
    """

    name: str
    column: str
    rising: Annotated[list[dict[str, Any]], Field(min_length=2)]
    equal_fit: bool = True
    margin: Annotated[float, Field(ge=0)] = 0.0
    stand_in: bool = False


class Published(Section):
    """What a preset reproduces: numbers and orders with their source.

    Attributes:
        ours: what the paper leaves open, and we chose.
        differs: where we differ from it.
        stand_in: all of it is measured on less or on other data, or on smaller networks.
        picture: the one that ``gaplab plot --kind`` draws of it.
    """

    source: str
    rows: list[PublishedRow] = []
    orders: list[PublishedOrder] = []
    ours: list[str] = []
    differs: list[str] = []
    stand_in: bool = False
    picture: Literal["learning-curves", "time-to-fit", "error-vs-corruption", "double-descent", "ridgeless-risk"] | None = None


_FILES = (".db", ".lock", ".tmp", ".md", ".html", ".parquet", ".yaml", ".yml", ".db-wal", ".db-shm", ".db-journal")
"""Ends of names that files have which lie beside the studies of a storage, or may: ``mlflow.db`` is MLflow's."""


def _no_file(study: str) -> str:
    if study.lower().endswith(_FILES):
        raise ValueError(f"a study is a folder, and beside it lie files of such names: do without {Path(study).suffix}")
    return study


class WrittenSpec(Section):
    """The whole spec as written, before its fields and axes are understood."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), AfterValidator(_no_file)]
    trial: dict[str, Any] = {}
    space: dict[str, Any] = {}
    search: SearchSection = SearchSection()
    replicates: Annotated[int, Field(ge=1, le=MOST_VALUES)] | None = None
    resources: Resources = Resources()
    measures: list[str] = []
    tracking: TrackingSection = TrackingSection()
    keep: Annotated[KeepSection, BeforeValidator(_kept)] = KeepSection()
    imports: list[str] = []
    published: Published | None = None


_BY_NAME: dict[str, type[Section]] = {
    "search": SearchSection,
    "resources": Resources,
    "tracking": TrackingSection,
    "keep": KeepSection,
    "published": Published,
}


def in_a_sentence(error: ValidationError) -> str:
    """What is wrong with a spec, by the first of pydantic's errors."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section = _BY_NAME.get(str(first["loc"][0]), WrittenSpec)
        prefix = f"{first['loc'][0]}." if len(first["loc"]) > 1 else ""
        return f"{where}: " + unknown_field(where, [prefix + name for name in section.model_fields])
    if first["type"] == "missing":
        return f"{where} is missing"
    if where == "study" and first["type"] == "string_pattern_mismatch":
        return f"study is {first['input']!r}: a name is at most 100 letters, digits, '.', '_' and '-', and begins with a letter or digit"
    return f"{where} is {first['input']!r}: {problem_of(first, where)}"
