"""The records that ``--where FIELD=VALUE`` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


def chosen(table: pa.Table, where: Sequence[str] | None) -> pa.Table:
    """The rows that agree with every condition.

    Raises:
        ConfigError: a condition is no FIELD=VALUE, the value is none that the column can have, or no record has it.
        AnalysisError: a column does not exist.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from analysis.statistics.selection import checked

    for condition in where or ():
        name, equals, text = condition.partition("=")
        if not (name and equals):
            raise ConfigError(f"--where {condition!r} must be FIELD=VALUE, such as model.width=64")
        column = checked(table, [name])[name]
        if text in ("none", "null"):
            kept = pc.is_null(column)
        else:
            kept = pc.fill_null(pc.equal(column, pa.scalar(_value(text, column.type, condition), column.type)), False)
        if table.num_rows and not pc.any(kept).as_py():
            known = sorted({str(one) for one in column.unique().to_pylist()})
            raise ConfigError(
                f"--where {condition}: no record has it; there are {', '.join(known[:12])}{' ...' if len(known) > 12 else ''}"
            )
        table = table.filter(kept)
    return table


def _value(text: str, kind: pa.DataType, condition: str) -> Any:
    """The text as a value of that type."""
    import pyarrow as pa

    try:
        if pa.types.is_boolean(kind):
            return {"true": True, "false": False}[text.lower()]
        if pa.types.is_integer(kind):
            return int(text)
        return float(text) if pa.types.is_floating(kind) else text
    except (KeyError, ValueError):
        raise ConfigError(f"--where {condition}: {text!r} is no value of a column of type {kind}") from None
