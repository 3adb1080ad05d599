"""The reference pages say what the code says: `make docs` was run after the last change; and links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from docs import make

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "page"),
    [("fields", make.fields_page), ("columns", make.columns_page), ("measures", make.measures_page), ("models", make.models_page)],
)
def test_a_page_made_from_code_is_up_to_date(name: str, page: Callable[[], str]) -> None:
    assert (ROOT / "docs" / f"{name}.md").read_text() == make.NOTE + page(), "run make docs"


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
