"""Several nodes for real: raylets of one machine, of which one goes and another comes while a study runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

import study
from study.launch import node_checks as survey
from study.launch.cluster import joined
from study.launch.doctor import Check, checks
from study.launch.progress import Progress
from study.launch.run import run
from tests.study.disturbances import rows
from tests.study.drivers import started
from trainables.point.config import ConfigError

WRITTEN: dict[str, Any] = {
    "study": "wanders",
    "trial": {"data": {"train_size": 300}, "budget": {"epochs": 20, "stop_at_train_error": None}},
    "space": {"model.width": {"values": [3, 5, 8]}, "seed": {"range": 6}},
    "tracking": {"mlflow": False},
}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that trains nothing, and a node that does."""
    patience = {"health_check_initial_delay_ms": 60_000, "health_check_timeout_ms": 60_000}  # a busy machine is not a dead one
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": patience})
    nodes.add_node(num_cpus=2)
    yield nodes
    nodes.shutdown()


@pytest.mark.xdist_group("faults")
def test_a_study_outlives_its_node_and_moves_to_a_new_one(cluster: Cluster, tmp_path: Path) -> None:
    spec = study.understand(WRITTEN)
    undisturbed = rows(run(spec, storage=str(tmp_path / "undisturbed"), address=cluster.address).root)
    assert {row["status"] for row in undisturbed} == {"completed"}
    moved: list[str] = []

    def advanced(statuses: Any, seconds: float) -> None:
        if statuses and not moved:
            (old,) = cluster.worker_nodes
            cluster.remove_node(old, allow_graceful=False)
            moved.append(cluster.add_node(num_cpus=2).node_id)

    summary = run(spec, storage=str(tmp_path / "moved"), address=cluster.address, progress=Progress(advanced=advanced))
    assert moved
    assert summary.counts == {"completed": len(undisturbed)}
    assert rows(summary.root) == undisturbed


@pytest.mark.xdist_group("faults")
def test_a_study_waits_for_a_cluster_that_has_no_worker_yet(cluster: Cluster, tmp_path: Path) -> None:
    (only,) = cluster.worker_nodes
    cluster.remove_node(only)
    written = WRITTEN | {"space": {"seed": {"range": 3}}, "resources": {"workers": 2}}
    driver = started(written, storage=str(tmp_path), address=cluster.address)
    driver.join(10)
    assert driver.exitcode is None, "it waits"
    cluster.add_node(num_cpus=2)
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
