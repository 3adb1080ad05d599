"""What a run reports while it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """What `run` calls while it goes; the command line draws it.

    Attributes:
        planned: with the number of points that are resolved.
        started: with the number of points to train, and the seconds that they are expected to take on one worker.
        advanced: with how many points ended in which status, and the expected seconds that are newly done.
        trained: once training has ended, before results are shown.
        mirrored: with how many records are copied to MLflow, and of how many.
        noted: with a sentence about what is going to be done.
    """

    planned: Callable[[int], None] = lambda done: None
    started: Callable[[int, float], None] = lambda points, seconds: None
    advanced: Callable[[Counter[str], float], None] = lambda statuses, seconds: None
    trained: Callable[[], None] = lambda: None
    mirrored: Callable[[int, int], None] = lambda done, total: None
    noted: Callable[[str], None] = lambda sentence: None
