"""`gaplab attribute` from a spec to what it says: planted samples rank first, each point is run once, and what is left out counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import analysis
import study
from analysis.attribution.left_out import LeaveOut, checks_of
from analysis.attribution.subsets import COLUMNS, log_odds, subsets_of
from analysis.figures.drawing.images import images_of
from study.attribution.declared import without
from study.attribution.rounds import Attributed, Effort, attribute_study
from study.plan.plan import plan_study
from tests.study.conftest import Answer
from tests.study.in_this_process import InThisProcess

SPEC = """study: planted
trial:
  data: {{name: "npz:{data}", preprocessing: unit}}
  corruption: {{kind: given}}
  model: {{name: mlp, width: 64}}
  optimizer: {{learning_rate: 0.1, batch_size: 30}}
  budget: {{epochs: 120}}
space: {{regularizers.weight_decay: {{values: [0, 0.1]}}}}
tracking: {{mlflow: false}}
"""
TWINS = {3: 60, 11: 61, 20: 62}
"""Test sample -> the training sample that it is a copy of, of noise: nothing else says what its label is."""
WRONG = (70, 71, 72, 73)
"""Training samples with a wrong label."""
NETWORKS = 120


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dice = np.random.default_rng(0)
    means = dice.uniform(60, 190, (3, 36))

    def drawn(labels: np.ndarray) -> np.ndarray:
        return np.clip(means[labels] + dice.normal(0, 15, (len(labels), 36)), 0, 255)

    labels, test_labels = np.arange(120) % 3, np.arange(30) % 3
    images, test_images = drawn(labels), drawn(test_labels)
    for test, train in TWINS.items():
        images[train] = dice.choice([0, 255], 36)
        test_images[test], test_labels[test] = images[train], labels[train]
    given = labels.copy()
    given[list(WRONG)] = (labels[list(WRONG)] + 1) % 3
    path = tmp_path_factory.mktemp("data") / "planted.npz"
    shaped = [part.reshape(-1, 6, 6).astype(np.uint8) for part in (images, test_images)]
    np.savez(path, x_train=shaped[0], x_test=shaped[1], y_train=given, y_train_true=labels, y_test=test_labels)
    return path


@pytest.fixture
def spec(data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "planted.yaml"
    path.write_text(SPEC.format(data=data))
    return path


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> InThisProcess:
    """What was run in each round, without Ray."""
    found = InThisProcess()
    monkeypatch.setattr("study.attribution.rounds.connected", lambda *arguments: nullcontext())
    monkeypatch.setattr("study.cli.terminal.progress.run_drawn", found)
    return found


def test_planted_samples_are_found_and_a_second_run_trains_nothing(
    gaplab: Callable[..., Answer], spec: Path, rounds: InThisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    asked = ["attribute", str(spec), "--storage", str(tmp_path), "--networks", str(NETWORKS)]
    asked += ["--checks", "2", "--group", "1", "--seeds", "6"]
    first = gaplab(*asked)
    assert first.code == 0, first.err
    root = f"{tmp_path}/planted-attribution"
    records = analysis.load(root)
    samples = analysis.load_samples(root, keys=records["key"])

    settings = analysis.attribution_table(records, samples).to_pylist()
    assert [row["regularizers.weight_decay"] for row in settings] == [0, 0.1]
    assert [row["networks"] for row in settings] == [NETWORKS] * 2
    assert all(row["share"] == 0.5 for row in settings)
    assert settings[0]["attack.low"] > 0.5, "networks that memorise give their members away"
    assert settings[0]["attack"] > settings[1]["attack"], "weight decay keeps them from it"
    assert settings[0]["memorised"] > settings[1]["memorised"]

    influences = analysis.influence_table(records, samples, test_samples=list(TWINS), most=1).to_pylist()
    mine = [row for row in influences if row["regularizers.weight_decay"] == 0]
    strongest = {row["test"]: row["index"] for row in mine if row["influence"] > 0}
    assert strongest == TWINS, "of the samples that are copies of a training sample, that one helps most"

    scores = analysis.memorisation_table(records.filter(_of_subsets(records)), samples).to_pylist()
    highest = [row["index"] for row in scores if row["regularizers.weight_decay"] == 0][: len(WRONG) + len(TWINS)]
    assert set(WRONG) <= set(highest) <= {*WRONG, *TWINS.values()}, "wrong labels, and noise, are what has to be memorised"

    assert rounds.ran == [2 * NETWORKS, records.num_rows - 2 * NETWORKS]
    assert "supporters" in first.out
    assert (Path(root) / "charts/attribution.png").stat().st_size > 10_000
    assert (Path(root) / "charts/influential-images.png").stat().st_size > 10_000
    second = gaplab(*asked)
    assert (second.code, second.out) == (0, first.out)
    assert rounds.ran[2:] == [0, 0]


def _of_subsets(records: pa.Table) -> pa.ChunkedArray:
    return pc.equal(records["data.train_size"], 60)


def test_what_is_left_out_is_the_difference_of_networks_with_one_seed(spec: Path, rounds: InThisProcess, tmp_path: Path) -> None:
    def one_round(of: study.Spec, then: Callable[[study.Summary], object]) -> study.Summary:
        return rounds(of, then, storage=str(tmp_path))

    understood = study.read_spec(spec, ("regularizers.weight_decay=0",))
    found = attribute_study(understood, Effort(NETWORKS, 0.5, 2, 1, 6), storage=str(tmp_path), one_round=one_round)
    assert {check.test for check in found.checks} <= set(TWINS), "copies of one sample depend on it most"
    assert all(check.supporters == (TWINS[check.test],) for check in found.checks)
    records = found.summary.records
    samples = analysis.load_samples(found.summary.root, columns=list(COLUMNS), keys=records["key"])
    rows = analysis.left_out_table(records, samples, found.checks).to_pylist()
    assert [row["which"] for row in rows] == ["supporters", "random"] * 2
    for row in rows[::2]:
        assert row["fall.low"] > 0, "without its copy its label is unknown"
        assert row["right"] == 1
        assert row["right.without"] < 1
    place = {key: number for number, key in enumerate(samples["key"].to_pylist())}
    check, falls = found.checks[0], []
    for seed in range(6):
        pair = []
        for left_out in (None, str(check.supporters[0])):
            keys = [
                row["key"]
                for row in records.to_pylist()
                if row["seed"] == seed and row["data.left_out"] == left_out and row["data.train_size"] > 60
            ]
            assert len(keys) == 1
            loss = np.array(samples["test_loss"][place[keys[0]]].as_py()[check.test])
            pair.append(float(log_odds(loss)))
        falls.append(pair[0] - pair[1])
    assert rows[0]["fall"] == pytest.approx(np.mean(falls), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ("seed=0", ("--share", "1.5"), "--share is 1.5"),
        ("data.train_size=50", (), "trial.data.train_size is set by attribution"),
        ("search={kind: optuna, trials: 3}", (), "search.kind optuna"),
        ("space={data.train_size: {values: [5, 6]}}", (), "space.data.train_size is set by attribution"),
        ("data.left_out=3,17", (), "trial.data.left_out is set by attribution"),
        ("optimizer.name=closed_form", (), "closed_form does not record"),
        ("corruption.kind=shuffled_pixels", (), "corruption.kind is shuffled_pixels"),
        ("model.parameters_per_sample=2", (), "model.parameters_per_sample ties"),
        ("data.validation_size=20", ("--share", "0.999"), "that is all of the 100 training samples"),
        ("data.validation_size=20", ("--group", "51"), "at most 50"),
    ],
)
def test_what_cannot_be_attributed_is_a_sentence(
    gaplab: Callable[..., Answer], spec: Path, tmp_path: Path, change: str, options: tuple[str, ...], said: str
) -> None:
    answer = gaplab("attribute", str(spec), "--storage", str(tmp_path / "results"), "--set", change, *options)
    assert answer.code == 2
    assert said in answer.err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("how", ["interrupted", "copying_interrupted"])
def test_a_round_that_the_user_has_ended_is_the_last(how: str, spec: Path, rounds: InThisProcess, tmp_path: Path) -> None:
    """Also one that copied to MLflow: Ctrl-C is not forgotten by a second round."""
    begun: list[study.Spec] = []

    def ended(of: study.Spec, then: Callable[[study.Summary], object]) -> study.Summary:
        begun.append(of)
        plan = plan_study(of, str(tmp_path))
        many = len(plan.points)
        return replace(study.Summary(plan, many, many, Counter(completed=many)), **{how: True})

    found = attribute_study(study.read_spec(spec), Effort(8, 0.5, 2, 1, 6), storage=str(tmp_path), one_round=ended)
    assert (len(begun), getattr(found.summary, how)) == (1, True)


def test_few_networks_have_no_datamodels(gaplab: Callable[..., Answer], spec: Path, rounds: InThisProcess, tmp_path: Path) -> None:
    answer = gaplab("attribute", str(spec), "--storage", str(tmp_path), "--networks", "8", "--seeds", "2")
    assert answer.code == 0, answer.err
    assert "datamodels" in answer.out
    assert rounds.ran == [16, 0], "eight networks are too few for datamodels, so nothing says what to leave out"


def test_a_setting_whose_networks_diverge_is_named_and_the_others_are_checked(
    gaplab: Callable[..., Answer], spec: Path, rounds: InThisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    rates = "space={optimizer.learning_rate: {values: [0.1, 1.0e+30]}}"
    small = ("--set", rates, "--set", "model.width=4", "--set", "budget.epochs=3", "--set", "regularizers.weight_decay=0.1")
    answer = gaplab("attribute", str(spec), "--storage", str(tmp_path), "--networks", "40", "--checks", "1", "--seeds", "2", *small)
    assert answer.code == 0, answer.err
    assert "optimizer.learning_rate 1e+30: 0 networks on random subsets completed (40 diverged), and 8 are needed" in answer.out
    assert rounds.ran == [80, 6], "networks with and without samples of the other setting alone"
    records = analysis.load(f"{tmp_path}/planted-attribution")
    few = records.filter(pc.or_(pc.equal(records["status"], "completed"), pc.less(records["seed"], 2)))
    few = pa.concat_tables([few.filter(pc.equal(few["seed"], 0)), few.filter(pc.greater(few["seed"], 36))])
    with pytest.raises(analysis.NothingToShow, match="no setting has 8 networks"):
        analysis.attribution_table(few, f"{tmp_path}/planted-attribution")


def test_what_this_machine_cannot_hold_is_refused_before_it_is_trained(
    gaplab: Callable[..., Answer], spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.attribution.memory.machine_bytes", lambda: 2e9)
    answer = gaplab("attribute", str(spec), "--storage", str(tmp_path / "results"), "--networks", "1000000")
    assert answer.code == 2
    assert "--networks is 1,000,000: 1,000,000 networks on 120 training and 30 test samples take 3.03 GB to set side by side" in answer.err
    assert "take 260,000 networks a setting or fewer" in answer.err
    assert not (tmp_path / "results").exists()


@pytest.fixture
def validated(spec: Path, rounds: InThisProcess, tmp_path: Path) -> Attributed:
    """Forty small networks with a validation split, on unequal numbers of samples, and some without their strongest supporter."""

    def one_round(of: study.Spec, then: Callable[[study.Summary], object]) -> study.Summary:
        return rounds(of, then, storage=str(tmp_path))

    sizes = "space={data.validation_size: {values: [20, 40]}}"
    understood = study.read_spec(spec, (sizes, "model.width=4", "budget.epochs=3"))
    return attribute_study(understood, Effort(40, 0.5, 1, 1, 2), storage=str(tmp_path), one_round=one_round)


def test_settings_of_unequal_sizes_with_a_validation_split_are_told_apart_and_checked(
    validated: Attributed, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = validated.summary.records
    samples = analysis.load_samples(validated.summary.root, keys=records["key"])
    settings = analysis.attribution_table(records, samples).to_pylist()
    assert [(row["data.validation_size"], row["networks"]) for row in settings] == [(40, 40), (20, 40)], "those on all are no subsets"
    rows = analysis.left_out_table(records, samples, validated.checks).to_pylist()
    assert [(row["data.validation_size"], row["which"], row["seeds"]) for row in rows] == [
        (size, which, 2) for size in (40, 20) for which in ("supporters", "random")
    ]

    whole = checks_of(records, samples, checks=3, group=50)
    assert all(len({*check.supporters, *check.others}) == 100 for check in whole), "as many others, where a class has too few as well"
    assert analysis.attribution_table(records, validated.summary.root).to_pylist() == settings, "read in parts"
    monkeypatch.setattr("analysis.attribution.memory._MOST_CELLS", 500)
    monkeypatch.setattr("analysis.records.parquet.samples._AT_ONCE", 7)
    parted = analysis.attribution_table(records, validated.summary.root).to_pylist()
    assert [pytest.approx(row) for row in parted] == settings, "and worked on in parts"
    in_parts = checks_of(records, samples, checks=3, group=50)
    assert [(check.test, check.supporters) for check in in_parts] == [(check.test, check.supporters) for check in whole]

    inside = np.tile(np.arange(120) < 60, (samples.num_rows, 1))
    with pytest.raises(analysis.NothingToShow, match="a part of the training set of its own"):
        list(subsets_of(records, _trained_on(samples, inside)))
    inside[:, :2] = np.random.default_rng(0).random((samples.num_rows, 2)) < 0.5
    few = analysis.influential_images(records, _trained_on(samples, inside))
    assert sum(len(panel.images) for panel in few.axes) == 6 * 3, "two samples have an influence that is known"
    inside[:] = np.arange(120) < 60
    inside[::40, 0] = False
    with pytest.raises(analysis.NothingToShow, match="nothing says what difference"):
        analysis.influence_table(records.slice(0, 40), _trained_on(samples, inside))


def _trained_on(samples: pa.Table, inside: np.ndarray) -> pa.Table:
    """The samples, had each point been trained on these."""
    return samples.set_column(samples.column_names.index("trained"), "trained", pa.array(list(inside)))


def test_a_check_belongs_to_the_setting_that_records_name_with_what_the_spec_leaves_to_a_default(spec: Path) -> None:
    kinds = study.read_spec(spec, ("space={corruption.kind: {values: [redraw, random_labels]}}",))
    setting = {"data.train_size": 60, "corruption.kind": "random_labels", "corruption.level": 1.0}
    found = without(kinds, [LeaveOut(setting, 0, (1, 2), (3, 4), 0.0, 0.0)], 2)
    assert {(one["corruption.kind"], one["data.left_out"], one["seed"]) for one in found} == {
        ("random_labels", left_out, seed) for left_out in (None, "1,2", "3,4") for seed in (0, 1)
    }


def test_data_without_images_have_no_images_drawn() -> None:
    table = pa.table({"data.name": ["wine"]})
    with pytest.raises(analysis.NothingToShow, match="wine has no images"):
        images_of(table, "train")
