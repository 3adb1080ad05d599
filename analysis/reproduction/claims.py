"""What a paper published, as plain data: numbers and orders with their source, and how our protocol differs from the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Protocol = Literal["same", "stand-in", "control"]
"""How a claim was measured: on the published data at the published size (`same`), on less or on other data (`stand-in`), or so that it
says nothing about networks, because it cannot fail unless gaplab is broken (`control`: the test error of random labels)."""


@dataclass(frozen=True)
class NumberClaim:
    """A published number: the mean of `column` over the points that agree with `where`.

    Attributes:
        tolerance: how far away counts as the same. 0 for what is exact, such as a theorem; None for a value that the mean of many
            seeds estimates: four of its standard errors, outside of which lies 1 of 10,000 true values.
        train_error: that the paper states beside it. Only runs count whose train error is at most 0.01 above.
    """

    name: str
    where: Mapping[str, Any]
    column: str
    value: float
    tolerance: float | None = None
    train_error: float | None = None
    protocol: Protocol = "same"


@dataclass(frozen=True)
class OrderClaim:
    """A published order: `column` rises from each of the groups to the next, for runs of one seed.

    Attributes:
        rising: the groups, by what their points agree in; ``column`` in one names another column for it.
        equal_fit: whether only runs count that reached their train target.
        margin: by how much it rises at least.
    """

    name: str
    column: str
    rising: Sequence[Mapping[str, Any]]
    equal_fit: bool = True
    margin: float = 0.0
    protocol: Protocol = "same"


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
