"""What the nodes of a Ray cluster are like, each asked itself: their versions, their GPUs, whether they can write the storage."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.records.store import open_store
from study.launch.cluster import busy, joined
from trainables.point.errors import ConfigError

PACKAGES = ("gaplab", "torch", "ray", "numpy", "pyarrow", "optuna")
"""Must be the same everywhere: results and what travels between processes depend on them."""
ANSWER_SECONDS = 300.0
"""A node that has not answered by then takes no part; on a busy machine a process comes late."""
SUBMITTED_WITH = "GAPLAB_SUBMITTED_WITH"
"""The environment variable in which a job gets the version of the gaplab that submitted it."""


@dataclass(frozen=True)
class Check:
    """One line of a table: what was looked at, what was found, and what to do if it is not good."""

    name: str
    good: bool
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Node:
    """What a node answered.

    Attributes:
        name: its host's, and its address.
        versions: of Python and `PACKAGES`; a missing one is "missing".
        gpus: with their memory, in words.
        unwritable: why it cannot write the storage; None if it can.
        unimportable: why the user's files cannot be imported there; None if they can.
        lacking: folders of data that are read from their files, and are not there.
        late: whether it has not answered in time.
    """

    name: str
    versions: Mapping[str, str]
    gpus: str
    unwritable: str | None
    unimportable: str | None = None
    lacking: tuple[str, ...] = ()
    late: bool = False


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


@dataclass(frozen=True)
class Needs:
    """What a study needs of every node.

    Attributes:
        storage: that it can write.
        token: a file in the storage, written elsewhere, that has to be seen there.
        sources: text of the user's files by path, to be imported.
        folders: of data that are read from their files.
    """

    storage: str
    token: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()


def _looking(needs: Needs) -> Callable[[], Any]:
    """A function that asks gaplab, there, for what `look` finds; it travels by value too."""

    values = (needs.storage, needs.token, dict(needs.sources), needs.folders)

    def ask() -> Any:
        from study.launch.node_checks import Needs, look

        return look(Needs(*values))

    return ask


def look(needs: Needs) -> tuple[str, str | None, str | None, tuple[str, ...]]:
    """GPUs, why the storage cannot be written, why the user's files cannot be imported, and which folders are missing, where this runs."""
    lacking = tuple(folder for folder in needs.folders if not Path(folder).expanduser().is_dir())
    return gpus()[1], _raised(lambda: _seen_and_written(needs)), _raised(lambda: _imported(needs.sources)), lacking


def _raised(call: Callable[[], None]) -> str | None:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _seen_and_written(needs: Needs) -> None:
    write_and_remove(needs.storage)
    if needs.token is not None:
        filesystem, path = open_store(needs.storage)
        if not filesystem.get_file_info(f"{path}/{needs.token}").is_file:
            raise OSError("it is another folder there: what was written here is not seen")


def _imported(sources: Mapping[str, str]) -> None:
    from trainables.models import custom

    for path, text in sources.items():
        custom.register(path, text)


def gpus() -> tuple[bool, str]:
    """Whether the GPUs of this machine, if it has any, can be used; and which they are, with their free memory."""
    import torch

    from trainables.gpu_memory import processes_overlap

    if not torch.cuda.is_available():
        unused = Path("/proc/driver/nvidia/version").exists()
        return not unused, f"a GPU that torch {torch.__version__} cannot use" if unused else "none: points train on the CPU"
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(f"{torch.cuda.get_device_name(index)}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free")
    runs = "runs" if processes_overlap() else "does not run"
    return True, f"{'; '.join(found)}; the multi-process service {runs}"


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
    with joined(address):
        return asked(Needs(storage))


def asked(needs: Needs) -> list[Node]:
    """What every living node of the cluster that this process is connected to answers."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = _alive()
    task = ray.remote(num_cpus=0, max_calls=1)(_asking())  # in a process that ends with it: the user's files have been imported there
    seen = _looking(needs)
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
        return Node(name, {}, "unknown", why, late=late)
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


def table(nodes: Sequence[Node], needs: Needs) -> list[Check]:
    """What the nodes answered, a line for each of the things that a study needs of all of them."""
    answering = [node for node in nodes if node.versions]
    all_of_them = "the node that answers" if len(answering) == 1 else f"all {len(answering)} nodes that answer"
    silent = [f"{node.name}: {node.unwritable}" for node in nodes if not node.versions]
    load = busy() if silent and all(node.late for node in nodes if not node.versions) else None
    late = f" (which says little: {load}; look again when it has less to do)" if load else ""

    def check(name: str, bad: Sequence[str], fine: str, remedy: str) -> Check:
        return Check(name, bool(answering) and not bad, "; ".join(bad) or fine, remedy)

    unwritable = [f"{node.name}: {node.unwritable}" for node in answering if node.unwritable]
    if "://" not in needs.storage and not Path(needs.storage).is_absolute():
        unwritable.append(f"{needs.storage} is relative, and lies elsewhere on every node")
    lines = [
        Check(
            "nodes",
            bool(answering) and (not silent or load is not None),
            "; ".join(silent) + late or f"{len(answering)} nodes answer",
            "start the cluster, or correct --address; every node needs gaplab installed",
        ),
        check(
            "node versions",
            differing(answering),
            f"as here on {all_of_them}",
            "install the same versions on all nodes and here: pip install --constraint constraints.txt gaplab",
        ),
        check("node gpus", [], "; ".join(f"{node.name}: {node.gpus}" for node in answering), "see nodes"),
        check(
            "node storage",
            unwritable,
            f"{needs.storage} can be written from {all_of_them}",
            "give a --storage that every node can write: a bucket, or a folder that all of them mount",
        ),
    ]
    if needs.sources:
        bad = [f"{node.name}: {node.unimportable}" for node in answering if node.unimportable]
        lines.append(check("node imports", bad, f"{', '.join(needs.sources)} on {all_of_them}", "install there what the files import"))
    if needs.folders:
        bad = [f"{node.name} has no {folder}" for node in answering for folder in node.lacking]
        lines.append(
            check("node data", bad, f"{', '.join(needs.folders)} on {all_of_them}", "put the files at the same place on all nodes")
        )
    return lines


def check_nodes(needs: Needs, allow_mixed: bool) -> list[Check]:
    """See that every node of the cluster can do its part of a study, and that they all compute with the same versions.

    Args:
        needs: of the study, whose storage exists; it gets a token, so that nodes are seen to have the same one.
        allow_mixed: other versions are warned of only; every record says which ones it was made with.

    Returns:
        What was found, all of it good.

    Raises:
        NodesError: that is not so.
    """
    storage = needs.storage
    filesystem, path = open_store(storage)
    token = f".nodes-{uuid.uuid4().hex[:12]}"
    with filesystem.open_output_stream(f"{path}/{token}") as stream:
        stream.write(b"gaplab")
    try:
        nodes = asked(replace(needs, token=token))
    finally:
        with suppress(OSError):
            filesystem.delete_file(f"{path}/{token}")
    mixed = [*_submitted_elsewhere(), *differing(nodes)]
    unable = [f"{node.name} cannot write {storage}: {node.unwritable}" for node in nodes if node.unwritable]
    unable += [f"{node.name} cannot import the study's files: {node.unimportable}" for node in nodes if node.unimportable]
    unable += [f"{node.name} has no {folder}, where the data lie" for node in nodes for folder in node.lacking]
    if mixed and not allow_mixed:
        sentence = "the cluster's versions are not those of this driver: install the same on all nodes, or say --allow-mixed"
        raise NodesError(sentence, [*mixed, *unable])
    if unable:
        few = sum(bool(node.unwritable or node.unimportable or node.lacking) for node in nodes)
        raise NodesError(f"{few} of {len(nodes)} nodes of the cluster cannot take part", unable)
    if mixed:
        warnings.warn(f"versions are mixed, as allowed: {'; '.join(mixed)}", stacklevel=2)
    return [replace(line, good=True) if allow_mixed and line.name == "node versions" else line for line in table(nodes, needs)]


def _submitted_elsewhere() -> list[str]:
    """A sentence if a job was submitted by another gaplab than this one; empty if it was not."""
    here, there = versions()["gaplab"], os.environ.get(SUBMITTED_WITH)
    return [f"who submitted the job has gaplab {there}, not {here}"] if there not in (None, here) else []
