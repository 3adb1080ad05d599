"""The lowest versions that pyproject.toml promises are those that `make test-lowest` tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
AS_THEY_ARE = {"torch", "torchvision"}
"""Too large to be installed twice."""


def test_the_lowest_versions_are_tested() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    promised = {each.name: str(each.specifier).removeprefix(">=") for each in map(Requirement, declared)}
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: Version(tested[name]) for name in promised if name not in AS_THEY_ARE} == {
        name: Version(version) for name, version in promised.items() if name not in AS_THEY_ARE
    }
