"""What cannot be searched: one sentence, and nothing is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

import cloudpickle
import pytest

import study
from study.launch import searcher, training
from study.launch.breaker import Breaker
from study.launch.cluster import LocalRay
from study.launch.context import Run
from study.launch.progress import Progress
from study.plan.plan import plan_study
from study.records.writer import FragmentWriter, Provenance
from study.search.ablation import compared
from study.search.plan import plan_search
from study.search.search import Search
from study.spec.reading import understand
from tests.study.made_up_searches import SPACE, Trained, spec_of
from trainables.point.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"objective": "test_error"}, "which is of the test set: a search that saw it would fit it"),
        ({"objective": "generalization_gap"}, "which is of the test set"),
        ({"constraints": ["test_error <= 0.1"]}, "which is of the test set"),
        ({"objective": "validation_eror"}, "never reported: did you mean 'validation_error'?"),
        ({"objective": ["seconds", "seconds"]}, "a list of different ones"),
        ({"objective": []}, "must name one objective"),
        ({"constraints": ["train_error < 0.1"]}, "must be NAME <= NUMBER"),
        ({"constraints": ["train_error <= low"]}, "must be NAME <= NUMBER"),
        ({"trial": {"data": {"name": "digits"}}}, "never reported without a validation split: set data.validation_size"),
        ({"sampler": "gp", "trials": 100_000}, "asked for 100,000 trials, but GP takes at most 500"),
        ({"sampler": "cma_es", "space": {"optimizer.batch_size": {"choice": [8, 16]}}}, "choices and conditional axes mean nothing to it"),
        ({"sampler": "cma_es", "objective": ["validation_error", "seconds"]}, "minimises one objective, and there are 2"),
        ({"sampler": "cma_es", "constraints": ["train_error <= 0.1"]}, "does not heed search.constraints"),
        ({"sampler": "gp", "space": {"optimizer.batch_size": {"choice": [8, 16]}}}, "needs an axis that is a number"),
        ({"space": {"model.width": {"values": [2, 4]}}}, "needs something to search"),
        ({"space": SPACE | {"add": [{"model.width": 8}]}}, "space.add has no meaning"),
        ({"space": SPACE | {"exclude": [{"optimizer.learning_rate": 0.1}]}}, "only cells can be excluded"),
        ({"pruner": "median", "objective": ["validation_error", "seconds"]}, "needs one objective on the validation split"),
        ({"pruner": "median", "objective": "parameters"}, "needs one objective on the validation split"),
        ({"space": SPACE | {"regularizers.crop": {"int": {"low": 0, "high": 2}}}}, "(at "),
        ({"trials": None}, "needs search.trials"),
        ({"function": "none.py:none", "space": {}}, "must be FILE.py:NAME"),
        ({"storage": "postgresql://nobody:secret@127.0.0.1:1/none"}, "no database answers at 127.0.0.1:1/none"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence_and_starts_nothing(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        study.run(spec_of(**changes), storage=str(tmp_path / "results"))
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert "secret" not in message
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("space", "search", "says"),
    [
        ({"seed": {"int": {"low": 0, "high": 9}}} | SPACE, {"kind": "optuna", "trials": 5}, "a seed is no choice"),
        ({}, {"kind": "grid", "trials": 5}, "search.trials has no meaning for search.kind grid"),
        (SPACE, {"kind": "optuna", "trials": 5, "samples": 5}, "search.samples has no meaning for search.kind optuna"),
        (SPACE, {"kind": "optuna", "trials": 5, "sampler": "bayes"}, "search.sampler is 'bayes'"),
        (SPACE, {"kind": "optuna", "trails": 5}, "did you mean 'search.trials'"),
    ],
)
def test_a_section_that_makes_no_sense_is_said(space: dict[str, Any], search: dict[str, Any], says: str) -> None:
    trial = {"data": {"name": "synthetic", "train_size": 60, "validation_size": 30}}
    with pytest.raises(ConfigError) as caught:
        plan_search(understand({"study": "made-up", "trial": trial, "space": space, "search": search}))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return {'model.widht': 3}", "did you mean 'model.width'?"),
        ("return {'model.width': -3}", "model.width is -3"),
        ("return {'seed': 3}", "a mapping of fields other than seed"),
        ("return 3", "it returned 3"),
        ("raise KeyError('x')", "raises KeyError: 'x'"),
    ],
)
def test_a_function_that_makes_no_point_is_said(body: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"def mine(trial):\n    {body}\n")
    (tmp_path / "spec.yaml").write_text(spec_of({}, function="mine.py:mine").text)
    with pytest.raises(ConfigError) as caught:
        study.run(study.read_spec(tmp_path / "spec.yaml"), storage=str(tmp_path / "results"))
    assert says in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_a_comparison_that_is_trained_again_for_a_measure_says_so(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a grid does; what the search asked for once is not asked again."""
    spec = spec_of(trials=4, ablation_seeds=2)
    points = compared(trained.run(spec))
    trained(points)
    said: list[str] = []

    def stopped(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "connected", stopped)
    plan = plan_study(replace(spec, measures=("l2_norm",)), str(trained.root.parent))
    plan = replace(plan, root=str(trained.root)).with_records()
    with pytest.raises(KeyboardInterrupt):
        training.train(plan, None, LocalRay(plan.resources), Progress(noted=said.append), None)
    assert said == [f"{len(points)} points are trained again for l2_norm"]


def test_a_search_can_be_pickled_whatever_draws_its_progress(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune does so before it begins; a terminal's bars have locks, which cannot be."""
    given: list[Any] = []

    class Noted:
        def __init__(self, parameters: Any, seconds: Any, at_once: Any, searcher: Any, losses: Any) -> None:
            given.append(searcher)

        def fit(self, run: Any) -> None:
            given.append(cloudpickle.dumps(given[0]))

    monkeypatch.setattr(searcher, "Trials", Noted)
    spec = spec_of(trials=4)
    plan = replace(plan_study(spec, str(trained.root.parent)), root=str(trained.root))
    bar = RLock()
    drawn = Progress(noted=lambda sentence: bar.release())
    writer = FragmentWriter(plan.root, Provenance("made-up", None, ""))
    searcher.fit_search(Run(plan, writer, Breaker(lambda: None), drawn, 1), Search(plan_search(spec), plan.root))
    assert len(given) == 2
