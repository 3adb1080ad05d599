"""What stops the making of a file leaves what stood there before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import analysis
from analysis.whole_files import whole_file
from tests.analysis.made_up_study import gap_study


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with whole_file(path) as unfinished:
            unfinished.write_text(text)
        with pytest.raises(KeyboardInterrupt):
            _broken_off(path)
        assert path.read_text() == text
        assert list(path.parent.iterdir()) == [path]


def _broken_off(path: Path) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt


def test_links_stay_links_and_devices_devices(tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    with whole_file(link) as unfinished:
        unfinished.write_text("text")
    assert link.is_symlink()
    assert file.read_text() == "text"
    with whole_file("/dev/null") as unfinished:
        unfinished.write_text("text")
    assert Path("/dev/null").is_char_device()


def test_reports_and_charts_are_not_left_half_written(
    write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(write_study(gap_study(capacities=(1, 10), levels=(0.0,), seeds=2)))
    page, chart = tmp_path / "pages" / "report.html", tmp_path / "charts" / "gap"
    written = Path.write_text

    def broken_off(path: Path, text: str, **options: Any) -> int:
        written(path, text[:1000], **options)
        raise KeyboardInterrupt

    def drawn_in_part(figure: Figure, path: Path, **options: Any) -> None:
        path.write_bytes(b"\x89PNG")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", broken_off)
    monkeypatch.setattr(Figure, "savefig", drawn_in_part)
    with pytest.raises(KeyboardInterrupt):
        analysis.write_report(source, page)
    with pytest.raises(KeyboardInterrupt):
        analysis.write_chart(Figure(), chart)
    assert [*page.parent.iterdir(), *chart.parent.iterdir()] == []
