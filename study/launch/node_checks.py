"""What the nodes of a Ray cluster are like, each asked itself: their versions, their GPUs, whether they can write the storage."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from analysis.records.store import open_store

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
    try:
        write_and_remove(storage)
        unwritable = None
    except Exception as error:
        unwritable = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return versions(), gpus()[1], unwritable


def gpus() -> tuple[bool, str]:
    """Whether the GPUs of this machine, if it has any, can be used; and which they are, with their free memory."""
    import torch

    if not torch.cuda.is_available():
        unused = Path("/proc/driver/nvidia/version").exists()
        return not unused, f"a GPU that torch {torch.__version__} cannot use" if unused else "none: points train on the CPU"
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(f"{torch.cuda.get_device_name(index)}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free")
    return True, "; ".join(found)


def write_and_remove(storage: str) -> None:
    """Write a file where a study would, and take it away with the folders made for it.

    Raises:
        OSError, ConfigError: that is not possible.
    """
    filesystem, path = open_store(storage)
    made = [] if "://" in storage else [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]
    probe = f"{path}/.gaplab-doctor"
    try:
        filesystem.create_dir(path, recursive=True)
        with filesystem.open_output_stream(probe) as stream:
            stream.write(b"writable")
        filesystem.delete_file(probe)
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


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
