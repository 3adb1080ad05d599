"""Sequences whose labels are computed from their tokens, against plain arithmetic; and the network that embeds them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainables.made_up_points import CPU, only, point
from trainables.data.inputs import point_data
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.inspection import inspect
from trainables.data.sets.sources import load
from trainables.models import build, family, parameter_count
from trainables.models.bundled.transformer import EXPANSION, HEADS, Block
from trainables.point.config import Data, Model
from trainables.point.errors import ConfigError


def listed(dataset: Dataset) -> tuple[list[tuple[tuple[int, ...], int]], list[tuple[tuple[int, ...], int]]]:
    """Every training and every test sequence as its tokens, with its label."""
    found = []
    for images, labels in ((dataset.train_images, dataset.train_labels), (dataset.test_images, dataset.test_labels)):
        assert torch.equal(images.sum((2, 3)), torch.ones(images.shape[:2]))  # one-hot
        found.append([(tuple(row), label) for row, label in zip(images[:, :, 0].argmax(2).tolist(), labels.tolist(), strict=True)])
    return found[0], found[1]


@pytest.mark.parametrize("modulus", [2, 7, 12])
def test_modular_addition_is_every_pair_once_with_its_sum(modulus: int) -> None:
    train, test = listed(load(Data(name="modular_addition", classes=modulus)))
    pairs = list(itertools.product(range(modulus), repeat=2))
    assert sorted(train + test) == [((a, b), (a + b) % modulus) for a, b in pairs]
    assert len(test) == len(pairs) // 5


@pytest.mark.parametrize("bits", [3, 8])
def test_parity_of_few_bits_is_every_sequence_once(bits: int) -> None:
    train, test = listed(load(Data(name="parity", dimension=bits)))
    assert sorted(train + test) == [(row, sum(row) % 2) for row in itertools.product((0, 1), repeat=bits)]
    assert len(test) == 2**bits // 5


def test_parity_of_many_bits_is_a_sample() -> None:
    dataset = load(Data(name="parity", dimension=40))
    train, test = listed(dataset)
    assert len(train) + len(test) == 20_000
    assert all(label == sum(row) % 2 for row, label in train[:200] + test[:200])
    assert dict(inspect(dataset).facts)["a sample"] == "a sequence of 40 tokens out of 2, one-hot"


@pytest.mark.parametrize(("name", "field", "value"), [("modular_addition", "classes", 600), ("parity", "dimension", 2)])
def test_sizes_that_cannot_be_made_are_a_sentence(name: str, field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"data.{field} is {value}"):
        load(Data(**{"name": name, field: value}))  # type: ignore[arg-type]


def test_a_key_knows_the_fields_that_a_set_is_made_of_and_no_others() -> None:
    sums = {"data.name": "modular_addition", "data.classes": 7, "model.width": 4}
    assert point(sums).key() == point(sums | {"data.dimension": 5}).key() == point(sums | {"data.separation": 2.0}).key()
    assert point(sums).key() != point(sums | {"data.classes": 8}).key()
    bits = {"data.name": "parity", "data.dimension": 7, "model.width": 4}
    assert point(bits).key() == point(bits | {"data.classes": 5}).key() != point(bits | {"data.dimension": 8}).key()


def test_tokens_are_embedded_as_pytorchs_embedding_does() -> None:
    model = family("embedding_mlp").complete(Model(name="embedding_mlp", width=6, depth=2))
    module = build(model, 0.0, (2, 1, 7), 7, seed=1)
    linear, dense = module.children()
    assert isinstance(linear, nn.Linear)
    embedding = nn.Embedding.from_pretrained(linear.weight.T)
    data = point_data(point({"data.name": "modular_addition", "data.classes": 7, "data.preprocessing": "unit"}), CPU)
    images = data.train.inputs.gather(data.train.index).reshape(-1, 2, 1, 7)
    torch.testing.assert_close(module(images), dense(embedding(images[:, :, 0].argmax(2))))
    assert parameter_count(model, (2, 1, 7), 7) == 7 * 6 + (12 + 1) * 6 + (6 + 1) * 6 + (6 + 1) * 7


def test_a_block_of_the_transformer_is_pytorchs_encoder_layer_normalized_first() -> None:
    torch.manual_seed(0)
    block = Block(16, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(16, HEADS, EXPANSION * 16, dropout=0.0, batch_first=True, norm_first=True)
    pairs = {
        "self_attn.in_proj_weight": block.attention.inputs.weight,
        "self_attn.in_proj_bias": block.attention.inputs.bias,
        "self_attn.out_proj.weight": block.attention.outputs.weight,
        "self_attn.out_proj.bias": block.attention.outputs.bias,
    }
    for name, layer in {
        "linear1": block.mlp[0],
        "linear2": block.mlp[2],
        "norm1": block.before_attention,
        "norm2": block.before_mlp,
    }.items():
        pairs |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}  # type: ignore[dict-item]
    theirs.load_state_dict(pairs)
    tokens = torch.randn(5, 3, 16)
    torch.testing.assert_close(block(tokens), theirs(tokens))


def test_the_default_transformer_is_of_the_size_of_power_et_al() -> None:
    """Section A.1.2: two layers, width 128, 4 heads, "about 4 * 10^5 non-embedding parameters"."""
    model = family("transformer").complete(Model(name="transformer"))
    assert parameter_count(model, (2, 1, 97), 97) - (97 + 97 + 2) * 128 - 97 == pytest.approx(4e5, rel=0.02)


@pytest.mark.parametrize("name", ["embedding_mlp", "transformer"])
def test_it_memorises_sums(name: str) -> None:
    fields = {"data.name": "modular_addition", "data.classes": 11, "data.preprocessing": "unit", "model.name": name}
    trained = only(fields | {"model.width": 64, "optimizer.name": "adamw", "optimizer.learning_rate": 0.01, "budget.epochs": 60})
    assert trained.outcome["train_error"] == 0


def test_a_file_of_tokens_is_sequences(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays = {
        "x_train": draw.integers(0, 5, (6, 3), np.uint16),
        "y_train": [0, 1] * 3,
        "x_test": draw.integers(0, 5, (2, 3)),
        "y_test": [0, 1],
    }
    np.savez(tmp_path / "s.npz", vocabulary=5, **arrays)
    found = load(Data(name=f"npz:{tmp_path}/s.npz"))
    assert found.image_shape == (3, 1, 5)
    assert listed(found)[0] == [(tuple(row), label) for row, label in zip(arrays["x_train"].tolist(), [0, 1] * 3, strict=True)]
    assert ("tokens", "3 of 5, one-hot") in found.facts


@pytest.mark.parametrize(
    ("vocabulary", "tokens", "says"),
    [
        (4, np.array([[0, 4]]), r"x_train has tokens from 0 to 4: with vocabulary 4 they go from 0 to 3"),
        (4, np.array([[-1, 2]]), r"x_train has tokens from -1 to 2"),
        (4, np.array([[0.0, 1.0]]), r"x_train is float64 of shape \(1, 2\): beside a vocabulary it must be N x T integers"),
        (4, np.zeros((1, 2, 2), int), r"of shape \(1, 2, 2\)"),
        (1, np.array([[0, 0]]), r"vocabulary is 1: it must be one integer, the number of tokens, at least 2"),
        ([3, 4], np.array([[0, 0]]), r"vocabulary is \[3, 4\]: it must be one integer"),
    ],
)
def test_tokens_that_are_none_are_refused(tmp_path: Path, vocabulary: object, tokens: np.ndarray, says: str) -> None:
    np.savez(tmp_path / "s.npz", vocabulary=vocabulary, x_train=tokens, y_train=[0] * len(tokens), x_test=tokens, y_test=[0] * len(tokens))
    with pytest.raises(ConfigError, match=says):
        load(Data(name=f"npz:{tmp_path}/s.npz"))
