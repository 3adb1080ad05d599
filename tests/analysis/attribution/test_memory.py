"""What attribution takes is bounded as it says, and a machine with less is told so."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from analysis.attribution.datamodels import fit_datamodels
from analysis.attribution.membership import membership_attack
from analysis.attribution.memory import check_memory, needed_bytes
from analysis.attribution.subsets import Subsets
from analysis.attribution.table import _row
from analysis.errors import AnalysisError


@pytest.mark.parametrize(("networks", "samples", "outputs"), [(100, 900, 30), (300, 90, 60)])
def test_the_memory_of_a_setting_is_bounded_by_what_is_said(
    networks: int, samples: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.attribution.memory._MOST_CELLS", 4_000)
    dice = np.random.default_rng(0)
    membership_attack(np.eye(4, dtype=bool), np.eye(4, dtype=np.float32))  # imports
    tracemalloc.start()
    one = Subsets(
        {},
        np.arange(samples, dtype=np.int32),
        np.zeros(samples, dtype=np.int16),
        dice.integers(0, 2, (networks, samples), dtype=np.bool_),
        dice.integers(0, 2, (networks, samples), dtype=np.bool_),
        dice.random((networks, samples), dtype=np.float32),
        dice.integers(0, 2, (networks, outputs), dtype=np.bool_),
        dice.random((networks, outputs), dtype=np.float32),
        dice.random(networks),
    )
    _row(one)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert needed_bytes(networks, samples, outputs) / 3 < peak < needed_bytes(networks, samples, outputs)


def test_parts_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(0)
    trained = dice.random((60, 90)) < 0.5
    outputs = dice.normal(size=(60, 90)).astype(np.float32) + trained
    whole, attack = fit_datamodels(trained, outputs[:, :5]), membership_attack(trained, outputs)
    monkeypatch.setattr("analysis.attribution.memory._MOST_CELLS", 700)
    parted, again = fit_datamodels(trained, outputs[:, :5]), membership_attack(trained, outputs)
    assert parted.weights == pytest.approx(whole.weights, abs=1e-9)
    assert parted.score.value == pytest.approx(whole.score.value)
    assert again.statistics == pytest.approx(attack.statistics, abs=1e-5)


def test_too_little_memory_is_a_sentence_that_says_how_many_networks_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.attribution.memory.machine_bytes", lambda: 16e9)
    check_memory(2_000, 60_000, 10_000)
    with pytest.raises(
        AnalysisError, match=r"20,000 networks on 60,000 training and 10,000 test samples take .* GB .* 12 GB of the 16 GB"
    ) as found:
        check_memory(20_000, 60_000, 10_000)
    most = int(str(found.value).split("take ")[-1].split(" networks")[0].replace(",", ""))
    check_memory(most, 60_000, 10_000)
    with pytest.raises(AnalysisError, match="take smaller data"):
        check_memory(8, 10**10, 10)
