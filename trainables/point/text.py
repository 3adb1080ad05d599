"""Points as text, for whoever carries them: Tune copies, flattens and saves the configuration of every trial."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trainables.point.config import TrialConfig, flatten, with_fields


def dumps(points: Sequence[TrialConfig]) -> str:
    """Points as text: small and opaque to Tune, which copies, flattens and saves the configuration of every trial.

    >>> dumps([TrialConfig(seed=3)])
    '[{"seed": 3}]'
    """
    defaults = flatten(TrialConfig())
    return json.dumps([{name: value for name, value in flatten(point).items() if value != defaults[name]} for point in points])


def loads(text: str) -> list[TrialConfig]:
    """The points of `dumps`."""
    return [with_fields(TrialConfig(), fields) for fields in json.loads(text)]
