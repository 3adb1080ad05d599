"""The tutorial runs in a notebook's kernel as it stands, and shows progress, a summary and a figure without being asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from study.launch.progress import _Bar, in_notebook

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial.ipynb"


def shown(cell: Any, kind: str) -> list[str]:
    return [output["data"][kind] for output in cell.outputs if kind in output.get("data", {})]


def test_the_tutorial_runs_from_question_to_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{TUTORIAL.parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    ran = next(cell for cell in notebook.cells if "study.run(" in cell.source)
    pages = "".join(shown(ran, "text/html"))
    assert "<progress" in pages
    assert "Missing packages" not in str(ran.outputs), "Ray says nothing of its own wishes"
    assert "<b>first-question</b>: 30 points: 30 completed" in pages
    assert "data:image/png;base64," in pages
    assert shown(notebook.cells[-2], "image/png"), "a figure at the end of a cell is shown without a magic"
    frame = "".join(shown(notebook.cells[-3], "text/html"))
    assert 7 <= frame.count("<tr") <= 13, "a head, and for each of two levels at three capacities a row, or two if only some seeds fit"


def test_outside_a_notebook_nothing_is_drawn() -> None:
    assert not in_notebook()


def test_the_bar_counts_what_did_not_complete() -> None:
    bar = _Bar()
    bar.what, bar.done, bar.total = "training", 3, 10
    bar.counts.update({"completed": 2, "failed": 1})
    assert bar._repr_html_() == '<div>training <progress max="10" value="3"></progress> 3 of 10, 1 failed</div>'
