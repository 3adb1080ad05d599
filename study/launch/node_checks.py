"""What the nodes of a Ray cluster are like, each asked itself: their versions, their GPUs, whether they can write the storage."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from analysis.records.store import open_store
from trainables.point.errors import ConfigError

PACKAGES = ("gaplab", "torch", "ray", "numpy", "pyarrow", "optuna")
"""Must be the same everywhere: results and what travels between processes depend on them."""
ANSWER_SECONDS = 120.0
SUBMITTED_WITH = "GAPLAB_SUBMITTED_WITH"
"""The environment variable in which a job gets the version of the gaplab that submitted it."""


@dataclass(frozen=True)
class Node:
    """What a node answered.

    Attributes:
        name: its host's, and its address.
        versions: of Python and `PACKAGES`; a missing one is "missing".
        gpus: with their memory, in words.
        unwritable: why it cannot write the storage; None if it can.
        unimportable: why the user's files cannot be imported there; None if they can.
    """

    name: str
    versions: Mapping[str, str]
    gpus: str
    unwritable: str | None
    unimportable: str | None = None


class NodesError(ConfigError):
    """A cluster that a study should not run on.

    Attributes:
        table: what is wrong where, a line each.
    """

    def __init__(self, sentence: str, table: Sequence[str]) -> None:
        super().__init__(sentence)
        self.table = tuple(table)


def versions() -> dict[str, str]:
    """The versions of Python and `PACKAGES` where this runs."""
    found: dict[str, str] = _asking()(PACKAGES, None)[0]
    return found


def _comparing() -> Callable[[str, str, str], bool]:
    """A function that says whether two versions are the same: of Python the minor one, of PyTorch not what it was built for.

    It travels by value; see `_asking`.
    """

    def same(name: str, one: str, other: str) -> bool:
        return one.split(".")[:2] == other.split(".")[:2] if name == "python" else one.partition("+")[0] == other.partition("+")[0]

    return same


def _asking() -> Callable[..., Any]:
    """A function of Python's own modules, to be run on a node.

    It is made here because what is defined inside a function travels by value: it answers also where gaplab is another one, or missing.
    """

    def ask(packages: Sequence[str], look: Callable[[], Any] | None) -> tuple[dict[str, str], Any]:
        import platform
        from importlib.metadata import PackageNotFoundError, version

        found = {"python": platform.python_version()}
        for name in packages:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "missing"
        try:
            return found, look and look()
        except Exception as error:
            return found, f"{type(error).__name__}: {' '.join(str(error).split())}"

    return ask


def admission() -> Callable[[], str | None]:
    """A function that says, where it runs, why what has other versions than this driver may not train; None if it has the same.

    Workers ask it when they start: a node may join a cluster after `check_nodes`. It travels by value too.
    """
    ask, same, packages, here = _asking(), _comparing(), PACKAGES, versions()

    def refusal() -> str | None:
        import platform

        found = ask(packages, None)[0]
        others = ", ".join(f"{name} {there}, not {here[name]}" for name, there in found.items() if not same(name, there, here[name]))
        if not others:
            return None
        return f"{platform.node()} joined with other versions than this driver has ({others}): install the same there, or say --allow-mixed"

    return refusal


def _looking(storage: str, token: str | None, sources: Mapping[str, str]) -> Callable[[], Any]:
    """A function that asks gaplab, there, for what `look` finds; it travels by value too."""

    texts = dict(sources)

    def ask() -> Any:
        from study.launch.node_checks import look

        return look(storage, token, texts)

    return ask


def look(storage: str, token: str | None = None, sources: Mapping[str, str] = MappingProxyType({})) -> tuple[str, str | None, str | None]:
    """GPUs, why the storage cannot be written, and why the user's files cannot be imported, where this runs.

    Args:
        token: a file in the storage, written elsewhere, that has to be seen here.
        sources: text of the user's files by path.
    """
    return gpus()[1], _raised(lambda: _seen_and_written(storage, token)), _raised(lambda: _imported(sources))


def _raised(call: Callable[[], None]) -> str | None:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _seen_and_written(storage: str, token: str | None) -> None:
    write_and_remove(storage)
    if token is not None:
        filesystem, path = open_store(storage)
        if not filesystem.get_file_info(f"{path}/{token}").is_file:
            raise OSError("it is another folder there: what was written here is not seen")


def _imported(sources: Mapping[str, str]) -> None:
    from trainables.models import custom

    for path, text in sources.items():
        custom.register(path, text)


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
    """Ask every node that is alive.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    from study.launch.cluster import joined

    with joined(address):
        return asked(storage)


def asked(storage: str, token: str | None = None, sources: Mapping[str, str] = MappingProxyType({})) -> list[Node]:
    """What every living node of the cluster that this process is connected to answers; see `look` for the arguments."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = _alive()
    task = ray.remote(num_cpus=0, max_calls=1)(_asking())  # in a process that ends with it: the user's files have been imported there
    seen = _looking(storage, token, sources)
    there = {node: NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes}
    answers = {node: task.options(scheduling_strategy=where).remote(PACKAGES, seen) for node, where in there.items()}
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER_SECONDS)
    found = {node: _answer(name, answers[node]) for node, name in nodes.items()}
    living = _alive()
    return [answer for node, answer in found.items() if node in living]


def _alive() -> dict[str, str]:
    """The names of the nodes by their ids."""
    import ray

    return {node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in ray.nodes() if node["Alive"]}


def _answer(name: str, reference: Any) -> Node:
    import ray

    try:
        found, seen = ray.get(reference, timeout=1)
    except Exception as error:
        late = isinstance(error, ray.exceptions.GetTimeoutError)
        why = f"no answer within {ANSWER_SECONDS:g} seconds" if late else f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return Node(name, {}, "unknown", why)
    if isinstance(seen, str):  # gaplab there could not be asked
        return Node(name, found, "unknown", seen)
    return Node(name, found, *seen)


def differing(nodes: Sequence[Node]) -> list[str]:
    """What is not as on this machine, in words."""
    here, same = versions(), _comparing()
    return [
        f"{node.name} has {name} {there}, not {here[name]}"
        for node in nodes
        for name, there in node.versions.items()
        if not same(name, there, here[name])
    ]


def check_nodes(storage: str, sources: Mapping[str, str], allow_mixed: bool) -> None:
    """See that every node of the cluster can do its part of a study, and that they all compute with the same versions.

    Args:
        storage: which exists.
        sources: text of the user's files by path.
        allow_mixed: other versions are warned of only; every record says which ones it was made with.

    Raises:
        NodesError: that is not so.
    """
    filesystem, path = open_store(storage)
    token = f".nodes-{uuid.uuid4().hex[:12]}"
    with filesystem.open_output_stream(f"{path}/{token}") as stream:
        stream.write(b"gaplab")
    try:
        nodes = asked(storage, token, sources)
    finally:
        with suppress(OSError):
            filesystem.delete_file(f"{path}/{token}")
    mixed = [*_submitted_elsewhere(), *differing(nodes)]
    unable = [f"{node.name} cannot write {storage}: {node.unwritable}" for node in nodes if node.unwritable]
    unable += [f"{node.name} cannot import the study's files: {node.unimportable}" for node in nodes if node.unimportable]
    if mixed and not allow_mixed:
        sentence = "the cluster's versions are not those of this driver: install the same on all nodes, or say --allow-mixed"
        raise NodesError(sentence, [*mixed, *unable])
    if unable:
        raise NodesError(f"{len(unable)} of {len(nodes)} nodes of the cluster cannot take part", unable)
    if mixed:
        warnings.warn(f"versions are mixed, as allowed: {'; '.join(mixed)}", stacklevel=2)


def _submitted_elsewhere() -> list[str]:
    """A sentence if a job was submitted by another gaplab than this one; empty if it was not."""
    here, there = versions()["gaplab"], os.environ.get(SUBMITTED_WITH)
    return [f"who submitted the job has gaplab {there}, not {here}"] if there not in (None, here) else []
