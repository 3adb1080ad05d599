"""A good guest: what a study changes in its caller's process, it puts back.

Ray, Tune, Optuna and MLflow are steered by environment variables, signal handlers and logging levels of the whole process.
`environment` and `levels` set some of these for a while; `as_found` keeps all that a study may touch.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")


@contextmanager
def as_found() -> Iterator[None]:
    """Warning filters, signal handlers, hooks, logging levels, environment and flush-to-zero are afterwards as they were before."""
    with warnings.catch_warnings(), signals_kept(), hooks_kept(), levels_kept(), environment_kept(), denormals_kept():
        logging.getLogger("ray.widgets").setLevel(logging.ERROR)  # Ray tells a notebook of packages that gaplab does without
        yield


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """The environment variables that are named have these values meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        _restore_environment(before)


@contextmanager
def environment_kept() -> Iterator[None]:
    """All environment variables are afterwards as they were before."""
    before = dict(os.environ)
    try:
        yield
    finally:
        _restore_environment(dict.fromkeys(os.environ) | before)


def _restore_environment(before: Mapping[str, str | None]) -> None:
    """Set the variables as they were before; None stands for one that was not set."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != value:
            os.environ[name] = value


@contextmanager
def signals_kept() -> Iterator[None]:
    """The signal handlers are afterwards as they were before; outside the main thread nobody can set any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:  # None: not set from Python, and cannot be
                signal.signal(number, handler)


@contextmanager
def hooks_kept() -> Iterator[None]:
    """What Python calls for exceptions that nobody catches is afterwards as it was before."""
    before = sys.excepthook, sys.unraisablehook
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook = before


def unbroken(call: Callable[[], _T]) -> _T:
    """Call what Ctrl-C must not break off: one that comes meanwhile is raised once the call has ended."""
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except Exception as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
        return done.result()
    except KeyboardInterrupt:
        if thread.ident is not None:  # it runs
            wait([done])
        raise


def stop_on_sigterm() -> None:
    """Take SIGTERM (from Slurm, Kubernetes, `ray job stop`) for Ctrl-C, until `signals_kept` ends."""
    if threading.current_thread() is threading.main_thread():
        stop = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGTERM, stop if callable(stop) else signal.default_int_handler)


@contextmanager
def levels(values: Mapping[str, int]) -> Iterator[None]:
    """The loggers that are named have these levels meanwhile."""
    before = {name: logging.getLogger(name).level for name in values}
    for name, level in values.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def levels_kept() -> Iterator[None]:
    """The levels of all loggers are afterwards as they were before."""
    before = {name: logger.level for name, logger in _loggers().items()}
    try:
        yield
    finally:
        now = _loggers()
        for name, level in before.items():
            if now[name].level != level:
                now[name].setLevel(level)
        if "mlflow" in now.keys() - before.keys():  # imported meanwhile; the mirror has made it quiet
            now["mlflow"].setLevel(os.environ.get("MLFLOW_LOGGING_LEVEL", "INFO").upper())


def _loggers() -> dict[str, logging.Logger]:
    """The loggers by name; the root's is empty."""
    named = {name: logger for name, logger in list(logging.root.manager.loggerDict.items()) if isinstance(logger, logging.Logger)}
    return {"": logging.root, **named}


@contextmanager
def denormals_kept() -> Iterator[None]:
    """Whether this thread flushes denormal numbers to zero is afterwards as it was before."""
    before = _flushed()
    try:
        yield
    finally:
        if _flushed() != before and (torch := sys.modules.get("torch")):
            torch.set_flush_denormal(before)


def _flushed() -> bool:
    return sys.float_info.min / 2 == 0.0
