"""Where machine code is kept, and who compiles it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from filelock import FileLock

from trainables.engines import machine_code
from trainables.engines.machine_code import Kernels


def count(numbers: Any) -> None:
    numbers[0] += 1


def declared() -> tuple[Kernels, Any]:
    kernels = Kernels()
    return kernels, kernels.declare(numba.int64[::1])(count)


def made() -> Any:
    """`count` as a kernel that was made and called."""
    kernels, kernel = declared()
    kernels.make()
    numbers = np.zeros(1, np.int64)
    kernel(numbers)
    assert numbers[0] == 1
    return kernel


@pytest.fixture
def nowhere_to_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Numba has no place for machine code but the one that it is given."""

    def njit(*arguments: Any, cache: bool = False, **options: Any) -> Any:
        if cache and not numba.config.CACHE_DIR:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(*arguments, cache=cache, **options)

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(machine_code, "njit", njit)
    monkeypatch.setattr(machine_code.tempfile, "gettempdir", lambda: str(tmp_path))


@pytest.mark.usefixtures("nowhere_to_write")
def test_machine_code_is_kept_among_temporary_files_if_nowhere_else(tmp_path: Path) -> None:
    assert made().stats.cache_misses.total() == 1
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o700
    assert made().stats.cache_hits.total() == 1
    assert numba.config.CACHE_DIR == ""


@pytest.mark.usefixtures("nowhere_to_write")
def test_a_folder_in_which_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / f"gaplab-machine-code-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    assert made().stats.cache_path is None
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert made().stats.cache_path is None


def test_what_another_process_compiles_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kernels, kernel = declared()
    making = threading.Thread(target=kernels.make)
    with FileLock(Path(kernel.stats.cache_path) / "count.lock", thread_local=False):
        made_elsewhere = numba.njit(numba.void(numba.int64[::1]), cache=True, nogil=True, error_model="numpy")(count)
        making.start()
        making.join(0.2)
        assert making.is_alive()
        assert not kernel.signatures
    making.join(60)
    assert made_elsewhere.stats.cache_misses.total() == 1
    assert kernel.stats.cache_hits.total() == 1


def test_nobody_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine_code, "WAIT_SECONDS", 0.1)
    kernels, kernel = declared()
    with FileLock(Path(kernel.stats.cache_path) / "count.lock"):
        kernels.make()
    assert len(kernel.signatures) == 1
