"""The command line at studies that are odd: a figure, or one sentence and exit code 2; never a traceback."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import analysis
from study.cli import app as cli
from study.cli.shown.figures import FigureKind
from tests.analysis.made_up_study import gap_study, record

NOTHING = {"train_error": math.nan, "test_error": math.nan, "generalization_gap": math.nan, "test_loss": math.nan}
LOST = {"status": "diverged", "reason": "train loss is nan", "interpolated": False, "epochs": 2} | NOTHING
STUDIES: dict[str, list[dict[str, Any]]] = {
    "empty": [],
    "one run": gap_study(capacities=(1,), levels=(0.0,), seeds=1),
    "one seed": gap_study(seeds=1),
    "all diverged": [record(seed=seed, **LOST) for seed in range(3)],
    "some NaN": [row | (NOTHING if index % 2 else {}) for index, row in enumerate(gap_study())],
    "all NaN": [row | NOTHING for row in gap_study()],
    "one capacity": gap_study(capacities=(10,)),
}
OF_ONE_SIZE = ("one run", "one capacity")
"""No law can be fitted to these."""
STATES = {"empty": "there are no records yet", "all diverged": "no record is completed (3 diverged)"}
"""What is said of some studies, whatever figure is asked for; of samples, that there are none."""


@pytest.fixture
def gaplab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """The command in a scratch folder: exit code and all that it says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gaplab", *arguments])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out + err

    return run


def test_a_column_of_texts_is_no_axis_and_no_value(write_study: Callable[..., Path], gaplab: Any) -> None:
    rows = gap_study(capacities=(1, 10, 100), levels=(0.0, 1.0), seeds=2)
    source = str(write_study(rows))
    for arguments in (
        ("plot", source, "--capacity", "study"),
        ("plot", source, "--capacity", "key", "--kind", "double-descent"),
        ("plot", source, "--capacity", "status", "--kind", "capacity-corruption-map"),
        ("compare", source, "--setting", "corruption.level", "--value", "study"),
        ("explain", source, "--value", "reason", "--any-fit"),
    ):
        code, sentence = gaplab(*arguments)
        assert (code, len(sentence.splitlines())) == (2, 1), sentence
        assert "holds no numbers (string): choose a column that does" in sentence


def test_a_chart_is_not_written_beside_a_folder_under_its_name(write_study: Callable[..., Path], gaplab: Any, tmp_path: Path) -> None:
    source, folder = str(write_study(gap_study())), tmp_path / "charts"
    folder.mkdir()
    for command in ("plot", "fit"):
        code, said = gaplab(command, source, "--output", str(folder))
        assert code == 2
        assert f"--output: {folder} is a folder: give the path of the chart" in said.splitlines()[-1]
    assert not folder.with_suffix(".png").exists()


@pytest.mark.filterwarnings("error", "default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("study", STUDIES)
def test_a_figure_or_one_sentence(study: str, write_study: Callable[..., Path], gaplab: Callable[..., tuple[int, str]]) -> None:
    source = str(write_study(STUDIES[study]))
    drawn = []
    for kind in FigureKind:
        code, said = gaplab("plot", source, "--kind", kind, "--output", kind)
        if code == 0:
            drawn.append(kind)
            assert Path(f"{kind}.svg").stat().st_size > 5000
        else:
            assert code == 2
            assert said.count("\n") == 1
            assert said.startswith("gaplab: ")
            assert not re.search(r"Error|Traceback|\$|  ", said), said
            assert STATES.get(study, "") in said or "keeps no samples" in said, said
    if study not in ("empty", "all diverged", "all NaN"):
        assert {FigureKind.GAP, FigureKind.LEARNING, FigureKind.SCATTER, FigureKind.MAP} <= set(drawn)
    for command in (("fit", source), ("report", source, "--output", "page.html"), ("export", source, "all.csv")):
        code, said = gaplab(*command)
        asked = (study, command[0])
        refused = study in ("empty", "all diverged") and command[0] != "export" and asked != ("all diverged", "report")
        assert code == (2 if refused or (command[0] == "fit" and study in OF_ONE_SIZE) else 0), said
        assert code == 0 or said.count("\n") == 1


def test_thousands_of_levels_are_drawn_in_part_and_it_is_said(write_study: Callable[..., Path]) -> None:
    rows = gap_study(capacities=(1, 10), levels=np.linspace(0, 1, 2_000), seeds=1)
    folder = write_study([row | {"epochs": 1} for row in rows], fragments=1)
    table = analysis.load(str(folder))
    for draw in (analysis.gap_vs_capacity, analysis.train_vs_test):
        figure = draw(table)
        assert "12 of 2,000 lines are shown." in " ".join(figure.get_supxlabel().split())
        assert len(figure.legends[0].get_texts()) == 12


def test_many_comparisons_are_printed_in_part(write_study: Callable[..., Path], gaplab: Callable[..., tuple[int, str]]) -> None:
    source = str(write_study(gap_study(levels=tuple(np.linspace(0, 1, 20)), seeds=2)))
    code, said = gaplab("compare", source, "--setting", "model.width")
    assert code == 0
    assert said.startswith("120 comparisons: the 100 with the smallest p follow")
    assert len(said.splitlines()) == 101
    assert "Hedges" not in said, "of two pairs there is no effect size"


@pytest.mark.parametrize("moment", ["fit", "best_validation"])
def test_the_moment_is_named_on_the_figure(moment: str, write_study: Callable[..., Path], gaplab: Callable[..., tuple[int, str]]) -> None:
    source = write_study(gap_study())
    for path in (source / "curves").iterdir():
        table = pq.read_table(path)
        index = table.column_names.index("validation_error")
        pq.write_table(table.set_column(index, "validation_error", table["test_error"]), path)
    said = {"fit": "at the first epoch that fit", "best_validation": "at the epoch of lowest validation error"}[moment]
    assert gaplab("plot", str(source), "--at", moment, "--output", "gap")[0] == 0
    assert gaplab("report", str(source), "--at", moment, "--output", "page.html")[0] == 0
    assert f"taken {said}" in Path("page.html").read_text()
    assert f"Values {said}" in Path("page.html").read_text()
    code, sentence = gaplab("plot", str(source), "--kind", "learning-curves", "--at", moment)
    assert code == 2
    assert "learning-curves shows no values of one moment" in sentence


def test_a_moment_of_an_empty_study_is_a_sentence(write_study: Callable[..., Path], gaplab: Callable[..., tuple[int, str]]) -> None:
    assert gaplab("plot", str(write_study([])), "--at", "fit") == (2, "gaplab: there are no records yet: nothing can be shown\n")


def test_cut_and_half_written_files(write_study: Callable[..., Path], gaplab: Callable[..., tuple[int, str]]) -> None:
    source = write_study(gap_study(), fragments=3)
    for kind in ("records", "curves"):
        path = source / kind / "part-1.parquet"
        path.write_bytes(path.read_bytes()[:-100])
        (source / kind / ".part-9.parquet.tmp").write_bytes(b"PAR1")
    for figure in (FigureKind.GAP, FigureKind.LEARNING):
        code, said = gaplab("plot", str(source), "--kind", figure, "--output", "cut")
        assert code == 0
        assert "part-1.parquet is no complete Parquet file and was skipped" in said
        assert "part-9" not in said
