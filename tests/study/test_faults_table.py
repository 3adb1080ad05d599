"""The table of docs/cluster/faults.md: fault, promise, test; every row names tests, and there are those tests."""

from __future__ import annotations

import re

import pytest


def test_every_row_names_tests_that_there_are(pytestconfig: pytest.Config) -> None:
    rows = [
        line.split(" | ") for line in (pytestconfig.rootpath / "docs/cluster/faults.md").read_text().splitlines() if line.startswith("| ")
    ][1:]
    assert len(rows) > 40
    sources = (path.read_text() for path in (pytestconfig.rootpath / "tests").rglob("test_*.py"))
    there = {name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    for fault, promise, shown in rows:
        named = re.findall(r"`(test_\w+)`", shown)
        assert promise, fault
        assert named, f"no test shows: {fault}"
        assert not set(named) - there, fault
