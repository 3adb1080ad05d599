"""What others write into Optuna's storage: trials that no record backs do not count or rank, and nothing is unpickled."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import analysis
from analysis.records.fragments import statuses
from analysis.records.searches.trials import recorded_under, without_foreign
from analysis.report.search import searched_cells
from study.cli.shown.search import concluded, progress_of
from study.records.verify import put_damaged_aside
from study.records.writer import FragmentWriter, Provenance
from study.search.ablation import ablations
from study.search.cma_es import GENERATION
from study.search.plan import plan_search
from study.search.pruning.leaving import SuggestionPruner
from study.search.search import Search
from study.search.storage import JOURNAL
from study.spec.reading import Spec
from tests.study.made_up_searches import SPACE, STATES, Trained, bowl, spec_of, trials_of
from trainables.point.config import TrialConfig, field_types, with_fields
from trainables.point.errors import ConfigError
from trainables.training.loop import Result

LUCKY = {"optimizer.learning_rate": 0.5, "regularizers.label_smoothing": 0.4}


def add_by_hand(root: Path, system: dict[str, Any] | None = None, value: float = -1.0, **attributes: Any) -> None:
    """A completed trial that beats all, and which nobody ran."""
    storage = JournalStorage(JournalFileBackend(str(root / JOURNAL)))
    (name,) = optuna.get_all_study_names(storage)
    known = optuna.load_study(study_name=name, storage=storage)
    distributions = known.trials[0].distributions
    known.add_trial(
        optuna.trial.create_trial(params=LUCKY, distributions=distributions, value=value, user_attrs=attributes, system_attrs=system)
    )


@pytest.mark.parametrize("attributes", [{}, {"keys": ["0" * 32]}, {"keys": 3}, {"keys": [{}]}, {"keys": []}])
@pytest.mark.filterwarnings("ignore:.*have no record here")
def test_a_trial_without_a_record_neither_counts_nor_ranks(attributes: dict[str, Any], trained: Trained) -> None:
    spec = spec_of(trials=6)
    trained.run(spec, packs=0)
    trained.run(spec_of(trials=4, at_once=2))
    for _ in range(3):
        add_by_hand(trained.root, **attributes)
    search = trained.run(spec)
    assert sum(trial.state == STATES.COMPLETE for trial in trials_of(trained.root)) == 6 + 3
    assert len(trained.times) == 6
    (ablation,) = ablations(search, 1)
    assert ablation.best.values[0] >= 0
    assert ablation.best.params != LUCKY


@pytest.mark.filterwarnings("ignore:.*have no record here")
@pytest.mark.parametrize(("objective", "value"), [("validation_error", -1.0), ("validation_error", 0.5), ("seconds", 1e-9)])
def test_a_trial_whose_value_is_not_its_records_neither_counts_nor_ranks(objective: str, value: float, trained: Trained) -> None:
    """The key of a point that is recorded stands in every trial, and can be copied."""
    trained.run(spec_of(trials=4, at_once=2, objective=objective))
    keys = trials_of(trained.root)[1].user_attrs["keys"]
    add_by_hand(trained.root, value=value, keys=keys)
    search = trained.run(spec_of(trials=6, objective=objective))
    assert len(trained.times) == 6
    assert sum(trial.state == STATES.FAIL for trial in search.ranked(search.cells[0]).trials) == 1
    (ablation,) = ablations(search, 1)
    assert ablation.best.params != LUCKY


def test_the_mean_over_seeds_and_points_that_ran_twice_are_backed(trained: Trained) -> None:
    spec = spec_of(trials=5, replicates=3, objective="seconds")
    search = trained.run(spec)
    writer = FragmentWriter(str(trained.root), Provenance("made-up", None, ""))
    key = trials_of(trained.root)[2].user_attrs["keys"][1]
    for seconds in (0.1, 1000.0):  # slower and faster than it was told
        (row,) = analysis.load(str(trained.root), filter=pc.field("key") == key).to_pylist()
        point = with_fields(TrialConfig(), {name: row[name] for name in field_types() if row[name] is not None})
        outcome = {name: row[name] for name in ("validation_error", "train_error", "parameters", "parameters_per_sample", "epochs")}
        writer([Result(point, key, "completed", "again", outcome | {"seconds": seconds}, search.outcomes.curve(key).values())], "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert Search(plan_search(spec), str(trained.root)).finished


def test_they_are_named_wherever_a_search_is_shown(trained: Trained) -> None:
    spec = spec_of(trials=6)
    trained.run(spec)
    add_by_hand(trained.root)
    said = "1 of 7 Optuna trials of "
    plan, root = plan_search(spec), str(trained.root)
    status = str(progress_of(plan, root))
    assert "6 complete, 1 fail" in status
    assert said in status
    tables, _ = concluded(plan, root, trained.root / "charts")
    assert said in str(tables[1])
    with pytest.warns(UserWarning, match=said):
        (of_search,) = analysis.optuna_studies(root)
    assert of_search.best_value >= 0
    assert len(of_search.trials) == 7
    with pytest.warns(UserWarning, match=said):
        (cell,) = searched_cells(root, None)
    assert cell.best[0][1] >= 0
    with pytest.warns(UserWarning, match=said):
        Search(plan, root)


def lose(root: Path, key: str) -> None:
    """Damage the record of a point, and have it put aside, as a run does before it starts."""
    for path in (root / "records").glob("*.parquet"):
        if key in pq.read_table(path)["key"].to_pylist():
            path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="damaged file"):
        put_damaged_aside(str(root))


TRAINED_AGAIN = "^1 Optuna trial was reported and has no record here: its points are trained again, under its number$"


@pytest.mark.parametrize("replicates", [1, 3])
@pytest.mark.parametrize("at_once", [1, 4])
def test_a_trial_whose_records_are_gone_is_trained_again_under_its_number(replicates: int, at_once: int, trained: Trained) -> None:
    spec = spec_of(trials=6, replicates=replicates, at_once=at_once)
    trained.run(spec)
    before = trials_of(trained.root)
    lost = before[2].user_attrs["keys"][-1]
    lose(trained.root, lost)
    gone = len(set(trained.times) - set(statuses(str(trained.root))))
    assert gone >= 1
    with pytest.warns(UserWarning, match="trained again, under"):
        search = trained.run(spec)
    assert search.finished
    assert trials_of(trained.root) == before
    assert sorted(trained.times.values()) == [1] * (6 * replicates - gone) + [2] * gone
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert Search(plan_search(spec), str(trained.root)).finished


def test_a_trial_that_comes_out_otherwise_does_not_count_and_another_is_trained(tmp_path: Path) -> None:
    spec = spec_of(trials=6, at_once=1)
    Trained(tmp_path).run(spec)
    lose(tmp_path, trials_of(tmp_path)[2].user_attrs["keys"][0])
    other = Trained(tmp_path, lambda point: bowl(point) | {"validation_error": 0.75})
    with pytest.warns(UserWarning, match=TRAINED_AGAIN):
        assert other.run(spec).finished
    assert len(other.times) == 2
    states = [trial.state for trial in other.run(spec).ranked(Search(plan_search(spec), str(tmp_path)).cells[0]).trials]
    assert (states.count(STATES.COMPLETE), states.count(STATES.FAIL), states[2]) == (6, 1, STATES.FAIL)


def pruned_search(spec: Spec, root: Path) -> tuple[Search, SuggestionPruner]:
    search = Search(plan_search(spec), str(root))
    assert search.plan.pruning
    pruner = SuggestionPruner(search.plan.pruning)
    search.refill(pruner)
    return search, pruner


@pytest.mark.parametrize("status", ["completed", "pruned"])
def test_a_trial_that_completed_is_not_pruned_when_it_is_trained_again(status: str, tmp_path: Path) -> None:
    spec = spec_of(trials=6, at_once=1, pruner="successive_halving")
    trained = Trained(tmp_path, status=lambda point: status if point.optimizer.learning_rate == 0.1 else "completed")
    search, _ = pruned_search(spec, tmp_path)
    while not search.finished:
        trained(search.next_pack() or [])
        search.collect()
    first = trials_of(tmp_path)[0]
    assert (first.params["optimizer.learning_rate"], first.state.name) == (0.1, {"completed": "COMPLETE", "pruned": "PRUNED"}[status])
    (key,) = first.user_attrs["keys"]
    lose(tmp_path, key)
    with pytest.warns(UserWarning, match=TRAINED_AGAIN):
        search, pruner = pruned_search(spec, tmp_path)
    (again,) = search.next_pack() or []
    assert again.key == key
    leaves = [pruner.judge([(key, epoch, {"validation_error": 0.9, "train_error": 0.0})]) for epoch in (3, 6)]
    assert any(leaves) == (status == "pruned")
    trained([again])
    search.collect()
    assert search.finished
    assert len(trials_of(tmp_path)) == 6


def test_optuna_announces_no_study_that_is_made_to_be_read(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    trained.run(spec_of(trials=4))
    add_by_hand(trained.root)
    storage = JournalStorage(JournalFileBackend(str(trained.root / JOURNAL)))
    (name,) = optuna.get_all_study_names(storage)
    logger, levels, create = logging.getLogger("optuna"), list[int](), optuna.create_study

    def noted(**arguments: Any) -> optuna.Study:
        levels.append(logger.level)
        return create(**arguments)

    monkeypatch.setattr(optuna, "create_study", noted)
    monkeypatch.setattr(logger, "level", logging.INFO)
    _, said = without_foreign(optuna.load_study(study_name=name, storage=storage), recorded_under(str(trained.root)))
    assert said
    assert (levels, logger.level) == ([logging.ERROR], logging.INFO)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.file,)


def test_a_pickle_in_the_journal_is_never_read(trained: Trained, tmp_path: Path) -> None:
    spec = spec_of(trials=12, sampler="cma_es", at_once=2)
    trained.run(spec, packs=3)
    sprung = tmp_path / "sprung"
    forged = pickle.dumps(Trap(sprung)).hex()
    keys = trials_of(trained.root)[1].user_attrs["keys"]
    for attributes in ({"keys": keys}, {"keys": keys, GENERATION: forged}, {"keys": keys, GENERATION: 0}):
        system = {"cma:optimizer:0": forged, "cma:generation": 0, "cma:optimizer": forged}
        add_by_hand(trained.root, system, **attributes)
    assert trained.run(spec).finished
    assert not sprung.exists()


def test_cma_es_goes_on_from_its_trials(trained: Trained) -> None:
    """As well as in one go, and better than at random."""
    spec = spec_of(trials=60, sampler="cma_es", at_once=4)
    trained.run(spec, packs=8)
    trained.run(spec)
    told = trials_of(trained.root)
    generations = [trial.user_attrs[GENERATION] for trial in told if GENERATION in trial.user_attrs]
    assert generations == sorted(generations)
    assert max(generations) >= 6
    values = [trial.value for trial in told if trial.value is not None]
    assert sum(values[-20:]) < sum(values[:20]) / 2


def test_a_database_that_does_not_answer_is_said_in_a_line(trained: Trained, tmp_path: Path) -> None:
    for url in (
        "postgresql://me:verysecret@127.0.0.1:1/none",
        f"sqlite:///{tmp_path}/moved/trials.db",
        "postgresql://me:***@127.0.0.1:1/none",
        "nonsense://me:verysecret@host/none",
    ):
        spec = spec_of(storage=url)
        with pytest.warns(UserWarning, match=r"search.storage: .*the report shows the records") as caught:
            assert searched_cells(str(trained.root), spec.text) == []
        assert "verysecret" not in str(caught[0].message)
        status = str(progress_of(plan_search(spec), str(trained.root)))
        assert "search.storage: " in status
        assert "verysecret" not in status
    with pytest.raises(ConfigError, match="no database answers"):
        Search(plan_search(spec_of(SPACE, storage=f"sqlite:///{tmp_path}/no/folder/trials.db")), str(trained.root))


def test_the_password_of_a_stored_spec_is_taken_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.records.searches.trials import SECRET_VARIABLE, _with_secret

    url = "postgresql://me:verysecret@host/name"
    monkeypatch.setenv(SECRET_VARIABLE, url)
    assert _with_secret("postgresql://me:***@host/name") == url
    assert _with_secret("postgresql://me@host/name") == url
    assert _with_secret("postgresql://me:***@another/name") == "postgresql://me:***@another/name"
