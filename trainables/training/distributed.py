"""Several processes, each with its own GPU, train one point: PyTorch's DistributedDataParallel, started by Ray Train inside a trial."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ray import train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from trainables.models import custom as custom
from trainables.point.config import TrialConfig
from trainables.point.text import dumps, loads
from trainables.reproducibility import keep_bits
from trainables.training.files_training import FilesTraining
from trainables.training.members import Result, failure
from trainables.tune import Distribution


class DistributedTraining(FilesTraining):
    """Trains points one after another, each by several processes: an `epoch` here is all of a point's."""

    def __init__(self, points: Sequence[TrialConfig], sources: dict[str, str], by: Distribution) -> None:
        super().__init__(points, torch.device("cpu"))
        self._sources, self._by = sources, by

    def epoch(self) -> list[Result]:
        """The result of the next point. A lost process is replaced, and all go on from their last checkpoint."""
        point, by = self._waiting.pop(), self._by
        each = {"CPU": by.cpus} | ({"GPU": by.gpus} if by.gpus else {})
        trainer = TorchTrainer(
            _one_of_several,  # type: ignore[arg-type]  # what it returns is the return_value below
            train_loop_config={"point": dumps([point]), "sources": self._sources, "loaders": max(0, int(by.cpus) - 1)},
            scaling_config=ScalingConfig(num_workers=by.processes or 1, use_gpu=by.gpus > 0, resources_per_worker=each),
            run_config=RunConfig(
                name=f"{point.key()}-{uuid.uuid4().hex[:12]}",
                storage_path=by.storage,
                failure_config=FailureConfig(max_failures=3),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
            ),
        )
        try:
            return [trainer.fit().return_value]  # type: ignore[attr-defined]  # Ray's stub is of its older Result
        except Exception as error:
            return [failure(point, error)]


def _one_of_several(config: dict[str, Any]) -> Result:
    """One process of a TorchTrainer; `torch.distributed` is initialized here, by NCCL on GPUs and gloo on CPUs."""
    context, device = train.get_context(), get_device()
    if device.type == "cpu":
        keep_bits()
        torch.set_num_threads(1)
    for path, text in config["sources"].items():
        custom.register(path, text)
    rank, processes = context.get_world_rank(), context.get_world_size()
    training = FilesTraining(loads(config["point"]), device, rank=rank, processes=processes, loaders=config["loaders"])
    if last := train.get_checkpoint():
        with last.as_directory() as folder:
            training.load_state_dict(torch.load(Path(folder) / "pack.pt", map_location="cpu", weights_only=True))
    while not (results := training.epoch()):
        with TemporaryDirectory() as folder:
            if rank == 0:
                torch.save(training.state_dict(), Path(folder) / "pack.pt")
            train.report({}, checkpoint=Checkpoint.from_directory(folder) if rank == 0 else None)
    return results[0]
