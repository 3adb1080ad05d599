"""What a paper published, as plain data: numbers and orders with their source, and how our protocol differs from the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NumberClaim:
    """A published number: the mean of `column` over the points that agree with `where`.

    Without a tolerance the measured mean must lie within four of its own standard errors: 1 in 10,000 true values lies outside, with
    many seeds.
    """

    name: str
    where: Mapping[str, Any]
    column: str
    value: float
    tolerance: float | None = None


@dataclass(frozen=True)
class OrderClaim:
    """A published order: the mean of `column` rises from each of the groups to the next."""

    name: str
    column: str
    rising: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Claims:
    """All that is compared with one publication.

    Attributes:
        source: the publication, and where in it the numbers stand.
        ours: what the publication leaves open, and we chose.
        differs: what differs from its protocol.
    """

    source: str
    numbers: Sequence[NumberClaim] = ()
    orders: Sequence[OrderClaim] = ()
    ours: Sequence[str] = ()
    differs: Sequence[str] = ()
