"""Training on image files (`trainables.data.image_files`), alone or as one of several processes of PyTorch's DistributedDataParallel.

Everything that is a point's own is as in `trainables.training.loop`: initialization, order of samples, corrupted labels, update rules,
learning rates, when it ends, what is recorded. What differs: images are decoded and augmented by torchvision's transforms v2 in the workers of a
DataLoader, each with draws from the point's seed, the epoch and the sample's index; and with several processes each takes every k-th sample
of a batch. Their number does not change the gradient, but for the order of sums and for batch norm on a CPU, which then sees one process's
part of a batch (on GPUs it is PyTorch's SyncBatchNorm), and for dropout, of which each process draws its own.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from trainables.data.corruption import corrupt_labels
from trainables.data.image_files import ImageFiles, Stored, read_image
from trainables.data.inputs import Inputs, PointData, Samples
from trainables.data.sources import load
from trainables.data.subset import split
from trainables.engines.optimizers import rate_at
from trainables.models import build
from trainables.point.config import ConfigError, TrialConfig, sizes_only
from trainables.point.streams import derive, generator
from trainables.training.evaluation import Score
from trainables.training.members import PROGRESS, Member, Result, failure, note_score

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training pixels in [0, 1], channel by channel (torchvision's reference)."""
_ROWS = 256
"""Images evaluated at once."""


class FilesTraining:
    """Trains resolved points one after another, with the methods of `trainables.training.loop.Training`.

    Args:
        points: on image files.
        device: of this process.
        rank, processes: which of how many; with more than one, `torch.distributed` must be initialized.
        loaders: processes that decode images; 0 for this one.
    """

    def __init__(self, points: Sequence[TrialConfig], device: torch.device, *, rank: int = 0, processes: int = 1, loaders: int = 0) -> None:
        self.device, self._rank, self._processes, self._loaders = device, rank, processes, loaders
        self._waiting = list(points)[::-1]
        self._total = len(points)
        self._run: _Run | None = None

    @property
    def finished(self) -> bool:
        """Whether every point has had its result."""
        return not self._waiting and self._run is None

    @property
    def share(self) -> float:
        """How much of all epochs is behind, in [0, 1]."""
        begun = 0.0 if self._run is None else 1 - self._run.member.epoch / max(1, self._run.member.point.budget.epochs)
        return 1 - (len(self._waiting) + begun) / self._total

    def epoch(self) -> list[Result]:
        """Train the point that is begun, or the next, for one epoch; its result if it ended with it."""
        point = self._waiting.pop() if self._run is None else self._run.member.point
        try:
            self._run = self._run or _Run(point, self.device, self._rank, self._processes, self._loaders)
            result = self._run.epoch()
        except ConfigError as error:
            result = failure(point, error)
        except Exception as error:
            if self._processes > 1:
                raise  # the other processes wait for this one: all must start anew
            result = failure(point, error)
        self._run = None if result else self._run
        return [result] if result else []

    def leave_out(self, keys: Collection[str]) -> None:
        """Do not train waiting points with these keys: they have their results."""
        self._waiting = [point for point in self._waiting if point.key() not in keys]

    def state_dict(self) -> dict[str, Any]:
        """A checkpoint between two epochs: plain values and tensors."""
        return {"waiting": [point.key() for point in self._waiting], "run": self._run.state_dict() if self._run else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of a FilesTraining of the same points."""
        points = {point.key(): point for point in self._waiting}
        self._waiting = [points[key] for key in state["waiting"]]
        if state["run"]:
            self._run = _Run(points[state["run"]["key"]], self.device, self._rank, self._processes, self._loaders, state["run"])


class _Run:
    """One point in training, in this process."""

    def __init__(
        self, point: TrialConfig, device: torch.device, rank: int, processes: int, loaders: int, saved: dict[str, Any] | None = None
    ) -> None:
        self._device, self._rank, self._processes, self._loaders = device, rank, processes, loaders
        dataset = load(point.data)
        assert isinstance(dataset, ImageFiles)
        self._files = dataset
        data = _point_data(point, dataset)
        shape, classes = dataset.image_shape, dataset.classes
        module = build(sizes_only(point.model), point.regularizers.dropout, shape, classes, seed=derive(point.seed, "initialization"))
        self.member = Member(point, point.key(), data, module.to(device))
        if saved:
            module.load_state_dict(saved["state"])
            for name in PROGRESS:
                setattr(self.member, name, saved[name])
        self._module: nn.Module = module
        if processes > 1:
            whole = nn.SyncBatchNorm.convert_sync_batchnorm(module) if device.type == "cuda" else module
            self._module = DistributedDataParallel(whole, device_ids=[device.index] if device.type == "cuda" else None)
            self.member.module = whole
        self._trainable = [parameter for parameter in self.member.module.parameters() if parameter.requires_grad]
        self._optimizer = _optimizer(point, self._trainable)
        if saved:
            self._optimizer.load_state_dict(saved["optimizer"])
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=point.precision == "bfloat16")

    def epoch(self) -> Result | None:
        """Train for one epoch; the result if the point ends with it."""
        started = time.perf_counter()
        member, budget = self.member, self.member.point.budget
        if budget.epochs:
            self._update()
        score = None
        if member.epoch % budget.evaluate_every == 0 or member.epoch >= budget.epochs:
            score, fives = self._score()
        member.seconds += time.perf_counter() - started
        result = note_score(member, score)
        if result and score and result.outcome:
            result.outcome.update(fives)
        return result

    def state_dict(self) -> dict[str, Any]:
        state = {name: tensor.detach().cpu().clone() for name, tensor in self.member.module.state_dict().items()}
        return self.member.progress() | {"state": state, "optimizer": self._optimizer.state_dict()}

    def _update(self) -> None:
        member, point = self.member, self.member.point
        order = torch.randperm(len(member.data.train.index), generator=generator(point.seed, "batches", member.epoch))
        batches = [rows.tolist() for rows in order.split(point.optimizer.batch_size)]
        for group in self._optimizer.param_groups:
            group["lr"] = rate_at(point, member.epoch)
        images = _Images(self._files.train_files, point, member.data.train.index, augmented=True)
        # A process without a sample of a short last batch borrows one, and counts it as nothing: all must take part in each step.
        mine = [batch[self._rank :: self._processes] or batch[:1] for batch in batches]
        self._module.train()
        torch.manual_seed(derive(point.seed, "dropout", member.epoch, self._rank))
        for rows, whole, (inputs, places) in zip(mine, batches, self._loaded(images, mine, member.epoch), strict=True):
            weight = self._processes / len(whole) if rows[0] in whole[self._rank :: self._processes] else 0.0
            self._optimizer.zero_grad()
            with self._autocast:
                outputs = self._module(inputs).float()
            (_loss(outputs, member.data.train.labels[places].to(self._device), point).sum() * weight).backward()
            if point.regularizers.gradient_clip:
                nn.utils.clip_grad_norm_(self._trainable, point.regularizers.gradient_clip)
            self._optimizer.step()
        member.epoch += 1
        member.steps += len(batches)

    @torch.no_grad()
    def _score(self) -> tuple[Score, dict[str, float]]:
        """The score and the top-5 errors, summed over all processes."""
        data, files = self.member.data, self._files
        train_loss, train_wrong, train_five = self._judged(files.train_files, data.train)
        test_loss, test_wrong, test_five = self._judged(files.test_files, data.test)
        validation = self._judged(files.train_files, data.validation)[1] if data.validation else None
        score = Score(
            train_loss=_mean(train_loss),
            train_error=_mean(train_wrong),
            validation_error=None if validation is None else _mean(validation),
            test_loss=_mean(test_loss),
            test_error=_mean(test_wrong),
            clean_train_error=_mean_of(train_wrong, ~data.train.wrong),
            wrong_train_error=_mean_of(train_wrong, data.train.wrong),
            clean_train_loss=_mean_of(train_loss, ~data.train.wrong),
            wrong_train_loss=_mean_of(train_loss, data.train.wrong),
            train_misclassified=train_wrong.bool(),
        )
        return score, {"measure.train_top5_error": _mean(train_five), "measure.test_top5_error": _mean(test_five)}

    def _judged(self, files: Sequence[Stored], samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
        """Of each sample its loss, whether it is mistaken, and whether five guesses are not enough; (n,) float64 on the CPU."""
        point, count = self.member.point, len(samples.index)
        found = torch.zeros(3, count, dtype=torch.float64, device=self._device)
        mine = list(torch.arange(self._rank, count, self._processes).split(_ROWS))
        images = _Images(files, point, samples.index, augmented=False)
        self.member.module.eval()
        for inputs, places in self._loaded(images, [rows.tolist() for rows in mine], 0):
            with self._autocast:
                outputs = self.member.module(inputs).float()
            label = samples.labels[places].to(self._device)
            own = outputs.gather(1, label[:, None])
            above = (outputs >= own).sum(1) - 1  # a tie is a mistake
            found[:, places] = torch.stack([_loss(outputs, label, point, smoothing=0.0), above > 0, above > 4]).double()
        if self._processes > 1:
            distributed.all_reduce(found)
        return found[0].cpu(), found[1].cpu(), found[2].cpu()

    def _loaded(self, images: _Images, batches: list[list[int]], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs on the device and their places (b,), batch by batch."""
        keys = [[(place, epoch) for place in batch] for batch in batches]
        loader = DataLoader(images, batch_sampler=keys, num_workers=self._loaders, pin_memory=self._device.type == "cuda")
        for inputs, places in loader:
            yield inputs.to(self._device, non_blocking=True), places


class _Images(Dataset[tuple[Tensor, int]]):
    """Decoded, transformed images; an item's key is its place among the samples used and the epoch."""

    def __init__(self, files: Sequence[Stored], point: TrialConfig, index: Tensor, *, augmented: bool) -> None:
        from torchvision.transforms import v2

        side, regularizers = point.data.side, point.regularizers
        parts: list[nn.Module] = [v2.Resize(side + side // 7, antialias=True), v2.CenterCrop(side)]  # 256 for 224
        if augmented and regularizers.crop:
            parts.append(v2.RandomCrop(side, padding=regularizers.crop))
        if augmented and regularizers.flip:
            parts.append(v2.RandomHorizontalFlip())
        parts.append(v2.ToDtype(torch.float32, scale=True))
        if point.data.preprocessing == "standardize":
            parts.append(v2.Normalize(_MEAN, _DEVIATION))
        self._transform = v2.Compose(parts)
        self._random = augmented and bool(regularizers.crop or regularizers.flip)
        self._files, self._index, self._seed = files, index, point.seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        place, epoch = key
        index = int(self._index[place])
        image = read_image(self._files[index])
        with torch.random.fork_rng(devices=[]) if self._random else nullcontext():
            if self._random:
                torch.default_generator.manual_seed(derive(self._seed, "augmentation", epoch, index))
            return self._transform(image), place


def _point_data(point: TrialConfig, dataset: ImageFiles) -> PointData:
    """Which samples are used, and their labels; the pixels stay in their files."""
    none = torch.zeros(0)
    nowhere = Inputs(none, none, none, dataset.image_shape)
    train, validation = split(dataset.train_labels, dataset.classes, point.data)
    labels = corrupt_labels(dataset.train_labels, dataset.classes, point.corruption)[train]

    def clean(index: Tensor, true: Tensor) -> Samples:
        return Samples(nowhere, index, true, torch.zeros(len(index), dtype=torch.bool))

    return PointData(
        Samples(nowhere, train, labels, labels != dataset.train_labels[train]),
        clean(validation, dataset.train_labels[validation]) if len(validation) else None,
        clean(torch.arange(len(dataset.test_labels)), dataset.test_labels),
        dataset.classes,
    )


def _optimizer(point: TrialConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """PyTorch's own; weight decay acts on weights, and on vectors (biases, norms) only if asked to."""
    rule, decay = point.optimizer, point.regularizers.weight_decay
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": decay},
        {
            "params": [parameter for parameter in parameters if parameter.dim() <= 1],
            "weight_decay": decay if point.regularizers.decay_biases else 0.0,
        },
    ]
    if rule.name == "sgd":
        return torch.optim.SGD(groups, lr=rule.learning_rate, momentum=rule.momentum, nesterov=rule.nesterov and rule.momentum > 0)
    kind = torch.optim.Adam if rule.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=rule.learning_rate)


def _loss(outputs: Tensor, labels: Tensor, point: TrialConfig, smoothing: float | None = None) -> Tensor:
    """(b,), as in `trainables.engines.modules`."""
    smoothing = point.regularizers.label_smoothing if smoothing is None else smoothing
    if point.optimizer.loss == "cross_entropy":
        return nn.functional.cross_entropy(outputs, labels, label_smoothing=smoothing, reduction="none")
    targets = nn.functional.one_hot(labels, outputs.shape[1]) * (1 - smoothing) + smoothing / outputs.shape[1]
    return (outputs - targets).square().sum(1) / 2


def _mean(values: Tensor) -> float:
    return float(values.mean())


def _mean_of(values: Tensor, chosen: Tensor) -> float | None:
    return float(values[chosen].mean()) if chosen.any() else None
