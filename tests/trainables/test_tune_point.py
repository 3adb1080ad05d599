"""One point a trial: what Tune's own schedulers see of it, and what a population passes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.point.config import TrialConfig, with_fields
from trainables.point.errors import ConfigError
from trainables.resolution import resolve
from trainables.training.loop import Training
from trainables.tune import PointTrainable

FIELDS: dict[str, Any] = {
    "data.train_size": 200,
    "data.validation_size": 100,
    "data.seed": 0,
    "corruption.seed": 0,
    "corruption.level": 0.4,
    "model.width": 16,
    "optimizer.learning_rate": 0.05,
    "budget.epochs": 6,
    "budget.stop_at_train_error": None,
}


def trial(**changes: Any) -> PointTrainable:
    """As Tune makes one, in this process."""
    made = PointTrainable.__new__(PointTrainable)
    made._trial_info = None  # as outside Tune
    made.setup(FIELDS | {name.replace("__", "."): value for name, value in changes.items()})
    return made


def passed_on(donor: PointTrainable, heir: PointTrainable, folder: Path) -> PointTrainable:
    donor.save_checkpoint(str(folder))
    heir.load_checkpoint(str(folder))
    return heir


def alone(**changes: Any) -> dict[str, Any]:
    """The outcome of the point in a pack of its own."""
    training = Training([resolve(with_fields(TrialConfig(), FIELDS | changes))], torch.device("cpu"))
    results = training.epoch()
    while not results:
        results = training.epoch()
    return {name: value for name, value in results[0].outcome.items() if name != "seconds"}


def test_a_trial_left_alone_ends_as_its_point_and_reports_every_epoch() -> None:
    made = trial()
    reports = [made.step() for _ in range(6)]
    assert [report["epoch"] for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report["done"] for report in reports] == [False] * 5 + [True]
    assert all(0 <= report["validation_error"] <= 1 for report in reports)
    assert {name: reports[-1][name] for name in alone()} == alone()
    assert json.loads(reports[-1]["schedule"]) == [{"epoch": 0, **FIELDS}]


def test_a_restored_trial_goes_on_bit_for_bit(tmp_path: Path) -> None:
    begun = trial()
    for _ in range(2):
        begun.step()
    again = passed_on(begun, trial(), tmp_path)
    reports = [again.step() for _ in range(4)]
    assert {name: reports[-1][name] for name in alone()} == alone()
    assert len(json.loads(reports[-1]["schedule"])) == 1


def test_an_heir_goes_on_from_the_donors_network_with_its_own_strengths(tmp_path: Path) -> None:
    donor = trial()
    for _ in range(3):
        last = donor.step()
    heir = passed_on(donor, trial(optimizer__learning_rate=1e-30, regularizers__weight_decay=0.1, seed=7), tmp_path)
    report = heir.step()
    assert report["epoch"] == 4
    assert (report["train_error"], report["validation_error"]) == (last["train_error"], last["validation_error"]), "it does not move"
    schedule = json.loads(report["schedule"])
    assert [step["epoch"] for step in schedule] == [0, 3]
    assert [step["optimizer.learning_rate"] for step in schedule] == [0.05, 1e-30]
    assert schedule[1]["regularizers.weight_decay"] == 0.1


@pytest.mark.parametrize(("changed", "sentence"), [({"model.width": 8}, "other shapes"), ({"corruption.seed": 1}, "other samples")])
def test_what_a_population_may_not_vary(changed: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        passed_on(trial(), trial(**{name.replace(".", "__"): value for name, value in changed.items()}), tmp_path)


@pytest.fixture(scope="module")
def plain_ray() -> Iterator[None]:
    """Ray as its users start it, but for the priority of its workers: 15 less is next to nothing on a busy machine."""
    import ray

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_worker_niceness", "0")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.mark.usefixtures("plain_ray")
@pytest.mark.xdist_group("ray of Tune's users")
@pytest.mark.parametrize("scheduler", ["asha", "population"])
def test_tunes_own_schedulers_run_points(scheduler: str, tmp_path: Path) -> None:
    """A worker takes one trial after another; started anew for each, and again for each that was paused, it would import PyTorch."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

    rates = [0.1, 0.05, 0.02, 1e-5]  # the worst last: by then there are others to be worse than
    schedulers = {
        "asha": lambda: ASHAScheduler(time_attr="epoch", max_t=6, grace_period=2, reduction_factor=2),
        "population": lambda: PopulationBasedTraining(
            time_attr="epoch",
            perturbation_interval=2,
            hyperparam_mutations={"optimizer.learning_rate": tune.loguniform(0.01, 0.2), "regularizers.weight_decay": [0.0, 0.001, 0.01]},
        ),
    }
    space = FIELDS | {"optimizer.learning_rate": tune.grid_search(rates), "regularizers.weight_decay": 0.0}
    config = tune.TuneConfig(metric="validation_error", mode="min", scheduler=schedulers[scheduler](), reuse_actors=True)
    found = tune.Tuner(PointTrainable, param_space=space, tune_config=config, run_config=tune.RunConfig(storage_path=str(tmp_path))).fit()
    assert not found.errors
    ended = {result.config["optimizer.learning_rate"]: result.metrics for result in found if result.metrics["epoch"] == 6}
    if scheduler == "asha":
        assert 1 <= len(ended) < len(rates), "some were stopped"
        for rate, metrics in ended.items():
            expected = alone(**{"optimizer.learning_rate": rate, "regularizers.weight_decay": 0.0})
            assert {name: metrics[name] for name in expected} == expected
    else:
        schedules = [json.loads(result.metrics["schedule"]) for result in found]
        assert any(len(schedule) > 1 for schedule in schedules), "the worst took over a better network"
        for schedule in schedules:
            assert [step["epoch"] for step in schedule] == sorted(step["epoch"] for step in schedule)
            assert schedule[0]["optimizer.learning_rate"] in rates
