"""Where results come from: what the worker that computed them says, which need not be what its driver would."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trainables.point.key import KEY_VERSION
from trainables.reproducibility import bits_mode

_HOME = Path(__file__).resolve().parents[2]
_OF_THE_DRIVER = " (driver)"


@dataclass(frozen=True)
class Provenance:
    """What is added to every record, where it is written.

    Attributes:
        git_commit: of the folder that the driver was started in, if that is a checkout.
        gaplab_version: the driver's.
    """

    study: str
    git_commit: str | None
    gaplab_version: str

    def columns(self, device: str | None) -> dict[str, Any]:
        """The columns; the driver's word stands, marked, only for what cannot be known here."""
        import torch

        driver = None if self.git_commit is None else self.git_commit + _OF_THE_DRIVER
        return {
            "study": self.study,
            "key_version": KEY_VERSION,
            "finished": datetime.now(UTC),
            "gaplab_version": _gaplab_version() or self.gaplab_version + _OF_THE_DRIVER,
            "torch_version": torch.__version__,
            "python_version": platform.python_version(),
            "git_commit": _imported_commit() or driver,
            "device": device,
            "host": platform.node(),
            "bits": bits_mode() if device == "cpu" else None,
        }


@cache
def _gaplab_version() -> str | None:
    """The version of the gaplab that this process has imported; None if it is not installed (a folder on Python's path)."""
    try:
        return version("gaplab")
    except PackageNotFoundError:
        return None


@cache
def _imported_commit() -> str | None:
    """The commit of the gaplab that this process has imported, if that is a checkout."""
    return git_commit(_HOME) if (_HOME / ".git").exists() else None


def git_commit(folder: Path) -> str | None:
    """The commit of a folder, if it lies in a git checkout."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
