"""The theories that Zhang et al. 2017 confront, and memorisation by sample, as tables made of a study's points.

The presets `rademacher`, `stability` and `memorisation` declare such studies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.records.parquet.samples import matrix
from analysis.statistics.aggregate import over_seeds
from analysis.statistics.intervals import mean_estimate
from analysis.statistics.selection import SEEDS, completed, varying_fields

SIGNS = "random_signs"
_CORRELATIONS = (-1.0, 1.0)
_VC_BOUND = "measure.vc_bound"


def rademacher_table(table: pa.Table) -> pa.Table:
    """Empirical Rademacher complexity by capacity, from the points with corruption `random_signs`, and what it bounds.

    Args:
        table: records. Points at level 1 were trained on coin flips, those at level 0 on the two true classes.

    Returns:
        The settings that vary beside capacity, ``data.train_size``, ``parameters_per_sample``; ``complexity``, the mean correlation
        reached in [0, 1], with ``complexity.low``, ``complexity.high`` (95 %, over draws; null for one) and ``draws``;
        ``rademacher_bound`` and ``vc_bound`` of the gap at confidence 95 %, vacuous above 1 (``vc_bound`` is null where the study did
        not compute that measure); ``generalization_gap`` on the true classes with its interval, null without such points.
        Sorted by capacity.

    Raises:
        NothingToShow: no completed point was trained on random signs.
    """
    from trainables.measures.theories import rademacher_complexity, rademacher_gap_bound

    runs = completed(table)
    runs = runs.filter(pc.equal(runs["corruption.kind"], SIGNS))
    drawn = runs.filter(pc.equal(runs["corruption.level"], 1.0))
    if not drawn.num_rows:
        raise NothingToShow("no completed point was trained on random signs: the preset rademacher shows how")
    apart = [name for name in varying_fields(runs) if name != "model.width" and not name.startswith("corruption.")]
    by = list(dict.fromkeys([*apart, "data.train_size", "parameters_per_sample"]))
    true = over_seeds(runs.filter(pc.equal(runs["corruption.level"], 0.0)), by, ["generalization_gap"]).drop_columns(
        ["seeds", "generalization_gap.seeds"]
    )
    gaps = {tuple(row[name] for name in by): row for row in true.to_pylist()}
    rows = []
    for setting, group in _groups(drawn, by):
        found = rademacher_complexity([row["train_error"] for row in group])
        count = len(group)
        interval = mean_estimate([1 - 2 * row["train_error"] for row in group], within=_CORRELATIONS)
        row = dict(zip(by, setting, strict=True)) | {
            "complexity": found.mean,
            "complexity.low": interval.low if count > 1 else None,
            "complexity.high": interval.high if count > 1 else None,
            "draws": count,
            "rademacher_bound": rademacher_gap_bound(found.mean, group[0]["data.train_size"]),
            "vc_bound": group[0].get(_VC_BOUND),
        }
        gap = gaps.get(setting, {})
        rows.append(row | {name: gap.get(name) for name in true.column_names if name not in by})
    return pa.Table.from_pylist(rows).sort_by("parameters_per_sample")


def stability_table(table: pa.Table, samples: pa.Table) -> pa.Table:
    """Uniform stability: how far the loss moves when one training sample is replaced, from points that differ in `data.replaced` alone.

    The loss is 1 - (probability of the label), in [0, 1], at every training sample of the data set and every test sample, also those
    left out.

    Args:
        table: records.
        samples: of these points, as `analysis.records.parquet.samples.load_samples` returns them.

    Returns:
        The settings that vary, ``data.train_size``; ``largest``, the greatest change seen at any sample (a lower estimate of the
        stability beta); ``at_replaced``, its mean at the samples that were taken away; ``mean`` over all samples; ``bound`` of the gap by
        ``largest`` at confidence 95 %, vacuous above 1; ``generalization_gap``, the mean over points; ``replacements``, over all seeds.

    Raises:
        NothingToShow: no two completed points differ so.
    """
    from trainables.measures.theories import stability_gap_bound, uniform_stability

    runs = completed(table)
    by = list(dict.fromkeys([*(name for name in varying_fields(runs) if name != "data.replaced"), "data.train_size"]))
    index_of = {key: index for index, key in enumerate(samples["key"].to_pylist())}
    losses = 1 - np.exp(-np.concatenate([matrix(samples, "loss"), matrix(samples, "test_loss")], axis=1))
    trained = matrix(samples, "trained").astype(bool)
    rows = []
    for setting, group in _groups(runs, by):
        found, own, gaps, count = [], [], [], 0
        for _, pairs in _groups(pa.Table.from_pylist(group), SEEDS):
            known = [row for row in pairs if row["key"] in index_of]
            whole = [index_of[row["key"]] for row in known if row["data.replaced"] is None]
            others = [index_of[row["key"]] for row in known if row["data.replaced"] is not None]
            if whole and others:
                found.append(uniform_stability(losses[whole[0]], losses[others]))
                taken = [int((trained[whole[0]] & ~trained[other]).argmax()) for other in others]
                own += np.abs(losses[others, taken] - losses[whole[0], taken]).tolist()
                gaps += [row["generalization_gap"] for row in known]
                count += len(others)
        if found:
            largest = max(one.largest for one in found)
            row = dict(zip(by, setting, strict=True)) | {"largest": largest, "at_replaced": float(np.mean(own))}
            row |= {"mean": float(np.mean([one.mean for one in found])), "replacements": count}
            bound = stability_gap_bound(largest, group[0]["data.train_size"])
            rows.append(row | {"bound": bound, "generalization_gap": float(np.mean(gaps))})
    if not rows:
        raise NothingToShow("no completed points differ in data.replaced alone: the preset stability shows how")
    return pa.Table.from_pylist(rows)


def memorisation_table(table: pa.Table, samples: pa.Table) -> pa.Table:
    """Memorisation scores (Feldman and Zhang 2020) of every training sample of the data set, from points trained on subsets of it.

    Args:
        table: records of points that differ in `data.seed` and `seed`, with a fixed `corruption.seed`: a sample has one label in all.
        samples: of these points, as `analysis.records.parquet.samples.load_samples` returns them.

    Returns:
        The settings that vary, ``index`` into the data set's training split, ``label`` trained on, ``score`` in [-1, 1], its
        ``standard_error``, ``forgotten`` and ``learning_speed`` (means over the models trained on it), ``models``. Highest scores
        first within each setting. Samples that were in all subsets, or in none, are left out.

    Raises:
        NothingToShow: no sample is both trained on and left out in some setting.
    """
    from trainables.measures.bundled.memorisation import memorisation_scores

    runs = completed(table)
    index_of = {key: index for index, key in enumerate(samples["key"].to_pylist())}
    by = [name for name in varying_fields(runs) if name != "data.replaced"]
    parts = []
    for setting, group in _groups(runs, by):
        rows = samples.take([index_of[row["key"]] for row in group if row["key"] in index_of])
        if (
            rows.num_rows < 2
            or len({row["corruption.seed"] for row in group}) > 1
            or any(row["data.replaced"] is not None for row in group)
        ):
            continue
        trained, index, label = matrix(rows, "trained").astype(bool), matrix(rows, "index"), matrix(rows, "label")
        if (index != index[0]).any():
            continue  # pixels of its own a point: there is nothing left out to predict
        scores, errors = memorisation_scores(trained, matrix(rows, "correct").astype(bool))
        times = trained.sum(axis=0)
        columns = {"index": index[0], "label": label[0], "score": scores, "standard_error": errors}
        for name in ("forgotten", "learning_speed"):
            with np.errstate(invalid="ignore"):
                columns[name] = np.nansum(matrix(rows, name).astype(np.float64), axis=0) / times
        columns["models"] = np.full(len(scores), rows.num_rows)
        order = np.argsort(-scores, kind="stable")
        order = order[np.isfinite(scores[order])]
        part = pa.table({name: pa.array(values[order]) for name, values in columns.items()})
        for name, value in zip(reversed(by), reversed(setting), strict=True):
            part = part.add_column(0, name, pa.array([value] * part.num_rows, runs.schema.field(name).type))
        parts.append(part)
    if not any(part.num_rows for part in parts):
        raise NothingToShow("no training sample is trained on in some points and left out in others: the preset memorisation shows how")
    return pa.concat_tables(parts)


def _groups(table: pa.Table, by: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """The groups of rows that agree in some columns, in the order of these columns."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        groups[tuple(row[name] for name in by)].append(row)
    yield from sorted(groups.items(), key=lambda item: [(value is None, str(type(value)), value) for value in item[0] if value is not None])
