"""The folder of an atlas: its networks as partitioned Parquet, a sample of them, tables, figures, and the card that explains them.

All but ``networks`` is small, and enough for `gaplab atlas show` and `gaplab atlas verify`: it is what one commits, or hands on.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from analysis.atlas.benign import benign_table
from analysis.atlas.card import card
from analysis.atlas.figures import benign_figure, capacity_figure, measures_figure, shifts_figure
from analysis.atlas.measures import measure_table
from analysis.atlas.population import CELL, population
from analysis.atlas.thresholds import label_capacities, regularizer_shifts, thresholds
from analysis.errors import AnalysisError, NothingToShow
from analysis.figures.drawing.style import write_chart
from analysis.statistics.aggregate import seed_means
from analysis.statistics.selection import outcomes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORKS, SAMPLE, CARD, SPEC = "networks", "sample.parquet", "README.md", "spec.yaml"
TABLES = ("cells", "costs", "measures", "thresholds", "shifts", "capacities")
"""The names of the tables, each ``NAME.parquet``."""
SHARE = 0.01
"""Of the networks that are in the sample."""
_FIGURES: dict[str, tuple[str, Callable[[pa.Table], Figure]]] = {
    "benign": ("costs", benign_figure),
    "best-measures": ("measures", measures_figure),
    "regularizers": ("shifts", shifts_figure),
    "true-and-random": ("capacities", capacity_figure),
}
"""The names of the figures, with the table that each draws."""
_PARTITIONS = ("data_set", "noise")
_OWN = re.compile(r"part-\d+\.parquet")
"""The files of the networks."""
_LEFT_OUT = ("study", "host", "reason")
"""Columns of records that say nothing of a network."""
_AVERAGED = ("train_error", "test_error", "generalization_gap", "train_loss", "test_loss", "epochs", "seconds")


@dataclass(frozen=True)
class Edition:
    """What was written.

    Attributes:
        folder: where.
        missing: of each table or figure that could not be made, why.
        charts: the files of the figures.
    """

    folder: Path
    missing: dict[str, str]
    charts: list[Path]


def write_edition(records: pa.Table, spec_text: str, folder: Path) -> Edition:
    """Write an atlas anew: what stood in the folder of an earlier edition is replaced, other files of the user's stay.

    The card is the first to go and the last to come: without it a folder is an edition that was interrupted, and is not read.

    Args:
        records: of the study, with measures.
        spec_text: the YAML that declares it.
        folder: made if it is not there.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: as for `analysis.atlas.population.population`; or a file of the user's lies among the networks.
        OSError: the folder cannot be written.
    """
    networks = population(records)
    unended = records.filter(pc.not_equal(records["status"], "completed"))
    folder.mkdir(parents=True, exist_ok=True)
    kept = networks.drop_columns([name for name in _LEFT_OUT if name in networks.column_names]).sort_by("key")
    _check_foreign(folder)
    (folder / CARD).unlink(missing_ok=True)
    _write_networks(kept, folder)
    _write(sample(kept, SHARE), folder / SAMPLE)
    (folder / SPEC).write_text(spec_text, encoding="utf-8")
    tables, missing = _tables(networks)
    for name in TABLES:
        (folder / f"{name}.parquet").unlink(missing_ok=True)
        if name in tables:
            _write(tables[name], folder / f"{name}.parquet")
    charts = []
    for name in _FIGURES:
        for ending in (".png", ".svg"):
            (folder / f"{name}{ending}").unlink(missing_ok=True)
    for name, draw in _figures(tables).items():
        try:
            charts += write_chart(draw(), folder / name)
        except NothingToShow as error:
            missing[name] = str(error)
    (folder / CARD).write_text(card(kept, tables, missing, outcomes(unended) if unended.num_rows else ""), encoding="utf-8")
    return Edition(folder, missing, charts)


def read_tables(folder: Path) -> dict[str, pa.Table]:
    """The tables of an edition that are there, by their names.

    Raises:
        AnalysisError: it is no folder of an atlas.
    """
    with _damage_told(folder):
        found = {name: pq.read_table(folder / f"{name}.parquet") for name in TABLES if (folder / f"{name}.parquet").is_file()}
    if not found or any("data_set" not in table.column_names for table in found.values()):
        raise _foreign(folder)
    _check_whole(folder)
    return found


def read_networks(folder: Path) -> pa.Table:
    """All networks of an edition, or its sample where only that was handed on.

    Raises:
        AnalysisError: it is no folder of an atlas, or damaged.
    """
    with _damage_told(folder):
        if (folder / NETWORKS).is_dir():
            found = ds.dataset(folder / NETWORKS, partitioning="hive").to_table()
        elif (folder / SAMPLE).is_file():
            found = pq.read_table(folder / SAMPLE)
        else:
            raise _foreign(folder)
    if "key" not in found.column_names:
        raise _foreign(folder)
    _check_whole(folder)
    return found


@contextmanager
def _damage_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise AnalysisError(f"the files of {folder} are damaged ({str(error).splitlines()[0]}): build or copy it anew") from None


def _check_whole(folder: Path) -> None:
    if not (folder / CARD).is_file():
        raise AnalysisError(f"{folder} has no {CARD}, which is written last: build it anew (gaplab atlas build), or copy all of it")


def _foreign(folder: Path) -> AnalysisError:
    return AnalysisError(f"{folder} is no folder of an atlas: gaplab atlas build writes one, as STORAGE/STUDY/atlas")


def of_keys(records: pa.Table, keys: Collection[str]) -> pa.Table:
    """The records of these points."""
    return records.filter(pc.is_in(records["key"], pa.array(sorted(keys), pa.string())))


def sample(networks: pa.Table, share: float, seed: int = 0) -> pa.Table:
    """A share of the networks, at random by their keys: the same ones of equal atlases, a smaller share part of a larger.

    Args:
        share: in (0, 1]; at least one network is taken.
        seed: another draws others.
    """
    ranks = [hashlib.sha256(f"{seed} {key}".encode()).digest() for key in networks["key"].to_pylist()]
    count = max(1, round(share * len(ranks)))
    chosen = sorted(range(len(ranks)), key=ranks.__getitem__)[:count]
    return networks.take(pa.array(sorted(chosen), pa.int64()))


def _check_foreign(folder: Path) -> None:
    """What gaplab did not write is not removed."""
    for place in (folder / NETWORKS, folder / f"{NETWORKS}.new"):
        if foreign := sorted(path for path in place.rglob("*") if path.is_file() and not _OWN.fullmatch(path.name)):
            raise AnalysisError(f"{foreign[0]} is no file of an atlas, and {place} is written anew: move it away first")


def _write_networks(networks: pa.Table, folder: Path) -> None:
    """Beside what is there, which is then exchanged."""
    new = folder / f"{NETWORKS}.new"
    shutil.rmtree(new, ignore_errors=True)
    schema = pa.schema([networks.schema.field(name) for name in _PARTITIONS])
    ds.write_dataset(
        networks, new, format="parquet", partitioning=ds.partitioning(schema, flavor="hive"), basename_template="part-{i}.parquet"
    )
    shutil.rmtree(folder / NETWORKS, ignore_errors=True)
    new.rename(folder / NETWORKS)


def _tables(networks: pa.Table) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """What can be made, and of what cannot, why."""
    fit = networks.set_column(networks.column_names.index("interpolated"), "interpolated", networks["interpolated"].fill_null(False))
    made: dict[str, Callable[[], pa.Table]] = {
        "cells": lambda: seed_means(fit, [*CELL, "interpolated"], [name for name in _AVERAGED if name in fit.column_names]),
        "costs": lambda: benign_table(networks),
        "measures": lambda: measure_table(networks),
        "thresholds": lambda: thresholds(networks),
    }
    found: dict[str, pa.Table] = {}
    missing: dict[str, str] = {}
    made["shifts"] = lambda: regularizer_shifts(found["thresholds"])
    made["capacities"] = lambda: label_capacities(networks, found["thresholds"])
    for name, make in made.items():
        try:
            found[name] = make()
        except NothingToShow as error:
            missing[name] = str(error)
    return found, missing


def _figures(tables: dict[str, pa.Table]) -> dict[str, Callable[[], Figure]]:
    return {name: partial(draw, tables[of]) for name, (of, draw) in _FIGURES.items() if of in tables}


def _write(table: pa.Table, path: Path) -> None:
    """Whole or not at all."""
    new = path.with_suffix(".new")
    pq.write_table(table, new, compression="zstd", compression_level=12)
    new.replace(path)
