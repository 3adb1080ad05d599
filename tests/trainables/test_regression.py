"""Regression from file to result: what is understood, and numbers against scikit-learn, NumPy and autograd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet
from sklearn.datasets import load_diabetes
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from torch import nn

from tests.trainables.made_up_points import CPU, alone, finish, only, point, told, train
from trainables.data.corruption import corrupt_labels
from trainables.data.inputs import point_data
from trainables.data.sets.inspection import inspect
from trainables.data.sets.sources import load
from trainables.models import build
from trainables.point.config import Corruption, Data, TrialConfig, with_fields
from trainables.point.errors import ConfigError
from trainables.point.streams import derive, generator
from trainables.point.text import dumps, loads
from trainables.resolution import resolve
from trainables.training.loop import Training

Floats = np.ndarray[Any, np.dtype[np.float64]]
Write = Callable[..., str]
SAMPLES, TESTED, INPUTS = 40, 20, 3


def made_up(targets: int = 1, seed: int = 0) -> dict[str, Floats]:
    """A linear teacher with noise, in units of their own: means of hundreds, deviations of tens."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(SAMPLES + TESTED, INPUTS))
    numbers = 30 * inputs @ draw.normal(size=(INPUTS, targets)) + 200 + 5 * draw.normal(size=(len(inputs), targets))
    numbers = numbers[:, 0] if targets == 1 else numbers
    parts = {"x": inputs, "y": numbers}
    return {f"{name}_{split}": rows for name, all_of in parts.items() for split, rows in _split(all_of).items()}


def _split(rows: Floats) -> dict[str, Floats]:
    return {"train": rows[:SAMPLES], "test": rows[SAMPLES:]}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write arrays as an .npz file, and answer its `data.name`."""

    def write(arrays: dict[str, Any], name: str = "numbers") -> str:
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return f"npz:{tmp_path / name}.npz"

    return write


# What is understood


@pytest.mark.parametrize("targets", [1, 2])
def test_floats_that_are_not_whole_are_numbers_scaled_by_the_training_samples(write: Write, targets: int) -> None:
    arrays = made_up(targets)
    dataset = load(Data(name=write(arrays)))
    trained, tested = (arrays[f"y_{split}"].reshape(-1, targets) for split in ("train", "test"))
    assert (dataset.is_regression, dataset.classes) == (True, targets)
    np.testing.assert_allclose(dataset.train_labels, (trained - trained.mean(0)) / trained.std(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dataset.test_labels, (tested - trained.mean(0)) / trained.std(0), rtol=1e-5, atol=1e-6)
    assert [target.mean for target in dataset.targets] == pytest.approx(trained.mean(0).tolist())
    resolved = point({"data.name": write(arrays)})
    assert (resolved.data.task, resolved.optimizer.loss, resolved.budget.stop_at_train_error) == ("regression", "squared", 0.01)


@pytest.mark.parametrize(
    "labels",
    [np.arange(SAMPLES) % 3, np.arange(SAMPLES) % 2 == 0, np.where(np.arange(SAMPLES) % 2, -1.0, 1.0), np.eye(3)[np.arange(SAMPLES) % 3],
     np.array(["no", "yes"])[np.arange(SAMPLES) % 2], (np.arange(SAMPLES) % 4).astype(np.float32)],
    ids=["whole", "truth", "signs", "one-hot", "names", "whole floats"],
)  # fmt: skip
def test_whatever_was_classes_stays_so(write: Write, labels: Floats) -> None:
    name = write(made_up() | {"y_train": labels, "y_test": labels[:TESTED]})
    resolved = point({"data.name": name})
    assert (resolved.data.task, resolved.optimizer.loss, load(Data(name=name)).is_regression) == (None, "cross_entropy", False)
    assert point({"data.name": name, "data.task": "classification"}).key() == resolved.key()


def test_whole_numbers_are_learnt_as_numbers_where_the_spec_says_so_with_a_key_of_their_own(write: Write) -> None:
    whole = np.arange(SAMPLES) % 4
    name = write(made_up() | {"y_train": whole, "y_test": whole[:TESTED]})
    classes, numbers = point({"data.name": name}), point({"data.name": name, "data.task": "regression"})
    assert (classes.data.task, numbers.data.task) == (None, "regression")
    assert classes.key() != numbers.key()
    assert loads(dumps([numbers]))[0] == numbers
    as_floats = write(made_up() | {"y_train": whole.astype(float), "y_test": whole[:TESTED].astype(float)}, "floats")
    assert point({"data.name": as_floats, "data.task": "regression"}).key() == numbers.key()
    assert point({"data.name": as_floats}).key() not in (numbers.key(), classes.key())
    counts = write(made_up() | {"y_train": whole * 10, "y_test": whole[:TESTED]}, "counts")
    with pytest.raises(ConfigError, match=r"data\.task: regression takes them for numbers"):
        load(Data(name=counts))


def test_a_named_task_leaves_the_key_of_numbers_as_it_is(write: Write) -> None:
    name = write(made_up())
    assert point({"data.name": name, "data.task": "regression"}).key() == point({"data.name": name}).key()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_of_numbers_is_the_target_of_a_table_with_the_key_of_the_same_arrays(tmp_path: Path, write: Write, suffix: str) -> None:
    arrays = made_up()
    split = ["train"] * SAMPLES + ["test"] * TESTED
    columns = {f"x{place}": np.concatenate([arrays["x_train"], arrays["x_test"]])[:, place] for place in range(INPUTS)}
    table = pa.table(columns | {"price": np.concatenate([arrays["y_train"], arrays["y_test"]]), "split": split})
    path = tmp_path / f"houses.{suffix}"
    if suffix == "csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path)
    dataset = load(Data(name=str(path), label="price"))
    assert [target.name for target in dataset.targets] == ["price"]
    stored = write(arrays | {name: arrays[name].astype(np.float32) for name in ("x_train", "x_test")})
    assert dataset.digest == load(Data(name=stored)).digest
    with pytest.raises(ConfigError, match=r"column 'price' holds the labels, and .* is no class: leave data\.task out"):
        load(Data(name=str(path), label="price", task="classification"))
    path.unlink()
    parquet.write_table(table.drop(["split"]), tmp_path / "whole.parquet")
    drawn = load(Data(name=str(tmp_path / "whole.parquet"), label="price", test_fraction=0.25))
    assert (len(drawn.train_labels), len(drawn.test_labels)) == (45, 15)
    assert dict(drawn.facts)["test rows"] == "0.25 of the rows, drawn by data.test_seed 0"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"y_train": np.full(SAMPLES, 0.5)}, "0.5 for every training sample: there is nothing to learn"),
        ({"y_test": np.r_[np.nan, np.ones(TESTED - 1)]}, "y_test holds 1 targets that are NaN or infinite"),
        ({"y_test": np.ones((TESTED, 2))}, "y_test has 2 targets a sample, and y_train 1"),
        ({"y_train": np.zeros((SAMPLES, 1, 1)) + 0.5}, "must hold numbers to be learnt"),
    ],
)
def test_targets_that_cannot_be_learnt_are_refused_in_a_sentence(write: Write, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(Data(name=write(made_up() | changed)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"corruption.kind": "flip"}, "flip, which is for classes.*use redraw, random_labels, given"),
        ({"corruption.kind": "random_signs"}, "random_signs, which is for classes"),
        ({"corruption.kind": "instance", "corruption.level": 0.5}, "instance, which is for classes"),
        ({"corruption.kind": "class_conditional", "corruption.transition": "pair_flip", "corruption.level": 0.5}, "which is for classes"),
        ({"corruption.kind": "given"}, "has no labels beside the true ones"),
        ({"regularizers.label_smoothing": 0.1}, "label_smoothing is for classes"),
        ({"data.task": "classification"}, "but the labels of diabetes are numbers"),
        ({"model.name": "theorem1", "optimizer.name": "closed_form"}, "theorem1, which is for classes"),
        ({"data.name": "digits", "data.task": "regression"}, "but the labels of digits are classes"),
    ],
)
def test_what_needs_classes_is_refused_in_a_sentence(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        point({"data.name": "diabetes"} | fields)


def test_measures_are_refused() -> None:
    with pytest.raises(ConfigError, match="measures are of classifiers"):
        Training([point({"data.name": "diabetes"})], CPU, measures=["margin"])


def test_a_look_at_a_file_says_what_was_understood(write: Write) -> None:
    arrays = made_up(2)
    found = inspect(load(Data(name=write(arrays))))
    facts = dict(found.facts)
    assert facts["task"].startswith("regression of 2 numbers, by squared loss")
    both = np.concatenate([arrays["y_train"], arrays["y_test"]])[:, 1]
    deviation = arrays["y_train"][:, 1].std()
    assert facts["target 1"].startswith(f"{both.min():.4g} to {both.max():.4g}, mean ")
    assert f"standard deviation {deviation:.4g} over the training samples" in facts["target 1"]
    assert any("20 test samples are few" in warning for warning in found.warnings)
    shares = np.random.default_rng(0).dirichlet(np.ones(3), SAMPLES + TESTED)
    soft = load(Data(name=write(made_up() | {f"y_{split}": rows for split, rows in _split(shares).items()}, "soft")))
    assert any("as probabilities of classes do" in warning for warning in inspect(soft).warnings)


def test_the_resolution_is_what_chance_does_to_the_error_of_the_mean() -> None:
    """Simulated: the error of always saying 0 on 50 fresh Gaussian targets lies within it 95 % of the time."""
    from trainables.data.sets.inspection import error_resolution

    targets = torch.randn(2000, 50, 1, generator=torch.Generator().manual_seed(0))
    reach = np.mean([error_resolution(one) for one in targets])
    assert ((targets.square().mean((1, 2)) - 1).abs() <= reach).float().mean().item() == pytest.approx(0.95, abs=0.03)


# Corruption


def test_redrawn_targets_are_of_the_training_samples_and_a_higher_level_corrupts_more() -> None:
    labels = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    half, most = (corrupt_labels(labels, 2, Corruption("redraw", level, seed=3)) for level in (0.5, 0.9))
    differ = (half != labels).any(1)
    assert differ.float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert torch.equal(half[differ], most[differ])
    rows = {tuple(row) for row in labels.tolist()}
    assert all(tuple(row) in rows for row in half.tolist())
    assert half[:, 0].std().item() == pytest.approx(labels[:, 0].std().item(), rel=0.1)


def test_given_numbers_are_trained_on_and_tested_by_the_true_ones(write: Write) -> None:
    arrays = made_up()
    given = arrays["y_train"].copy()
    given[:10] += 100.5
    name = write(arrays | {"y_train": given, "y_train_true": arrays["y_train"]})
    fields = {"data.name": name, "model.name": "linear", "optimizer.name": "closed_form"}
    clean, noisy = (point_data(point(fields | corruption), CPU) for corruption in ({}, {"corruption.kind": "given"}))
    assert (int(clean.train.wrong.sum()), int(noisy.train.wrong.sum())) == (0, 10)
    shift = (noisy.train.labels - clean.train.labels)[:10, 0]
    assert shift.tolist() == pytest.approx([100.5 / arrays["y_train"].std()] * 10, rel=1e-5)


# Results


def standardized(rows: Floats, by: Floats) -> Floats:
    return (rows - by.mean(0)) / by.std(0)


@pytest.mark.parametrize("targets", [1, 2])
def test_closed_form_least_squares_is_scikit_learns(write: Write, targets: int) -> None:
    arrays = made_up(targets)
    fields = {"data.name": write(arrays), "model.name": "linear", "optimizer.name": "closed_form", "regularizers.weight_decay": 0.1}
    result = only(fields)
    inputs = {split: standardized(arrays[f"x_{split}"], arrays["x_train"]) for split in ("train", "test")}
    numbers = {split: arrays[f"y_{split}"].reshape(-1, targets) for split in ("train", "test")}
    centred = numbers["train"] - numbers["train"].mean(0)
    ridge = Ridge(alpha=0.1 * SAMPLES, fit_intercept=False).fit(inputs["train"], centred)
    for split in ("train", "test"):
        found = np.asarray(ridge.predict(inputs[split])).reshape(-1, targets) + numbers["train"].mean(0)
        expected = (((found - numbers[split]) ** 2).mean(0) / numbers["train"].var(0)).mean()
        assert result.outcome[f"{split}_nmse"] == pytest.approx(expected, rel=1e-4)
        assert result.outcome[f"{split}_loss"] == pytest.approx(expected * targets / 2, rel=1e-4)
    assert result.outcome["nmse_gap"] == result.outcome["test_nmse"] - result.outcome["train_nmse"]
    assert not {"train_error", "test_error", "generalization_gap"} & {name for name, value in result.outcome.items() if value is not None}


def test_train_error_is_one_minus_scikit_learns_r2_and_training_finds_its_solution() -> None:
    """The diabetes of scikit-learn: its own split, its own solver, and SGD on a linear network."""
    bundle = load_diabetes()
    tested = np.arange(len(bundle.target)) % 5 == 0
    solver = LinearRegression().fit(bundle.data[~tested], bundle.target[~tested])
    expected = 1 - r2_score(bundle.target[~tested], solver.predict(bundle.data[~tested]))
    fields = {"data.name": "diabetes", "model.name": "linear"}
    solved = only(fields | {"optimizer.name": "closed_form"}).outcome
    assert solved["train_nmse"] == pytest.approx(expected, rel=1e-5)
    residuals = bundle.target[tested] - solver.predict(bundle.data[tested])
    assert solved["test_nmse"] == pytest.approx((residuals**2).mean() / bundle.target[~tested].var(), rel=1e-5)
    sgd = {"optimizer.learning_rate": 0.1, "optimizer.batch_size": 353, "budget.epochs": 400, "budget.evaluate_every": 400}
    assert only(fields | sgd).outcome["train_nmse"] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("family", ["mlp", "random_features", "own"])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_step_of_every_engine_is_autograds(write: Write, monkeypatch: pytest.MonkeyPatch, family: str, name: str) -> None:
    """Three full-batch steps towards two numbers a sample: machine code, stacked products, and any module."""
    if family == "own":
        monkeypatch.setattr("trainables.engines.choice.stackable", lambda template: False)
    fields = {
        "data.name": write(made_up(2)), "model.name": "mlp" if family == "own" else family, "model.width": 8, "optimizer.name": name,
        "optimizer.momentum": 0.0, "optimizer.learning_rate": 0.05, "optimizer.batch_size": SAMPLES, "budget.epochs": 3,
        "corruption.level": 0.5, "regularizers.weight_decay": 0.01,
    }  # fmt: skip
    declared = point(fields)
    data = point_data(declared, CPU)
    module = build(declared.model, 0.0, data.image_shape, 2, seed=derive(declared.seed, "initialization"))
    decayed = [parameter for parameter in module.parameters() if parameter.requires_grad and parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.requires_grad and parameter.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, *([{"params": others}] if others else [])]
    rule = torch.optim.SGD(groups, lr=0.05) if name == "sgd" else torch.optim.Adam(groups, lr=0.05)
    inputs = data.train.inputs.gather(data.train.index).reshape(-1, *data.image_shape)
    for _ in range(3):
        rule.zero_grad()
        torch.autograd.backward((module(inputs) - data.train.labels).square().sum(1).mean() / 2)
        rule.step()
    (result,) = train([declared]).values()
    with torch.no_grad():
        tested = module(data.test.inputs.gather(data.test.index).reshape(-1, *data.image_shape))
        trained = module(inputs)
    for outputs, samples, split in ((trained, data.train, "train"), (tested, data.test, "test")):
        assert result.outcome[f"{split}_nmse"] == pytest.approx((outputs - samples.labels).square().mean().item(), rel=1e-4)


def test_batches_take_the_targets_of_their_samples(write: Write) -> None:
    """Against a loop in plain PyTorch over the same orders of samples, with a last batch that is smaller."""
    declared = point({"data.name": write(made_up()), "model.name": "linear", "optimizer.batch_size": 16, "optimizer.momentum": 0.0,
                      "optimizer.learning_rate": 0.03, "budget.epochs": 2})  # fmt: skip
    data = point_data(declared, CPU)
    module = build(declared.model, 0.0, data.image_shape, 1, seed=derive(declared.seed, "initialization"))
    rule = torch.optim.SGD(module.parameters(), lr=0.03)
    for epoch in range(2):
        order = torch.randperm(SAMPLES, generator=generator(declared.seed, "batches", epoch))
        for rows in torch.split(order, 16):
            rule.zero_grad()
            outputs = module(data.train.inputs.gather(data.train.index[rows]).reshape(-1, *data.image_shape))
            nn.functional.mse_loss(outputs, data.train.labels[rows]).div(2).backward()  # type: ignore[no-untyped-call]
            rule.step()
    with torch.no_grad():
        outputs = module(data.train.inputs.gather(data.train.index).reshape(-1, *data.image_shape))
    (result,) = train([declared]).values()
    assert result.outcome["train_nmse"] == pytest.approx((outputs - data.train.labels).square().mean().item(), rel=1e-4)


def test_packs_and_resumes_change_no_bit_of_a_result(write: Write) -> None:
    name = write(made_up(2))
    fields = {"data.name": name, "model.width": 6, "budget.epochs": 4, "data.validation_size": 10, "regularizers.mixup": 0.2}
    points = [point(fields | {"seed": seed, "corruption.level": level}) for seed in (0, 1) for level in (0.0, 1.0)]
    together = {key: told(result) for key, result in train(points).items()}
    assert together == {each.key(): alone(each) for each in points}
    assert all(row["validation_nmse"] > 0 for result in train(points).values() for row in result.curve)
    half = Training(points, CPU)
    half.epoch()
    again = Training(points, CPU)
    again.load_state_dict(half.state_dict())
    assert {key: told(result) for key, result in finish(again).items()} == together


def test_a_run_stops_where_ninety_nine_hundredths_of_the_variance_are_explained(write: Write) -> None:
    fields = {"data.name": write(made_up()), "model.width": 128, "optimizer.learning_rate": 0.03, "budget.epochs": 500}
    result = only(fields)
    assert (result.reason, result.outcome["interpolated"]) == ("reached the train target", True)
    assert result.outcome["train_nmse"] <= 0.01 < result.curve[-2]["train_nmse"]
    assert only(fields | {"budget.epochs": 1}).outcome["interpolated"] is False
    on = only(fields | {"budget.stop_at_train_error": None, "budget.epochs": result.outcome["epochs"] + 2})
    assert (on.outcome["fit_epoch"], on.outcome["epochs"]) == (result.outcome["fit_epoch"], result.outcome["epochs"] + 2)


def test_patience_is_with_the_validation_error_of_numbers(write: Write) -> None:
    fields = {"data.name": write(made_up()), "data.validation_size": 10, "regularizers.early_stopping": 3, "optimizer.learning_rate": 0.03}
    result = only(fields | {"corruption.level": 1.0, "model.width": 64, "budget.epochs": 200})
    errors = [row["validation_nmse"] for row in result.curve]
    assert result.reason == "stopped early: no lower validation error"
    assert len(errors) - 1 - int(np.argmin(errors)) == 3


def test_resolving_twice_changes_nothing(write: Write) -> None:
    declared = with_fields(TrialConfig(), {"data.name": write(made_up())})
    assert resolve(resolve(declared)) == resolve(declared)


def test_kernel_regression_is_scikit_learns(write: Write) -> None:
    arrays = made_up(2)
    fields = {"data.name": write(arrays), "model.name": "gaussian_kernel", "model.kernel_scale": 2.0, "optimizer.name": "closed_form"}
    result = only(fields | {"regularizers.weight_decay": 0.05})
    inputs = {split: standardized(arrays[f"x_{split}"], arrays["x_train"]) for split in ("train", "test")}
    numbers = {split: standardized(arrays[f"y_{split}"], arrays["y_train"]) for split in ("train", "test")}
    ridge = KernelRidge(alpha=0.05 * SAMPLES, kernel="rbf", gamma=1 / 8).fit(inputs["train"], numbers["train"])
    for split in ("train", "test"):
        expected = ((ridge.predict(inputs[split]) - numbers[split]) ** 2).mean()
        assert result.outcome[f"{split}_nmse"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("family", ["linear", "mlp", "cnn5", "random_features", "transformer", "embedding_mlp"])
def test_families_have_an_output_for_each_target(write: Write, family: str) -> None:
    draw = np.random.default_rng(5)
    arrays: dict[str, Any] = made_up(3)
    sequences = family in ("transformer", "embedding_mlp")
    for split, count in (("train", SAMPLES), ("test", TESTED)):
        arrays[f"x_{split}"] = draw.integers(0, 5, (count, 4)) if sequences else draw.integers(0, 255, (count, 12, 12), dtype=np.uint8)
    name = write(arrays | ({"vocabulary": 5} if sequences else {}))
    result = only({"data.name": name, "model.name": family, "model.width": 8, "budget.epochs": 1, "optimizer.learning_rate": 0.01})
    assert result.status == "completed", result.reason
    assert np.isfinite(result.outcome["test_nmse"])
