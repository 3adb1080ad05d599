"""Every preset with published numbers at its smoke scale: run in this process, recorded, compared, put on a page."""

from pathlib import Path

import pytest

from study.cli.shown.reproduction import compared, report, reproducible
from study.plan.points import declared_points
from study.records.writer import FragmentWriter, Provenance
from study.spec.reading import read_spec
from tests.trainables.made_up_points import train


@pytest.mark.parametrize("name", reproducible())
def test_smoke_runs_and_compares(name: str, tmp_path: Path) -> None:
    spec = read_spec(name, scale="smoke")
    assert spec.published is not None
    root = str(tmp_path / spec.study)
    writer = FragmentWriter(root, Provenance(spec.study, None, "0"))
    for point in declared_points(spec):
        writer(list(train([point.config]).values()), "cpu")
    page = compared(root, spec).page
    assert "failed" not in page
    assert "not run" not in page
    assert f"Published: {spec.published.source}" in page
    assert all(f"- {choice}" in page for choice in (*spec.published.ours, *spec.published.differs))


@pytest.mark.parametrize("name", reproducible())
def test_every_scale_declares_points(name: str) -> None:
    for scale in ("smoke", "cpu", "paper"):
        assert read_spec(name, scale=scale).assignments()


def test_what_was_never_run_is_a_page_too(tmp_path: Path) -> None:
    specs = [read_spec(name, scale="cpu") for name in ("table1", "theorem1")]
    text = report([compared(str(tmp_path / spec.study), spec) for spec in specs], "cpu", "results")
    assert text.count("No point of it was run.") == 2
    assert text.count("| not run |") == sum(len(spec.published.rows) + len(spec.published.orders) for spec in specs if spec.published)
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# Published and measured", "## table1", "## theorem1"]


def test_the_page_of_the_docs_is_of_the_presets_as_they_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reproduction.md").read_text("utf-8")
    chapters = {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}
    assert sorted(chapters) == reproducible()
    for name, chapter in chapters.items():
        spec = read_spec(name, scale="cpu")
        assert spec.published is not None
        for claim in (*spec.published.rows, *spec.published.orders):
            assert f"\n| {claim.name} |" in chapter, f"{name}: make docs/reproduction.md anew"
        assert all(f"\n- {choice}" in chapter for choice in (*spec.published.ours, *spec.published.differs))
        assert f" points of {len(spec.assignments()):,} declared " in chapter or "\nNo point of it was run.\n" in chapter
