"""What the nodes of a Ray cluster are like, each asked itself: their versions, their GPUs, whether they can write the storage."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("gaplab", "torch", "ray", "numpy", "pyarrow", "optuna")
"""Must be the same everywhere: results and what travels between processes depend on them."""
ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Node:
    """What a node answered.

    Attributes:
        name: its host's, and its address.
        versions: of Python and `PACKAGES`; a missing one is "missing".
        gpus: with their memory, in words.
        unwritable: why it cannot write the storage; None if it can.
    """

    name: str
    versions: Mapping[str, str]
    gpus: str
    unwritable: str | None


def versions() -> dict[str, str]:
    """Of Python and `PACKAGES`, where this runs."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def look(storage: str) -> tuple[dict[str, str], str, str | None]:
    """Versions, GPUs, and why the storage cannot be written, where this runs."""
    from study.launch.doctor import gpus, write_and_remove

    try:
        write_and_remove(storage)
        unwritable = None
    except Exception as error:
        unwritable = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return versions(), gpus()[1], unwritable


def survey(address: str, storage: str) -> list[Node]:
    """Ask every node that is alive; it must have gaplab installed.

    Raises:
        ConfigError: no cluster answers at the address.
        Exception: what a node answers with, or that it does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from study.launch.cluster import joined

    with joined(address):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        task = ray.remote(num_cpus=0)(look)
        there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
        answers = ray.get([task.options(scheduling_strategy=where).remote(storage) for where in there], timeout=ANSWER_SECONDS)
    return [
        Node(f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})", *answer) for node, answer in zip(nodes, answers, strict=True)
    ]


def differing(nodes: Sequence[Node]) -> list[str]:
    """What is not as on this machine, in words."""
    here = versions()
    return [
        f"{node.name} has {name} {there}, not {here[name]}"
        for node in nodes
        for name, there in node.versions.items()
        if there != here[name]
    ]
