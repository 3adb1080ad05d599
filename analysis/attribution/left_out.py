"""Exact leave-some-out influence: networks trained again without the samples that a test sample is said to depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.attribution.datamodels import fit_datamodels
from analysis.attribution.memory import parts
from analysis.attribution.subsets import SIZE, Source, Subsets, log_odds, spared, subsets_of
from analysis.errors import NothingToShow
from analysis.records.parquet.samples import read_samples
from analysis.statistics.intervals import mean_estimate
from analysis.statistics.selection import completed, groups

LEFT_OUT = "data.left_out"
UNBOUNDED = (-np.inf, np.inf)


@dataclass(frozen=True)
class LeaveOut:
    """A test sample, and two groups of training samples to leave out.

    Attributes:
        setting: the fields that vary, and their values.
        test: position in the test set.
        supporters: indices into the training split, ascending: those of the largest weights in the test sample's datamodel.
        others: as many drawn at random from the supporters' classes, the same number of each as far as a class has them: what leaving out
            that many does by itself.
        predicted: by how much, in nats, the datamodel says that the log-odds fall without the supporters.
        predicted_others: without the others.
    """

    setting: dict[str, Any]
    test: int
    supporters: tuple[int, ...]
    others: tuple[int, ...]
    predicted: float
    predicted_others: float


def checks_of(table: pa.Table, samples: Source, *, checks: int, group: int) -> list[LeaveOut]:
    """What to train again: in each setting, the test samples that the datamodels say depend most on few training samples.

    Args:
        table: records, as for `analysis.attribution.subsets.subsets_of`.
        samples: of these points.
        checks: test samples a setting.
        group: training samples left out at once.

    Raises:
        NothingToShow: as for `subsets_of`, or no setting has datamodels (`analysis.attribution.datamodels.fit_datamodels`).
    """
    lacking: list[NothingToShow] = []

    def found(one: Subsets) -> list[LeaveOut]:
        try:
            return _checks(one, checks, group)
        except NothingToShow as error:
            lacking.append(error)
            return []

    found_in = list(map(found, subsets_of(table, samples)))
    if len(lacking) == len(found_in):
        raise lacking[0]
    return [check for some in found_in for check in some]


def _checks(one: Subsets, checks: int, group: int) -> list[LeaveOut]:
    models = fit_datamodels(one.trained, one.test_outputs)
    samples, outputs = one.trained.shape[1], one.test_outputs.shape[1]
    strongest, sums = [], []
    for part in parts(outputs, samples):
        weights = models.weights_of(part)
        strongest.append(np.argsort(-weights, axis=0, kind="stable")[:group])
        sums.append(np.take_along_axis(weights, strongest[-1], axis=0).sum(axis=0))
    largest, falls = np.concatenate(strongest, axis=1), np.concatenate(sums)
    found = []
    for test in np.argsort(-falls, kind="stable")[:checks].tolist():
        mine = largest[:, test]
        others = _as_many_others(one, mine, test)
        ends = (tuple(sorted(int(one.index[place]) for place in places)) for places in (mine, others))
        supporters, rest = ends
        weights = models.weights_of(slice(test, test + 1))[:, 0]
        found.append(LeaveOut(one.setting, test, supporters, rest, float(falls[test]), float(weights[others].sum())))
    return found


def _as_many_others(one: Subsets, supporters: np.ndarray, seed: int) -> np.ndarray:
    """As many other samples, of the supporters' classes as far as these have them, drawn by the test sample's number."""
    dice = np.random.default_rng(seed)
    free = np.setdiff1d(np.arange(len(one.index)), supporters)
    drawn: list[int] = []
    for label, count in zip(*np.unique(one.label[supporters], return_counts=True), strict=True):
        same = free[one.label[free] == label]
        drawn += dice.choice(same, size=min(int(count), len(same)), replace=False).tolist()
    rest = np.setdiff1d(free, drawn)
    drawn += dice.choice(rest, size=min(len(supporters) - len(drawn), len(rest)), replace=False).tolist()
    return np.sort(np.asarray(drawn, dtype=np.int64))


def left_out_table(table: pa.Table, samples: Source, checks: list[LeaveOut]) -> pa.Table:
    """By how much the log-odds of a test sample's label fell without some training samples, against what its datamodel said.

    Args:
        table: records of networks trained on all samples, and on all but a group, with the same seeds.
        samples: of these points.
        checks: what was left out.

    Returns:
        Two rows a check, the supporters' first: the setting; ``test``; ``left_out``, how many; ``which``, ``supporters`` or
        ``random``; ``predicted``, the fall by the datamodel, in nats; ``fall``, the measured one, its mean over seeds, with ``.low`` and
        ``.high`` (95 %, paired by seed); ``seeds``; ``right`` and ``right.without``, the share of networks that predict the true label
        with and without them.

    Raises:
        NothingToShow: no such network is recorded.
    """
    runs = completed(table)
    unused = spared(runs, samples)
    runs = runs.filter(pa.array((unused == 0) | (runs[LEFT_OUT].is_valid().to_numpy() & (unused >= 0))))
    rows = []
    for check in checks:
        wanted = {name: value for name, value in check.setting.items() if name != SIZE}
        mine = [some for setting, some in groups(runs, list(wanted)) if setting == wanted]
        if not mine:
            continue
        outputs, right = _of_test(mine[0], samples, check.test)
        place = {key: number for number, key in enumerate(mine[0]["key"].to_pylist())}
        whole = _by_seed(mine[0].filter(pc.is_null(mine[0][LEFT_OUT])), place)
        for which, taken, predicted in (
            ("supporters", check.supporters, check.predicted),
            ("random", check.others, check.predicted_others),
        ):
            without = _by_seed(mine[0].filter(pc.equal(mine[0][LEFT_OUT], ",".join(map(str, taken)))), place)
            pairs = [(whole[seed], without[seed]) for seed in sorted(whole.keys() & without.keys())]
            if not pairs:
                continue
            before, after = (np.array(side) for side in zip(*pairs, strict=True))
            falls = outputs[before] - outputs[after]
            found = mean_estimate(falls, within=UNBOUNDED, method="student")
            row = {"test": check.test, "left_out": len(taken), "which": which, "predicted": predicted, "fall": found.value}
            row |= {"fall.low": found.low, "fall.high": found.high, "seeds": len(pairs)}
            row |= {"right": float(right[before].mean()), "right.without": float(right[after].mean())}
            rows.append(check.setting | row)
    if not rows:
        raise NothingToShow("no network was trained without the samples of a check and with its seed on all: gaplab attribute trains them")
    return pa.Table.from_pylist(rows)


def _of_test(runs: pa.Table, samples: Source, test: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of one test sample's label, float64, and whether it is predicted, each (runs,)."""
    found: dict[str, tuple[float, bool]] = {}

    def take(rows: pa.Table) -> None:
        losses, right = (pc.list_element(rows[name], test).to_pylist() for name in ("test_loss", "test_correct"))
        odds = log_odds(np.array(losses, dtype=np.float32)).tolist()
        found.update(zip(rows["key"].to_pylist(), zip(odds, right, strict=True), strict=True))

    read_samples(samples, ("key", "test_loss", "test_correct"), runs["key"], take)
    values = [found.get(key, (np.nan, False)) for key in runs["key"].to_pylist()]
    return np.array([odds for odds, _ in values]), np.array([right for _, right in values], dtype=bool)


def _by_seed(runs: pa.Table, place: dict[str, int]) -> dict[int, int]:
    """Seed -> where its samples lie."""
    pairs = zip(runs["seed"].to_pylist(), runs["key"].to_pylist(), strict=True)
    return {seed: place[key] for seed, key in pairs if key in place}
