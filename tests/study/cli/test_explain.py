"""``gaplab explain`` and ``--where`` on studies whose truth is known."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.records.schema import CURVES
from study.cli import app as cli
from tests.analysis.made_up_study import curve, record, records

DECAYS, DROPOUTS, RATES = (0.0, 0.1), (0.0, 0.5), (0.01, 0.1)


@pytest.fixture
def gaplab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """The command in a scratch folder: exit code and all that it says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gaplab", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out + err

    return run


@pytest.fixture
def factorial(tmp_path: Path) -> str:
    """The gap is 0.3 less decay, dropout and, where both are on, some more; the learning rate does nothing."""
    noise = np.random.default_rng(0)
    rows = []
    for decay, dropout, rate, seed in itertools.product(DECAYS, DROPOUTS, RATES, range(6)):
        gap = 0.3 - 0.1 * (decay > 0) - 0.04 * (dropout > 0) - 0.04 * (decay > 0 and dropout > 0) + noise.normal(0, 0.01)
        fields = {"regularizers.weight_decay": decay, "regularizers.dropout": dropout, "optimizer.learning_rate": rate}
        rows.append(record(**fields, seed=seed, test_error=gap))
    for kind, table in (("records", records(rows)), ("curves", pa.Table.from_pylist([one for row in rows for one in curve(row)], CURVES))):
        (tmp_path / "factorial" / kind).mkdir(parents=True)
        pq.write_table(table, tmp_path / "factorial" / kind / "all.parquet")
    return str(tmp_path / "factorial")


def test_the_knobs_that_matter_are_named_with_their_shares(factorial: str, gaplab: Callable[..., tuple[int, str]]) -> None:
    code, said = gaplab("explain", factorial)
    assert code == 0, said
    effects = {"regularizers.weight_decay": 0.06, "regularizers.dropout": 0.03, "regularizers.weight_decay \N{MULTIPLICATION SIGN}": 0.01}
    total = sum(one**2 for one in effects.values()) + 0.01**2
    for name, effect in effects.items():
        share, low, high = map(float, re.search(re.escape(name) + r"[^;(]*? ([\d.]+) % \(([\d.]+) to ([\d.]+)\)", said).groups())
        assert low <= 100 * effect**2 / total <= high
        assert low < share < high
    assert "Of the variance of generalization_gap over 48 runs that reached their train target" in said
    untold = said.partition("Not told from nothing: ")[2]
    assert "optimizer.learning_rate" in untold
    assert "weight_decay," not in untold


def test_a_study_drawn_at_random_is_explained_too(tmp_path: Path, gaplab: Callable[..., tuple[int, str]]) -> None:
    noise = np.random.default_rng(1)
    rows = []
    for index in range(120):
        rate, decay = 10 ** noise.uniform(-3, -1), 10 ** noise.uniform(-6, -2)
        gap = 0.4 + 0.05 * np.log10(rate) + noise.normal(0, 0.005)
        rows.append(record(**{"optimizer.learning_rate": rate, "regularizers.weight_decay": decay}, seed=index, test_error=gap))
    curves = pa.Table.from_pylist([one for row in rows for one in curve(row)], CURVES)
    for kind, table in (("records", records(rows)), ("curves", curves)):
        (tmp_path / "random" / kind).mkdir(parents=True)
        pq.write_table(table, tmp_path / "random" / kind / "all.parquet")
    code, said = gaplab("explain", str(tmp_path / "random"))
    assert code == 0, said
    (share,) = re.findall(r"optimizer\.learning_rate ([\d.]+) %", said)
    truth = (0.1 / np.sqrt(12)) ** 2 / ((0.1 / np.sqrt(12)) ** 2 + 0.005**2)
    assert float(share) == pytest.approx(100 * truth, abs=4)
    assert "regularizers.weight_decay" in said.partition("Not told from nothing: ")[2]


def test_where_keeps_what_it_says_and_errors_are_sentences(factorial: str, gaplab: Callable[..., tuple[int, str]]) -> None:
    code, said = gaplab("explain", factorial, "--where", "regularizers.dropout=0.5")
    assert code == 0, said
    assert "over 24 runs" in said
    code, said = gaplab("plot", factorial, "--where", "optimizer.learning_rate=0.1", "--where", "regularizers.dropout=0")
    assert code == 0, said
    for condition, sentence in (
        ("regularizers.dropout", "must be FIELD=VALUE"),
        ("regularizers.dropout=0.3", "no record has it; there are 0.0, 0.5"),
        ("regularizers.dropout=much", "'much' is no value of a column of type double"),
        ("dropout=0.5", "did you mean 'regularizers.dropout'?"),
    ):
        code, said = gaplab("plot", factorial, "--where", condition)
        assert (code, sentence in said, said.count("\n")) == (2, True, 1), said
