"""The circuit breaker: a study that cannot succeed, or whose time is up, stops, and says why."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ray import tune

FAILURES = 20
"""So many points, the first of a run, have to fail ..."""
PACKS = 3
"""... in so many packs, of which each has points of one shape: that one network is too large says nothing of the others."""
RECENT = 100
"""Later, of so many points that ended last ..."""
ALIKE = 0.95
"""... such a share has to fail with the same reason, in as many packs."""
_OF_A_REPORT = RECENT // PACKS
"""No report counts for more points of one kind: else a large pack would be all that is seen."""
LOSSES = 30
"""So many workers have to be lost, with no report of any other in between."""
_OF_THE_POINT = ("out of memory", "TimeoutError")
"""Reasons that are a configuration's own, however many points in a row have it: a grid goes through its large networks in one go."""


class Breaker(tune.Stopper):
    """Stops a run of Tune that cannot go on: its storage cannot be written, a worker may not train, its points all fail, its
    workers all die.

    Args:
        probe: writes something to the storage, and takes it away; called when a worker was lost. Raises OSError if it cannot.
        hours: from now, after which it stops in any case.

    >>> breaker = Breaker(lambda: None)
    >>> for number in range(3):
    ...     _ = breaker(f"trial {number}", {"points": {"failed": 10}, "reasons": {"ValueError: no": 10}})
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
        self._recent: deque[tuple[str, str | None]] = deque(maxlen=RECENT)  # the trial and, if it failed, the reason of each
        self._lost: list[str] = []  # trials of workers that were lost since the last report
        self._unwritable: str | None = None
        self._refused: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Look at a report, as Tune has every one looked at; no trial is stopped by itself."""
        counts, reasons = Counter(result["points"]), Counter(result["reasons"])
        self._refused = self._refused or result.get("refused")
        self._failed[trial_id] += counts["failed"]
        self._closed = self._closed or counts["failed"] < counts.total()
        for reason, count in ((None, counts.total() - reasons.total()), *reasons.items()):
            self._recent.extend([(trial_id, reason)] * min(count, _OF_A_REPORT))
        self._lost.clear()
        return False

    def lost(self, trial_id: str, for_good: bool) -> None:
        """A trial's worker was lost, or raised outside of a point."""
        self._failed[trial_id] += for_good
        self._lost.append(trial_id)
        try:
            self._probe()
        except OSError as error:
            self._unwritable = f"the storage cannot be written any more ({str(error).splitlines()[0]})"

    @property
    def reason(self) -> str | None:
        """Why the study should stop; None while it should not."""
        if self._unwritable or self._refused:
            return self._unwritable or self._refused
        if not self._closed and self._failed.total() >= FAILURES and len(+self._failed) >= PACKS:
            return f"the first {self._failed.total():,} points to end all failed"
        if len(self._lost) >= LOSSES and len(set(self._lost)) >= PACKS:
            return f"{len(self._lost):,} workers in a row were lost before they reported anything"
        if self._hours is not None and time.monotonic() - self._began > 3600 * self._hours:
            return f"its {self._hours:g} hours are up"
        return self._all_alike()

    def _all_alike(self) -> str | None:
        """The sentence if almost all of the points that ended last failed with the same reason; None if not."""
        if len(self._recent) < RECENT:
            return None
        reasons = Counter(reason for _, reason in self._recent if reason is not None)
        if not reasons:
            return None
        reason, count = reasons.most_common(1)[0]
        packs = {trial for trial, why in self._recent if why == reason}
        if count < ALIKE * RECENT or len(packs) < PACKS or reason.startswith(_OF_THE_POINT):
            return None
        return f"almost all points that ended lately failed with the same reason ({reason})"

    def stop_all(self) -> bool:
        """Tune asks this between any two events."""
        return self.reason is not None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return tune.stopper.NoopStopper, ()  # Tune pickles stoppers to restore runs, which gaplab never does
