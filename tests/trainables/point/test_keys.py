"""Keys and pack signatures as they were when the first studies were recorded: a study of then goes on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from trainables.models import families
from trainables.point.config import TrialConfig, with_fields
from trainables.point.families import unread_fields

STORED = [json.loads(line) for line in (Path(__file__).parent / "keys.jsonl").read_text().splitlines()]
"""Random points of every family, trained and solved, with what an earlier version made of them."""

LATER = ("initialization", "initialization_scale", "activation", "parameterization", "base_width")
"""Fields of a model that came later, as they were not there."""


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored["key"][:8])
def test_a_point_has_the_key_and_the_signature_that_it_always_had(stored: dict[str, Any]) -> None:
    point = with_fields(TrialConfig(), stored["fields"])
    assert point.key() == stored["key"]
    signature = repr(point.signature())
    for later in LATER:
        signature = signature.replace(f", {later}=None", "")
    assert hashlib.sha256(signature.encode()).hexdigest()[:16] == stored["signature"]


def test_stored_keys_are_of_every_bundled_family() -> None:
    bundled = {name for name, family in families().items() if family.digest is None}
    assert bundled <= {stored["fields"].get("model.name", TrialConfig().model.name) for stored in STORED}


def test_a_name_that_nobody_registered_is_taken_to_read_all() -> None:
    assert unread_fields("nobody") == ()
    assert set(unread_fields("linear")) == {"width", "depth", "batch_norm", "kernel_scale"}


@pytest.mark.parametrize("field", [{"model.initialization": "he"}, {"model.initialization_scale": 2.0}])
def test_points_that_start_from_other_weights_are_others_and_share_packs(field: dict[str, Any]) -> None:
    point = with_fields(TrialConfig(), STORED[0]["fields"])
    other = with_fields(point, field)
    assert other.key() != point.key()
    assert other.signature() == point.signature()
    assert with_fields(point, {"model.initialization_scale": 1.0}).key() == point.key()
