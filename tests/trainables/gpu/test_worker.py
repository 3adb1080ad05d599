"""What a worker does with a GPU, on machines without one: what Ray granted, how much memory, and which products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ray import tune

from tests.trainables.made_up_points import CPU, point
from trainables import tune as module
from trainables.engines.stacked import stack_size
from trainables.gpu_memory import granted_bytes
from trainables.models import build
from trainables.point.config import Model
from trainables.point.errors import ConfigError
from trainables.training.loop import Training
from trainables.training.precision import set_products

GPU = torch.device("cuda")
GIB = 2**30


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A machine with a GPU of 80 GiB, as far as is asked here: what is free of it, and what this process may take."""
    state = {"free": 80.0 * GIB, "fraction": 1.0}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(state["free"]), 80 * GIB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda fraction: state.update(fraction=fraction))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: state["fraction"])
    return state


@pytest.fixture
def products() -> Iterator[None]:
    """Leaves PyTorch's switches as they were."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    yield
    for backend, precision in zip(backends, before, strict=True):
        backend.fp32_precision = precision


@pytest.mark.parametrize(
    ("granted", "device", "fraction"),
    [
        (None, "cpu", 1.0),
        (tune.PlacementGroupFactory([{"CPU": 1.0}]), "cpu", 1.0),
        (tune.PlacementGroupFactory([{"CPU": 1.0, "GPU": 0}]), "cpu", 1.0),
        (tune.PlacementGroupFactory([{"CPU": 1.0, "GPU": 0.25}]), "cuda", 0.25),
        (tune.PlacementGroupFactory([{"CPU": 1.0, "GPU": 1}]), "cuda", 1.0),
        (tune.PlacementGroupFactory([{"CPU": 1.0, "GPU": 2}]), "cuda", 1.0),
    ],
)
def test_a_worker_trains_on_a_gpu_only_if_it_was_granted_one(gpu: dict[str, float], granted: Any, device: str, fraction: float) -> None:
    """Ray leaves a worker without a GPU all GPUs of its node to see: a hundred of them would train on the first."""
    assert module._device(granted).type == device
    assert gpu["fraction"] == fraction


def test_a_stack_takes_a_share_of_the_free_memory_that_was_granted(gpu: dict[str, float]) -> None:
    network = build(Model(name="mlp", width=4096, depth=2), 0.0, (3, 32, 32), 10, seed=0)

    def members() -> int:
        return stack_size(network, 128, 3072, GPU)

    alone = members()
    assert 1 < alone < 1024
    gpu["fraction"] = 0.25
    assert members() == pytest.approx(alone / 4, abs=1)
    gpu["free"] = 40 * GIB
    assert members() == pytest.approx(alone / 8, abs=1)
    gpu["free"] = 0
    assert members() == 1


def test_memory_that_earlier_packs_have_left_to_pytorch_counts_as_free(gpu: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker trains one pack after another, and PyTorch keeps what it has once had: CUDA then calls it taken."""
    gpu["free"], gpu["fraction"] = 20.0 * GIB, 0.5
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 12 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * GIB)
    assert granted_bytes(GPU) == 15 * GIB


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize(("precision", "of_products"), [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")])
def test_products_and_convolutions_are_rounded_alike(precision: str, of_products: str) -> None:
    for before in ("ieee", "tf32"):
        torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = before
        set_products(precision, GPU)
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == of_products


@pytest.mark.usefixtures("products")
def test_training_sets_what_its_points_say(blobs: str) -> None:
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    Training([point({"data.name": blobs, "model.width": 4})], CPU)
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"


def test_tf32_on_a_cpu_is_refused_because_it_would_be_float32(blobs: str) -> None:
    with pytest.raises(ConfigError, match=r"set resources\.gpus, or precision float32"):
        Training([point({"data.name": blobs, "model.width": 4, "precision": "tf32"})], CPU)


def test_precisions_are_different_points_and_go_into_different_packs(blobs: str) -> None:
    each = [point({"data.name": blobs, "model.width": 4, "precision": precision}) for precision in ("float32", "tf32", "bfloat16")]
    assert len({one.key() for one in each}) == len({one.signature() for one in each}) == 3
