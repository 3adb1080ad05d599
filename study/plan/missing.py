"""Why points of a study are missing, and what the records are of that it does not declare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.records.fragments import fragments, read_fragments
from trainables.point.config import field_types, flatten
from trainables.point.key import KEY_VERSION
from trainables.resolution import Point

_MOST_NAMED = 8


def explained(points: Sequence[Point], recorded: Mapping[str, str], root: str, varied: Iterable[str]) -> list[str]:
    """Say in sentences which values have no record at all, and how recorded points differ from the declared ones.

    Args:
        recorded: key -> status, of everything recorded under `root`.
        varied: the fields of the space.
    """
    keys = {point.key for point in points}
    declared = [flatten(point.config) for point in points]
    lines = _new_values(declared, [point.key in recorded for point in points], varied)
    others = _undeclared(root, keys)
    older = Counter(row["key_version"] for row in others if row["key_version"] != KEY_VERSION)
    for version, count in sorted(older.items(), key=str):
        lines.append(
            f"{count:,} recorded points have keys of version {version}, before the meaning of a field changed (now {KEY_VERSION}): "
            "they stay, and what they stood for runs again."
        )
    lines += _other_values(declared, [row for row in others if row["key_version"] == KEY_VERSION])
    return lines


def _new_values(declared: Sequence[Mapping[str, Any]], there: Sequence[bool], varied: Iterable[str]) -> list[str]:
    """Values of which no point is recorded, of fields of which others are."""
    if not any(there):
        return []
    lines = []
    for name in sorted(varied):
        with_record = {row[name] for row, found in zip(declared, there, strict=True) if found}
        counts = Counter(row[name] for row in declared if row[name] not in with_record)
        if counts:
            lines.append(f"{counts.total():,} are missing because {name} is new: {_named(counts)}.")
    return lines


def _undeclared(root: str, keys: set[str]) -> list[dict[str, Any]]:
    """The records of other points, each once."""
    rows = read_fragments(root, fragments(root), ["key", "key_version", *field_types()]).to_pylist()
    return list({row["key"]: row for row in rows if row["key"] not in keys}.values())


def _other_values(declared: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields in which recorded points differ from all declared ones, in sentences."""
    if not others:
        return []
    lines = [f"{len(others):,} recorded points are not declared by this spec; they stay."]
    for name in field_types():
        known = {row[name] for row in declared}
        counts = Counter(row[name] for row in others if row[name] not in known)
        if counts:
            lines.append(f"  of them {counts.total():,} have another {name}: {_named(counts)} (declared: {_named(Counter(known))}).")
    return lines


def _named(values: Iterable[Any]) -> str:
    named = sorted(set(values), key=lambda value: (str(type(value)), value) if value is not None else ("", 0))
    more = f", and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
    return ", ".join("null" if value is None else str(value) for value in named[:_MOST_NAMED]) + more
