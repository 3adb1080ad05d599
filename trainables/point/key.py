"""The key of a point: a hash of what its result depends on, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from trainables.point.errors import ConfigError
from trainables.point.families import unread_fields
from trainables.point.knobs import Group

KEY_VERSION = 1
"""Part of every key. Raised when a change to the code changes what a point computes."""


def key_of(fields: Mapping[str, Any]) -> str:
    """32 hexadecimal digits: the hash of all that can change a resolved point's result.

    Fields without effect are left out (the level and seed of no corruption, Adam's momentum, a synthetic set's
    shape for real data), so two spellings of one run share a key.

    Args:
        fields: of a `trainables.point.config.TrialConfig`: its groups, precision and seed, by name.

    Raises:
        ConfigError: the point is not resolved (see `trainables.resolution.resolve`).
    """
    return hashlib.sha256(json.dumps(_what_counts(fields), sort_keys=True).encode()).hexdigest()[:32]


def _what_counts(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved point that its result depends on, in canonical form."""
    data, corruption, model = fields["data"], fields["corruption"], fields["model"]
    regularizers, optimizer, budget = fields["regularizers"], fields["optimizer"], fields["budget"]
    if data.seed is None or corruption.seed is None or data.train_size is None or model.width is None or corruption.level is None:
        raise ConfigError("this point is not resolved: trainables.resolution.resolve(point) fills in what it leaves to defaults")
    counts: dict[str, Any] = {name: dict(_plain(group)) for name, group in fields.items() if isinstance(group, Group)}
    counts |= {"precision": fields["precision"], "seed": fields["seed"], "version": KEY_VERSION}
    if data.digest:
        counts["data"]["name"] = "npz"
    for unused in {"dimension", "classes", "separation"} - set(data.made_of):
        del counts["data"][unused]
    if data.replaced is None:
        del counts["data"]["replaced"]
    if data.left_out is None:
        del counts["data"]["left_out"]
    for said_by_digest in ("label", "test_fraction", "test_seed", "task"):
        del counts["data"][said_by_digest]
    if not data.streamed:
        del counts["data"]["side"]
    unread = unread_fields(model.name) if model.digest is None else ()  # a custom model may read them all
    for unused in ("parameters_per_sample", "hold", *unread):
        del counts["model"][unused]
    if model.activation in (None, "relu"):
        del counts["model"]["activation"]
    if model.initialization is None:
        del counts["model"]["initialization"]
    if model.initialization_scale in (None, 1):
        del counts["model"]["initialization_scale"]
    if model.parameterization != "mup":
        del counts["model"]["parameterization"], counts["model"]["base_width"]
    if corruption.level == 0:
        counts["corruption"] = corruption.kind if corruption.kind == "random_signs" else None
    else:
        if corruption.kind == "random_labels":
            counts["corruption"]["kind"] = "redraw"
        if corruption.transition_in_force == "symmetric":
            counts["corruption"]["kind"] = "flip"
        del counts["corruption"]["labels"]
        if corruption.labels_in_force is None:
            del counts["corruption"]["digest"]
        if corruption.transition_in_force in (None, "symmetric"):
            del counts["corruption"]["transition"]
        if corruption.validation is None or not data.validation_size or corruption.of_pixels:
            del counts["corruption"]["validation"]
    if regularizers.crop == 0 or regularizers.crop_from is None:
        del counts["regularizers"]["crop_from"]
    if regularizers.weight_decay == 0:
        del counts["regularizers"]["decay_biases"]
    if optimizer.name == "closed_form":
        counts["optimizer"], counts["budget"] = {"name": "closed_form"}, {"target": budget.stop_at_train_error or 0}
        return counts
    if optimizer.warmup is None:
        del counts["optimizer"]["warmup"]
    if optimizer.name != "sgd":
        del counts["optimizer"]["momentum"]
    if optimizer.name != "sgd" or optimizer.momentum == 0:
        del counts["optimizer"]["nesterov"]
    if optimizer.schedule not in ("exponential", "step"):
        del counts["optimizer"]["decay"]
    if optimizer.schedule != "step":
        del counts["optimizer"]["decay_every"]
    if budget.stop_at_train_loss is not None:
        del counts["budget"]["stop_at_train_error"]
    return counts


@lru_cache(maxsize=4096)
def _plain(group: Any) -> dict[str, Any]:
    """The fields of a group. Values that are equal hash equally: 1.0 and 1 are one learning rate, True and 1 one switch."""
    return {name: int(value) if isinstance(value, bool | float) and value == int(value) else value for name, value in vars(group).items()}
