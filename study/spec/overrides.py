"""``--set FIELD=VALUE``: changes that a command makes to a spec."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from study.spec.fields import unknown_field
from study.spec.sections import WrittenSpec
from study.spec.text import NOT_YAML, one_line, parsed
from trainables.point.config import field_types
from trainables.point.errors import ConfigError


def overridden(written: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Apply FIELD=VALUE changes: those of the spec, such as replicates=3, in place; those of its points are returned.

    Raises:
        ConfigError: a change has no value, or there is no such field.
    """
    fixed: dict[str, Any] = {}
    for change in changes:
        name, equals, value_text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change!r} must be FIELD=VALUE, such as model.depth=2")
        try:
            value = parsed(value_text)
        except NOT_YAML as error:
            raise ConfigError(f"--set {change!r}: the value is not valid YAML: {one_line(error)}") from None
        head, _, tail = name.partition(".")
        if name in field_types():
            fixed[name] = value
        elif name in WrittenSpec.model_fields:
            written[name] = value
        elif head in ("search", "resources", "tracking") and isinstance(written.get(head, {}), dict):
            written[head] = {**written.get(head, {}), tail: value}
        else:
            raise ConfigError(f"--set {name}: " + unknown_field(name, [*field_types(), *WrittenSpec.model_fields]))
    return fixed


def as_comment(changes: Sequence[str], scale: str | None) -> str:
    """A last line for the spec's text that says which options it was run with."""
    options = [*(["--scale", scale] if scale else []), *(part for change in changes for part in ("--set", change))]
    return f"\n# run with {' '.join(shlex.join(options).splitlines())}\n" if options else ""
