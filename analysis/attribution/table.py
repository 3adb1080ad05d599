"""What attribution says of each setting, and which samples it names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.attribution.datamodels import fit_datamodels
from analysis.attribution.influence import influences
from analysis.attribution.membership import membership_attack
from analysis.attribution.memory import parts
from analysis.attribution.subsets import Source, Subsets, subsets_of
from analysis.errors import NothingToShow
from analysis.statistics.intervals import GAPS, Estimate, mean_estimate
from trainables.measures.bundled.memorisation import memorisation_scores

MEMORISED = 0.5
"""The memorisation score above which a sample counts as memorised."""
RATES = (0.01, 0.001)
"""False positive rates at which the attack is read off."""


def attribution_table(table: pa.Table, samples: Source) -> pa.Table:
    """How much each setting's networks memorise, what an attacker learns of their members, and how linear they are in their data.

    Args:
        table: records, as for `analysis.attribution.subsets.subsets_of`.
        samples: of these points, as `analysis.load_samples` returns them; or the study that keeps them, which is then read in parts.

    Returns:
        A row a setting with eight networks or more: the fields that vary; ``networks``, ``share`` (of the samples that a network was
        trained on); ``generalization_gap`` with ``.low`` and ``.high``; ``memorisation``, the mean score over training samples, and
        ``memorised``, the share of them with a score above 0.5; ``attack``, the area under the membership attack's ROC curve, with its
        ends, and ``attack.at_1_percent``, ``attack.at_0.1_percent``, its true positive rates there; ``datamodel``, the linear
        datamodelling score of the test samples' log-odds, with its ends (null for fewer than 40 networks, or where nothing varies).
        Intervals are 95 %, over networks.

    Raises:
        NothingToShow: as for `analysis.attribution.subsets.subsets_of`.
    """
    rows = list(map(_row, subsets_of(table, samples)))  # a name for a setting would hold it while the next one is read
    fields = [table.schema.field(name) for name in rows[0] if name in table.column_names and name not in _NUMBERS]
    numbers = [(name, pa.int64() if name == "networks" else pa.float64()) for name in _NUMBERS]
    return pa.Table.from_pylist(rows, pa.schema([*fields, *numbers]))


_NUMBERS = (
    "networks",
    "share",
    *(f"generalization_gap{end}" for end in ("", ".low", ".high")),
    "memorisation",
    "memorised",
    *(f"attack{end}" for end in ("", ".low", ".high", ".at_1_percent", ".at_0.1_percent")),
    *(f"datamodel{end}" for end in ("", ".low", ".high")),
)


def _row(one: Subsets) -> dict[str, Any]:
    scores = memorisation_scores(one.trained, one.correct).scores
    known = scores[np.isfinite(scores)]  # not of a sample that was in no subset, or in all
    attack = membership_attack(one.trained, one.outputs)
    try:
        datamodel: Estimate | None = fit_datamodels(one.trained, one.test_outputs).score
    except NothingToShow:
        datamodel = None
    caught = attack.caught_at(RATES).tolist()
    return (
        one.setting
        | {"networks": one.networks, "share": one.share}
        | _with_ends("generalization_gap", mean_estimate(one.gaps, within=GAPS))
        | {"memorisation": float(known.mean()), "memorised": float((known > MEMORISED).mean())}
        | _with_ends("attack", attack.area)
        | dict(zip(("attack.at_1_percent", "attack.at_0.1_percent"), caught, strict=True))
        | _with_ends("datamodel", datamodel)
    )


def _with_ends(name: str, found: Estimate | None) -> dict[str, float | None]:
    values = (None, None, None) if found is None or np.isnan(found.value) else (found.value, found.low, found.high)
    return dict(zip((name, f"{name}.low", f"{name}.high"), values, strict=True))


def influence_table(table: pa.Table, samples: Source, *, test_samples: Sequence[int] | None = None, most: int = 10) -> pa.Table:
    """The training samples that help and that hurt test samples most, by setting.

    Args:
        table: records, as for `analysis.attribution.subsets.subsets_of`.
        samples: of these points.
        test_samples: positions in the test set; by default those on which one training sample has the most significant influence.
        most: how many samples of each kind are named.

    Returns:
        A row a setting, test sample and training sample: the fields that vary; ``test``, the position in the test set; ``index``, into the
        training split; ``label``, trained on; ``influence`` on the log-odds of the true label, in nats, of training on the sample (see
        `analysis.attribution.influence.influences`), and its ``standard_error``. Helpful ones first.

    Raises:
        NothingToShow: as for `analysis.attribution.subsets.subsets_of`, there is no such test sample, or no influence is known.
    """
    rows = [row for some in map(partial(_influential, asked=test_samples, most=most), subsets_of(table, samples)) for row in some]
    if not rows:
        raise NothingToShow("no sample was in two subsets or more, and out of two or more: nothing says what difference it makes")
    return pa.Table.from_pylist(rows)


def _influential(one: Subsets, asked: Sequence[int] | None, most: int) -> list[dict[str, Any]]:
    """The rows of one setting."""
    chosen = _shown(one, asked, most)
    values, errors = influences(one.trained, one.test_outputs[:, chosen])
    rows = []
    for column, test in enumerate(chosen.tolist()):
        for place in _extremes(values[:, column], most):
            row = {"test": test, "index": int(one.index[place]), "label": int(one.label[place])}
            row |= {"influence": float(values[place, column]), "standard_error": float(errors[place, column])}
            rows.append(one.setting | row)
    return rows


def _shown(one: Subsets, asked: Sequence[int] | None, most: int) -> NDArray[np.int64]:
    """The test samples to show: those asked for, or those of the most significant single influences."""
    outputs = one.test_outputs.shape[1]
    if asked is None:
        strongest = np.concatenate([_significance(one, part) for part in parts(outputs, one.trained.shape[1])])
        return np.argsort(-strongest, kind="stable")[:most]
    if not all(0 <= number < outputs for number in asked):
        raise NothingToShow(f"there are {outputs:,} test samples, numbered from 0: {', '.join(map(str, asked))} are not all among them")
    return np.asarray(asked, dtype=np.int64)


def _significance(one: Subsets, part: slice) -> NDArray[np.float64]:
    """Of each output, the largest influence of one sample in its standard errors; 0 where none is known."""
    values, errors = influences(one.trained, one.test_outputs[:, part])
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = np.nan_to_num(values / errors, nan=0.0, posinf=0.0, neginf=0.0).max(axis=0)
    return found


def _extremes(values: NDArray[np.float64], most: int) -> list[int]:
    """The places of the largest values and of the smallest, descending."""
    known = np.flatnonzero(np.isfinite(values))
    order: list[int] = known[np.argsort(-values[known], kind="stable")].tolist()
    return order if len(order) <= 2 * most else order[:most] + order[-most:]
