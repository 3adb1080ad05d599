"""What a network does on each sample, against runs that stop earlier and against its curve."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from tests.trainables.made_up_points import CPU, finish, point, saved_and_loaded, train
from trainables.data.inputs import point_data
from trainables.data.sets.sources import load
from trainables.training.loop import Training
from trainables.training.samples import PER_SAMPLE

EPOCHS = 6
NOISY = {
    "data.train_size": 50,
    "model.width": 6,
    "optimizer.batch_size": 5,
    "optimizer.learning_rate": 0.3,
    "corruption.kind": "flip",
    "corruption.level": 0.4,
    "budget.epochs": EPOCHS,
    "budget.stop_at_train_error": None,
}


def samples_of(fields: dict[str, Any]) -> dict[str, Any]:
    one = point(fields)
    samples = train([one], measures=[PER_SAMPLE])[one.key()].samples
    assert samples is not None
    return samples


def test_history_is_that_of_runs_which_stop_earlier(blobs: str) -> None:
    fields = NOISY | {"data.name": blobs}
    last = samples_of(fields)
    trained = last["trained"]
    right = np.stack([samples_of(fields | {"budget.epochs": epochs})["correct"][trained] for epochs in range(1, EPOCHS + 1)])
    for place, column in enumerate(right.T.tolist()):
        forgotten = sum(before and not after for before, after in itertools.pairwise(column))
        assert last["forgotten"][trained][place] == forgotten
        assert last["learning_speed"][trained][place] == pytest.approx(sum(column) / EPOCHS)
        kept = next((epoch for epoch in range(1, EPOCHS + 1) if all(column[epoch - 1 :])), math.nan)
        assert last["learned"][trained][place] == pytest.approx(kept, nan_ok=True)
    assert np.isnan(last["forgotten"][~trained]).all()
    assert last["forgotten"][trained].sum() > 0


def test_samples_agree_with_the_record_and_the_data(blobs: str) -> None:
    one = point(NOISY | {"data.name": blobs, "budget.evaluate_every": 2})
    (result,) = train([one], measures=[PER_SAMPLE]).values()
    samples, data = result.samples, point_data(one, CPU)
    assert samples is not None
    trained = samples["trained"]
    assert samples["index"].tolist() == list(range(90))
    assert samples["index"][trained].tolist() == data.train.index.tolist()
    assert samples["label"][trained].tolist() == data.train.labels.tolist()
    assert (samples["label"] != load(one.data).train_labels.numpy())[~trained].any()  # corrupted as if it were trained on
    for part, name in ((trained, "train"), (slice(None), "test")):
        prefix = "" if name == "train" else "test_"
        assert 1 - samples[f"{prefix}correct"][part].mean() == pytest.approx(result.outcome[f"{name}_error"])
        assert samples[f"{prefix}loss"][part].mean() == pytest.approx(result.outcome[f"{name}_loss"], rel=1e-5)
    assert result.outcome["measure.forgetting_events"] == pytest.approx(samples["forgotten"][trained].mean())
    assert set(samples["learned"][trained & samples["correct"]]) <= {2, 4, 6}


def test_neither_pack_nor_checkpoint_changes_a_sample(blobs: str) -> None:
    points = [point(NOISY | {"data.name": blobs, "seed": seed}) for seed in range(3)]
    alone = {key: result for one in points for key, result in train([one], measures=[PER_SAMPLE]).items()}
    training = Training(points, CPU, measures=[PER_SAMPLE], slots=2)
    for _ in range(EPOCHS // 2):
        assert not training.epoch()
    resumed = Training(points, CPU, measures=[PER_SAMPLE])
    resumed.load_state_dict(saved_and_loaded(training.state_dict()))
    for key, result in finish(resumed).items():
        assert result.samples is not None
        for name, values in (alone[key].samples or {}).items():
            np.testing.assert_array_equal(result.samples[name], values)


@pytest.mark.parametrize("kind", ["shuffled_pixels", "gaussian"])
def test_samples_left_out_have_no_corrupted_pixels(blobs: str, kind: str) -> None:
    samples = samples_of(NOISY | {"data.name": blobs, "corruption.kind": kind, "data.replaced": 3})
    assert len(samples["index"]) == 50
    assert samples["trained"].all()


def test_nobody_asks_and_nothing_is_kept(blobs: str) -> None:
    (result,) = train([point(NOISY | {"data.name": blobs})], measures=["l2_norm"]).values()
    assert result.samples is None


def test_one_sample_is_replaced_by_one_left_out(blobs: str) -> None:
    fields = {"data.name": blobs, "data.train_size": 50, "data.validation_size": 20}
    whole, other = (point_data(point(fields | {"data.replaced": place}), CPU) for place in (None, 7))
    assert whole.validation is not None
    changed = (whole.train.index != other.train.index).nonzero().flatten().tolist()
    assert changed == [7]
    assert int(other.train.index[7]) not in {*whole.train.index.tolist(), *whole.validation.index.tolist()}
    assert other.validation is not None
    assert whole.validation.index.tolist() == other.validation.index.tolist()


def test_random_signs_are_fair_coins_for_two_classes(blobs: str) -> None:
    signs = point({"data.name": "synthetic", "corruption.kind": "random_signs", "model.width": 3})
    true = point({"data.name": "synthetic", "corruption.kind": "random_signs", "corruption.level": 0.0, "model.width": 3})
    drawn, clean = (point_data(one, CPU) for one in (signs, true))
    dataset = load(signs.data)
    assert drawn.classes == clean.classes == 2
    assert clean.train.labels.tolist() == (dataset.train_labels % 2).tolist()
    assert drawn.test.labels.tolist() == (dataset.test_labels % 2).tolist()
    n = len(drawn.train.labels)
    for labels in (drawn.train.labels, drawn.train.labels[clean.train.labels == 1]):  # fair, and blind to the class
        assert labels.double().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(labels)))
    assert drawn.train.wrong.double().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(n))
    ten = point({"data.name": "synthetic", "model.width": 3})
    assert len({signs.key(), true.key(), ten.key()}) == 3
    assert signs.signature() == true.signature() != ten.signature()
    (result,) = train([point({"data.name": blobs, "corruption.kind": "random_signs", "model.width": 3, "budget.epochs": 0})]).values()
    assert result.outcome["parameters"] == 40 * 3 + 3 + 3 * 2 + 2
