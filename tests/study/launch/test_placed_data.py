"""Data sets as workers get them: one for each content, also where one file is read in several ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study.launch import tuner
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.sources import load
from trainables.point.config import Data


def test_one_file_read_in_two_ways_is_two_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plants.csv"
    path.write_text("height,soil,kind\n" + "".join(f"{place}.5,{'clay' if place % 3 else 'sand'},{place % 2}\n" for place in range(200)))
    monkeypatch.setattr(tuner.ray, "put", lambda parts: parts)
    kinds = [Data(name=str(path), label=label) for label in ("soil", "kind")]
    again = Data(name=str(path), label="kind", train_size=50)
    placed: dict[str, Any] = tuner.placed_datasets([*kinds, again, Data(name="digits"), Data(name="synthetic")])
    assert set(placed) == {load(kinds[0]).digest, load(kinds[1]).digest, "digits"}
    for data in kinds:
        digest = load(data).digest
        assert digest is not None
        assert Dataset.from_arrays(*placed[digest]).class_names == load(data).class_names
