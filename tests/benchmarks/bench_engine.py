"""The stacked engine against JAX (``jit(vmap)`` of a scanned epoch) and against the machine's matrix product.

Both train 32 copies of an MLP on 1,024 of scikit-learn's digits, batch 128, SGD with momentum, one thread on one core, in
processes that take turns; the figure of a turn is its fastest epoch. Goal: gaplab is no slower at any width, and at
width 256 and more it reaches 60 % of the measured peak of sgemm.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

WIDTHS = (16, 64, 256, 1024)
MEMBERS, SAMPLES, BATCH, EPOCHS = 32, 1024, 128, 6
TURNS = 5


def measure() -> dict[str, Any]:
    turns: dict[str, list[dict[str, float]]] = {"gaplab": [], "jax": []}
    for _ in range(TURNS):
        for name, found in turns.items():
            environment = os.environ | {
                "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
                "OMP_NUM_THREADS": "1",
                "JAX_PLATFORMS": "cpu",
            }
            done = subprocess.run([sys.executable, "-m", __name__, name], env=environment, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    rows = {}
    for width in map(str, WIDTHS):
        ours, theirs = ([turn[width] for turn in turns[name]] for name in ("gaplab", "jax"))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        peak = [_flops(int(width)) / turn[width] / turn["peak"] * 1e-6 for turn in turns["gaplab"]]
        rows[width] = {
            "gaplab_ms_per_model_epoch": statistics.median(ours),
            "jax_ms_per_model_epoch": statistics.median(theirs),
            "gaplab_over_jax": statistics.median(ratios),
            "share_of_sgemm_peak": statistics.median(peak),
        }
        row = rows[width]
        print(
            f"width {width:>4}: gaplab {row['gaplab_ms_per_model_epoch']:.3f} ms, JAX {row['jax_ms_per_model_epoch']:.3f} ms, "
            f"ratio {row['gaplab_over_jax']:.2f}; {row['share_of_sgemm_peak']:.0%} of sgemm's peak"
        )
    return {"sgemm_peak_gflops": statistics.median(turn["peak"] for turn in turns["gaplab"]), "widths": rows}


def _flops(width: int) -> float:
    """Multiply-adds of the products of one epoch, times two: the first layer has no gradient towards its inputs."""
    return 2.0 * SAMPLES * width * (2 * 64 + 3 * 10)


def _fastest(epoch: Callable[[], object]) -> float:
    epoch()
    times = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - start)
    return min(times) / MEMBERS * 1e3


def time_gaplab() -> dict[str, float]:
    import torch

    from trainables.point.config import Budget, Data, Model, Optimizer, TrialConfig
    from trainables.reproducibility import keep_bits
    from trainables.resolution import resolve
    from trainables.training.loop import Training

    keep_bits()
    torch.set_num_threads(1)
    times = {}
    for width in WIDTHS:
        shared = TrialConfig(
            data=Data(train_size=SAMPLES),
            model=Model(width=width),
            optimizer=Optimizer(batch_size=BATCH),
            budget=Budget(epochs=10_000, stop_at_train_error=None, evaluate_every=10_000),
        )
        points = [resolve(replace(shared, seed=seed)) for seed in range(MEMBERS)]
        halves = Training(points[:1], torch.device("cpu"))
        halves.epoch()
        slots = halves._slots or 1
        stacks = [Training(points[start : start + slots], torch.device("cpu")) for start in range(0, MEMBERS, slots)]
        times[str(width)] = _fastest(lambda stacks=stacks: [stack.epoch() for stack in stacks])
    square = torch.randn(1024, 1024)
    start = min(_timed(lambda: square @ square) for _ in range(50))
    return times | {"peak": 2 * 1024**3 / start / 1e9}


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_jax() -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    import numpy as np
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images, labels = jnp.asarray(bundle.data[:SAMPLES] / 16, jnp.float32), jnp.asarray(bundle.target[:SAMPLES])

    def loss(weights: dict[str, Any], inputs: Any, truth: Any) -> Any:
        logits = jax.nn.relu(inputs @ weights["w1"] + weights["b1"]) @ weights["w2"] + weights["b2"]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), truth[:, None], 1).mean()

    def epoch(weights: dict[str, Any], momentum: dict[str, Any], key: Any) -> Any:
        def step(carried: Any, rows: Any) -> Any:
            weights, momentum = carried
            gradient = jax.grad(loss)(weights, images[rows], labels[rows])
            momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, gradient)
            return (jax.tree.map(lambda w, m: w - 0.1 * m, weights, momentum), momentum), None

        order = jax.random.permutation(key, SAMPLES).reshape(-1, BATCH)
        return jax.lax.scan(step, (weights, momentum), order)[0]

    run = jax.jit(jax.vmap(epoch))
    times = {}
    for width in WIDTHS:
        draw = np.random.default_rng(0)
        shapes = {"w1": (64, width), "b1": (width,), "w2": (width, 10), "b2": (10,)}
        weights = {name: jnp.asarray(draw.normal(0, 0.1, (MEMBERS, *shape)), jnp.float32) for name, shape in shapes.items()}
        momentum = jax.tree.map(jnp.zeros_like, weights)
        keys = jax.random.split(jax.random.PRNGKey(0), MEMBERS)
        times[str(width)] = _fastest(lambda w=weights, m=momentum, k=keys: jax.block_until_ready(run(w, m, k)))
    return times


if __name__ == "__main__":
    os.sched_setaffinity(0, {0})
    print(json.dumps(time_gaplab() if sys.argv[1] == "gaplab" else time_jax()))
