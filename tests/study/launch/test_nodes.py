"""Several nodes for real: raylets of one machine, of which one goes and another comes while a study runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
import ray
from ray.cluster_utils import Cluster

import study
from study.launch import cluster as launched
from study.launch import node_checks as survey
from study.launch import tuner
from study.launch.breaker import Breaker
from study.launch.cluster import joined
from study.launch.doctor import Check, checks
from study.launch.node_checks import Needs, NodesError
from study.launch.progress import Progress
from study.launch.run import run
from study.launch.tuner import Trials
from tests.study.disturbances import rows
from tests.study.drivers import started
from tests.study.in_this_process import rows_without_ray
from tests.study.made_up_results import resolved
from trainables.point.errors import ConfigError
from trainables.point.text import dumps
from trainables.tune import PackSettings, PackTrainable

WRITTEN: dict[str, Any] = {
    "study": "wanders",
    "trial": {"data": {"train_size": 300}, "optimizer": {"learning_rate": 0.1}, "budget": {"epochs": 20, "stop_at_train_error": None}},
    "space": {"model.width": {"values": [3, 5, 8]}, "seed": {"range": 6}},
    "tracking": {"mlflow": False},
}


STARTS_ANEW = "what was trained there starts anew on another, without the points that were recorded"


class PatientCluster(Cluster):
    """One that gives a node more than half a minute to come."""

    def _wait_for_node(self, node: Any, timeout: float = 0) -> None:
        super()._wait_for_node(node, 300)


@contextmanager
def started_cluster() -> Iterator[Cluster]:
    """A head that trains nothing. Workers have the priority of the tests: Ray's 15 less leaves them nothing on a busy machine."""
    patience = {"health_check_initial_delay_ms": 60_000, "health_check_timeout_ms": 60_000}  # a busy machine is not a dead one
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_worker_niceness", "0")
        nodes = PatientCluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": patience})
        yield nodes
        nodes.shutdown()


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    with started_cluster() as nodes:
        yield nodes


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """As `cluster`, on a head that no other test has: it may take a node that vanishes for one that is slow."""
    with started_cluster() as nodes:
        nodes.add_node(num_cpus=1)
        yield nodes


@pytest.fixture
def cluster(head: Cluster) -> Iterator[Cluster]:
    """A head that trains nothing, and a node that does; all nodes but the head are the test's own."""
    head.add_node(num_cpus=1)
    yield head
    for node in list(head.worker_nodes):
        head.remove_node(node)
    head.wait_for_nodes(300)


@pytest.mark.xdist_group("faults")
def test_a_study_outlives_its_node_and_moves_to_a_new_one(own_cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cluster = own_cluster
    spec = study.understand(WRITTEN)
    undisturbed = rows_without_ray(spec, tmp_path / "undisturbed")
    assert {row["status"] for row in undisturbed} == {"completed"}
    moved: list[str] = []
    said: list[str] = []

    def advanced(statuses: Any, seconds: float) -> None:
        if statuses and not moved:
            (old,) = cluster.worker_nodes
            cluster.remove_node(old, allow_graceful=False)
            moved.append(cluster.add_node(num_cpus=1).node_id)

    looked: list[Check] = []
    progress = Progress(advanced=advanced, noted=said.append, checked=looked.extend)
    summary = run(spec, storage=str(tmp_path / "moved"), address=cluster.address, progress=progress)
    assert [(check.name, check.good) for check in looked] == [(f"node{part}", True) for part in ("s", " versions", " gpus", " storage")]
    assert moved
    (host, _, _) = cluster.address.rpartition(":")
    assert set(said) <= {f"node {host} is gone: {STARTS_ANEW}"}, "Ray may not be sure of it yet"
    assert capfd.readouterr().out == "", "Ray prints the last lines of the node's log"
    assert summary.counts == {"completed": len(undisturbed)}
    assert rows(summary.root) == undisturbed


def test_nodes_that_go_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, said = {"a": "10.0.0.1"}, list[str]()
    monkeypatch.setattr(tuner, "_gone_nodes", lambda: dict(gone))
    monkeypatch.setattr(tuner, "NODES_SECONDS", 0.0)
    progress = SimpleNamespace(progress=Progress(noted=said.append), breaker=Breaker(lambda: None))
    report, trial = tuner._Report(progress, Trials({}, [1.0], None)), SimpleNamespace(config={"pack": 0})  # type: ignore[arg-type]
    for name, address in (("a", "10.0.0.1"), ("b", "10.0.0.2"), ("b", "10.0.0.2"), ("c", "10.0.0.3")):
        gone[name] = address
        report.on_trial_result(1, [], trial, {"points": {}, "share": 0.0, "done": False})
    assert said == [f"node 10.0.0.2 is gone: {STARTS_ANEW}", f"node 10.0.0.3 is gone: {STARTS_ANEW}"]


WAITING_MODEL = """
import time
from pathlib import Path

import ray
from torch import nn
from trainables.models import model_family

FOLDER = Path({folder!r})


@model_family("waits", default_width=4)
def waits(model, dropout, image_shape, classes):
    if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
        (FOLDER / "nodes" / ray.get_runtime_context().get_node_id()).touch()
        patience = time.monotonic() + 120
        while (FOLDER / "grown").exists() and len(list((FOLDER / "nodes").iterdir())) < 2 and time.monotonic() < patience:
            time.sleep(0.1)
    return nn.Sequential(nn.Flatten(), nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], classes))
"""


@pytest.mark.xdist_group("faults")
@pytest.mark.usefixtures("untried")
def test_a_search_uses_a_node_that_joins_while_it_runs(cluster: Cluster, tmp_path: Path) -> None:
    """Once the cluster has grown, packs wait for one another: the search ends late if it never has more out than it began with."""
    (only,) = cluster.worker_nodes
    small = cluster.add_node(num_cpus=1)
    cluster.remove_node(only)
    (tmp_path / "nodes").mkdir()
    (tmp_path / "waits.py").write_text(WAITING_MODEL.format(folder=str(tmp_path)))
    written = {
        "study": "grows",
        "trial": {
            "data": {"name": "synthetic", "dimension": 4, "train_size": 60, "validation_size": 20},
            "model": {"name": "waits"},
            "budget": {"epochs": 2},
        },
        "space": {"optimizer.learning_rate": {"log_uniform": {"low": 1e-3, "high": 1e-1}}},
        "search": {"kind": "optuna", "sampler": "random", "trials": 10, "at_once": 1},
        "imports": [str(tmp_path / "waits.py")],
        "tracking": {"mlflow": False},
    }

    def advanced(statuses: Any, seconds: float) -> None:
        if statuses and not (tmp_path / "grown").exists():
            cluster.add_node(num_cpus=1)
            (tmp_path / "grown").touch()

    summary = run(study.understand(written), storage=str(tmp_path), address=cluster.address, progress=Progress(advanced=advanced))
    assert summary.counts == {"completed": 10}
    used = {path.name for path in (tmp_path / "nodes").iterdir()}
    assert used == {node.node_id for node in cluster.worker_nodes}
    assert small.node_id in used


@pytest.mark.xdist_group("faults")
@pytest.mark.usefixtures("untried")
def test_workers_are_on_the_nodes_whose_labels_are_asked_for(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (unlabelled,) = cluster.worker_nodes
    new, old = (cluster.add_node(num_cpus=1, labels={"card": card}) for card in ("new", "old"))
    (tmp_path / "nodes").mkdir()
    (tmp_path / "waits.py").write_text(WAITING_MODEL.format(folder=str(tmp_path)))
    written: dict[str, Any] = {
        "study": "labelled",
        "trial": {"data": {"name": "synthetic", "dimension": 4, "train_size": 60}, "model": {"name": "waits"}, "budget": {"epochs": 1}},
        "space": {"seed": {"range": 4}, "optimizer.batch_size": {"values": [20, 30]}},
        "imports": [str(tmp_path / "waits.py")],
        "tracking": {"mlflow": False},
    }
    spec = study.understand(written | {"resources": {"labels": {"card": "in(new, newer)"}}})
    assert run(spec, storage=str(tmp_path), address=cluster.address).counts == {"completed": 8}
    assert {path.name for path in (tmp_path / "nodes").iterdir()} == {new.node_id}
    assert unlabelled.node_id != old.node_id
    monkeypatch.setattr(launched, "GROWTH_SECONDS", 0.1)
    none = study.understand(written | {"resources": {"labels": {"card": "newest"}}, "study": "none"})
    with (
        pytest.warns(UserWarning, match="waiting up to"),
        pytest.raises(ConfigError, match="labels card: newest, more than the cluster has"),
    ):
        run(none, storage=str(tmp_path), address=cluster.address)


@pytest.mark.xdist_group("faults")
def test_a_study_waits_for_a_cluster_that_has_no_worker_yet(cluster: Cluster, tmp_path: Path) -> None:
    (only,) = cluster.worker_nodes
    cluster.remove_node(only)
    written = WRITTEN | {"space": {"seed": {"range": 3}}, "resources": {"workers": 1}}
    driver = started(written, storage=str(tmp_path), address=cluster.address)
    driver.join(10)
    assert driver.exitcode is None, "it waits"
    cluster.add_node(num_cpus=1)
    driver.join(300)
    assert driver.exitcode == 0
    assert len(rows(str(tmp_path / "wanders"))) == 3


@pytest.mark.xdist_group("faults")
def test_the_doctor_asks_every_node(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def findings(storage: str, address: str) -> dict[str, Check]:
        return {check.name: check for check in checks(storage, address=address) if check.name.startswith("node")}

    found = findings(str(tmp_path / "results"), cluster.address)
    assert list(found) == ["nodes", "node versions", "node gpus", "node storage"]
    assert [check for check in found.values() if not check.good] == []
    assert "as here on all 2 nodes" in found["node versions"].found
    assert "can be written from all 2 nodes" in found["node storage"].found
    assert list(tmp_path.iterdir()) == []
    here = survey.versions()
    monkeypatch.setattr(survey, "versions", lambda: here | {"torch": "1.0"})
    found = findings("/proc/gaplab", cluster.address)
    assert f"has torch {here['torch']}, not 1.0" in found["node versions"].found
    assert found["node storage"].found.count("Error") == 2
    assert not found["node versions"].good
    assert not found["node storage"].good
    assert not findings("/tmp", "127.0.0.1:9")["nodes"].good


@pytest.mark.xdist_group("faults")
def test_a_process_that_is_connected_does_not_run_on_another_cluster_than_it_is_told(cluster: Cluster, tmp_path: Path) -> None:
    host, _, port = cluster.address.rpartition(":")
    with joined(cluster.address):
        with joined(f"localhost:{port}"):
            pass
        assert ray.is_initialized(), "who connected disconnects"
        with pytest.raises(ConfigError, match=f"is not the Ray cluster that this process is connected to \\({cluster.address}\\)"):
            run(study.understand(WRITTEN), storage=str(tmp_path), address=f"{host}:1")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a node on which another gaplab is installed."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "gaplab-9.9.dist-info").mkdir()
    (folder / "gaplab-9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: gaplab\nVersion: 9.9\n")
    return {"PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}


@pytest.mark.xdist_group("faults")
def test_a_mixed_cluster_is_refused_unless_told_and_records_say_what_made_them(
    cluster: Cluster, other: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # workers look into the driver's folder first, where a checkout has gaplab's own version
    (old,) = cluster.worker_nodes

    def joins_late(statuses: Any, seconds: float) -> None:
        if statuses and len(cluster.worker_nodes) == 1 and old in cluster.worker_nodes:
            cluster.add_node(num_cpus=1, env_vars=other)
            cluster.remove_node(old)

    halted = run(study.understand(WRITTEN), storage=str(tmp_path / "late"), address=cluster.address, progress=Progress(advanced=joins_late))
    assert halted.halted is not None
    assert f"joined with other versions than this driver has (gaplab 9.9, not {version('gaplab')})" in halted.halted
    assert 0 < len(rows(halted.root)) < halted.declared
    assert {(row["status"], row["gaplab_version"]) for row in rows(halted.root)} == {("completed", version("gaplab"))}
    spec = study.understand(WRITTEN | {"space": {"seed": {"range": 2}}})
    with pytest.raises(NodesError, match=r"the cluster's versions are not those of this driver.*say --allow-mixed") as raised:
        run(spec, storage=str(tmp_path / "results"), address=cluster.address)
    (line,) = raised.value.table
    assert line.endswith(f"has gaplab 9.9, not {version('gaplab')}")
    assert list(tmp_path.iterdir()) == [tmp_path / "late"], "nothing was started"
    with pytest.warns(UserWarning, match=r"versions are mixed, as allowed: .* has gaplab 9\.9"):
        summary = run(spec, storage=str(tmp_path / "results"), address=cluster.address, allow_mixed=True)
    assert {row["gaplab_version"] for row in rows(summary.root)} == {"9.9"}


@pytest.mark.xdist_group("faults")
def test_nodes_that_cannot_import_the_study_or_write_its_storage_are_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = survey.asked
    lacking = Needs(str(tmp_path), sources={"mine.py": "import no_such_module"}, folders=("/no/images",))
    with joined(cluster.address):
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(survey, "asked", lambda needs: asked(replace(needs, token="written-elsewhere")))
            with pytest.raises(NodesError, match=r"^2 of 2 nodes of the cluster cannot take part") as raised:
                survey.check_nodes(lacking, allow_mixed=False)
        unwritable, unimportable, without = (raised.value.table[first : first + 2] for first in (0, 2, 4))
        assert len(raised.value.table) == 6
        assert all(line.endswith("OSError: it is another folder there: what was written here is not seen") for line in unwritable)
        assert all("cannot import the study's files" in line and "no_such_module" in line for line in unimportable)
        assert all(line.endswith("has no /no/images, where the data lie") for line in without)
        good = survey.check_nodes(Needs(str(tmp_path), sources={"mine.py": "import math"}, folders=("/tmp",)), allow_mixed=False)
    assert [(line.name, line.good) for line in good] == [
        (name, True) for name in ("nodes", "node versions", "node gpus", "node storage", "node imports", "node data")
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_may_not_train_says_why_and_the_study_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    here = survey.versions()
    same = here | {"torch": here["torch"].partition("+")[0] + "+cu999"}
    monkeypatch.setattr(survey, "versions", lambda: same)
    assert cloudpickle.loads(cloudpickle.dumps(survey.admission()))() is None
    monkeypatch.setattr(survey, "versions", lambda: here | {"numpy": "1.0"})
    made = PackTrainable.__new__(PackTrainable)
    made._trial_info = None  # as outside Tune
    made.setup(
        {"points": dumps([resolved()])}, [], {}, PackSettings(never, admission=cloudpickle.loads(cloudpickle.dumps(survey.admission())))
    )
    report, breaker = made.step(), Breaker(lambda: None)
    breaker("trial", report)
    assert report["done"]
    assert breaker.stop_all()
    assert f"(numpy {here['numpy']}, not 1.0)" in str(breaker.reason)


def never(*arguments: Any) -> None:
    raise AssertionError("something was trained")


def test_a_node_that_is_late_on_a_busy_machine_is_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    here = survey.Node("here", survey.versions(), "none", None)
    late = survey.Node("there", {}, "unknown", "no answer within 300 seconds", late=True)
    monkeypatch.setattr(survey, "busy", lambda: None)
    assert not survey.table([here, late], Needs("/tmp"))[0].good
    monkeypatch.setattr(survey, "busy", lambda: "this machine is busy (9 processes want its 2 cores)")
    nodes = survey.table([here, late], Needs("/tmp"))[0]
    assert nodes.good
    assert "which says little: this machine is busy" in nodes.found
    dead = survey.Node("there", {}, "unknown", "RayTaskError: gone")
    assert not survey.table([here, dead], Needs("/tmp"))[0].good, "that is another matter"
    assert not survey.table([late], Needs("/tmp"))[0].good, "nobody has answered"


def test_versions_that_matter() -> None:
    here = survey.versions()
    same = here | {"python": here["python"] + "1", "torch": here["torch"].partition("+")[0] + "+cu999"}
    assert survey.differing([survey.Node("same", same, "", None)]) == []
    others = here | {"python": "3.1.0", "numpy": "1.0"}
    assert len(survey.differing([survey.Node("other", others, "", None)])) == 2


def test_a_job_that_another_gaplab_submitted_is_a_mixture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(survey.SUBMITTED_WITH, "9.9")
    monkeypatch.setattr(survey, "asked", lambda *arguments: [])
    with pytest.raises(NodesError) as raised:
        survey.check_nodes(Needs(str(tmp_path)), allow_mixed=False)
    assert raised.value.table == (f"who submitted the job has gaplab 9.9, not {version('gaplab')}",)
