"""The first ten minutes on a GPU: what it is, whether it computes what a CPU does, what waits, which way is fastest, and the goals.

    python tests/benchmarks/bench_gpu.py [--device cuda] [--seconds 600] [--out FOLDER] [--smoke]

Needs torch and NumPy: neither torchvision nor Ray, MLflow, Optuna or pydantic. A line of FOLDER/gpu-DEVICE.jsonl (by default in
tests/benchmarks/results) is a measurement, written as soon as it is made, the cheap and decisive ones first. What stands there already is
not measured again: the same command goes on where time ran out. `--smoke` tries everything in seconds, on a CPU too.

    settings  versions, memory, rates of products and copies, what it takes to start an operation
    draws     random numbers drawn there against their definition on a CPU, bit for bit
    equality  gradients of a step against float64 on a CPU: within 1e-4 of their norm, 1e-2 with TF32
    waits     operations in an epoch's steps that the host waits for: none (`torch.cuda.set_sync_debug_mode`)
    goal      model-epochs a second of `Training` as a user gets it, over loops that users would write: `GOALS`
    step      milliseconds a member and step: `WAYS` by `SHAPES` by `PRECISIONS`
    sharing   model-epochs a second of one pack, of two on two streams of a process, and of two processes: packs that share a GPU
    compiled  equality and step of what `torch.compile` makes of the large networks, which takes a minute each; the last

The loops train one network at a time in eager PyTorch with `torch.optim`. One gathers batches from tensors on the device; the other takes
them from a DataLoader. All ways round products alike. Every figure of networks says how many `members` were in slots for it.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn

from trainables.data.inputs import point_data
from trainables.data.sets import sources
from trainables.data.sets.dataset import Dataset
from trainables.engines import Engine, choice
from trainables.engines.graphs import WARM_UPS, AtOnce
from trainables.engines.modules import ModuleEngine
from trainables.gpu_memory import keep_to, processes_overlap
from trainables.models import build, family, multiply_adds
from trainables.models.chains import stackable
from trainables.point import device_streams
from trainables.point.config import Budget, Data, ImageShape, Model, Optimizer, Regularizers, TrialConfig
from trainables.resolution import resolve
from trainables.training.loop import Training
from trainables.training.precision import set_products

BATCH, CLASSES = 128, 10
PRECISIONS = ("float32", "tf32", "bfloat16")
CIFAR, CROPPED = (3, 32, 32), (3, 28, 28)
SHAPES: dict[str, tuple[Model, ImageShape, int]] = {
    "mlp 1x512": (Model(name="mlp", width=512), CROPPED, 64),
    "resnet18 k=8": (Model(name="resnet18", width=8), CIFAR, 16),
    "cnn5 k=8": (Model(name="cnn5", width=8), CIFAR, 16),
    "alexnet_small": (Model(name="alexnet_small", width=64), CROPPED, 8),
    "inception_small": (Model(name="inception_small", width=96, batch_norm=True), CROPPED, 4),
    "cnn5 k=64": (Model(name="cnn5", width=64), CIFAR, 4),
    "resnet18 k=64": (Model(name="resnet18", width=64), CIFAR, 4),
}
"""Network, its images, members side by side."""
LARGE = ("alexnet_small", "inception_small", "cnn5 k=64", "resnet18 k=64")
"""Those that fill a GPU alone, by count of operations, which compiling might suit."""
GOALS = {
    "mlp 1x512": ("over_loader", 100.0, "tf32"),
    "resnet18 k=8": ("over_resident", 5.0, "tf32"),
    "cnn5 k=8": ("over_resident", 5.0, "tf32"),
    "alexnet_small": ("over_resident", 2.0, "tf32"),
    "inception_small": ("over_resident", 1.5, "bfloat16"),
    "cnn5 k=64": ("over_resident", 1.5, "bfloat16"),
}
"""The loop that is compared with, how many times its rate is aimed at, and the precision of both."""
CLOSE = {"float32": 1e-4, "tf32": 1e-2}
"""How far gradients may be from those in double precision. Batch norm makes of bfloat16's rounding what it will."""
OPTIONS: dict[str, tuple[Optimizer, Regularizers]] = {
    "sgd": (Optimizer(learning_rate=0.01), Regularizers()),
    "adam": (Optimizer(name="adam", learning_rate=0.001), Regularizers()),
    "adamw, warm-up": (Optimizer(name="adamw", learning_rate=0.001, warmup=10_000), Regularizers(weight_decay=0.01)),
    "dropout": (Optimizer(learning_rate=0.01), Regularizers(dropout=0.5)),
    "crop and flip": (Optimizer(learning_rate=0.01), Regularizers(crop=2, flip=True)),
    "crop from the image": (Optimizer(learning_rate=0.01), Regularizers(crop=2, crop_from="image")),
    "mixup": (Optimizer(learning_rate=0.01), Regularizers(mixup=0.2)),
    "clip and smoothing": (Optimizer(learning_rate=0.01), Regularizers(gradient_clip=1.0, label_smoothing=0.1)),
}
WAYS = {
    "one at a time": ("modules", False),
    "one at a time, channels last": ("modules, channels last", False),
    "one at a time, graphs": ("graphs", False),
    "one at a time, graphs, channels last": ("graphs, channels last", False),
} | {name: (name, True) for name in choice.ENGINES if "compiled" not in name}
"""How a step can be taken: the engine, of which a new one joins by itself, and whether it has all members at once."""
COMPILED = {f"one at a time, {name}": (name, False) for name in choice.ENGINES if "graphs, compiled" in name}
"""Those by `torch.compile`."""


def ways(precision: str) -> dict[str, tuple[str, bool]]:
    """Those that have the precision: autocast does not reach convolutions in one pass of all members."""
    return {name: way for name, way in WAYS.items() if precision != "bfloat16" or not way[0].startswith("fused")}


class Bench:
    """Measurements on one device, each written when it is made and made once.

    Args:
        device: on which.
        folder: of the file.
        seconds: after which no measurement is begun.
        smoke: whether everything is as small as it can be.
    """

    def __init__(self, device: torch.device, folder: Path, seconds: float, smoke: bool) -> None:
        self.device, self.smoke = device, smoke
        self.gpu = device.type == "cuda"
        self.name = torch.cuda.get_device_name() if self.gpu else "cpu"
        self.path = folder / f"gpu-{self.name.replace(' ', '-').lower()}{'-smoke' if smoke else ''}.jsonl"
        self._ends = time.monotonic() + seconds
        folder.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        made = [json.loads(line) for line in lines]
        self._known = {identity(one["of"]) for one in made if "error" not in one["found"]}

    def measure(self, of: dict[str, Any], work: Callable[[], dict[str, Any]]) -> None:
        """Measure once what `of` names, and write a line: what came of it, or the error that it ended with."""
        of = of | {"device": self.name, "torch": torch.__version__}
        if identity(of) in self._known:
            return
        if time.monotonic() > self._ends:
            sys.exit(f"time is up: the same command goes on from here, after {len(self._known)} measurements in {self.path}")
        begun = time.perf_counter()
        try:
            found = work()
        except Exception as error:  # the other measurements are worth as much
            found = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"}
        line = {"of": of, "found": found, "seconds": round(time.perf_counter() - begun, 3)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._known.add(identity(of))
        print(json.dumps(line), flush=True)
        if self.gpu:
            torch.cuda.empty_cache()

    def precisions(self) -> tuple[str, ...]:
        """TF32 is a GPU's."""
        return PRECISIONS if self.gpu else ("float32", "bfloat16")

    def possible(self, precision: str) -> str:
        return precision if precision in self.precisions() else "float32"

    def shapes(self) -> dict[str, tuple[Model, ImageShape, int]]:
        if not self.smoke:
            return SHAPES
        small = {"mlp 1x512": 8, "cnn5 k=8": 2}
        return {name: (replace(SHAPES[name][0], width=width), (3, 8, 8), 2) for name, width in small.items()}

    def timed(self, work: Callable[[], object], least: float = 0.2, turns: int = 3) -> float:
        """Seconds of a piece of work: the median of three spells of at least `least` seconds, after some turns to warm up."""
        for _ in range(1 if self.smoke else turns):
            work()
        spells = []
        for _ in range(1 if self.smoke else 3):
            self.wait()
            count, begun = 0, time.perf_counter()
            while time.perf_counter() - begun < (0 if self.smoke else least) or not count:
                work()
                count += 1
                if count % 10 == 0:
                    self.wait()  # or thousands would be queued before the clock is looked at
            self.wait()
            spells.append((time.perf_counter() - begun) / count)
        return statistics.median(spells)

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()


def identity(of: dict[str, Any]) -> str:
    return json.dumps(of, sort_keys=True)


def settings(bench: Bench) -> None:
    device, size = bench.device, 256 if bench.smoke else 8192
    bench.measure({"what": "settings"}, lambda: {
        "python": platform.python_version(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version() if bench.gpu else None,
        "bytes": torch.cuda.get_device_properties(device).total_memory if bench.gpu else None,
        "multi_process_service": processes_overlap(),
    })  # fmt: skip
    for precision in bench.precisions():
        for name, sizes in {"one large": (1, size, size), "64 of 128x512x512": (64, 128, 512)}.items():
            bench.measure({"what": "settings", "product": name, "precision": precision}, partial(product, bench, precision, *sizes))

    def copied() -> dict[str, Any]:
        values = torch.zeros((1 if bench.smoke else 256) * 2**20, device=device)
        return {"terabytes_a_second": 2 * values.numel() * 4 / bench.timed(lambda: values.add_(1)) / 1e12}

    def launched() -> dict[str, Any]:
        few = torch.zeros(8, device=device)
        return {"microseconds": bench.timed(lambda: few.add_(1)) * 1e6}

    bench.measure({"what": "settings", "rate": "copy"}, copied)
    bench.measure({"what": "settings", "rate": "launch"}, launched)


def product(bench: Bench, precision: str, count: int, rows: int, inner: int) -> dict[str, Any]:
    """The rate of a batched product (count, rows, inner) by (count, inner, inner)."""
    set_products(precision, bench.device)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left = torch.randn(count, rows, inner, device=bench.device, dtype=dtype)
    right = torch.randn(count, inner, inner, device=bench.device, dtype=dtype)
    return {"tflops": 2 * count * rows * inner * inner / bench.timed(lambda: torch.bmm(left, right)) / 1e12}


def members(model: Model, shape: ImageShape, count: int) -> list[nn.Module]:
    complete = family(model.name).complete(model)
    return [build(complete, 0.0, shape, CLASSES, seed=seed) for seed in range(count)]


@cache
def is_chain(model: Model, shape: ImageShape) -> bool:
    return stackable(members(model, shape, 1)[0])


def batches(count: int, size: int, shape: ImageShape) -> tuple[Tensor, Tensor]:
    """Inputs (K, B, D) and targets (K, classes, B), on the host."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, size, shape[0] * shape[1] * shape[2], generator=draw)
    return inputs, torch.randn(count, CLASSES, size, generator=draw).softmax(1)


def apart(found: list[Tensor], expected: list[Tensor]) -> float:
    """The norm of the difference of two lists of tensors, relative to that of the expected ones."""
    pairs = [(one.detach().cpu().double(), other.detach().double()) for one, other in zip(found, expected, strict=True)]
    return float((sum((one - other).square().sum() for one, other in pairs) / sum(other.square().sum() for _, other in pairs)) ** 0.5)


def equality(bench: Bench) -> None:
    for name, (model, shape, _) in bench.shapes().items():
        chain = is_chain(model, shape)
        for precision in bench.precisions():
            for way, (engine, several) in ways(precision).items():
                if several and (way == "stacked") == chain:
                    of = {"what": "equality", "network": name, "way": way, "precision": precision}
                    bench.measure(of, partial(compared, bench, engine, precision, name))


STREAMS = [(member, "dropout", 0, 0) for member in range(2)]


@cache
def exact_gradients(model: Model, shape: ImageShape) -> list[Tensor]:
    """Those of two members, one by one in double precision on the host."""
    inputs, targets = batches(2, 16, shape)
    exact = ModuleEngine("cross_entropy", "float32", shape)
    exact.refill([], [module.double() for module in members(model, shape, 2)])
    exact.gradient(inputs.double(), targets.double(), STREAMS)
    return exact.gradients


def compared(bench: Bench, engine: str, precision: str, name: str) -> dict[str, Any]:
    """How far gradients there are from those member by member in double precision on the host."""
    set_products(precision, bench.device)
    model, shape, _ = bench.shapes()[name]
    exact, (inputs, targets) = exact_gradients(model, shape), batches(2, 16, shape)
    there = [module.to(bench.device) for module in members(model, shape, 2)]
    made = choice.make_engine(there[0], loss="cross_entropy", precision=precision, image_shape=shape, name=engine)
    made.refill([], there)
    for _ in range(WARM_UPS + 2):  # a graph is recorded, and replayed
        made.gradient(inputs.to(bench.device), targets.to(bench.device), STREAMS)
    distance, goal = apart(made.gradients, exact), CLOSE.get(precision)
    return {"members": seated(made, 2), "engine": made.name, "distance": distance} | (
        {} if goal is None else {"goal": goal, "met": distance <= goal}
    )


def seated(engine: Engine, count: int) -> int:
    """The members that are in an engine, which must be those that a figure is divided by."""
    assert {len(parameter) for parameter in engine.parameters} == {count}
    return count


def draws(bench: Bench) -> None:
    def compared() -> dict[str, Any]:
        keys = torch.tensor([0, 1, 2**62 + 12345])
        kinds: list[Callable[[Tensor], Tensor]] = [
            lambda keys: device_streams.words(keys, 3, 10_001),
            lambda keys: device_streams.uniform(keys, 4, 100, 7),
            lambda keys: device_streams.permutations(keys, 5, 5_000),
        ]
        return {"met": all(torch.equal(kind(keys.to(bench.device)).cpu(), kind(keys)) for kind in kinds)}

    bench.measure({"what": "draws"}, compared)


def point_of(model: Model, shape: ImageShape, precision: str = "float32", option: str = "sgd", seed: int = 0) -> TrialConfig:
    optimizer, regularizers = OPTIONS[option]
    return resolve(
        TrialConfig(
            data=Data(name="made up", preprocessing="paper" if shape == CROPPED or regularizers.crop_from else "standardize"),
            model=model,
            optimizer=replace(optimizer, batch_size=BATCH),
            regularizers=regularizers,
            budget=Budget(epochs=1_000_000, stop_at_train_error=None, evaluate_every=1_000_000),
            precision=precision,  # type: ignore[arg-type]  # one of PRECISIONS
            seed=seed,
        )
    )


def waits(bench: Bench) -> None:
    for name in ("mlp 1x512", "cnn5 k=8"):
        for option in OPTIONS:
            bench.measure({"what": "waits", "network": name, "option": option}, partial(counted, bench, name, option))


def counted(bench: Bench, name: str, option: str) -> dict[str, Any]:
    """Operations of an epoch that the host waits for, by PyTorch's own count; the epoch is the second, and is not evaluated."""
    model, shape, count = bench.shapes()[name]
    training = Training([point_of(model, shape, "float32", option, seed) for seed in range(count)], bench.device)
    training.epoch()
    bench.wait()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if bench.gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            assert not training.epoch()  # no point has failed
        finally:
            if bench.gpu:
                torch.cuda.set_sync_debug_mode("default")
    said = [str(one.message).splitlines()[0] for one in caught if "synchroniz" in str(one.message)]
    found = {"points": count, **slots_of(training)}
    return found | ({"waits": len(said), "first": said[:3], "met": not said} if bench.gpu else {"waits": None})


def slots_of(training: Training) -> dict[str, Any]:
    """The members in a training's slots, and the engine that has them."""
    engine, count = training._engine, len(training.state_dict()["members"])
    assert engine is not None
    return {"members": seated(engine, count), "engine": engine.name}


def steps(bench: Bench) -> None:
    for precision in bench.precisions():
        for name, (model, shape, _) in bench.shapes().items():
            for way in ways(precision):
                if way != "stacked" or is_chain(model, shape):
                    of = {"what": "step", "network": name, "way": way, "precision": precision}
                    bench.measure(of, partial(stepped, bench, name, WAYS[way], precision))


def compiled(bench: Bench) -> None:
    """The large networks by `torch.compile`; in a smoke test a small one, by a compiler that makes no machine code."""
    for precision in bench.precisions()[: 1 if bench.smoke else None]:
        for name in ("cnn5 k=8",) if bench.smoke else LARGE:
            for way, (engine, several) in list(COMPILED.items())[: 1 if bench.smoke else None]:
                of = {"what": "compiled", "network": name, "way": way, "precision": precision}
                bench.measure(of | {"figure": "step"}, partial(stepped, bench, name, (engine, several), precision))
                bench.measure(of | {"figure": "equality"}, partial(compared, bench, engine, precision, name))


def stepped(bench: Bench, name: str, way: tuple[str, bool], precision: str) -> dict[str, Any]:
    """Milliseconds of a member's step, the optimizer's included, and what is made of them."""
    (model, shape, count), size, device = bench.shapes()[name], 4 if bench.smoke else BATCH, bench.device
    engine_name, several = way
    count = count if several else 1
    set_products(precision, device)
    if bench.gpu:
        torch.cuda.reset_peak_memory_stats()
    modules = [module.to(device) for module in members(model, shape, count)]
    engine = choice.make_engine(modules[0], loss="cross_entropy", precision=precision, image_shape=shape, name=engine_name)
    engine.refill([], modules)
    rule = Optimizer(learning_rate=1e-4, momentum=0.9)
    optimizer = engine.optimizer(rule)
    optimizer.refill([], [TrialConfig(optimizer=rule)] * count, engine.parameters, [None] * count, [0] * count)
    optimizer.set_rates(torch.full((count,), rule.learning_rate, device=device))
    inputs, targets = (one.to(device) for one in batches(count, size, shape))
    streams = [(member, "dropout", 0, 0) for member in range(count)]

    def step() -> None:
        engine.step(optimizer, inputs, targets, streams)

    begun = time.perf_counter()
    step()
    bench.wait()
    first = time.perf_counter() - begun
    seconds = bench.timed(step, turns=WARM_UPS + 2) / count
    operations = 6 * multiply_adds(family(model.name).complete(model), shape, CLASSES) * size  # forward, and twice that backward
    held = torch.cuda.max_memory_allocated() if bench.gpu else None
    found = {"members": seated(engine, count), "engine": engine.name, "ms_a_member": seconds * 1e3, "first_step_seconds": first}
    return found | {"tflops": operations / seconds / 1e12, "bytes": held}


def goals(bench: Bench, images: Tensor, labels: Tensor) -> None:
    for name, (_, _, precision) in GOALS.items():
        if name in bench.shapes():
            possible = bench.possible(precision)
            of = {"what": "goal", "network": name, "precision": possible, "samples": len(images)}
            bench.measure(of, partial(against_loops, bench, name, possible, images, labels))


def against_loops(bench: Bench, name: str, precision: str, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Model-epochs a second of `Training` at its defaults and of both loops."""
    (model, shape, count), (over, times, _) = bench.shapes()[name], GOALS[name]
    points = [point_of(model, shape, precision, seed=seed) for seed in range(count)]
    training = Training(points, bench.device)
    packed = bench.timed(training.epoch, turns=1)
    found = {"points": count, **slots_of(training)}
    slots = found["members"]
    assert 1 <= slots <= count
    assert slots + len(training.state_dict()["waiting"]) == count
    module = plain_module(points[0], bench.device)
    on = torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    resident, cropped = (images.to(bench.device), labels.to(bench.device)), points[0].data.preprocessing == "paper"
    rates = {
        "training": slots / packed,
        "resident": 1 / bench.timed(lambda: epoch(module, gathered(*resident), on, cropped), turns=1),
        "loader": 1 / bench.timed(lambda: epoch(module, loaded(images, labels, bench.device), on, cropped), turns=1),
    }
    ratios = {f"over_{loop}": rates["training"] / rates[loop] for loop in ("resident", "loader")}
    return (
        found
        | {"seconds_an_epoch": packed, "model_epochs_a_second": rates}
        | ratios
        | {"goal": {over: times}, "met": ratios[over] >= times}
    )


def sharing(bench: Bench) -> None:
    ways = ("one pack", "two packs on two streams", "one process", "two processes")
    for name in ("cnn5 k=8", "alexnet_small"):
        if name in bench.shapes():
            for how in ways[1::2] if bench.smoke else ways:
                bench.measure({"what": "sharing", "network": name, "how": how}, partial(shared, bench, name, how))


def shared(bench: Bench, name: str, how: str) -> dict[str, Any]:
    """Model-epochs a second of all packs together: two have half of the points each, so that the work is the same."""
    count, packs = bench.shapes()[name][2], 2 if how.startswith("two") else 1
    seeds = [list(range(first, count, packs)) for first in range(packs)]
    found = (in_processes if how.endswith(("process", "processes")) else on_streams)(bench, name, seeds)
    rate = sum(one["model_epochs"] / one["seconds"] for one in found)
    kept = {"members": sum(one["members"] for one in found), "engines": sorted({one["engine"] for one in found})}
    return {"packs": packs, "multi_process_service": processes_overlap(), **kept, "model_epochs_a_second": rate}


def on_streams(bench: Bench, name: str, packs: list[list[int]]) -> list[dict[str, Any]]:
    """Each pack of seeds in a thread of this process, with a stream of its own."""
    together, found = threading.Barrier(len(packs)), list[dict[str, Any]]()

    def one(seeds: list[int]) -> None:
        try:
            found.append(epochs_of(bench, name, seeds, together.wait))
        except BaseException:
            together.abort()  # the others would wait for ever
            raise

    threads = [threading.Thread(target=one, args=(seeds,)) for seeds in packs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) < len(packs):
        raise RuntimeError("a pack has failed")
    return found


def in_processes(bench: Bench, name: str, packs: list[list[int]]) -> list[dict[str, Any]]:
    """Each pack of seeds in a process of its own, with its share of the GPU's memory."""
    own = [sys.executable, __file__, "--device", bench.device.type, "--out", str(bench.path.parent), *["--smoke"] * bench.smoke]
    given = [json.dumps({"network": name, "seeds": seeds, "fraction": 1 / len(packs)}) for seeds in packs]
    each = [subprocess.Popen([*own, "--pack", one], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for one in given]
    for process in each:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a process has failed")
    for process in each:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [json.loads(process.communicate()[0]) for process in each]


def epochs_of(bench: Bench, name: str, seeds: list[int], begin: Callable[[], object]) -> dict[str, Any]:
    """Train a pack on a stream of its own, and say what it did from when all packs had begun."""
    model, shape, _ = bench.shapes()[name]
    with torch.cuda.stream(torch.cuda.Stream()) if bench.gpu else nullcontext():
        training = Training([point_of(model, shape, bench.possible(GOALS[name][2]), seed=seed) for seed in seeds], bench.device)
        training.epoch()  # an engine is chosen, and graphs are recorded
        bench.wait()
        begin()
        begun, epochs = time.perf_counter(), 0
        while time.perf_counter() - begun < (0 if bench.smoke else 5) or not epochs:
            training.epoch()
            epochs += 1
            bench.wait()
        found = slots_of(training)
        return found | {"model_epochs": epochs * found["members"], "seconds": time.perf_counter() - begun}


def pack_alone(bench: Bench, given: dict[str, Any]) -> None:
    """What a process of `in_processes` does: it says that it is ready, waits for a line, and says what came of its pack."""
    if bench.gpu:
        keep_to(given["fraction"])
    found = epochs_of(bench, given["network"], given["seeds"], lambda: (print("ready", flush=True), sys.stdin.readline()))
    print(json.dumps(found))


def prepare(device: str, smoke: bool) -> tuple[Tensor, Tensor]:
    """Make the images up that all parts train on, and settle what a process has; the training images and their labels."""
    if smoke:
        torch.set_num_threads(1)
        choice.COMPILER = "aot_eager"
    if device == "cpu":
        choice._recorder = lambda template: AtOnce()  # there are no graphs
    draw = torch.Generator().manual_seed(0)
    count = 32 if smoke else 50_000
    images = torch.randint(0, 256, (count + count // 4, 3, 32, 32), dtype=torch.uint8, generator=draw)
    labels = torch.arange(len(images)) % CLASSES
    sources.share("made up", Dataset(images[:count], labels[:count], images[count:], labels[count:], CLASSES))
    return images[:count], labels[:count]


def plain_module(point: TrialConfig, device: torch.device) -> nn.Module:
    return build(point.model, 0.0, point_data(point, device).image_shape, CLASSES, seed=0).to(device)


def loaded(images: Tensor, labels: Tensor, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches as a DataLoader over tensors gives them, one sample after the other, then on the device."""
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=BATCH, shuffle=True)
    return ((inputs.to(device), truth.to(device)) for inputs, truth in loader)


def gathered(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches gathered from tensors that lie on the device."""
    order = torch.randperm(len(images), device=images.device)
    return ((images[rows], labels[rows]) for rows in torch.split(order, BATCH))


def epoch(module: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], autocast: torch.autocast, cropped: bool) -> None:
    """What users would write: the same preprocessing on the batch, one network, torch.optim."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    module.train()
    for inputs, truth in batches:
        pixels = inputs.float() / 255
        if cropped:
            pixels = pixels[:, :, 2:30, 2:30]
            deviation, mean = torch.std_mean(pixels, dim=(1, 2, 3), keepdim=True, correction=0)
        else:
            deviation, mean = torch.full((), 0.29, device=pixels.device), torch.full((), 0.5, device=pixels.device)
        optimizer.zero_grad()
        with autocast:
            outputs = module((pixels - mean) / deviation.clamp_min(2352**-0.5)).float()
        nn.functional.cross_entropy(outputs, truth).backward()
        optimizer.step()


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    options.add_argument("--seconds", type=float, default=600, help="begin no measurement later")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options.add_argument("--smoke", action="store_true", help="try everything, as small as it can be")
    options.add_argument("--pack", type=json.loads, help=argparse.SUPPRESS)  # what a process is to train that this one starts
    chosen = options.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here: nothing was measured")
    train = prepare(chosen.device, chosen.smoke)
    bench = Bench(torch.device(chosen.device), chosen.out, chosen.seconds, chosen.smoke)
    if chosen.pack:
        pack_alone(bench, chosen.pack)
        return
    settings(bench)
    draws(bench)
    equality(bench)
    waits(bench)
    goals(bench, *train)
    steps(bench)
    sharing(bench)
    compiled(bench)
    print(f"all measured: {bench.path}")


if __name__ == "__main__":
    main()
