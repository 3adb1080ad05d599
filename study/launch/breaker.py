"""The circuit breaker: a study that cannot succeed, or whose time is up, stops, and says why."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ray import tune

FAILURES = 20
"""So many points, the first of a run, have to fail ..."""
PACKS = 3
"""... in so many packs, of which each has points of one shape: that one network is too large says nothing of the others."""


class Breaker(tune.Stopper):
    """Stops a run of Tune whose storage cannot be written, or whose first `FAILURES` points, of at least `PACKS` packs, all failed.

    Args:
        probe: writes something to the storage, and takes it away; called when a worker was lost. Raises OSError if it cannot.
        hours: from now, after which it stops in any case.

    >>> breaker = Breaker(lambda: None)
    >>> for number in range(3):
    ...     _ = breaker(f"trial {number}", {"points": {"failed": 10}})
    ...     print(breaker.reason)
    None
    None
    the first 30 points to end all failed
    """

    def __init__(self, probe: Callable[[], None], hours: float | None = None) -> None:
        self._probe = probe
        self._hours = hours
        self._began = time.monotonic()
        self._failed: Counter[str] = Counter()
        self._closed = False  # once a point has not failed
        self._unwritable: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Told of every report; no trial is stopped by itself."""
        counts = Counter(result["points"])
        self._failed[trial_id] += counts["failed"]
        self._closed = self._closed or counts["failed"] < counts.total()
        return False

    def lost(self, trial_id: str, for_good: bool) -> None:
        """A trial's worker was lost, or raised outside of a point."""
        self._failed[trial_id] += for_good
        try:
            self._probe()
        except OSError as error:
            self._unwritable = f"the storage cannot be written any more ({str(error).splitlines()[0]})"

    @property
    def reason(self) -> str | None:
        """Why the study should stop; None while it should not."""
        if self._unwritable:
            return self._unwritable
        if not self._closed and self._failed.total() >= FAILURES and len(+self._failed) >= PACKS:
            return f"the first {self._failed.total():,} points to end all failed"
        if self._hours is not None and time.monotonic() - self._began > 3600 * self._hours:
            return f"its {self._hours:g} hours are up"
        return None

    def stop_all(self) -> bool:
        """Tune asks this between any two events."""
        return self.reason is not None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return tune.stopper.NoopStopper, ()  # Tune pickles stoppers to restore runs, which gaplab never does
