"""The trials of a search that count: those whose points are recorded, with the values that they tell. Optuna's storage is an index.

Whoever can write the storage can add trials to it or change them, and records can be lost: a trial that no record backs was not run,
as far as anybody can tell, and is neither counted nor ranked, but named.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import NothingToShow
from analysis.records.fragments import pairs, recorded_rows
from analysis.records.schema import FINAL
from analysis.records.searches.objectives import NEEDED, measured
from analysis.records.store import open_store
from trainables.redaction import HIDDEN, redacted

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

SECRET_VARIABLE = "GAPLAB_SEARCH_STORAGE"
"""The environment variable with the URL of a search's database, its password included, which a stored spec does not hold."""
_TIMED = ("psycopg2", "psycopg", "pymysql", "mysqldb")
"""Drivers that take `connect_timeout`."""
_PATIENCE_SECONDS = 10
BROUGHT = "start_from"
"""The attribute of a trial that a search was told of another study's records, with that study's name: it is none of its own."""
RowsOf = Callable[[str], Sequence[Mapping[str, Any]]]
"""The rows with a final outcome of a point by its key, as far as objectives need them; none of one that is not recorded."""


def recorded_under(root: str) -> RowsOf:
    """The rows of the points that are recorded under ``STORAGE/STUDY``, with whatever measures."""
    filesystem, path = open_store(root)
    while True:
        rows: dict[str, list[Mapping[str, Any]]] = {}
        with suppress(FileNotFoundError):  # merged since they were listed
            for _, table in recorded_rows(root, pairs(filesystem, path), ["key", "status", *NEEDED]):
                for row in table.to_pylist():
                    if row["status"] in FINAL:
                        rows.setdefault(row["key"], []).append(row)
            return lambda key: rows.get(key, ())


def keys_of(trial: FrozenTrial) -> list[str]:
    """The keys of a trial's points, one a seed; none of a trial that no search has asked for."""
    keys = trial.user_attrs.get("keys")
    return keys if isinstance(keys, list) and all(isinstance(key, str) for key in keys) else []


def is_brought(trial: FrozenTrial) -> bool:
    """Whether the trial stands for records of another study, from which the sampler learns and nobody else counts."""
    return BROUGHT in trial.user_attrs


def is_foreign(trial: FrozenTrial, rows_of: RowsOf, objectives: Sequence[str]) -> bool:
    """Whether a trial says that it has ended well, and is brought, or not all its points are recorded with the values that it tells."""
    if trial.state.name not in ("COMPLETE", "PRUNED"):
        return False
    if is_brought(trial):
        return True
    found = [rows_of(key) for key in keys_of(trial)]
    if not found or not all(found):
        return True
    return trial.state.name == "COMPLETE" and not _agrees(trial.values, found, objectives)


def _agrees(values: Sequence[float], found: Sequence[Sequence[Mapping[str, Any]]], objectives: Sequence[str]) -> bool:
    """Whether values are the means of objectives over points, each of which has one row, or several that may differ in their seconds."""
    if len(values) != len(objectives):
        return False
    try:
        for value, name in zip(values, objectives, strict=True):
            reported = [[measured(row, name) for row in rows if row["status"] != "pruned"] for rows in found]
            least, most = (sum(end(one) for one in reported) / len(reported) for end in (min, max))
            if not least <= value <= most:
                return False
    except (KeyError, TypeError, ValueError):  # no such objective, or none was recorded
        return False
    return True


def objectives_of(study: optuna.Study) -> list[str]:
    """The objectives that the values of a study's trials are of."""
    names = study.user_attrs.get("objectives")
    return names if isinstance(names, list) else []


def without_foreign(study: optuna.Study, rows_of: RowsOf, but: Collection[int] = ()) -> tuple[optuna.Study, str | None]:
    """A study to read, in which foreign trials have failed, so that all keep their numbers; and a sentence if any are not brought.

    Args:
        but: numbers of trials that are left as they are.
    """
    import optuna

    trials = study.get_trials(deepcopy=False)
    foreign = {trial.number for trial in trials if is_foreign(trial, rows_of, objectives_of(study))} - set(but)
    if not foreign:
        return study, None
    copy = in_memory(study, study.study_name)
    for name, value in study.user_attrs.items():
        copy.set_user_attr(name, value)
    if study.metric_names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            copy.set_metric_names(study.metric_names)
    fail = optuna.trial.TrialState.FAIL
    failed = optuna.trial.create_trial(state=fail)
    brought = {trial.number for trial in trials if is_brought(trial)}
    others = optuna.trial.create_trial(state=fail, user_attrs={BROUGHT: ""})
    copy.add_trials([others if trial.number in brought else failed if trial.number in foreign else trial for trial in trials])
    if not (foreign := foreign - brought):
        return copy, None
    named = ", ".join(map(str, sorted(foreign)[:8])) + (", ..." if len(foreign) > 8 else "")
    return copy, (
        f"{len(foreign):,} of {len(trials):,} Optuna trials of {study.study_name} have no record here that agrees (number {named}): "
        "added or changed by hand, or of records that are gone; they do not count"
    )


def in_memory(study: optuna.Study, name: str | None = None) -> optuna.Study:
    """An empty study in memory with the directions of another; Optuna, which announces every new study to the user, is kept from it."""
    import optuna

    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return optuna.create_study(study_name=name, directions=study.directions)
    finally:
        logger.setLevel(level)


def trial_database(url: str, *, make: bool = False) -> RDBStorage:
    """The database of a search.

    Args:
        url: ``search.storage``; where its password is left out, or is not stored, `SECRET_VARIABLE` has it.
        make: let Optuna make an SQLite database that is not there.

    Raises:
        NothingToShow: it does not answer.
    """
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    whole = _with_secret(url)
    where = redacted(url).rpartition("@")[2]
    if HIDDEN in whole:
        raise NothingToShow(f"search.storage: the password of the database at {where} is not stored: set {SECRET_VARIABLE} to its URL")
    try:
        parsed = make_url(whole)
        file = parsed.database if parsed.get_backend_name() == "sqlite" else None
        if file and not make and not file.startswith("file:") and not Path(file).is_file():
            raise ValueError("there is no such file")
        patience = {"connect_timeout": _PATIENCE_SECONDS} if parsed.get_driver_name() in _TIMED else {}
        return RDBStorage(whole, engine_kwargs={"connect_args": patience})
    except (SQLAlchemyError, StorageInternalError, ImportError, ValueError, RuntimeError) as error:
        raise NothingToShow(f"search.storage: no database answers at {where} ({str(error).splitlines()[0]})") from None


def _with_secret(url: str) -> str:
    """The URL that the environment has in its place, if it is the same but for a password."""
    given = os.environ.get(SECRET_VARIABLE, "")
    bare = [redacted(one).replace(f":{HIDDEN}@", "@") for one in (given, url)]
    return given if bare[0] == bare[1] else url
