"""``keep: [networks]``: trained networks beside the records and in MLflow, with results, packs and keys as they are without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import analysis
import study
from study.plan.plan import plan_study
from study.records.mirror import Mirror
from study.records.networks import NETWORK, kept_networks
from study.records.writer import FragmentWriter, Provenance
from tests.study.made_up_results import TRIAL, resolved
from trainables.data.inputs import point_data
from trainables.point.config import TrialConfig, flatten
from trainables.point.errors import ConfigError
from trainables.training.loop import Training
from trainables.training.members import Result

CPU = torch.device("cpu")


def spec(**sections: Any) -> study.Spec:
    fields = {name: value for name, value in flatten(TRIAL).items() if value is not None and name != "seed"}
    return study.understand({"study": "kept", "trial": fields, "replicates": 3, **sections})


def trained(points: list[TrialConfig], **settings: Any) -> list[Result]:
    training = Training(points, CPU, **settings)
    results = []
    while not training.finished:
        results += training.epoch()
    return sorted(results, key=lambda one: one.point.seed)


@pytest.fixture
def points() -> list[TrialConfig]:
    return [resolved(seed=seed) for seed in range(3)]


def recorded(folder: Path, results: list[Result]) -> str:
    writer = FragmentWriter(str(folder / "kept"), Provenance("kept", None, "0.1.0"))
    writer(results, "cpu")
    return writer.root


def test_a_kept_network_has_the_errors_of_its_record(tmp_path, points):
    (_, second, _) = trained(points, keeps=lambda point: point.seed == 1)
    root = recorded(tmp_path, [second])
    assert kept_networks(root) == {second.key}
    network = analysis.load_network(root, second.key)
    test = point_data(second.point, CPU, 0).test
    outputs = network(test.inputs.gather(test.index).reshape(-1, *test.inputs.image_shape))
    assert (outputs.argmax(1) != test.labels).double().mean().item() == second.outcome["test_error"]
    with pytest.raises(analysis.NothingToShow, match=r"keep: \[networks\]"):
        analysis.load_network(root, points[0].key())


def test_results_do_not_depend_on_what_is_kept(points):
    for slots in (1, 3):
        plain, kept = trained(points, slots=slots), trained(points, slots=slots, keeps=lambda point: True)
        for one, other in zip(plain, kept, strict=True):
            assert (one.key, one.status, one.curve) == (other.key, other.status, other.curve)
            assert one.outcome | {"seconds": 0} == other.outcome | {"seconds": 0}
            assert one.network is None
            assert other.network is not None


def test_a_network_is_the_same_in_any_pack(points):
    alone, together = (trained(points, slots=slots, keeps=lambda point: True) for slots in (1, 3))
    for one, other in zip(alone, together, strict=True):
        assert one.network is not None
        assert other.network is not None
        assert one.network.state.keys() == other.network.state.keys()
        assert all(torch.equal(value, other.network.state[name]) for name, value in one.network.state.items())


def test_networks_of_chosen_points():
    declared = spec(keep={"networks": {"seed": [0, 2]}})
    assert declared.keeps is not None
    assert [declared.keeps(resolved(seed=seed)) for seed in range(3)] == [True, False, True]
    everything = spec(keep=["networks"]).keeps
    assert everything is not None
    assert everything(resolved(seed=1))
    assert spec().keeps is None
    assert spec(keep=["networks"]).keys() == spec().keys()


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (["network"], "keep is .*what can be kept is networks"),
        ({"networks": {"sed": 0}}, "sed"),
        ({"networks": {"seed": "one"}}, r"keep\.networks\.seed"),
    ],
)
def test_what_cannot_be_kept_is_a_sentence(keep, said):
    with pytest.raises(ConfigError, match=said):
        spec(keep=keep)


def test_a_point_that_was_recorded_without_its_network_is_trained_again(tmp_path, points):
    recorded(tmp_path, [*trained(points[:1], keeps=lambda point: True), *trained(points[1:])])
    assert not plan_study(spec(), str(tmp_path)).with_records().missing
    plan = plan_study(spec(keep={"networks": {"seed": [0, 1]}}), str(tmp_path)).with_records()
    assert [point.config.seed for point in plan.missing] == [1]
    assert plan.by_measures(plan.missing) == {(): plan.missing}
    assert plan.trained_again(plan.points) == [f"1 points are trained again for {NETWORK}"]


def test_status_tells_points_without_a_network_from_missing_ones(tmp_path, points, gaplab):
    recorded(tmp_path, trained(points[:2]))
    declared = spec(keep=["networks"])
    (tmp_path / "spec.yaml").write_text(declared.text)
    answer = gaplab("status", str(tmp_path / "spec.yaml"), "--storage", str(tmp_path))
    assert answer.code == 0, answer.err
    assert "3 points declared; 1 missing, 2 without a network" in answer.out
    assert "2 points will be trained again for networks." in answer.out
    assert "2 are missing" not in answer.out


def test_mlflow_has_a_logged_model_of_each_run_with_a_network(tmp_path, points, fresh_database):
    from mlflow import MlflowClient

    from study.records.front import front_of

    root = recorded(tmp_path, trained(points, keeps=lambda point: point.seed < 2))
    (tmp_path / "mlflow.db").write_bytes(fresh_database.read_bytes())
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    for _ in range(2):
        mirror = Mirror(uri, "kept", root)
        mirror.finish()
        mirror.show(front_of(root, "kept", ""))
        assert mirror.error is None
        models = client.search_logged_models(["1"])
        assert {model.tags["gaplab.key"] for model in models} == {point.key() for point in points[:2]}
        assert {str(model.status) for model in models} == {"READY"}
        for model in models:
            run = client.get_run(model.source_run_id)
            assert run.data.tags["gaplab.key"] == model.tags["gaplab.key"]
            assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
            place = Path(model.artifact_location.removeprefix("file://"))
            assert (place / "network.safetensors").read_bytes() == (
                Path(root) / "networks" / f"{model.tags['gaplab.key']}.safetensors"
            ).read_bytes()
