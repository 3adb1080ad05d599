"""`gaplab atlas` from a spec to its folder, and networks of it trained again: equal to the bit, and what was changed is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis
import study
from analysis.atlas.edition import CARD, NETWORKS, SAMPLE, read_networks, write_edition
from study.atlas.verification import STUDY, Verified, _compared, verify_atlas
from tests.study.conftest import Answer
from tests.study.in_this_process import InThisProcess
from trainables.point.errors import ConfigError

SPEC = """study: small
trial:
  data: {name: small_digits, train_size: 40}
  model: {name: mlp}
  optimizer: {learning_rate: 0.05, batch_size: 20}
  budget: {epochs: 30, evaluate_every: 5}
space:
  model.parameters_per_sample: {values: [8, 32]}
  corruption.level: {values: [0, 1]}
  regularizers.weight_decay: {values: [0, 0.01]}
replicates: 2
measures: [l2_norm, epochs_to_tenth]
tracking: {mlflow: false}
"""


def build(spec: Path, storage: Path, gaplab: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Answer:
    monkeypatch.setattr("study.cli.atlas.run_drawn", InThisProcess())
    return gaplab("atlas", "build", str(spec), "--storage", str(storage))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "small.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def atlas(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an atlas; tests copy what they change."""
    storage = tmp_path_factory.mktemp("atlas")
    declared = study.read_spec(spec)
    InThisProcess()(declared, lambda summary: (), storage=str(storage))
    return write_edition(analysis.load(str(storage / "small")), declared.text, storage / "small" / "atlas").folder


def verified(folder: Path, tmp_path: Path, **how: object) -> Verified:
    def one_round(of: study.Spec) -> study.Summary:
        return InThisProcess()(of, lambda summary: (), storage=str(tmp_path / "verification"))

    return verify_atlas(folder, one_round=one_round, **how)  # type: ignore[arg-type]


def changed(atlas: Path, folder: Path, column: str, value: object) -> str:
    """A copy of an atlas' sample with all networks, one of them changed; returns its key."""
    rows = read_networks(atlas).to_pylist()
    rows[3][column] = value
    hand_on(pa.Table.from_pylist(rows, read_networks(atlas).schema), folder)
    return str(rows[3]["key"])


def hand_on(networks: pa.Table, folder: Path) -> None:
    """A folder as one hands it on, with these networks as its sample."""
    folder.mkdir()
    pq.write_table(networks, folder / SAMPLE)
    (folder / CARD).write_text("a card")


def test_networks_come_again_to_the_bit(atlas: Path, tmp_path: Path) -> None:
    found = verified(atlas, tmp_path, share=0.5)
    assert (found.exact, found.unlike, found.elsewhere, found.holds) == (8, {}, 0, True)
    assert found.summary.plan.study == STUDY
    assert found.summary.ran == 8
    again = verified(atlas, tmp_path, share=1.0)
    assert (again.summary.ran, again.exact) == (8, 16)  # the others were trained before


@pytest.mark.parametrize(("column", "value"), [("test_error", 0.123), ("measure.l2_norm", 1.5), ("epochs", 1)])
def test_a_changed_number_is_found(column: str, value: object, atlas: Path, tmp_path: Path) -> None:
    key = changed(atlas, tmp_path / "copy", column, value)
    found = verified(tmp_path / "copy", tmp_path, keys=[key])
    assert found.unlike == {key: (column,)}
    assert not found.holds


def test_another_processor_is_compared_by_means(atlas: Path, tmp_path: Path) -> None:
    """The difference of one network in two is half of it in the mean."""
    rows = [row | {"bits": "AUTO,STRICT on another"} for row in read_networks(atlas).to_pylist()[:2]]
    rows[0]["test_error"] -= 0.002
    hand_on(pa.Table.from_pylist(rows, read_networks(atlas).schema), tmp_path / "copy")
    found = verified(tmp_path / "copy", tmp_path, share=1.0)
    assert found.differences is not None
    assert found.differences["test_error"].value == pytest.approx(0.001)
    assert (found.exact, found.elsewhere, found.holds) == (0, 2, True)
    far = {"test_error": replace(found.differences["test_error"], value=0.02, low=0.015, high=0.025)}
    assert not replace(found, differences=far).holds


def test_what_cannot_be_verified_is_said(atlas: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--share is 2: it is the share"):
        verified(atlas, tmp_path, share=2.0)
    with pytest.raises(ConfigError, match="--key nobody is in no row"):
        verified(atlas, tmp_path, keys=["nobody"])
    changed(atlas, tmp_path / "copy", "regularizers.dropout", 0.5)
    with pytest.raises(ConfigError, match="declares another network here"):
        verified(tmp_path / "copy", tmp_path, share=1.0)


def test_build_shows_its_answers_and_a_second_run_trains_nothing(
    spec: Path, tmp_path: Path, gaplab: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = build(spec, tmp_path, gaplab, monkeypatch)
    folder = tmp_path / "small" / "atlas"
    assert answer.code == 0, answer.err
    for said in ("16 of 16 networks of small", "Where is memorisation benign?", "Which measure predicts", str(folder)):
        assert said in answer.out
    shown = gaplab("atlas", "show", str(folder))
    assert (shown.code, "Which regularizer moves" in shown.out) == (0, True)
    assert (folder / NETWORKS).is_dir()
    now = gaplab("atlas", "build", str(spec), "--storage", str(tmp_path), "--now")
    assert (now.code, "16 of 16 networks are recorded" in now.out) == (0, True)
    nothing = gaplab("atlas", "show", str(tmp_path))
    assert (nothing.code, "is no folder of an atlas" in nothing.err) == (2, True)


def test_columns_of_another_version_and_networks_that_now_diverge_are_told(atlas: Path, tmp_path: Path) -> None:
    hand_on(read_networks(atlas).drop_columns(["data.label"]), tmp_path / "copy")
    with pytest.raises(ConfigError, match=r"no column data\.label: the atlas is of another version"):
        verified(tmp_path / "copy", tmp_path, share=1.0)
    network = read_networks(atlas).slice(0, 1)
    here = {"key": network["key"][0].as_py(), "status": "diverged", "bits": None, "torch_version": None, "test_error": None}
    found = _compared(network, SimpleNamespace(records=pa.Table.from_pylist([here])))  # type: ignore[arg-type]
    assert found.unlike == {here["key"]: ("status",)}
    assert not found.holds
