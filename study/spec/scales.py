"""Scales of a preset: the same study for a test, for a laptop and as published.

A spec may hold ``scales: {smoke: {...}, cpu: {...}, paper: {...}}``, each a part of a spec that is laid over the rest. The
study's name gets the scale's, so that the results of two scales lie apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.axes import KINDS
from trainables.point.config import ConfigError

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
    laid = _laid_over(plain, scales[scale or DEFAULT] or {})
    return laid | {"study": f"{laid.get('study')}-{scale or DEFAULT}"}


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
