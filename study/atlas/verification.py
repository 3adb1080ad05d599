"""Verification of an atlas: networks that are drawn at random, or named, are trained again and compared with what stands there.

On a processor of the same kind, with the same PyTorch, that is to the bit (`docs/engines.md`, "Which bits are promised"). Elsewhere a
network takes another way from its first rounding on, so that single ones may differ by much, and all together may not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.atlas.edition import read_networks, sample
from analysis.records.rows import SAME
from analysis.records.schema import MEASURE
from analysis.statistics.intervals import GAPS, Estimate, mean_estimate
from search_spaces.space import Space
from study.launch.run import run
from study.launch.summary import Summary
from study.spec.reading import Spec, understand
from trainables.point.config import TrialConfig, field_types, with_fields
from trainables.point.errors import ConfigError
from trainables.resolution import resolve

STUDY = "atlas-verification"
TOLERANCE = 0.01
"""The largest mean difference of an error, over all networks of a verification, that another processor's rounding may make: an interval
that lies beyond it is a difference."""
_COMPARED = ("train_error", "test_error")
_BITS = ("bits", "torch_version")
"""Columns that say whether a result is promised to come again to the bit."""


@dataclass(frozen=True)
class Verified:
    """What came of a verification.

    Attributes:
        summary: of the run that trained again.
        exact: networks that are promised to the bit here.
        unlike: keys of those of them that came otherwise, with the columns that differ.
        elsewhere: networks that were trained on other processors or versions.
        differences: over these, the mean difference of each error with its 95 % interval (NaN for one network); None without any.
    """

    summary: Summary
    exact: int
    unlike: dict[str, tuple[str, ...]]
    elsewhere: int
    differences: dict[str, Estimate] | None

    @property
    def holds(self) -> bool:
        """Whether nothing is shown to differ: no bit that is promised, and no mean by more than the tolerance."""
        means = (self.differences or {}).values()
        return not self.unlike and not any(one.low > TOLERANCE or one.high < -TOLERANCE for one in means)


def verify_atlas(
    folder: Path,
    *,
    share: float = 0.01,
    keys: Sequence[str] = (),
    seed: int = 0,
    storage: str | None = None,
    one_round: Callable[[Spec], Summary] | None = None,
) -> Verified:
    """Train networks of an atlas again, and compare.

    What is trained again is a study of its own, under ``STORAGE/atlas-verification``: interrupted, the same call goes on; networks that an
    earlier verification trained there are not trained a third time.

    Args:
        folder: of an edition; of one that was handed on without its networks, its sample is what is drawn from.
        share: of the networks that are drawn, in (0, 1].
        keys: the networks, in place of a draw.
        seed: another draws others.
        storage: for the networks that are trained again; ``FOLDER/verification`` by default.
        one_round: what runs the study; `study.run` by default.

    Raises:
        ConfigError: the share is out of range, a key is not in the atlas, or its rows are of another version of gaplab's points.
        AnalysisError: it is no folder of an atlas.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"--share is {share:g}: it is the share of the networks that are trained again, above 0 and at most 1")
    networks = read_networks(folder)
    chosen = _named(networks, keys, folder) if keys else sample(networks, share, seed)
    measures = [name.removeprefix(MEASURE) for name in networks.column_names if name.startswith(MEASURE)]
    place = storage or str(folder / "verification")
    spec = _declared(chosen, measures, folder)
    summary = one_round(spec) if one_round else run(spec, storage=place)
    if not summary.goes_on:
        return Verified(summary, 0, {}, 0, None)
    return _compared(chosen, summary)


def _named(networks: pa.Table, keys: Sequence[str], folder: Path) -> pa.Table:
    found = networks.filter(pc.is_in(networks["key"], pa.array(keys, pa.string())))
    if missing := sorted(set(keys) - set(found["key"].to_pylist())):
        raise ConfigError(f"--key {missing[0]} is in no row of {folder}: its networks, or the sample of them, have the column key")
    return found


def _declared(chosen: pa.Table, measures: Sequence[str], folder: Path) -> Spec:
    """The study of these networks, each of which has the key that it has in the atlas."""
    assignments = []
    if lacking := [name for name in field_types() if name not in chosen.column_names]:
        raise ConfigError(f"the networks of {folder} have no column {lacking[0]}: the atlas is of another version of gaplab")
    for row in chosen.select(["key", *field_types()]).to_pylist():
        fields = {name: row[name] for name in field_types()}
        if resolve(with_fields(TrialConfig(), fields)).key() != row["key"]:
            raise ConfigError(
                f"the row {row['key']} of {folder} declares another network here: the atlas is of another version of gaplab, or of data or "
                "models whose content has changed"
            )
        assignments.append(fields)
    written = {"study": STUDY, "measures": list(measures), "tracking": {"mlflow": False}}
    text = f"# {len(assignments):,} networks that gaplab atlas verify drew from an atlas.\nstudy: {STUDY}\n"
    return replace(understand(written, text), space=Space({}, added=tuple(assignments)), left_open={})


def _compared(chosen: pa.Table, summary: Summary) -> Verified:
    again = {row["key"]: row for row in summary.records.to_pylist()}
    names = [name for name in chosen.column_names if name in SAME or name.startswith(MEASURE)]
    exact, unlike = 0, dict[str, tuple[str, ...]]()
    elsewhere: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for row in chosen.to_pylist():
        new = again[row["key"]]
        if new["status"] != row["status"]:
            unlike[row["key"]] = ("status",)
            continue
        if row["bits"] is None or any(row[name] != new[name] for name in _BITS):
            elsewhere.append((row, new))
            continue
        exact += 1
        if different := tuple(name for name in names if not _equal(row[name], new.get(name))):
            unlike[row["key"]] = different
    differences = None
    if elsewhere:
        differences = {name: mean_estimate([new[name] - row[name] for row, new in elsewhere], within=GAPS) for name in _COMPARED}
    return Verified(summary, exact, unlike, len(elsewhere), differences)


def _equal(one: Any, other: Any) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return bool(one == other) or both_nan
