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


def test_what_is_no_data_set_is_one_line(gaplab: Any, tmp_path: Path) -> None:
    assert gaplab("data", "digits").code == 0
    for name, said in (("digts", "which is no data set"), (str(tmp_path / "none.npz"), "there is no data file")):
        answer = gaplab("data", name)
        assert answer.code == 2
        assert said in answer.err
        assert len(answer.err.splitlines()) == 1
