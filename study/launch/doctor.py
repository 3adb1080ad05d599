"""Whether this machine, or a cluster, is ready: one line a check, and a remedy where it is not. Nothing is left behind."""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from analysis.records.store import open_store
from study.launch.node_checks import Check, Needs, gpus, survey, table, write_and_remove
from trainables.point.config import Data
from trainables.reproducibility import MODE, VARIABLE, bits_mode, keep_bits

LEAST_PYTHON = (3, 11)
LEAST_FREE_GIB = 1.0
_FILES = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "svhn": "train_32x32.mat",
}
"""What torchvision keeps of each data set in the data folder."""


Finding = tuple[bool, str]
"""Whether it is good, and what was found."""
Look = tuple[str, Callable[[], Finding], str]
"""The name of a check, how to do it, and the remedy."""
_RAY_REMEDY = "see the logs in /tmp/ray/session_latest/logs; pip install --force-reinstall 'ray[tune]' if they do not help"
TASK_SECONDS = 300.0
"""How long Ray, once it has started, is given for a task: on a busy machine a process comes late."""


def checks(storage: str = "results", tracking_uri: str | None = None, address: str | None = None) -> Iterator[Check]:
    """Look at everything that a study needs, one after the other; what a check raises is its finding.

    Args:
        address: of a Ray cluster, whose every node is asked too.
    """
    looks: list[Look] = [
        ("python", _python, "install Python 3.11 or newer"),
        ("packages", _packages, "pip install --upgrade gaplab; in a checkout, make study"),
        ("gpu", gpus, "install the torch that fits the driver of the GPU"),
        ("bits", _bits, f"unset {VARIABLE}, or set it to {MODE} before Python starts"),
        *([] if address else [("ray", _ray, _RAY_REMEDY)]),
        ("storage", lambda: _storage(storage), "give another --storage"),
        ("disk", lambda: _disk(storage), f"free {LEAST_FREE_GIB:g} GiB, or give another --storage"),
        ("tracking", lambda: _tracking(storage, tracking_uri), "start the server, give another --tracking-uri, or tracking.mlflow: false"),
        ("data", _data, "pip install --force-reinstall scikit-learn"),
    ]
    for name, look, remedy in looks:
        if name == "storage" and address:
            yield from _nodes(address, storage)
        try:
            good, found = look()
        except Exception as error:
            good, found = False, _raised(error)
        yield Check(name, good, found, remedy)


def _python() -> Finding:
    major, minor, _ = platform.python_version_tuple()
    return (int(major), int(minor)) >= LEAST_PYTHON, platform.python_version()


def _packages() -> Finding:
    """Installed versions against the lower bounds of pyproject.toml, as pip keeps them with the package."""
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in requires("gaplab") or ()]
    needed = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    bad: list[str] = []
    for one in needed:
        try:
            found = version(one.name)
        except PackageNotFoundError:
            bad.append(f"{one.name} is missing")
            continue
        if not one.specifier.contains(found, prereleases=True):
            bad.append(f"{one.name} is {found}, not {one.specifier}")
    return not bad, ", ".join(bad) or f"{len(needed)} packages, of them torch {version('torch')}, ray {version('ray')}"


def _bits() -> Finding:
    """Whether results on this CPU are promised to the bit (see `trainables.reproducibility`)."""
    import torch

    keep_bits()
    if not torch.backends.mkl.is_available():
        return True, "promised to rounding only: this PyTorch has no MKL"
    mode = bits_mode()
    return mode is not None, f"a point has the same ones in every pack: {mode}" if mode else "they depend on where in memory numbers stand"


def _ray() -> Finding:
    """Start Ray as a study does, and run a task. What a busy machine does not get done says nothing about Ray."""
    import ray

    from study.launch.cluster import StartError, busy, connected
    from study.spec.sections import Resources

    started = time.monotonic()
    try:
        with connected(Resources(workers=1), None):
            answer = ray.get(ray.remote(num_cpus=1)(platform.python_version).remote(), timeout=TASK_SECONDS)
    except (StartError, ray.exceptions.GetTimeoutError) as error:
        if load := busy():
            said = "Ray was not there in time" if isinstance(error, StartError) else "Ray's task was not done in time"
            return True, f"could not be told: {said}, and {load}; look again when it has less to do"
        raise
    late = f", after {time.monotonic() - started:.0f} s: {load}" if (load := busy()) else ""
    return True, f"{version('ray')} starts and runs a task in Python {answer}{late}"


def _nodes(address: str, storage: str) -> list[Check]:
    """What a look at every node of a cluster finds: whether versions are as here, GPUs, whether it can write the storage."""
    try:
        return table(survey(address, storage), Needs(storage))
    except Exception as error:
        unreached, *others = table([], Needs(storage))
        return [replace(unreached, found=_raised(error)), *others]


def _raised(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _storage(storage: str) -> Finding:
    write_and_remove(storage)
    return True, f"{open_store(storage)[1]} can be written"


def _disk(storage: str) -> Finding:
    """Room where results lie and where Ray keeps its session."""
    free = {}
    for place in [tempfile.gettempdir()] if "://" in storage else [storage, tempfile.gettempdir()]:
        nearest = Path(place).expanduser().resolve()
        while not nearest.is_dir():
            nearest = nearest.parent
        free[nearest] = shutil.disk_usage(nearest).free / 2**30
    return min(free.values()) >= LEAST_FREE_GIB, ", ".join(f"{count:.1f} GiB free in {place}" for place, count in free.items())


def _tracking(storage: str, tracking_uri: str | None) -> Finding:
    from study.records.tracking.tracking_uri import check_reachable, default_tracking_uri

    if tracking_uri:
        check_reachable(tracking_uri)
        return True, "the server answers" if tracking_uri.startswith("http") else "the database opens"
    uri = default_tracking_uri(storage)
    if uri is None:
        return False, f"{storage} cannot hold MLflow's database"
    if Path(uri.removeprefix("sqlite:///")).exists():
        check_reachable(uri)
    return True, f"MLflow's database is {uri}"


def _data() -> Finding:
    """The bundled digits load; which of the other sets lie on this machine."""
    from trainables.data.sets.named import data_folder
    from trainables.data.sets.sources import load

    samples = len(load(Data(name="digits")).train_labels)
    folder = data_folder()
    present = [name for name, file in _FILES.items() if (folder / f"{name}.npz").is_file() or (folder / file).exists()]
    absent = [name for name in _FILES if name not in present]
    found = [f"digits is bundled ({samples:,} training samples)"]
    found += [f"{', '.join(present)} in {folder}"] if present else []
    found += [f"{', '.join(absent)} would be downloaded to {folder}"] if absent else []
    return True, "; ".join(found)
