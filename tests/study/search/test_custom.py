"""Samplers and pruners that the user brings: what they suggest is run, what they do wrong is a sentence."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from ray.tune.search import Searcher

from study.launch.searcher import PackSearcher
from study.launch.tuner import Losses
from study.search.custom import CustomError
from study.search.plan import plan_search
from study.search.pruning.leaving import SuggestionPruner
from study.search.search import Search
from tests.study.made_up_searches import SPACE, Trained, spec_of, trials_of
from trainables.point.errors import ConfigError

SAMPLERS = """
import optuna

MADE = []

class Lowest(optuna.samplers.BaseSampler):
    def __init__(self, seed=None):
        MADE.append(seed)

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        return distribution.low + len(study.get_trials(deepcopy=False)) * 1e-3

class Breaks(Lowest):
    def sample_independent(self, study, trial, name, distribution):
        if len(study.get_trials(deepcopy=False)) > 3:
            raise ZeroDivisionError("no more")
        return super().sample_independent(study, trial, name, distribution)

def of_optuna(seed):
    return optuna.samplers.RandomSampler(seed=seed)

one = Lowest()

class Nothing:
    pass

class Wants(Lowest):
    def __init__(self, more):
        pass

class Strict(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return trial.intermediate_values[trial.last_step] > 0.5

class Fails(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return 1 / 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SAMPLERS)
    return path


def test_a_sampler_of_ones_own_suggests_and_its_digest_stands_in_the_plan(file: Path, trained: Trained) -> None:
    space = SPACE | {"corruption.level": {"values": [0.0, 0.5]}}
    spec = spec_of(space, trials=5, sampler=f"{file}:Lowest")
    plan = plan_search(spec)
    assert plan.custom is not None
    assert plan.custom.digest == hashlib.sha256(SAMPLERS.encode()).hexdigest()
    search = trained.run(spec)
    for cell in search.cells:
        rates = [trial.params["optimizer.learning_rate"] for trial in cell.study.trials]
        assert rates == pytest.approx([0.1, 3e-3, 4e-3, 5e-3, 6e-3]), "the untuned one, then the sampler's"
    seeds = sys.modules[type(search.cells[0].study.sampler).__module__].MADE
    assert search.cells[0].study.user_attrs["sampler"] == f"{file}:Lowest (SHA-256 {plan.custom.digest[:12]})"
    assert seeds, "it is given a seed"
    ours = plan_search(spec_of(space, trials=5))
    assert [plan.study_name(cell) for cell in plan.cells] == [ours.study_name(cell) for cell in ours.cells], "it may change on the way"


def test_a_function_that_makes_a_sampler_is_one(file: Path, tmp_path: Path) -> None:
    ours, theirs = (tmp_path / name for name in ("ours", "theirs"))
    values = []
    for root, sampler in ((ours, "random"), (theirs, f"{file}:of_optuna")):
        Trained(root).run(spec_of(trials=6, sampler=sampler))
        values.append([trial.params for trial in trials_of(root)])
    assert values[0] == values[1], "it is given the seed that ours is given"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sampler": "tpee"}, "did you mean 'tpe'? It is one of auto, tpe, gp"),
        ({"pruner": "halving"}, "It is one of none, successive_halving"),
        ({"sampler": "none.py:Lowest"}, "it must be FILE.py:NAME, relative to the spec, or optunahub:PACKAGE"),
        ({"sampler": "FILE:no name"}, "it must be FILE.py:NAME"),
        ({"sampler": "FILE:Highest"}, "has no Highest"),
        ({"sampler": "FILE:one"}, "makes one thing for all cells of one: name a class, or a function that makes one"),
        ({"sampler": "FILE:Nothing"}, "makes a Nothing, which is no optuna BaseSampler"),
        ({"sampler": "FILE:Strict"}, "makes a Strict, which is no optuna BaseSampler"),
        ({"pruner": "FILE:Lowest"}, "makes a Lowest, which is no optuna BasePruner"),
        ({"sampler": "FILE:Wants"}, "raises TypeError"),
        ({"sampler": "optunahub:samplers/none"}, "needs the package optunahub: pip install optunahub"),
    ],
)
def test_what_is_no_sampler_is_one_sentence(changes: dict[str, str], says: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optunahub", None)
    with pytest.raises(ConfigError) as caught:
        plan_search(spec_of(**{field: value.replace("FILE", str(file)) for field, value in changes.items()}))
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"search.{next(iter(changes))}")
    assert "\n" not in str(caught.value)


def test_a_file_that_raises_is_one_sentence(file: Path) -> None:
    file.write_text("1 / 0")
    with pytest.raises(ConfigError, match=r"search\.sampler: .*mine\.py raises ZeroDivisionError"):
        plan_search(spec_of(sampler=f"{file}:Lowest"))


def test_a_sampler_that_breaks_off_ends_the_search_and_the_next_run_goes_on(file: Path, trained: Trained) -> None:
    spec = spec_of(trials=9, at_once=2, sampler=f"{file}:Breaks")
    with pytest.raises(CustomError, match="raises ZeroDivisionError: no more"):
        trained.run(spec)
    fine = trained.run(spec_of(trials=9, at_once=2, sampler="random"))
    assert fine.finished
    assert len(fine.cells[0].study.trials) == 9, "what was left open is taken up"


def test_tune_is_told_that_a_broken_sampler_has_no_more(file: Path, trained: Trained) -> None:
    search = Search(plan_search(spec_of(trials=9, at_once=2, sampler=f"{file}:Breaks")), str(trained.root))
    searcher = PackSearcher(search, [], Losses(), lambda pack: None)
    assert isinstance(cloudpickle.loads(cloudpickle.dumps(searcher)), Searcher), "Tune pickles it; a sampler of one's own it could not"
    given = [searcher.suggest(str(number)) for number in range(4)]
    assert given[-1] == Searcher.FINISHED
    assert isinstance(given[0], dict)
    assert isinstance(searcher.error, CustomError)


def test_packs_are_out_as_far_as_there_is_room(trained: Trained) -> None:
    search, room = Search(plan_search(spec_of(trials=9, at_once=1)), str(trained.root)), [2]
    searcher = PackSearcher(search, [], Losses(), lambda pack: None, lambda: room[0])
    assert [searcher.suggest(str(number)) is not None for number in range(3)] == [True, True, False]
    room[0] = 3
    assert [searcher.suggest(str(number)) is not None for number in (3, 4)] == [True, False]


def test_a_pruner_of_ones_own_decides_but_not_before_the_least_epoch(file: Path) -> None:
    pruning = plan_search(spec_of(sampler="random", pruner=f"{file}:Strict", min_epochs=4)).pruning
    assert pruning is not None
    pruner = SuggestionPruner(cloudpickle.loads(cloudpickle.dumps(pruning)))  # it lives in a process of its own
    pruner.enter(("made up", 0), ["a", "b"])

    def judge(epoch: int, *errors: float) -> list[str]:
        return pruner.judge(
            [(key, epoch, {"validation_error": error, "train_error": 0.0}) for key, error in zip("ab", errors, strict=True)]
        )

    assert judge(3, 0.9, 0.9) == []
    assert judge(4, 0.8, 0.1) == [], "the mean of its seeds decides"
    assert judge(5, 0.8, 0.4) == ["a", "b"]


def test_a_pruner_that_raises_says_whose_it_is(file: Path) -> None:
    pruning = plan_search(spec_of(sampler="random", pruner=f"{file}:Fails")).pruning
    assert pruning is not None
    pruner = SuggestionPruner(pruning)
    pruner.enter(("made up", 0), ["a"])
    with pytest.raises(CustomError, match=r"search\.pruner .*mine\.py:Fails raises ZeroDivisionError"):
        pruner.judge([("a", 1, {"validation_error": 0.1, "train_error": 0.0})])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for OptunaHub: packages in a folder, which are loaded as by `optunahub.load_local_module` of optunahub 0.5.0."""
    monkeypatch.setitem(sys.modules, "optunahub_registry", types.ModuleType("optunahub_registry"))

    def load_module(package: str) -> types.ModuleType:
        if package == "samplers/far":
            raise OSError("Cmd('git') failed\n  cmdline: git fetch\n  stderr: 'Could not resolve host'")
        name = f"optunahub_registry.package.{package.replace('/', '.')}"
        spec = importlib.util.spec_from_file_location(name, tmp_path / package / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    pretended: Any = types.ModuleType("optunahub")
    pretended.load_module = load_module
    monkeypatch.setitem(sys.modules, "optunahub", pretended)
    return tmp_path


def test_a_package_of_optunahub_is_a_sampler(hub: Path, trained: Trained) -> None:
    for name, text in (("low", SAMPLERS.partition("class Breaks")[0]), ("many", SAMPLERS), ("none", "")):
        (hub / "samplers" / name).mkdir(parents=True)
        (hub / "samplers" / name / "__init__.py").write_text(text)
    plans = [plan_search(spec_of(trials=3, sampler=f"optunahub:samplers/{name}")) for name in ("low", "many:Lowest")]
    customs = [plan.custom for plan in plans if plan.custom]
    assert len({custom.digest for custom in customs}) == 2
    assert len(trained.run(spec_of(trials=3, sampler="optunahub:samplers/low")).cells[0].study.trials) == 3
    for name, files in {
        "samplers/parts": {"__init__.py": "from ._sampler import Lowest\n__all__ = ['Lowest']\n", "_sampler.py": SAMPLERS},
        "samplers/listed": {"__init__.py": "from optuna.samplers import TPESampler\n__all__ = ['TPESampler']\n"},
        "samplers/derived": {"__init__.py": "from optuna.samplers import RandomSampler\nclass Demo(RandomSampler): ...\n"},
        "pruners/median": {"__init__.py": "from optuna.pruners import MedianPruner\n__all__ = ['MedianPruner']\n"},
    }.items():
        (hub / name).mkdir(parents=True)
        for file, text in files.items():
            (hub / name / file).write_text(text)
        assert plan_search(spec_of(**({"sampler": "random"} | {name.partition("s/")[0]: f"optunahub:{name}"})))
    with pytest.raises(ConfigError, match=r"cannot be loaded: OSError: Cmd.* stderr: 'Could not resolve host'"):
        plan_search(spec_of(sampler="optunahub:samplers/far"))
    with pytest.raises(ConfigError, match="has several: add one of them, as optunahub:samplers/many:"):
        plan_search(spec_of(sampler="optunahub:samplers/many"))
    with pytest.raises(ConfigError, match="has none"):
        plan_search(spec_of(sampler="optunahub:samplers/none"))
    with pytest.raises(ConfigError, match="cannot be loaded: FileNotFoundError"):
        plan_search(spec_of(sampler="optunahub:samplers/nowhere"))
