"""Nothing that a file may hold brings down the loader of specs or the reader of records (tests/benchmarks/fuzz.py tries longer)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.search.storage import JOURNAL
from tests.study.hostile_inputs import CHANGES, DAMAGE, SPECS, load_hostile_spec, made_up_study, read_damaged, read_damaged_journal
from tests.study.made_up_searches import Trained, spec_of

briefly = settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@briefly
@given(text=SPECS, changes=CHANGES)
def test_a_hostile_spec_is_understood_or_refused_in_a_sentence(folder: Path, text: str, changes: list[str]) -> None:
    load_hostile_spec(folder, text, changes)


@pytest.fixture(scope="module", params=["sealed", "older"])
def study_of_one_file(folder: Path, request: pytest.FixtureRequest) -> tuple[str, list[Path]]:
    return made_up_study(folder / request.param, older=request.param == "older")


@pytest.mark.parametrize("damaged", [0, 1], ids=["records", "curves"])
@settings(briefly, max_examples=80)
@given(damage=DAMAGE, cut=st.just(1.0) | st.floats(0, 1))
def test_a_damaged_record_file_is_read_or_skipped(
    study_of_one_file: tuple[str, list[Path]], damaged: int, damage: list[tuple[float, int]], cut: float
) -> None:
    root, files = study_of_one_file
    whole = files[damaged].read_bytes()
    try:
        assert read_damaged(root, files[damaged], whole, damage, cut).num_rows in range(5)
    finally:
        files[damaged].write_bytes(whole)


@pytest.fixture(scope="module")
def searched(folder: Path) -> tuple[Path, bytes]:
    root = folder / "searched"
    Trained(root).run(spec_of(trials=4, at_once=2))
    return root, (root / JOURNAL).read_bytes()


@settings(briefly, max_examples=30)
@given(damage=DAMAGE, cut=st.just(1.0) | st.floats(0, 1))
def test_a_damaged_journal_is_gone_on_with_or_refused_in_a_sentence(
    searched: tuple[Path, bytes], damage: list[tuple[float, int]], cut: float
) -> None:
    read_damaged_journal(*searched, damage, cut)
