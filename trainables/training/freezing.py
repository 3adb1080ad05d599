"""Members that pause: they leave their training at an epoch, and another takes them up from there, or nobody does.

To a `Training` this is a pruner, which names the members that are due. What it answers leaves as pruned; a member that is to be kept is put
on the shelf first, with what would be recorded of it, so that dropping it later needs no network.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from trainables.point.config import TrialConfig
from trainables.training.loop import Training
from trainables.training.members import Result
from trainables.training.unfinished import Keeper


class Pauses:
    """When the members of a training pause.

    Args:
        until: by key, the epoch at which a point pauses, which is that of its next evaluation, and whether it is kept then; it is pruned if
            not. Other points do not pause.
        keeper: of what is kept.
    """

    def __init__(self, until: Mapping[str, tuple[int, bool]], keeper: Keeper) -> None:
        self._until, self._keeper = until, keeper
        self._training: Training | None = None
        self._members: dict[str, dict[str, Any]] = {}
        """Those that have left the training and whose results are to come."""

    def __call__(self, reports: Sequence[tuple[str, int, dict[str, Any]]]) -> Collection[str]:
        due = {key for key, epoch, _ in reports if key in self._until and epoch >= self._until[key][0]}
        if self._training and any(self._until[key][1] for key in due):
            for member in self._training.members():
                if member["key"] in due:
                    self._members[member["key"]] = member
        return due

    def begin(self, training: Training, points: Sequence[TrialConfig], device: torch.device) -> list[Result]:
        """Watch a training whose points wait; the results of those that were kept at their pause or later: they train no more."""
        self._training = training
        waiting = training.waiting()
        there = [(point, saved) for point in points if point.key() in waiting and (saved := self._keeper.get(point.key(), device))]
        paused = [
            Result(point, point.key(), "pruned", f"pruned after epoch {saved['epoch']}", saved["outcome"], saved["curve"], **saved["by"])
            for point, saved in there
            if "outcome" in saved and saved["epoch"] >= self._until.get(point.key(), (saved["epoch"] + 1, True))[0]
        ]
        training.leave_out({result.key for result in paused})
        return paused

    def keep(self, results: Sequence[Result]) -> tuple[list[Result], dict[str, dict[int, dict[str, Any]]]]:
        """Keep what is to be kept of the results.

        Returns:
            The others, and by key the train and validation error of those that are kept: epoch -> error.
        """
        paused = {result.key: result for result in results if result.status == "pruned" and self._until.get(result.key, (0, False))[1]}
        for key, result in paused.items():
            if member := self._members.pop(key, None):  # the others lie there
                self._keeper.put(member | {"outcome": result.outcome, "by": {"engine": result.engine, "slots": result.slots}})
        errors = {
            key: {row["epoch"]: {name: row[name] for name in ("train_error", "validation_error")} for row in result.curve}
            for key, result in paused.items()
        }
        return [result for result in results if result.key not in paused], errors
