"""Drivers of studies, and Rays, as processes of their own (see `tests.forked_processes`): what can be killed, and often."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from tests.forked_processes import CONTEXT


def drive(written: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Run a study; the whole of such a process. It does not wait a minute for a cluster that has gone."""
    import study

    os.environ |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
    study.run(study.understand(written), **options)


def head(told: Connection) -> None:
    """Start Ray with a worker, tell its address, and keep it until this process is killed, which ends it with all of its own."""
    import ray

    from study.launch.cluster import connected
    from study.spec.sections import Resources

    with connected(Resources(workers=1), None):
        told.send(ray.get_runtime_context().gcs_address)
        time.sleep(3600)


def started_head() -> tuple[ForkServerProcess, str]:
    """A Ray that can be killed, and its address."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=head, args=(there,), daemon=True)
    process.start()
    return process, here.recv()


def started(written: Mapping[str, Any], **options: Any) -> ForkServerProcess:
    """A driver that runs a study, with the options of `study.run`."""
    driver = CONTEXT.Process(target=drive, args=(written, options), daemon=True)
    driver.start()
    return driver
