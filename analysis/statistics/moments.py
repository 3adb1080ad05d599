"""Values at another moment than the end of a run: where it first fit, or where its validation error was lowest."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.statistics.tasks import own

Moment = Literal["fit", "best_validation"]
_IN_WORDS = {
    "fit": "at the first epoch that fit, or at the end of runs that did not",
    "best_validation": "at the epoch of lowest validation error",
}
_METADATA = b"gaplab.moment"
_FROM_CURVE = (
    *("train_error", "train_loss", "validation_error", "test_error", "test_loss"),
    *("train_nmse", "validation_nmse", "test_nmse"),
)


def at_moment(table: pa.Table, curves: pa.Table, moment: Moment) -> pa.Table:
    """The records with errors, losses and the gap taken from their curves at another moment; figures name it.

    Args:
        table: records.
        curves: their curves, as `analysis.load_curves` returns them.
        moment: ``fit``: the first epoch that reached the train target; runs that did not keep their values at the end.
            ``best_validation``: the first epoch of lowest validation error; runs without one are left out.

    Raises:
        NothingToShow: there are no records, or no run has a validation error.
    """
    if not table.num_rows:
        raise NothingToShow("there are no records yet: nothing can be shown")
    chosen = _fit_epochs(table) if moment == "fit" else _best_epochs(curves, own(table, "validation_error"))
    names = [name for name in _FROM_CURVE if name in table.column_names]
    found = curves.select(["key", "epoch", *names]).join(chosen, ["key", "epoch"], join_type="inner")
    found = found.rename_columns(["key", "epoch", *(f"at.{name}" for name in names)])
    joined = table.join(found, "key", join_type="left outer" if moment == "fit" else "inner")
    if not joined.num_rows:
        raise NothingToShow("no run has a validation error: set data.validation_size to choose an epoch by it")
    for name in names:
        values = pc.coalesce(joined[f"at.{name}"], joined[name]) if moment == "fit" else joined[f"at.{name}"]
        joined = joined.set_column(joined.column_names.index(name), name, values)
    for name, test, train in (("generalization_gap", "test_error", "train_error"), ("nmse_gap", "test_nmse", "train_nmse")):
        if name in table.column_names:
            gap = pc.subtract(joined[test], joined[train])
            joined = joined.set_column(joined.column_names.index(name), name, gap)
    return joined.select(table.column_names).replace_schema_metadata({_METADATA: _IN_WORDS[moment].encode()})


def needed_of_curves(table: pa.Table, moment: Moment) -> list[str]:
    """The columns of the curves that `at_moment` needs for these records."""
    chosen_by = [own(table, "validation_error")] if moment == "best_validation" else []
    return list(dict.fromkeys(["key", "epoch", *chosen_by, *(name for name in _FROM_CURVE if name in table.column_names)]))


def moment_of(table: pa.Table) -> str:
    """The words that say when the values of these records were taken; empty for the end of the run."""
    taken: bytes = (table.schema.metadata or {}).get(_METADATA, b"")
    return taken.decode()


def _fit_epochs(table: pa.Table) -> pa.Table:
    return pa.table({"key": table["key"], "epoch": table["fit_epoch"]}).drop_null()


def _best_epochs(curves: pa.Table, error: str) -> pa.Table:
    known = curves.select(["key", "epoch", error])
    known = known.filter(pc.fill_null(pc.is_finite(known[error]), False))
    lowest = known.group_by("key").aggregate([(error, "min")]).rename_columns(["key", error])
    best = known.join(lowest, ["key", error], join_type="inner")
    return best.group_by("key").aggregate([("epoch", "min")]).rename_columns(["key", "epoch"])
