"""A mapping: which column of a record is what in somebody's runs, as YAML that is proposed, edited and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.errors import AnalysisError, unknown_column
from analysis.records.schema import CURVES, MEASURE, RECORDS

Constant = str | int | float | bool
_SECTIONS = ("constants", "keep", "curves", "children_only")
_GIVEN = ("key", "study", "status", "reason")
"""Columns that follow from the run itself."""


@dataclass(frozen=True)
class ForeignMapping:
    """What foreign runs mean.

    Attributes:
        columns: expressions by column of a record.
        constants: values by column, the same for all runs.
        keep: names of the runs' own that become columns under these names.
        curves: expressions by column of a curve, where they are not those of the record; ``epoch`` is one of ``step``.
        children_only: runs in which others are nested are left out.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Constant] = field(default_factory=dict)
    keep: Sequence[str] = ()
    curves: Mapping[str, str] = field(default_factory=dict)
    children_only: bool = False


def read_mapping(source: str | Path | Mapping[str, Any]) -> ForeignMapping:
    """A mapping from YAML, its file, or a dictionary.

    Each line names a column of `analysis.records.schema.RECORDS`, or a ``measure.*``: a text is an expression over the runs' names,
    such as ``test_error: 1 - val_acc / 100``, a number is a constant, such as ``data.train_size: 50000``. Four lines are of another
    kind: ``constants`` (by column, for texts), ``keep`` (a list), ``curves`` (by column of a curve) and ``children_only``.

    Raises:
        AnalysisError: a line says nothing that a mapping can say, or there is no such file.
    """
    where, content = _content(source)
    if not isinstance(content, Mapping) or not content:
        raise AnalysisError(f"{where}: a mapping has lines such as test_error: 1 - val_acc / 100")
    columns: dict[str, str] = {}
    constants: dict[str, Constant] = {}
    for name, value in content.items():
        if name not in _SECTIONS:
            _check_column(str(name), where)
            if isinstance(value, str):
                columns[str(name)] = value
            elif isinstance(value, int | float):
                constants[str(name)] = value
            else:
                raise AnalysisError(f"{where}: {name} must be an expression or a number; it is {value!r}")
    constants |= _named(content, "constants", (str, int, float), where)
    curves = _named(content, "curves", (str,), where)
    for name in constants:
        _check_column(name, where)
    for name in curves:
        if name not in CURVES.names or name == "key":
            raise _located(where, unknown_column(name, CURVES.names[1:]))
    if twice := sorted(set(columns) & set(constants)):
        raise AnalysisError(f"{where}: {twice[0]} is given twice, as an expression and as a constant")
    keep, children = content.get("keep") or [], content.get("children_only") or False
    if not isinstance(keep, list) or not all(isinstance(name, str) for name in keep):
        raise AnalysisError(f"{where}: keep must be a list of names, such as [hidden, `config/lr`]; it is {keep!r}")
    if not isinstance(children, bool):
        raise AnalysisError(f"{where}: children_only must be true or false; it is {children!r}")
    return ForeignMapping(columns, constants, [name.strip("`") for name in keep], curves, children)


def _content(source: str | Path | Mapping[str, Any]) -> tuple[str, Any]:
    if isinstance(source, Mapping):
        return "mapping", source
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    where, text = "mapping", source
    if isinstance(source, Path) or not ("\n" in source or ": " in source):
        where = str(source)
        try:
            text = Path(source).expanduser().read_text()
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise AnalysisError(f"{where} cannot be read as a mapping: {getattr(error, 'strerror', None) or error}") from None
    try:
        return where, YAML(typ="safe").load(text)
    except YAMLError as error:
        raise AnalysisError(f"{where} is no YAML: {str(error).splitlines()[0]}; {_line(error)}") from None


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}" if mark else "somewhere"


def _named(content: Mapping[str, Any], section: str, kinds: tuple[type, ...], where: str) -> dict[str, Any]:
    named = content.get(section) or {}
    if not isinstance(named, Mapping) or not all(isinstance(value, kinds) for value in named.values()):
        raise AnalysisError(f"{where}: {section} must be values by column; it is {named!r}")
    return {str(name): value for name, value in named.items()}


def _check_column(name: str, where: str) -> None:
    if name in _GIVEN:
        raise AnalysisError(f"{where}: {name} follows from the run: it is not mapped")
    if name not in RECORDS.names and not name.startswith(MEASURE):
        raise _located(where, unknown_column(name, [*RECORDS.names, *_SECTIONS]))


def _located(where: str, error: AnalysisError) -> AnalysisError:
    return AnalysisError(f"{where}: {error}; a name of your own goes under keep")
