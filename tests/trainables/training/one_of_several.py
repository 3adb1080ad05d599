"""One process of several that train a point together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as distributed

from trainables.point.config import TrialConfig, with_fields
from trainables.resolution import resolve
from trainables.training import loop
from trainables.training.distributed import Processes
from trainables.training.loop import Training


def main(given: dict[str, Any], rank: int, told: Connection) -> None:
    """Train the point of `given`, and tell what came of it."""
    torch.set_num_threads(1)
    settings, folder, asked = given["settings"], given["folder"], 0
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=given["count"])
    point = resolve(with_fields(TrialConfig(), given["fields"]))

    def pruner(reports: Sequence[tuple[str, int, dict[str, Any]]]) -> list[str]:
        nonlocal asked
        asked += 1
        return [key for key, epoch, _ in reports if epoch == settings.get("prune_at")]

    def training() -> Training:
        seconds = settings.get("point_seconds")
        return Training([point], torch.device("cpu"), pruner=pruner, processes=Processes(rank, given["count"]), point_seconds=seconds)

    if rank == settings.get("slow_rank"):  # by its own clock, on which a millisecond is a second
        loop.time = SimpleNamespace(perf_counter=lambda: 1000 * time.perf_counter())  # type: ignore[attr-defined]
    one, epochs, results = training(), 0, []
    while not results:
        results = one.epoch()
        epochs += 1
        if epochs == settings.get("stop_after"):
            state = one.state_dict()
            one = training()
            one.load_state_dict(state)
    (result,) = results
    told.send({"status": result.status, "reason": result.reason, "outcome": result.outcome, "curve": result.curve, "asked": asked})
    distributed.barrier()  # nobody leaves while another is still talking to it
    distributed.destroy_process_group()
