"""A time limit for a call, which ends what hangs."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

GRACE = 10.0
"""Seconds, beside the limit once more, that code has to come back to Python before its process is ended."""

T = TypeVar("T")


def within(seconds: float | None, call: Callable[[], T]) -> T:
    """What the call gives; None is no limit. Limits do not nest.

    Code that never comes back to Python (a kernel that hangs) cannot be raised in: its process ends, with a traceback on
    standard error, after twice the limit and `GRACE`. Outside the main thread, and where there is no SIGALRM, that is all.

    Raises:
        TimeoutError: it took longer than so many seconds.

    >>> from itertools import count
    >>> within(0.01, lambda: all(True for _ in count()))
    Traceback (most recent call last):
    TimeoutError: longer than the limit of 0.01 seconds
    """
    if seconds is None:
        return call()

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than the limit of {seconds:g} seconds")

    interruptible = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    before = signal.signal(signal.SIGALRM, interrupt) if interruptible else None
    faulthandler.dump_traceback_later(2 * seconds + GRACE, exit=True, file=sys.__stderr__ or 2)
    try:
        try:
            if interruptible:
                signal.setitimer(signal.ITIMER_REAL, seconds)
            return call()
        finally:  # the alarm may ring here still: then it has rung, and what follows is undisturbed
            if interruptible:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        if interruptible:
            signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
