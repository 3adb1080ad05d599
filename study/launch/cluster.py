"""Ray, found or started: where the workers of a study run."""

from __future__ import annotations

import gc
import logging
import math
import os
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study import compat
from study.guest import environment, levels, signals_kept, stop_on_sigterm, unbroken
from study.packages import hidden_from_workers
from study.spec.labels import carries
from trainables.engines.speed import Speed, measure
from trainables.point.errors import ConfigError
from trainables.reproducibility import MODE, VARIABLE

if TYPE_CHECKING:
    from study.spec.sections import Resources

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no five files a trial: records are the results
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C reaches us as KeyboardInterrupt
    "RAY_AIR_NEW_OUTPUT": "0",  # verbose=0 is silent only with the old output
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a worker stays in the folder that the study was started in
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_preload_python_modules": compat.PRELOADED,
}
"""The environment of a study: read by Ray when it starts, by Tune while it runs."""
_PATIENT = {
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
    "RAY_gcs_server_request_timeout_seconds": "300",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_initial_delay_ms": "120000",
    "RAY_health_check_timeout_ms": "120000",
}
"""How long Ray waits for its own processes the second time: on a busy machine they come late."""
_NICENESS = "RAY_worker_niceness"
RESTART_SECONDS = 10.0
"""After which a Ray that did not start is started once more."""
_GCS = b"--gcs-address="
GROWTH_SECONDS = 600.0
"""How long a cluster that has no room for a worker yet is given to start one."""


def _environment() -> dict[str, str]:
    """The environment of a study, in which workers on this machine keep their bits unless the user asks MKL for something else.

    They have the priority that the study was started with, unless the user asks Ray for something else: its own 15 less leaves them a
    thirtieth of a core that others want too.
    """
    return _QUIET | {VARIABLE: os.environ.get(VARIABLE, MODE), _NICENESS: os.environ.get(_NICENESS, "0")}


def bundles(resources: Resources) -> list[dict[str, float]]:
    """What Ray reserves for a worker; if it has processes, a CPU for itself and then what each of them takes."""
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": (resources.memory_gib or 0) * 2**30}
    if resources.accelerator:
        wanted[f"accelerator_type:{resources.accelerator}"] = 0.001
    each = {name: amount for name, amount in wanted.items() if amount}
    return [{"CPU": 1.0}, *[each] * resources.processes] if resources.processes else [each]


def selectors(resources: Resources) -> list[dict[str, str]]:
    """Which nodes each of the `bundles` may be on, by their labels; none if it does not matter."""
    return [dict(resources.labels)] * len(bundles(resources)) if resources.labels else []


def workers_here(resources: Resources) -> int:
    """How many workers there are on a Ray that is started on this machine, if its GPUs suffice."""
    return resources.workers or max(1, int((os.cpu_count() or 1) / _cpus(resources)))


def _cpus(resources: Resources) -> float:
    """The CPUs of a worker and its processes."""
    return sum(part["CPU"] for part in bundles(resources))


def start(resources: Resources) -> None:
    """Start Ray on this machine, with room for the workers; their processes load what training needs meanwhile.

    `_environment` has to be in the environment. A Ray that was not there in time is given a second chance, and more time.

    Raises:
        StartError: it had none.
    """
    import ray

    cpus = math.ceil(workers_here(resources) * _cpus(resources))

    def once() -> None:
        ray.init(
            address="local",  # not the cluster of RAY_ADDRESS, which --address names if it is wanted
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )

    try:
        once()
    except Exception:  # Ray says by a bare Exception, a RuntimeError or a ValueError that its processes were not there in time
        ray.shutdown()
        time.sleep(RESTART_SECONDS)
        try:
            with environment(_PATIENT):
                once()
        except Exception as error:
            ray.shutdown()
            raise StartError(_not_started(error)) from error


class StartError(ConfigError):
    """Ray could not be started on this machine, also not the second time."""


def _not_started(error: Exception) -> str:
    """The sentence of a StartError."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    load = busy()
    return f"Ray did not start, twice ({said.rstrip('.')})" + (f"; {load}: try again when it has less to do" if load else "")


def busy() -> str | None:
    """How much more this machine has to do than it can, in words; None if it keeps up."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return f"this machine is busy ({load:.0f} processes want its {cores} cores)" if load > 1.5 * cores else None


class LocalRay:
    """Ray on this machine, started beside the main thread: Ctrl-C in the midst of its start would be a crash.

    It may `begin` before `connected` waits for it, while a long plan is made. As a context it ends what it has started.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._started: Future[None] = Future()
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._kept = ExitStack()

    @property
    def begun(self) -> bool:
        return self._thread is not None

    def begin(self) -> None:
        """Start, unless that was done, or this process has a Ray already."""
        import ray

        if self._thread is None and not ray.is_initialized():
            self._kept.enter_context(environment(_environment()))
            self._kept.enter_context(levels({"ray": logging.ERROR}))
            self._thread = threading.Thread(target=self._start, name="start of Ray", daemon=True)
            self._thread.start()

    def _start(self) -> None:
        try:
            start(self._resources)
        except Exception as error:
            self._started.set_exception(error)
        else:
            self._started.set_result(None)
        self._over.wait()  # Ray's processes end with the thread that has started them

    def join(self) -> None:
        """Wait until Ray is there, if it was begun; StartError if it could not be started."""
        if self.begun:
            self._started.result()

    def __enter__(self) -> LocalRay:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._thread is not None and self._thread.ident is not None:  # Ctrl-C may have come before it ran
            if self._started.exception() is None:
                import ray  # not before: Ctrl-C may have broken off the import in `begin`

                ray.shutdown()  # does nothing if `connected` has done it
            self._over.set()
            self._thread.join()
        self._kept.close()


@contextmanager
def connected(resources: Resources, address: str | None, local: LocalRay | None = None) -> Iterator[int]:
    """A connection to Ray, quiet; gives the number of workers that fit, or may in time.

    Without an address, Ray is started on this machine, unless it was started early, and ends with the connection. A process
    that is connected already stays so. A cluster at an address may have no worker yet: its autoscaler is asked for one.

    Raises:
        ConfigError: no cluster answers at the address, this process is connected to another, or no worker fits.
    """
    import ray

    local = local or LocalRay(resources)
    ours = local.begun or not ray.is_initialized()
    quiet = {"ray.tune": logging.CRITICAL, "ray.air": logging.CRITICAL, **({"ray": logging.ERROR} if ours else {})}
    said = compat.without_rays_messages() if ours else nullcontext()
    if address is None and (not ours or not compat.preloads_modules()):
        _check_packages()
    with said, local:
        if address is None:
            local.begin()
        with environment(_environment()), levels(quiet), signals_kept():
            if address is not None:
                _join(address)
            local.join()
            here = compat.tune_takes_ready_processes() if ours and address is None else nullcontext()
            stop_on_sigterm()  # Ray has set its own handler
            try:
                if address is not None:
                    _grow(resources)
                fits = _fitting(resources, _offered(resources))
                with here:
                    yield (resources.workers or fits) if address else fits  # what does not fit yet may come
                if ours:  # Tune's cycles hold actors: let go by Ray's own collecting thread beside the shutdown, they may end the process
                    gc.collect()
            finally:
                if ours:
                    ray.shutdown()


def worker_speed(resources: Resources) -> Speed:
    """The speed of a worker: a GPU's is measured where Ray finds one, a core's here."""
    if not resources.gpus:
        return measure("cpu")
    import ray

    gpus = resources.gpus

    def measured() -> Speed:
        return measure(fraction=gpus)

    where: dict[str, Any] = {"label_selector": dict(resources.labels)} if resources.labels else {}
    speed: Speed = ray.get(ray.remote(num_cpus=resources.cpus, num_gpus=gpus, **where)(measured).remote())
    return speed


def unused_gpus(resources: Resources) -> str | None:
    """In a sentence, what GPUs there are that no worker would use, because the study asks for none."""
    found = 0 if resources.gpus else _cluster_resources().get("GPU", 0)
    if not found:
        return None
    there = "is a GPU" if found == 1 else f"are {found:g} GPUs"
    return f"there {there} that this study does not use: --set resources.gpus=1 trains a pack on each GPU, 0.25 four packs"


def _cluster_resources() -> dict[str, float]:
    """What all nodes have together."""
    import ray

    interface: Any = ray  # which has no types
    found: dict[str, float] = interface.cluster_resources()
    return found


def _offered(resources: Resources) -> dict[str, float]:
    """What all nodes have together on which workers may be."""
    import ray

    if not resources.labels:
        return _cluster_resources()
    interface: Any = ray  # which has no types
    fitting = (node["Resources"] for node in interface.nodes() if node["Alive"] and carries(node["Labels"], resources.labels))
    return dict(sum(map(Counter, fitting), Counter[str]()))


def _check_packages() -> None:
    """Raise ConfigError if workers would take something else here for gaplab's packages."""
    if hidden := hidden_from_workers():
        raise ConfigError(hidden)


def _join(address: str) -> None:
    """Connect, unless this process is connected to that cluster already."""
    import ray

    if not address.startswith("ray://"):  # Ray's client has no folder that its workers look in
        _check_packages()
    if ray.is_initialized():
        there = ray.get_runtime_context().gcs_address
        if address != "auto" and not address.startswith("ray://") and _resolved(address) != _resolved(there):
            raise ConfigError(f"--address: {address} is not the Ray cluster that this process is connected to ({there})")
        return
    address = (_of_this_job() or address) if address == "auto" else address
    try:
        _knock(address)
        unbroken(lambda: ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR))
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--address: no Ray cluster answers at {address} ({str(error).splitlines()[0]})") from None


def _of_this_job() -> str | None:
    """The cluster that has started this process as a job, by the command of its raylet, which is an ancestor; None if there is none.

    Ray itself tells a job of the Ray that was started last on the machine, whosever that is.
    """
    process = os.getppid()
    with suppress(OSError, ValueError):  # no /proc
        while process > 1:
            for part in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
                if part.startswith(_GCS):
                    return part.removeprefix(_GCS).decode()
            process = int(Path(f"/proc/{process}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[1])
    return None


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
    from ray import util

    interface: Any = util  # which has no types
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        host = socket.gethostbyname(host)
    return interface.get_node_ip_address() if host.startswith("127.") else host, port


def _knock(address: str) -> None:
    """Raise OSError now if nothing listens at HOST:PORT: Ray itself would ask again for a quarter of an hour."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _grow(resources: Resources) -> None:
    """Ask for a worker where none fits yet, and wait until one does, or it is too late."""
    from ray.autoscaler.sdk import request_resources

    if _fits(resources, _offered(resources)):
        return
    warnings.warn(f"no worker fits the cluster as it is: waiting up to {GROWTH_SECONDS / 60:g} minutes for it to grow", stacklevel=3)
    where: dict[str, Any] = {"bundle_label_selectors": selectors(resources)} if resources.labels else {}
    request_resources(bundles=bundles(resources), **where)
    patience = time.monotonic() + GROWTH_SECONDS
    while time.monotonic() < patience and not _fits(resources, _offered(resources)):
        time.sleep(1)
    request_resources(bundles=[])  # packs ask for themselves


def _fits(resources: Resources, available: Mapping[str, float]) -> int:
    """How many workers fit at once."""
    whole: Counter[str] = sum(map(Counter, bundles(resources)), Counter())
    return min(int(available.get(name, 0) / amount + 1e-9) for name, amount in whole.items())


def workers_now(resources: Resources) -> int:
    """How many workers fit the cluster as it is."""
    return _fits(resources, _offered(resources))


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
    if resources.labels:
        wanted.append("labels " + ", ".join(f"{name}: {value}" for name, value in resources.labels.items()))
        found.append("on nodes with these")
    raise ConfigError(f"resources: a worker takes {', '.join(wanted)}, more than the cluster has ({', '.join(found)})")
