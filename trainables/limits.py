"""A time limit for a stretch of code, which ends what hangs."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 10.0
"""Seconds, beside the limit once more, that code has to come back to Python before its process is ended."""


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError in code that takes longer; None is no limit. Limits do not nest.

    Code that never comes back to Python (a kernel that hangs) cannot be raised in: its process ends, with a traceback on
    standard error, after twice the limit and `GRACE`. Outside the main thread, and where there is no SIGALRM, that is all.

    >>> with within(0.01):
    ...     while True:
    ...         pass
    Traceback (most recent call last):
    TimeoutError: longer than the limit of 0.01 seconds
    """
    if seconds is None:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than the limit of {seconds:g} seconds")

    interruptible = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    before = signal.signal(signal.SIGALRM, interrupt) if interruptible else None
    faulthandler.dump_traceback_later(2 * seconds + GRACE, exit=True, file=sys.__stderr__ or 2)
    try:
        if interruptible:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        if interruptible:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
