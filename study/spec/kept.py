"""The points of which the trained network is kept: the section ``keep`` of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.spec.fields import checked_value
from trainables.point.config import TrialConfig, flatten


@dataclass(frozen=True)
class Kept:
    """The points whose fields have one of the values that `where` gives for each; all points if it names no field.

    It travels to the workers.
    """

    where: Mapping[str, tuple[Any, ...]]

    def __call__(self, point: TrialConfig) -> bool:
        if point.is_solved:  # in closed form: there is no network
            return False
        fields = flatten(point)
        return all(fields[name] in values for name, values in self.where.items())


def read_kept(chosen: Mapping[str, Any] | None) -> Kept | None:
    """What the section says of networks.

    Raises:
        ConfigError: it names an unknown field, or a value that this cannot have.
    """
    if chosen is None:
        return None
    values = {name: value if isinstance(value, list) else [value] for name, value in chosen.items()}
    return Kept({name: tuple(checked_value(name, value, "keep.networks.") for value in some) for name, some in values.items()})
