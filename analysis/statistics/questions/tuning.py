"""The tables of a search: do the regularizers matter, which, and where?

Optuna's trials lie in the study's journal, the comparison on fresh seeds in its records; ``tuning.json`` says which record
belongs to which variant.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.records.reader import load
from analysis.records.searches.trials import in_memory, recorded_under, trial_database, without_foreign
from analysis.records.store import open_store
from analysis.statistics.aggregate import over_seeds
from analysis.statistics.comparison import compare

if TYPE_CHECKING:
    import optuna

TUNED, UNTUNED = "tuned", "untuned"
Evaluator = Literal["ped_anova", "fanova"]
_ORDER = "order in tuning.json"
BASELINE = "a random number"
"""The name of a parameter that cannot matter, beside those of a search."""


def compared_runs(source: str) -> pa.Table:
    """The records of a search's comparison on fresh seeds: the tuned point of each cell, the untuned one, and the ablations.

    Args:
        source: ``STORAGE/STUDY``.

    Returns:
        The records, with the columns ``variant`` ("tuned", "untuned", "without dropout", ...) and ``cell`` (its fields as
        text, empty for a search without a grid) in front; in the order of the grid, the tuned point first.

    Raises:
        NothingToShow: the search has not ended, or compares nothing (``search.ablation_seeds``).
    """
    rows = _compared_keys(source)
    wanted = pa.Table.from_pylist(rows, pa.schema([("key", pa.string()), ("variant", pa.string()), ("cell", pa.string())]))
    placed = wanted.append_column(_ORDER, pa.array(range(len(rows)), pa.int64()))
    runs = placed.join(load(source), "key", join_type="inner").sort_by(_ORDER).drop_columns([_ORDER])
    if not runs.num_rows:
        raise NothingToShow(f"{source} has no record of its comparison yet")
    return runs


def _compared_keys(source: str) -> list[dict[str, str]]:
    """Key, variant and cell of every point that was to be compared.

    Raises:
        NothingToShow: nothing says so, or it cannot be read.
    """
    filesystem, path = open_store(source)
    try:
        with filesystem.open_input_stream(f"{path}/tuning.json") as stream:
            cells = json.loads(stream.read())
        return [
            {"key": str(key), "variant": name, "cell": _in_words(cell["cell"])}
            for cell in cells
            for name, keys in cell["variants"].items()
            for key in keys
        ]
    except FileNotFoundError:
        raise NothingToShow(f"{source} holds no comparison: it needs a search that has ended, with search.ablation_seeds") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise NothingToShow(f"{source}/tuning.json is damaged: gaplab run writes it anew") from None


def ablation_table(runs: pa.Table, *, value: str = "test_error") -> pa.Table:
    """What tuning gains in each cell, and what each regularizer adds to it.

    Args:
        runs: from `compared_runs`; only completed ones count.
        value: a numeric column.

    Returns:
        One row a cell and variant: ``cell``, ``variant``, ``seeds``, ``fit`` (how many of these reached their train target: a
        regularizer may be what keeps them from it), the mean of the value with ``.low`` and ``.high``, and against the tuned
        point, paired over seeds: ``difference`` with ``.low`` and ``.high``, and ``p.holm`` (of a t test, corrected for the variants of
        the cell).
    """
    tables = []
    for cell in pc.unique(runs["cell"]).to_pylist():
        mine = runs.filter(pc.field("cell") == cell)
        order = pa.table({"variant": pc.unique(mine["variant"])})
        order = order.append_column(_ORDER, pa.array(range(order.num_rows), pa.int64()))
        done = mine.filter(pc.field("status") == "completed")
        means = over_seeds(done, ["cell", "variant"], [value])
        fits = done.group_by("variant").aggregate([("interpolated", "sum")]).rename_columns(["variant", "fit"])
        against = compare(mine, "variant", value=value, against=TUNED, equal_fit=False)
        wanted = {"b": "variant", "difference": "difference", "difference.low": "difference.low", "difference.high": "difference.high"}
        differences = against.select([*wanted, "p.holm"]).rename_columns([*wanted.values(), "p.holm"])
        joined = means.join(differences, "variant", join_type="left outer").join(fits, "variant")
        tables.append(joined.join(order, "variant").sort_by(_ORDER))
    ends = ["difference", "difference.low", "difference.high", "p.holm"]
    return pa.concat_tables(tables).select(["cell", "variant", "seeds", "fit", value, f"{value}.low", f"{value}.high", *ends])


def optuna_studies(source: str, storage: str = "journal") -> list[optuna.Study]:
    """The Optuna studies of a search, one a cell, for reading; trials without a record count as failed there (a warning names them).

    Args:
        source: ``STORAGE/STUDY``.
        storage: ``search.storage`` of its spec: "journal", or the URL of a database.

    Raises:
        NothingToShow: there is no journal, or it or the database cannot be read.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if storage != "journal":
        opened: optuna.storages.BaseStorage = trial_database(storage)
    else:
        path = Path(open_store(source)[1]) / "optuna.journal"
        if not path.is_file():
            raise NothingToShow(f"{source} holds no Optuna journal: it is not a search, or one that keeps its trials in a database")
        try:
            opened = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        except Exception as error:  # what Optuna raises of a damaged line is whatever it stumbles over
            raise NothingToShow(f"{path} is damaged ({type(error).__name__}: {error}): the trials of the search are left out") from None
    rows_of, studies = recorded_under(source), []
    for name in optuna.get_all_study_names(opened):
        study, said = without_foreign(optuna.load_study(study_name=name, storage=opened), rows_of)
        if said:
            warnings.warn(said, stacklevel=2)
        studies.append(study)
    return studies


def importance_table(
    study: optuna.Study, *, evaluator: Evaluator = "ped_anova", objective: int = 0, repeats: int = 20, seed: int = 0
) -> pa.Table:
    """How much each parameter of a search matters, beside one that cannot.

    A parameter without any effect has some importance by chance. So random numbers are added to every trial, `repeats` of
    them: what does not beat them was not shown to matter.

    Args:
        study: one of `optuna_studies`.
        evaluator: ``"ped_anova"`` (Watanabe et al. 2023: how the best tenth is distributed; knows conditional parameters), or
            ``"fanova"`` (Hutter et al. 2014: shares of variance, by a random forest; parameters of every trial only).
        objective: the index of the one that is explained.
        repeats: random baselines, at least 2.
        seed: seeds the baselines and the forest.

    Returns:
        ``parameter``, ``importance`` (a share of 1; its mean over the repeats) and ``chance`` (the 95 % quantile of the
        baselines), the most important first; the baseline's own mean stands among them as "a random number".

    Raises:
        NothingToShow: fewer than two trials completed.
    """
    import optuna

    trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(trials) < 2:
        raise NothingToShow(f"{study.study_name} has {len(trials)} completed trials: importance needs at least two")
    random = np.random.default_rng(seed)
    evaluations, columns = (1, repeats) if evaluator == "ped_anova" else (repeats, 1)  # a forest would drown in random numbers
    found: dict[str, list[float]] = {}
    for _ in range(evaluations):
        noise = random.random((columns, len(trials)))
        importances = _importances(study, trials, noise, _evaluator(evaluator, seed), objective)
        chances = [importances.pop(f"{BASELINE} {column}") for column in range(columns)]
        whole = sum(importances.values()) + sum(chances) / columns or 1.0
        for name, importance in importances.items():
            found.setdefault(name, []).append(importance / whole)
        found.setdefault(BASELINE, []).extend(chance / whole for chance in chances)
    chance = float(np.quantile(found[BASELINE], 0.95))
    rows = sorted(((name, float(np.mean(values))) for name, values in found.items()), key=lambda row: -row[1])
    return pa.table({"parameter": [name for name, _ in rows], "importance": [value for _, value in rows], "chance": [chance] * len(rows)})


def _evaluator(name: Evaluator, seed: int) -> Any:
    from optuna import importance

    return importance.PedAnovaImportanceEvaluator() if name == "ped_anova" else importance.FanovaImportanceEvaluator(seed=seed)


def _importances(
    study: optuna.Study, trials: Sequence[optuna.trial.FrozenTrial], noise: np.ndarray, evaluator: Any, objective: int
) -> dict[str, float]:
    """The importance of every parameter, and of the random numbers (columns, trials) beside them."""
    import optuna

    names = [f"{BASELINE} {column}" for column in range(len(noise))]
    units = dict.fromkeys(names, optuna.distributions.FloatDistribution(0, 1))
    beside = in_memory(study)
    beside.add_trials(
        [
            optuna.trial.create_trial(
                params=trial.params | dict(zip(names, numbers, strict=True)), distributions=trial.distributions | units, values=trial.values
            )
            for trial, numbers in zip(trials, noise.T.tolist(), strict=True)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # low is good here; and the baseline says how few trials are too few
        return dict(evaluator.evaluate(beside, target=target_of(objective)))


def target_of(objective: int) -> Callable[[optuna.trial.FrozenTrial], float]:
    """The function that takes one objective of a trial, as Optuna's importances and figures want it."""
    return lambda trial: trial.values[objective]


def _in_words(cell: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in cell.items())
