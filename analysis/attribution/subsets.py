"""The networks of a setting that were trained on random subsets of one training set, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import NothingToShow
from analysis.records.parquet.samples import matrix
from analysis.statistics.selection import completed, groups, varying_fields

COLUMNS = ("key", "index", "label", "trained", "correct", "loss", "test_correct", "test_loss")
"""The columns of samples that are read here."""
_LEAST_LOSS, _MOST_LOSS = 1e-7, 80.0
"""Beyond these a cross-entropy in single precision says nothing more: at 1e-7 it is half of the smallest step below a probability of 1."""
FEWEST = 8
"""Networks of a setting, at least."""

_MOST_CELLS = 10_000_000
"""Pairs of a training sample and an output that are worked on at once: 80 MB in double precision, and there are several such arrays."""

Floats = NDArray[np.float32]
Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Subsets:
    """Networks of one setting that differ in which samples they were trained on, and in their seeds.

    Attributes:
        setting: the fields that vary between settings, and their values.
        index: (n,) which samples of the data set's training split these are.
        label: (n,) the label that they are, or would be, trained on.
        trained: (networks, n), whether the network was trained on the sample.
        correct: (networks, n), whether it predicts that label.
        outputs: (networks, n) log-odds of that label, in nats.
        test_correct: (networks, m), of the test samples and their true labels.
        test_outputs: (networks, m) log-odds of these.
        gaps: (networks,) generalization gaps.
    """

    setting: dict[str, Any]
    index: NDArray[np.int32]
    label: NDArray[np.int16]
    trained: Masks
    correct: Masks
    outputs: Floats
    test_correct: Masks
    test_outputs: Floats
    gaps: NDArray[np.float64]

    @property
    def networks(self) -> int:
        """How many there are."""
        return len(self.trained)

    @property
    def share(self) -> float:
        """The mean share of the samples that a network was trained on."""
        return float(self.trained.mean())


def log_odds(losses: NDArray[np.floating[Any]]) -> Floats:
    """The log-odds log(q / (1 - q)) of the labels' probabilities q = exp(-loss), float32 in [-80, 16.2].

    They are nearly Gaussian over networks where probabilities crowd at 1 (Carlini et al. 2022, section IV-C).

    Args:
        losses: cross-entropies in nats, not negative.

    >>> [round(value, 3) for value in log_odds(np.array([np.log(4 / 3), np.log(4)])).tolist()]
    [1.099, -1.099]
    """
    clipped = np.clip(losses, _LEAST_LOSS, _MOST_LOSS).astype(np.float64)
    odds: Floats = (-np.log(np.expm1(clipped))).astype(np.float32)
    return odds


def subsets_of(table: pa.Table, samples: pa.Table) -> list[Subsets]:
    """The networks of each setting, in the order of the settings.

    Args:
        table: records of points that differ in `data.seed` and `seed`, with a fixed `corruption.seed`: a sample has one label in all.
        samples: of these points, as `analysis.load_samples` returns them, with the columns `COLUMNS`.

    Raises:
        NothingToShow: no setting has eight networks or more, trained on unequal parts of one training set.
    """
    runs = completed(table)
    place = {key: index for index, key in enumerate(samples["key"].to_pylist())}
    of_all = pc.and_(pc.is_null(runs["data.replaced"]), pc.is_null(runs["data.left_out"]))
    runs = runs.filter(pc.and_(of_all, pa.array(spared(runs, samples) > 0)))
    # Records lie in no particular order, and the first and the last networks have parts of their own in attacks and datamodels.
    runs = runs.sort_by([("seed", "ascending"), ("data.seed", "ascending"), ("key", "ascending")])
    found = []
    for setting, some in groups(runs, varying_fields(runs)):
        one = _setting(setting, some, samples.take([place[key] for key in some["key"].to_pylist()]))
        if one is not None:
            found.append(one)
    if not found:
        raise NothingToShow(
            f"no setting has {FEWEST} networks or more, each trained on a part of the training set of its own, with the labels of one "
            "corruption.seed: gaplab attribute trains such"
        )
    return found


def _setting(setting: dict[str, Any], runs: pa.Table, rows: pa.Table) -> Subsets | None:
    if rows.num_rows < FEWEST or len(set(runs["corruption.seed"].to_pylist())) > 1:
        return None
    index = matrix(rows, "index")
    if (index != index[0]).any():
        return None  # pixels of its own a point: there is nothing left out to predict
    trained = matrix(rows, "trained").astype(bool)
    if (trained == trained[0]).all():
        return None  # one and the same subset in all: nothing says what a sample does
    return Subsets(
        setting,
        index[0].astype(np.int32),
        matrix(rows, "label")[0].astype(np.int16),
        trained,
        matrix(rows, "correct").astype(bool),
        log_odds(matrix(rows, "loss").astype(np.float32)),
        matrix(rows, "test_correct").astype(bool),
        log_odds(matrix(rows, "test_loss").astype(np.float32)),
        np.asarray(runs["generalization_gap"].to_numpy(), dtype=np.float64),
    )


def parts(samples: int, outputs: int) -> Iterator[slice]:
    """Parts of the outputs, in order, that can be set against all samples at once."""
    step = max(1, _MOST_CELLS // samples)
    yield from (slice(start, start + step) for start in range(0, outputs, step))


def spared(runs: pa.Table, samples: pa.Table) -> NDArray[np.int64]:
    """How many samples each run could have been trained on and was not, (runs,): those of its validation split do not count; -1 if unknown.

    Args:
        runs: records.
        samples: of these points, or of some of them.
    """
    lists = samples["trained"].combine_chunks()
    ends = np.asarray(lists.offsets)
    counts = np.diff(np.concatenate([[0], np.cumsum(lists.flatten().to_numpy(zero_copy_only=False))])[ends - ends[0]])
    unused = dict(zip(samples["key"].to_pylist(), (np.diff(ends) - counts).tolist(), strict=True))
    pairs = zip(runs["key"].to_pylist(), runs["data.validation_size"].to_pylist(), strict=True)
    return np.array([unused[key] - (validated or 0) if key in unused else -1 for key, validated in pairs], dtype=np.int64)
