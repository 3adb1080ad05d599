"""The packages of the analysis export what they name, and importing them costs nothing before something is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import analysis

ROOMS = ("analysis", *(f"analysis.{room}" for room in ("records", "statistics", "figures", "report", "reproduction")))


@pytest.mark.parametrize("package", ROOMS)
def test_every_exported_name_is_there(package: str) -> None:
    found = import_module(package)
    assert all(getattr(found, name) is not None for name in found.__all__)
    assert set(found.__all__) <= set(dir(found))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = found.nothing


def test_an_import_alone_brings_no_other_package() -> None:
    script = f"import sys, {', '.join(ROOMS)}; print([name for name in ('numpy', 'pyarrow', 'matplotlib', 'torch') if name in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(analysis.__file__).parents[1], check=True, capture_output=True, text=True
    )
    assert ended.stdout == "[]\n"
