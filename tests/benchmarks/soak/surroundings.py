"""What the studies of a soak lean on, each of which can be made to fail: nodes, a tracking server, an object store, drivers."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import requests
from ray.cluster_utils import Cluster

from tests.benchmarks.soak.proxy import Proxy
from tests.ports import free_port

RUN = "import sys; from study.cli.app import main; sys.argv[0] = 'gaplab'; main()"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_EC2_METADATA_DISABLED": "true"}
BUCKET = "bucket"


class Nodes:
    """A Ray cluster on this machine: a head that trains nothing, and nodes of one CPU, which can be killed and replaced."""

    def __init__(self, count: int) -> None:
        patience = {"health_check_initial_delay_ms": 120_000, "health_check_timeout_ms": 120_000}  # a busy machine is not a dead one
        self._cluster = Cluster()
        self._add(num_cpus=0, include_dashboard=False, _system_config=patience)
        for _ in range(count):
            self._add(num_cpus=1)
        self.address = self._cluster.address

    def replace_one(self, dice: random.Random) -> None:
        self._cluster.remove_node(self._one(dice), allow_graceful=False)
        self._add(num_cpus=1)

    def raylet(self, dice: random.Random) -> int:
        """The process of some node's raylet."""
        return int(self._one(dice).all_processes["raylet"][0].process.pid)

    def _one(self, dice: random.Random) -> Any:
        return dice.choice(sorted(self._cluster.worker_nodes, key=lambda node: str(node.node_id)))

    def _add(self, **options: Any) -> None:
        """Ray gives a node half a minute to start, which on a busy machine it may need several times."""
        for _ in range(20):
            with suppress(Exception):
                self._cluster.add_node(**options)
                return
        raise RuntimeError("no node could be started")

    def shutdown(self) -> None:
        self._cluster.shutdown()


class Server:
    """An MLflow server on loopback, over one SQLite database, behind a proxy; both can be made to fail."""

    def __init__(self, folder: Path) -> None:
        self._port, self._folder = free_port(), folder
        self.database = folder / "mlflow.db"
        self.proxy = Proxy(self._port, only="/api/")
        self.uri = f"http://127.0.0.1:{self.proxy.port}"
        self.own_uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.settle()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.database}"]
        lean = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0, env=lean)

    @property
    def is_up(self) -> bool:
        return self._process is not None

    def wait(self) -> None:
        for _ in range(1500):
            with suppress(requests.RequestException):
                if requests.get(f"{self.own_uri}/health", timeout=2).ok:
                    return
            time.sleep(0.2)
        raise RuntimeError(f"the MLflow server did not start: see {self._folder}/server.log")

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        if self._process:
            self._process.wait()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def lock(self, seconds: float) -> None:
        """Hold the database as a writer does that never ends."""
        with sqlite3.connect(self.database, isolation_level=None, timeout=30) as locker, suppress(sqlite3.OperationalError):
            locker.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            locker.execute("COMMIT")

    def lose_database(self) -> None:
        """Remove it under the server, which starts again with an empty one."""
        self.kill()
        for file in self._folder.glob(f"{self.database.name}*"):
            file.unlink()
        self.settle()

    def settle(self) -> None:
        if not self._process:
            self.start()
        self.wait()


class ObjectStore:
    """An S3 server on loopback, in a process of its own, behind a proxy."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        with (folder / "s3.log").open("ab") as log:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0)
        self.proxy = Proxy(port)
        self.client: Any = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1")
        for _ in range(300):
            with suppress(Exception):
                self.client.create_bucket(Bucket=BUCKET)
                break
            time.sleep(0.2)
        self._options = "scheme=http&region=us-east-1"
        self.storage = f"s3://{BUCKET}/results?endpoint_override=127.0.0.1:{self.proxy.port}&{self._options}"
        self.own_storage = f"s3://{BUCKET}/results?endpoint_override=127.0.0.1:{port}&{self._options}"

    def files(self) -> list[str]:
        """The Parquet files that count."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        names = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return [name for name in names if name.endswith(".parquet") and "/quarantine/" not in name]

    def flip(self, name: str, dice: random.Random) -> None:
        raw = bytearray(self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read())
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        self.client.put_object(Bucket=BUCKET, Key=name, Body=bytes(raw))

    def kill(self) -> None:
        self.proxy.close()
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Study:
    """A study of the soak: its spec as a file, and where its results go."""

    name: str
    spec: Path
    storage: str

    @property
    def root(self) -> str:
        folder, mark, options = self.storage.partition("?")
        return f"{folder}/{self.name}{mark}{options}"

    @property
    def folder(self) -> Path | None:
        """Of its results, if that is local."""
        return None if "://" in self.storage else Path(self.root)


@dataclass(frozen=True)
class Command:
    """gaplab's command line, in processes that can be killed."""

    folder: Path
    address: str

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "driver.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-c", RUN, *arguments], stdout=log, stderr=log, process_group=0, cwd=self.folder)

    def run(self, study: Study, uri: str) -> subprocess.Popen[bytes]:
        options = ["--address", self.address, "--storage", study.storage, "--tracking-uri", uri]
        return self.start("run", str(study.spec), *options)

    def answer(self, *arguments: str, timeout: float) -> tuple[int | None, str]:
        """Exit code and what was said; no code if it did not end in time, and was ended."""
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0, cwd=self.folder
        )
        try:
            said, _ = process.communicate(timeout=timeout)
            return process.returncode, said.decode(errors="replace")
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            return None, said.decode(errors="replace")
