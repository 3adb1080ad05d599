"""MLflow as others run it, for tests and benchmarks: a PostgreSQL server and an MLflow server on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from tests.ports import free_port


def wait(condition: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"{what} ended"
        assert time.monotonic() < end, f"{what} did not start"
        time.sleep(0.1)


class Server:
    """A running `mlflow server` on loopback: its address, the database behind it, and its end."""

    def __init__(self, uri: str, backend: str, process: subprocess.Popen[bytes]) -> None:
        self.uri, self.backend, self._process = uri, backend, process

    def kill(self) -> None:
        """End it, workers included, in the middle of whatever it does."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        end(self._process)


@contextmanager
def running_server(backend: str, workers: int | None = 1, artifacts: Path | None = None) -> Iterator[Server]:
    """An `mlflow server`.

    Args:
        backend: the URI of its database.
        workers: processes that answer; as many as MLflow starts by itself if None.
        artifacts: where it keeps files.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(workers)] if workers else []
    command += ["--artifacts-destination", str(artifacts)] if artifacts else []
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    lean = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # seven processes for jobs of language models
    process = subprocess.Popen([*command, "--backend-store-uri", backend], env=lean, **quiet)
    uri = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return requests.get(f"{uri}/health", timeout=2).ok
        except requests.RequestException:
            return False

    server = Server(uri, backend, process)
    try:
        wait(answers, process, "the MLflow server")
        yield server
    finally:
        server.stop()


@contextmanager
def mlflow_server(backend: str, workers: int | None = 1) -> Iterator[str]:
    """The address of an `mlflow server` on loopback."""
    with running_server(backend, workers) as server:
        yield server.uri


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was told to end; on a busy machine that takes a while."""
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def programs() -> Path | None:
    """Where PostgreSQL's programs lie: Debian keeps a server's off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of an empty PostgreSQL database on loopback; `programs` must have found some."""
    where = programs()
    assert where is not None
    user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    folder, port = Path(tempfile.mkdtemp()), free_port()
    try:
        if user:
            shutil.chown(folder, "postgres")
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder} | user
        subprocess.run([where / "initdb", "-D", folder / "data", "-U", "me", "-A", "trust", "-E", "UTF8", "-N"], check=True, **quiet)
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
        process = subprocess.Popen([where / "postgres", "-D", folder / "data", "-p", str(port), *settings], **quiet)
        try:
            ready = [where / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
            wait(lambda: subprocess.run(ready, check=False, stdout=subprocess.DEVNULL).returncode == 0, process, "PostgreSQL")
            yield f"postgresql://me@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # at once: on SIGTERM it would wait for MLflow's pool of connections
            end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
