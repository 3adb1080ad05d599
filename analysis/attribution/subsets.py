"""The networks of a setting that were trained on random subsets of one training set, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.attribution.memory import check_memory
from analysis.errors import NothingToShow
from analysis.records.parquet.samples import matrix, read_samples
from analysis.statistics.selection import completed, groups, outcomes, varying_fields

COLUMNS = ("key", "index", "label", "trained", "correct", "loss", "test_correct", "test_loss")
"""The columns of samples that are read here."""
_LEAST_LOSS, _MOST_LOSS = 1e-7, 80.0
"""Beyond these a cross-entropy in single precision says nothing more: at 1e-7 it is half of the smallest step below a probability of 1."""
FEWEST = 8
"""Networks of a setting, at least."""
SIZE = "data.train_size"

Floats = NDArray[np.float32]
Masks = NDArray[np.bool_]
Source: TypeAlias = pa.Table | str
"""What each network does on every sample: a table, as `analysis.load_samples` returns it, or the study ``STORAGE/STUDY`` that keeps it,
which is then read in parts, one setting at a time."""


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


def subsets_of(table: pa.Table, samples: Source) -> Iterator[Subsets]:
    """The networks of each setting, in the order of the settings; settings with fewer than eight of them are left out (`left_aside`).

    Args:
        table: records of points that differ in `data.seed` and `seed`, with a fixed `corruption.seed`: a sample has one label in all.
        samples: of these points, with the columns `COLUMNS`.

    Raises:
        NothingToShow: no setting has eight networks or more, trained on unequal parts of one training set.
        AnalysisError: a setting's networks and samples are too many for the memory of this machine (`analysis.attribution.memory`).
    """
    some = False
    done = _on_subsets(completed(table), samples)
    for setting, runs in groups(done, varying_fields(_with_others(done, table))):
        if runs.num_rows >= FEWEST and len(set(runs["corruption.seed"].to_pylist())) == 1:
            found = _setting(setting, runs, samples)
            if found is not None:
                some = True
                yield found
            del found  # only what is worked on is held while the next setting is read
    if not some:
        raise NothingToShow(
            f"no setting has {FEWEST} networks or more, each trained on a part of the training set of its own, with the labels of one "
            "corruption.seed: gaplab attribute trains such"
        )


def left_aside(table: pa.Table, samples: Source) -> list[str]:
    """The settings of which too few networks completed to be set side by side, a sentence each.

    Args:
        table: records, as for `subsets_of`, those that are not completed among them.
        samples: of these points.
    """
    every = _with_others(_on_subsets(completed(table), samples), table)
    said = []
    for setting, runs in groups(every, varying_fields(every)):
        count = int(pc.sum(pc.equal(runs["status"], "completed")).as_py())
        if count < FEWEST:
            name = ", ".join(f"{field} {value}" for field, value in setting.items()) or "the only setting"
            said.append(
                f"{name}: {count} network{'' if count == 1 else 's'} on random subsets completed ({outcomes(runs)}), and {FEWEST} are "
                "needed: it stands in no table and figure here."
            )
    return said


def _of_all(table: pa.Table) -> pa.ChunkedArray:
    return pc.and_(pc.is_null(table["data.replaced"]), pc.is_null(table["data.left_out"]))


def _on_subsets(runs: pa.Table, samples: Source) -> pa.Table:
    """The completed runs on a part of all samples, in the order of their seeds."""
    runs = runs.filter(_of_all(runs))
    runs = runs.filter(pa.array(spared(runs, samples) > 0))
    # Records lie in no particular order, and the first and the last networks have parts of their own in attacks and datamodels.
    return runs.sort_by([("seed", "ascending"), ("data.seed", "ascending"), ("key", "ascending")])


def _with_others(done: pa.Table, table: pa.Table) -> pa.Table:
    """With those that did not complete, by whose fields settings are told apart too; not those that were to be trained on all samples."""
    others = table.filter(pc.and_(pc.not_equal(table["status"], "completed"), _of_all(table)))
    return pa.concat_tables([done, others.filter(pc.is_in(others[SIZE], done[SIZE].unique()))])


def _setting(setting: dict[str, Any], runs: pa.Table, samples: Source) -> Subsets | None:
    """The networks of one setting; None where samples are a point's own, or the subset is one and the same in all."""
    place = {key: number for number, key in enumerate(runs["key"].to_pylist())}
    filled: dict[str, NDArray[Any]] = {}
    own = False

    def fill(rows: pa.Table) -> None:
        """Put the rows where their networks stand."""
        nonlocal own
        places = np.array([place[key] for key in rows["key"].to_pylist()], dtype=np.int64)
        for name in COLUMNS[1:]:
            values = matrix(rows, name)
            if name in ("index", "label"):
                kept = filled.setdefault(name, values[0].astype(np.int32 if name == "index" else np.int16))
                own |= name == "index" and bool((values != kept).any())
                continue
            if name not in filled:
                if name == "trained":
                    check_memory(len(place), values.shape[1], len(rows["test_loss"][0]))
                filled[name] = np.empty((len(place), values.shape[1]), dtype=np.float32 if name.endswith("loss") else bool)
            if values.shape[1] != filled[name].shape[1]:
                raise NothingToShow(f"the points have {name} of unequal numbers of samples: they cannot be set beside each other")
            filled[name][places] = log_odds(values.astype(np.float32)) if name.endswith("loss") else values

    read_samples(samples, COLUMNS, runs["key"], fill)
    trained = filled["trained"]
    if own or (trained == trained[0]).all():
        return None  # pixels of its own a point, or nothing that says what a sample does
    return Subsets(
        setting,
        filled["index"],
        filled["label"],
        trained,
        filled["correct"],
        filled["loss"],
        filled["test_correct"],
        filled["test_loss"],
        np.asarray(runs["generalization_gap"].to_numpy(), dtype=np.float64),
    )


def spared(runs: pa.Table, samples: Source) -> NDArray[np.int64]:
    """How many samples each run could have been trained on and was not, (runs,): those of its validation split do not count; -1 if unknown.

    Args:
        runs: records.
        samples: of these points, or of some of them.
    """
    unused: dict[str, int] = {}

    def count(rows: pa.Table) -> None:
        lists = rows["trained"].combine_chunks()
        ends = np.asarray(lists.offsets)
        counts = np.diff(np.concatenate([[0], np.cumsum(lists.flatten().to_numpy(zero_copy_only=False))])[ends - ends[0]])
        unused.update(zip(rows["key"].to_pylist(), (np.diff(ends) - counts).tolist(), strict=True))

    read_samples(samples, ("key", "trained"), runs["key"], count)
    pairs = zip(runs["key"].to_pylist(), runs["data.validation_size"].to_pylist(), strict=True)
    return np.array([unused[key] - (validated or 0) if key in unused else -1 for key, validated in pairs], dtype=np.int64)
