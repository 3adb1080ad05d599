"""The probe's process: short runs before a study, apart from it, for the user's own models may end a process or never return."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trainables
from trainables.point.config import TrialConfig
from trainables.point.text import dumps

PATIENCE_SECONDS = 60.0
"""How long an answer may take; the probe keeps to about ten seconds."""


def answers(
    wanted: Sequence[tuple[str, Sequence[TrialConfig]]], sources: Mapping[str, str], patience: float = PATIENCE_SECONDS
) -> list[dict[str, Any]]:
    """What the probe answers to each question (see `trainables.probe.__main__`); where it did not, `why` says so.

    Args:
        wanted: what is asked, and of which points.
        sources: the user's own modules, path -> text.
        patience: seconds that an answer may take; they may share it as they like.
    """
    home = str(Path(trainables.__file__).parents[1])
    paths = os.pathsep.join(path for path in (home, os.environ.get("PYTHONPATH")) if path)
    try:
        said = subprocess.run(
            [sys.executable, "-m", "trainables.probe"],
            input=json.dumps({"wanted": [(what, dumps(points)) for what, points in wanted], "sources": dict(sources)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
            timeout=patience * len(wanted),
            check=False,
        ).stdout
        lost = "the probe's process ended"
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        lost = f"the probe did not end within {patience:g} seconds for each"
    found = [json.loads(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]
    return [*found, *[{"why": lost}] * (len(wanted) - len(found))]
