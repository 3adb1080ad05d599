"""Model-epochs a second on a GPU, alone and in a pack, against two loops that users would write: run as a script, without Ray.

    python tests/benchmarks/bench_gpu.py [--samples 50000] [--device cuda] [--precision float32]

MLP 1x512, small AlexNet, small Inception and ResNet18 k=8 on CIFAR-shaped random images. The loops train one network at a time, in eager
PyTorch: one gathers batches from tensors on the device, the other takes them from a DataLoader. All four ways round products alike, as the
precision says. A rate is of the members that were in slots, which the engine chooses and the row states. Writes
tests/benchmarks/results/gpu-DEVICE-PRECISION.json. Needs torch; torchvision is not used. On a machine without a GPU it says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import nn

MODELS = {"mlp": (512, 64), "alexnet_small": (64, 8), "inception_small": (96, 4), "resnet18": (8, 8)}
"""Family -> width, points of a pack."""
BATCH = 128


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--samples", type=int, default=50_000)
    options.add_argument("--device", default="cuda")
    options.add_argument("--precision", default="float32", choices=["float32", "tf32", "bfloat16"])
    chosen = options.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here: nothing was measured")
    device = torch.device(chosen.device)
    from trainables.data.sets import sources as data

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (chosen.samples + 1000, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(len(images)) % 10
    data.share("made up", data.Dataset(images[1000:], labels[1000:], images[:1000], labels[:1000], 10))
    from trainables.training.precision import set_products

    set_products(chosen.precision, device)
    peak = _matrix_peak(device, torch.bfloat16 if chosen.precision == "bfloat16" else torch.float32)
    rows = {}
    for name, (width, members) in MODELS.items():
        row = rows[name] = _family(name, width, members, chosen.precision, device, images[1000:], labels[1000:])
        for way in ("alone", "packed"):
            for loop in ("resident", "loader"):
                row[f"{way}_over_{loop}"] = row[f"{way}_model_epochs_per_second"] / row[f"{loop}_model_epochs_per_second"]
        row["share_of_matrix_peak"] = row["packed_model_epochs_per_second"] * row["flops_per_model_epoch"] / peak
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    measured = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"device": name, "python": platform.python_version(), "torch": torch.__version__},
        "samples": chosen.samples,
        "precision": chosen.precision,
        "matrix_peak_flops": peak,
        "models": rows,
    }
    path = Path(__file__).parent / "results" / f"gpu-{name.replace(' ', '-').lower()}-{chosen.precision}.json"
    path.write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


def _family(
    name: str, width: int, members: int, precision: str, device: torch.device, images: torch.Tensor, labels: torch.Tensor
) -> dict[str, float]:
    from trainables.point.config import Budget, Data, Model, Optimizer, TrialConfig
    from trainables.resolution import resolve, work
    from trainables.training.loop import Training

    points = [
        resolve(
            TrialConfig(
                data=Data(name="made up", preprocessing="paper"),
                model=Model(name=name, width=width),
                optimizer=Optimizer(learning_rate=0.01, batch_size=BATCH),
                budget=Budget(epochs=1000, stop_at_train_error=None, evaluate_every=1000),
                precision=precision,
                seed=seed,
            )
        )
        for seed in range(members)
    ]
    module = _plain_module(points[0], device)
    training, alone = Training(points, device), Training(points[:1], device)
    packed_seconds = _seconds(training.epoch, device)
    seated = len(training.state_dict()["members"])
    assert 1 <= seated <= members
    resident = images.to(device), labels.to(device)
    on = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    return {
        "points": members,
        "members_in_slots": seated,
        "flops_per_model_epoch": 2 * work(points[0]) / points[0].budget.epochs,
        "loader_model_epochs_per_second": 1 / _seconds(lambda: _epoch(module, _loaded(images, labels, device), on), device),
        "resident_model_epochs_per_second": 1 / _seconds(lambda: _epoch(module, _gathered(*resident), on), device),
        "alone_model_epochs_per_second": 1 / _seconds(alone.epoch, device),
        "packed_model_epochs_per_second": seated / packed_seconds,
    }


def _plain_module(point: Any, device: torch.device) -> nn.Module:
    from trainables.data.inputs import point_data
    from trainables.models import build

    return build(point.model, 0.0, point_data(point, device).image_shape, 10, seed=0).to(device)


def _loaded(images: torch.Tensor, labels: torch.Tensor, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches as a DataLoader over tensors gives them, one sample after the other, then on the device."""
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=BATCH, shuffle=True)
    return ((inputs.to(device), truth.to(device)) for inputs, truth in loader)


def _gathered(images: torch.Tensor, labels: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches gathered from tensors that lie on the device."""
    order = torch.randperm(len(images), device=images.device)
    return ((images[rows], labels[rows]) for rows in torch.split(order, BATCH))


def _epoch(module: nn.Module, batches: Iterator[tuple[torch.Tensor, torch.Tensor]], autocast: torch.autocast) -> None:
    """What users would write: the same preprocessing on the batch, one network, torch.optim."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    module.train()
    for inputs, truth in batches:
        pixels = inputs[:, :, 2:30, 2:30].float() / 255
        deviation, mean = torch.std_mean(pixels, dim=(1, 2, 3), keepdim=True, correction=0)
        optimizer.zero_grad()
        with autocast:
            outputs = module((pixels - mean) / deviation.clamp_min(2352**-0.5)).float()
        nn.functional.cross_entropy(outputs, truth).backward()
        optimizer.step()


def _seconds(epoch: Callable[[], object], device: torch.device) -> float:
    """The faster of two epochs after one to warm up."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        epoch()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large product."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = torch.randn(size, size, device=device, dtype=dtype), torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _seconds(lambda: left @ right, device)


if __name__ == "__main__":
    main()
