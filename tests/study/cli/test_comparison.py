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
