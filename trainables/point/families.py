"""What a key must know of model families: which fields each of them reads.

Families are registered in a room above (`trainables.models.registry`), which says so here when it is imported; `trainables` imports it
first, so that a point has one key in every process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

_sayer: list[Callable[[str], tuple[str, ...]]] = []


def say_unread(unread: Callable[[str], tuple[str, ...]]) -> None:
    """Have `unread` answer for a family's name from now on which fields of a model the family does not read."""
    _sayer[:] = [unread]
    unread_fields.cache_clear()


@cache
def unread_fields(name: str) -> tuple[str, ...]:
    """The fields of a model that the bundled family of this name does not read."""
    (unread,) = _sayer
    return unread(name)
