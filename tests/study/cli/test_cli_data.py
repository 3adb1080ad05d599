"""``gaplab data`` on a bundled set, on a file with faults, and on what is no data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def test_a_file_is_described_and_its_faults_are_said(gaplab: Any, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.random((120, 5)), np.array(["no", "yes"])[np.arange(120) % 2]
    np.savez(tmp_path / "rows.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    answer = gaplab("data", str(tmp_path / "rows.npz"))
    assert answer.code == 0
    assert "a row of 5 numbers" in answer.out
    assert "2: no, yes are taken as 0 to 1" in answer.out
    assert "warning: every test sample is a training sample too" in answer.out
    assert "warning: 30 test samples: chance alone moves a test error by up to ±0.18; take more." in answer.out


def test_a_table_is_described_by_its_columns(gaplab: Any, tmp_path: Path) -> None:
    path = tmp_path / "plants.csv"
    path.write_text("height,soil,kind\n" + "".join(f"{place}.5,{'clay' if place % 3 else 'sand'},{place % 2}\n" for place in range(200)))
    answer = gaplab("data", str(path))
    assert answer.code == 0
    assert "a row of 3 numbers" in answer.out
    assert "1 of numbers; 1 of names, as 2 of 0 and 1: soil (2)" in answer.out
    assert "warning: the label is taken to be column 'kind', the last one: data.label names another." in answer.out
    assert "clay, sand are taken as 0 to 1" in gaplab("data", str(path), "--label", "soil").out
    wrong = gaplab("data", str(path), "--label", "soli")
    assert (wrong.code, len(wrong.err.splitlines())) == (2, 1)
    assert "it has height, soil, kind" in wrong.err


def test_what_is_no_data_set_is_one_line(gaplab: Any, tmp_path: Path) -> None:
    assert gaplab("data", "digits").code == 0
    for name, said in (("digts", "which is no data set"), (str(tmp_path / "none.npz"), "there is no data file")):
        answer = gaplab("data", name)
        assert answer.code == 2
        assert said in answer.err
        assert len(answer.err.splitlines()) == 1
