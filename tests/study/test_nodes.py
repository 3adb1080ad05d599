"""Several nodes for real: raylets of one machine, of which one goes and another comes while a study runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

import analysis
import study
from study.launch import Progress, run

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


def rows(root: str) -> list[dict[str, Any]]:
    return analysis.load(root).drop_columns(["seconds", "finished", "git_commit"]).sort_by("key").to_pylist()


@pytest.mark.xdist_group("ray")
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
