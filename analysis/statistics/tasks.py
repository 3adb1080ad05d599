"""The errors of a task: fractions of misclassified samples, or of regression squared errors, which are another quantity in other columns.

Whatever is drawn or counted by default is asked for by the columns of classification; of records of regression `own` answers with theirs.
No table, chart or sentence holds both.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow

TASK = "data.task"
REGRESSION = "regression"
_OWN = {
    "generalization_gap": "nmse_gap",
    "train_error": "train_nmse",
    "validation_error": "validation_nmse",
    "test_error": "test_nmse",
}
OF_REGRESSION = tuple(_OWN.values())
"""The errors of regression, and their gap."""


def is_regression(table: pa.Table) -> bool:
    """Whether the records are of regression.

    Raises:
        NothingToShow: some are, and some are not; the message says how to keep one task.
    """
    if TASK not in table.column_names or table[TASK].null_count == table.num_rows:
        return False
    found = pc.fill_null(pc.equal(table[TASK], REGRESSION), False)
    if pc.all(found).as_py():
        return True
    if not pc.any(found).as_py():
        return False
    raise NothingToShow(
        "the records are of classification and of regression, whose errors are no one quantity: keep one task, "
        f"by --where {TASK}={REGRESSION} or --where {TASK}=null"
    )


def own(table: pa.Table, column: str) -> str:
    """The column that holds in these records what a column of errors holds in those of classification; any other column as it is.

    Raises:
        NothingToShow: the records are of both tasks.
    """
    return all_own(table, [column])[0]


def all_own(table: pa.Table, columns: Iterable[str]) -> list[str]:
    """`own` of each of the columns."""
    return named(columns, regression=is_regression(table))


def named(columns: Iterable[str], *, regression: bool) -> list[str]:
    """The columns of a task that are called so in records of classification."""
    return [_OWN.get(column, column) if regression else column for column in columns]


def refuse_regression(table: pa.Table, what: str) -> None:
    """Raise NothingToShow for records of regression, of which there is no such thing, or of both tasks; `what` begins the sentence."""
    if is_regression(table):
        raise NothingToShow(f"{what} classifiers, and these records are of regression: nothing can be shown")


def gap_among(columns: Iterable[str]) -> str:
    """The gap of whichever task a table of means is of, given its columns."""
    return "nmse_gap" if "nmse_gap" in columns else "generalization_gap"
