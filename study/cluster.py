"""Ray, found or started: where the workers of a study run."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainables.config import ConfigError

if TYPE_CHECKING:
    from study.spec import Resources


@contextmanager
def connected(resources: Resources, address: str | None) -> Iterator[int]:
    """A connection to Ray, quiet; gives the number of workers that fit.

    Without an address, Ray is started on this machine and ends with the connection. A process that is connected already
    stays so.

    Raises:
        ConfigError: no cluster answers at the address, or no worker fits.
    """
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no five files a trial: records are the results
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C reaches us as KeyboardInterrupt
        "RAY_AIR_NEW_OUTPUT": "0",  # verbose=0 is silent only with the old output
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a worker stays in the folder that the study was started in
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    import ray

    ours = not ray.is_initialized()
    if ours and address is None:
        wanted = resources.workers or max(1, int((os.cpu_count() or 1) / resources.cpus))
        ray.init(
            address="local",  # not the cluster of RAY_ADDRESS, which --address names if it is wanted
            num_cpus=math.ceil(wanted * resources.cpus),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    elif ours:
        try:
            _knock(str(address))
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"--address: no Ray cluster answers at {address} ({str(error).splitlines()[0]})") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # from Slurm, Kubernetes, `ray job stop`: stop as for Ctrl-C
    for name in ("ray.tune", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield _fitting(resources, ray.cluster_resources())
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError now if nothing listens at HOST:PORT: Ray itself would ask again for a quarter of an hour."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _fitting(resources: Resources, available: Mapping[str, float]) -> int:
    """How many workers fit at once, at most as many as wanted."""
    by_cpu = int(available.get("CPU", 0) / resources.cpus)
    by_gpu = int(available.get("GPU", 0) / resources.gpus) if resources.gpus else by_cpu
    if min(by_cpu, by_gpu) < 1:
        raise ConfigError(
            f"resources: a worker takes {resources.cpus:g} CPUs and {resources.gpus:g} GPUs, more than the cluster has "
            f"({available.get('CPU', 0):g} and {available.get('GPU', 0):g})"
        )
    return min(by_cpu, by_gpu, resources.workers or by_cpu)
