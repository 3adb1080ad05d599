"""Ray, found or started: where the workers of a study run."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, cast

from trainables.engines.speed import Speed, measure
from trainables.point.config import ConfigError
from trainables.reproducibility import keep_bits

if TYPE_CHECKING:
    from study.spec.reading import Resources

GROWTH_SECONDS = 600.0
"""How long a cluster that has no room for a worker yet is given to start one."""


def bundles(resources: Resources) -> list[dict[str, float]]:
    """What Ray reserves for a worker; if it has processes, a CPU for itself and then what each of them takes."""
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": (resources.memory_gib or 0) * 2**30}
    if resources.accelerator:
        wanted[f"accelerator_type:{resources.accelerator}"] = 0.001
    each = {name: amount for name, amount in wanted.items() if amount}
    return [{"CPU": 1.0}, *[each] * resources.processes] if resources.processes else [each]


def start(resources: Resources) -> None:
    """Start Ray on this machine, quiet, with room for the workers; their processes load what training needs meanwhile."""
    import ray

    _set_environment()
    cpus = sum(part["CPU"] for part in bundles(resources))
    wanted = resources.workers or max(1, int((os.cpu_count() or 1) / cpus))
    ray.init(
        address="local",  # not the cluster of RAY_ADDRESS, which --address names if it is wanted
        num_cpus=math.ceil(wanted * cpus),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


class EarlyStart:
    """Ray starting in the background, while a long plan is made: `begin` it, and give it to `connected`.

    As a context it ends the Ray that nobody connected to.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._started: Future[None] | None = None
        self._over = threading.Event()

    def begin(self) -> None:
        """Start, unless that was done, or this process has a Ray already."""
        import ray

        if self._started is None and not ray.is_initialized():
            self._started = Future()
            threading.Thread(target=self._start, args=(self._started,), name="early start of Ray", daemon=True).start()

    def _start(self, started: Future[None]) -> None:
        try:
            start(self._resources)
        except Exception as error:
            started.set_exception(error)
        else:
            started.set_result(None)
        self._over.wait()  # Ray's processes end with the thread that has started them

    def joined(self) -> bool:
        """Wait for it; whether Ray was started here."""
        if self._started is None:
            return False
        self._started.result()
        return True

    def __enter__(self) -> EarlyStart:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._started is not None and self._started.exception() is None:
            import ray  # not before: Ctrl-C may have broken off the import in `begin`

            ray.shutdown()  # does nothing if `connected` has done it
        self._over.set()


@contextmanager
def connected(resources: Resources, address: str | None, early: EarlyStart | None = None) -> Iterator[int]:
    """A connection to Ray, quiet; gives the number of workers that fit, or may in time.

    Without an address, Ray is started on this machine, unless it was started early, and ends with the connection. A process
    that is connected already stays so. A cluster at an address may have no worker yet: its autoscaler is asked for one.

    Raises:
        ConfigError: no cluster answers at the address, this process is connected to another, or no worker fits.
    """
    import ray

    _set_environment()
    ours = (early is not None and early.joined()) or not ray.is_initialized()
    if address is not None:
        _join(address)
    elif not ray.is_initialized():
        start(resources)
    here = _processes_as_they_are() if ours and address is None else nullcontext()
    if threading.current_thread() is threading.main_thread():
        stop = signal.getsignal(signal.SIGINT)  # SIGTERM comes from Slurm, Kubernetes, `ray job stop`: stop as for Ctrl-C
        signal.signal(signal.SIGTERM, stop if callable(stop) else signal.default_int_handler)
    for name in ("ray.tune", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        if address is not None:
            _grow(resources)
        fits = _fitting(resources, ray.cluster_resources())
        with here:
            yield (resources.workers or fits) if address else fits  # what does not fit yet may come
        if ours:
            gc.collect()  # Tune's cycles hold actors: let go by Ray's own collecting thread beside the shutdown, they may end the process
    finally:
        if ours:
            ray.shutdown()


def worker_speed(resources: Resources) -> Speed:
    """Of a worker: a GPU's is measured where Ray finds one, a core's here."""
    if not resources.gpus:
        return measure("cpu")
    import ray

    return cast("Speed", ray.get(ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(measure).remote()))


def _set_environment() -> None:
    keep_bits()  # for the workers that Ray starts on this machine
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no five files a trial: records are the results
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C reaches us as KeyboardInterrupt
        "RAY_AIR_NEW_OUTPUT": "0",  # verbose=0 is silent only with the old output
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a worker stays in the folder that the study was started in
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_preload_python_modules": "trainables.tune,trainables.engines.compiled",  # by the worker processes that Ray has ready
    }


@contextmanager
def _processes_as_they_are() -> Iterator[None]:
    """Have Tune's workers be processes that Ray has ready, which saves 2 s at the start of a study.

    Tune asks for environment variables, for which Ray would start processes anew. Those on this machine have ours anyway,
    and one more that is for PyTorch Lightning.
    """
    from ray.tune.execution import class_cache

    asked = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = asked


def _join(address: str) -> None:
    """Connect, unless this process is connected to that cluster already."""
    import ray

    if ray.is_initialized():
        there = ray.get_runtime_context().gcs_address
        if address != "auto" and not address.startswith("ray://") and _resolved(address) != _resolved(there):
            raise ConfigError(f"--address: {address} is not the Ray cluster that this process is connected to ({there})")
        return
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--address: no Ray cluster answers at {address} ({str(error).splitlines()[0]})") from None


@contextmanager
def joined(address: str) -> Iterator[None]:
    """A connection to the cluster at the address, whatever it has; a process that is connected already stays so.

    Raises:
        ConfigError: no cluster answers, or this process is connected to another.
    """
    import ray

    ours = not ray.is_initialized()
    _join(address)
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def _resolved(address: str) -> tuple[str, str]:
    """The address's number, by which Ray knows the machine, and the port."""
    from ray.util import get_node_ip_address

    host, _, port = address.rpartition(":")
    with suppress(OSError):
        host = socket.gethostbyname(host)
    return get_node_ip_address() if host.startswith("127.") else host, port


def _knock(address: str) -> None:
    """Raise OSError now if nothing listens at HOST:PORT: Ray itself would ask again for a quarter of an hour."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _grow(resources: Resources) -> None:
    """Ask for a worker where none fits yet, and wait until one does, or it is too late."""
    import ray
    from ray.autoscaler.sdk import request_resources

    if _fits(resources, ray.cluster_resources()):
        return
    warnings.warn(f"no worker fits the cluster as it is: waiting up to {GROWTH_SECONDS / 60:g} minutes for it to grow", stacklevel=3)
    request_resources(bundles=bundles(resources))
    patience = time.monotonic() + GROWTH_SECONDS
    while time.monotonic() < patience and not _fits(resources, ray.cluster_resources()):
        time.sleep(1)
    request_resources(bundles=[])  # packs ask for themselves


def _fits(resources: Resources, available: Mapping[str, float]) -> int:
    """How many workers fit at once."""
    whole: Counter[str] = sum(map(Counter, bundles(resources)), Counter())
    return min(int(available.get(name, 0) / amount + 1e-9) for name, amount in whole.items())


def _fitting(resources: Resources, available: Mapping[str, float]) -> int:
    """How many workers fit at once, at most as many as wanted."""
    if fits := _fits(resources, available):
        return min(fits, resources.workers or fits)
    several = f"a CPU and {resources.processes} times " if resources.processes else ""
    wanted = [f"{several}{resources.cpus:g} CPUs and {resources.gpus:g} GPUs"]
    found = [f"{available.get('CPU', 0):g} and {available.get('GPU', 0):g}"]
    if resources.memory_gib:
        wanted.append(f"{resources.memory_gib:g} GiB")
        found.append(f"{available.get('memory', 0) / 2**30:.1f} GiB")
    if resources.accelerator:
        wanted.append(f"an accelerator {resources.accelerator}")
        found.append(", ".join(name.partition(":")[2] for name in available if name.startswith("accelerator_type:")) or "none")
    raise ConfigError(f"resources: a worker takes {', '.join(wanted)}, more than the cluster has ({', '.join(found)})")
