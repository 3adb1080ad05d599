"""Scales of a preset: the same study for a test, for a laptop and as published.

A spec may hold ``scales: {smoke: {...}, cpu: {...}, paper: {...}}``, each a part of a spec that is laid over the rest. The
study's name gets the scale's, so that the results of two scales lie apart. What was published is the same at every scale: a scale names
which of the numbers it measures, and where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.axes import KINDS
from trainables.point.errors import ConfigError

DEFAULT = "cpu"


def at_scale(written: Mapping[str, Any], scale: str | None) -> dict[str, Any]:
    """The spec at that scale (`cpu` by default); as it is, if it has no scales.

    Raises:
        ConfigError: it has no such scale.
    """
    plain = {name: value for name, value in written.items() if name != "scales"}
    scales = written.get("scales")
    if scales is None and scale is None:
        return plain
    if not isinstance(scales, Mapping) or (scale or DEFAULT) not in scales:
        known = ", ".join(scales) if isinstance(scales, Mapping) else "none"
        raise ConfigError(f"--scale {scale or DEFAULT}: this spec has no such scale (known are {known})")
    chosen = scales[scale or DEFAULT] or {}
    laid = _laid_over(plain, chosen)
    if isinstance(chosen, Mapping) and isinstance(published := chosen.get("published"), Mapping) and "rows" in published:
        laid["published"]["rows"] = _same_numbers(plain.get("published"), published["rows"], scale or DEFAULT)
    return laid | {"study": f"{laid.get('study')}-{scale or DEFAULT}"}


_OF_A_SCALE = {"name", "where", "stand_in"}
"""What a scale may say of a published number."""


def _same_numbers(published: Any, chosen: Any, scale: str) -> list[dict[str, Any]]:
    """The published numbers that a scale names, with what it says of where it measures them.

    Raises:
        ConfigError: it names one that is not there, or says another number.
    """
    rows = published.get("rows") if isinstance(published, Mapping) else None
    known = {row.get("name"): row for row in rows or () if isinstance(row, Mapping)}
    found = []
    for row in chosen if isinstance(chosen, list) else [chosen]:
        own = row if isinstance(row, Mapping) else {"name": row}
        name = own.get("name")
        if not isinstance(name, str) or name not in known:
            raise ConfigError(f"scales.{scale}.published.rows: {name!r} is none of the published numbers ({', '.join(map(str, known))})")
        if others := sorted(map(str, set(own) - _OF_A_SCALE)):
            raise ConfigError(f"scales.{scale}.published.rows: {name!r} has {others[0]}: a scale cannot change what was published")
        found.append({**known[name], **own})
    return found


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Mappings are merged down to the fields of a group and the axes of the space; null takes away."""
    merged = dict(below)
    for name, value in above.items():
        if value is None and depth < 2:
            merged.pop(name, None)
        elif depth < 2 and isinstance(value, Mapping) and isinstance(merged.get(name), Mapping) and not _is_axis(value):
            merged[name] = _laid_over(merged[name], value, depth + 1)
        else:
            merged[name] = value
    return merged


def _is_axis(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)) in KINDS
