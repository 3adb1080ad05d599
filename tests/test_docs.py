"""The reference pages say what the code says: `make docs` was run after the last change; and links lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MADE = """
import json
from docs import make, make_how_we_know

pages = {"fields": make.fields_page, "columns": make.columns_page, "measures": make.measures_page, "models": make.models_page}
print(json.dumps({name: make.NOTE + page() for name, page in pages.items()} | {"how-we-know": make_how_we_know.page()}))
"""
"""Made in a process of its own: other tests register models and measures."""


def test_pages_made_from_code_are_up_to_date() -> None:
    made = subprocess.run([sys.executable, "-c", MADE], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    stale = [name for name, page in json.loads(made).items() if (ROOT / "docs" / f"{name}.md").read_text() != page]
    assert not stale, "run make docs"


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_the_documentation_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page is reached, no link or anchor is dead, every documented name exists, and nothing is loaded from elsewhere."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    for page in ("index.html", "tutorial/index.html", "reference/analysis/index.html"):
        loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?://[^\"]+)\"", (tmp_path / page).read_text())
        assert not loaded, page
