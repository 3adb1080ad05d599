"""Kernels as machine code: compiled once on a machine, by all of its processes together, and loaded from files from then on.

Numba keeps the code beside the source, or in the home folder; where it can write in neither, as in containers, it is given a folder
among the temporary files. Code is of one kind of processor: Numba compiles anew on another.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numba import config, njit, types

from trainables.point.gc_paused import gc_paused

WAIT_SECONDS = 60.0
"""How long a kernel that another process compiles is waited for."""
_POLL_SECONDS = 0.02


class Kernels:
    """Functions for machine code, with one signature each: `declare` all, then `make` them, so that no point's time goes into that."""

    def __init__(self) -> None:
        self._declared: list[tuple[Any, Any]] = []

    def declare(self, *arguments: types.Type) -> Callable[[Callable[..., None]], Any]:
        """Declare a function for arguments of these types, by decorating it; it can be called once it is made."""

        def decorator(function: Callable[..., None]) -> Any:
            options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
            try:
                kernel = njit(cache=True, **options)(function)
            except RuntimeError:  # neither beside the source nor in the home folder
                kernel = _cached_elsewhere(function, options)
            self._declared.append((kernel, types.void(*arguments)))
            return kernel

        return decorator

    def make(self) -> None:
        """Compile what was declared, or load the code that lies in files.

        Processes share the work: each compiles what no other is at, and waits for the rest.
        """
        waiting, since = list(self._declared), time.monotonic()
        with gc_paused():  # a tenth of the time
            while waiting:
                for declared in list(waiting):
                    kernel, signature = declared
                    with _alone(kernel, impatient=time.monotonic() > since + WAIT_SECONDS) as alone:
                        if alone:
                            kernel.compile(signature)
                            kernel.disable_compile()
                            waiting.remove(declared)
                if waiting:
                    time.sleep(_POLL_SECONDS)


def _cached_elsewhere(function: Callable[..., None], options: Mapping[str, Any]) -> Any:
    """A kernel whose code is kept among this machine's temporary files; nowhere if not even there."""
    before, config.CACHE_DIR = config.CACHE_DIR, _own_folder()
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return njit(**options)(function)
    finally:
        config.CACHE_DIR = before


def _own_folder() -> str:
    """A folder among the temporary ones that nobody else can write in, as what lies there is trusted; empty if there is none."""
    if not hasattr(os, "getuid"):
        return ""
    folder = Path(tempfile.gettempdir()) / f"gaplab-machine-code-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return ""
    return str(folder) if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077 else ""


@contextmanager
def _alone(kernel: Any, *, impatient: bool) -> Iterator[bool]:
    """Whether no other process is at this kernel now, nor will be meanwhile; or nobody can tell, or is waited for any longer."""
    if kernel.stats.cache_path is None or impatient:
        yield True
        return
    lock = FileLock(Path(kernel.stats.cache_path) / f"{kernel.__name__}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):  # a file system without locks
        yield True
        return
    try:
        yield True
    finally:
        lock.release()
