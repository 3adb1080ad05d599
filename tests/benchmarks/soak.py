"""A study under random kills of drivers, workers and nodes and a tracking server that comes and goes; then compared with calm.

    python -m tests.benchmarks.soak --points 2000 --faults 80 --output tests/benchmarks/results/soak.json

Every fault is real: SIGKILL for drivers, workers and raylets (a new node joins for each that goes), an `mlflow server` on
loopback that is killed and started again. What is compared: every column of every record but those that tell of the run,
and every run of MLflow with its record.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ray.cluster_utils import Cluster

import analysis
import study
from analysis.records.fragments import fragments, read_fragments
from study.plan.points import declared_points
from tests.study.worker_processes import MARK, workers

OWNER = f"soak {os.getpid()}"
OWN_RUN = ("seconds", "finished", "host", "git_commit")
WIDTHS = tuple(range(2, 42))
FAULTS = {"driver": 3, "worker": 3, "node": 2, "server": 2}
"""What happens, and how often in proportion."""
RUN = "import sys; from study.cli.app import main; sys.argv[0] = 'gaplab'; main()"


def spec_text(points: int, nodes: int) -> str:
    """A study of so many small points: widths times two corruption levels times seeds."""
    seeds = -(-points // (2 * len(WIDTHS)))
    return json.dumps(
        {
            "study": "soak",
            "trial": {
                "data": {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 300},
                "budget": {"epochs": 500, "evaluate_every": 100, "stop_at_train_error": None},
            },
            "space": {"model.width": {"values": list(WIDTHS)}, "corruption.level": {"values": [0.0, 1.0]}, "seed": {"range": seeds}},
            "resources": {"workers": nodes},
        }
    )


class Nodes:
    """A Ray cluster on this machine: a head that trains nothing, and nodes of one CPU, which can be killed and replaced."""

    def __init__(self, count: int) -> None:
        patience = {"health_check_initial_delay_ms": 60_000, "health_check_timeout_ms": 60_000}  # a busy machine is not a dead one
        self._cluster = Cluster()
        self._add(num_cpus=0, include_dashboard=False, _system_config=patience)
        for _ in range(count):
            self._add(num_cpus=1)
        self.address = self._cluster.address

    def replace_one(self, dice: random.Random) -> None:
        self._cluster.remove_node(dice.choice(sorted(self._cluster.worker_nodes, key=lambda node: node.node_id)), allow_graceful=False)
        self._add(num_cpus=1)

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
    """An MLflow server on loopback, over one SQLite database, that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.wait()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        lean = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0, env=lean)

    def wait(self) -> None:
        import requests

        for _ in range(600):
            with suppress(requests.RequestException):
                if requests.get(f"{self.uri}/health", timeout=2).ok:
                    return
            time.sleep(0.2)
        raise RuntimeError(f"the MLflow server did not start: see {self._folder}/server.log")

    def kill(self) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def flap(self) -> None:
        """Down if it is up, up if it is down."""
        if self._process:
            self.kill()
        else:
            self.start()

    def settle(self) -> None:
        if not self._process:
            self.start()
        self.wait()


@dataclass(frozen=True)
class Driver:
    """The command that runs the study of a folder, as a process that can be killed."""

    folder: Path
    address: str

    def start(self, storage: str, uri: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", RUN, "run", str(self.folder / "spec.yaml"), "--address", self.address]
        command += ["--storage", f"{self.folder}/{storage}", "--tracking-uri", uri]
        with (self.folder / "driver.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, process_group=0)

    def run_to_the_end(self, storage: str, uri: str, deadline: float) -> float:
        """Run the study undisturbed, or what is left of it; seconds."""
        started = time.monotonic()
        driver = self.start(storage, uri)
        if driver.wait(timeout=deadline):
            raise RuntimeError(f"the driver ended with {driver.returncode}: {(self.folder / 'driver.log').read_text()[-2000:]}")
        return time.monotonic() - started


def torture(driver: Driver, server: Server, nodes: Nodes, faults: int, points: int, dice: random.Random) -> tuple[Counter[str], float]:
    """Keep a driver running and inject faults at random moments until they are used up; their counts, and seconds."""
    injected: Counter[str] = Counter()
    process: subprocess.Popen[bytes] | None = None
    started = time.monotonic()
    root = f"{driver.folder}/disturbed/soak"
    while injected.total() < faults and _recorded(root) < points:
        if process is None or process.poll() is not None:
            server.settle()  # a driver refuses to start without the server that it was given
            process = driver.start("disturbed", server.uri)
            _await_workers(process)
        time.sleep(dice.uniform(0.2, 8.0))
        fault = dice.choices(list(FAULTS), weights=list(FAULTS.values()))[0]
        if fault == "server":
            server.flap()
        elif fault == "node":
            nodes.replace_one(dice)
        else:
            victims = [process.pid] if fault == "driver" else workers(OWNER)
            if not victims or process.poll() is not None:
                continue
            with suppress(ProcessLookupError):
                os.kill(dice.choice(victims), signal.SIGKILL)
            if fault == "driver":
                process.wait()
        injected[fault] += 1
    if process and process.poll() is None:
        process.kill()
        process.wait()
        injected["driver"] += 1
    return injected, time.monotonic() - started


def _recorded(root: str) -> int:
    """Rows recorded so far; torture ends when there is nothing left to disturb."""
    return sum(1 for _ in fragments(root)) and read_fragments(root, fragments(root), ["key"]).num_rows


def _await_workers(driver: subprocess.Popen[bytes]) -> None:
    """Until the study trains, or its driver has ended; a kill in the second before is a fault as well, but a rarer one."""
    for _ in range(600):
        if workers(OWNER) or driver.poll() is not None:
            return
        time.sleep(0.2)


def table(root: str, **options: Any) -> list[dict[str, Any]]:
    return analysis.load(root, **options).drop_columns(OWN_RUN).sort_by("key").to_pylist()


def rows_written(root: str) -> Counter[str]:
    """key -> how often it has been recorded as completed."""
    rows = read_fragments(root, fragments(root), ["key", "status"])
    return Counter(key for key, status in zip(rows["key"].to_pylist(), rows["status"].to_pylist(), strict=True) if status != "failed")


def mirror_differences(uri: str, rows: list[dict[str, Any]]) -> int:
    """Records that MLflow tells otherwise in any column, or in no run, or in several."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("soak").experiment_id  # type: ignore[union-attr]
    runs: Counter[str] = Counter()
    token = None
    while True:
        page = client.search_runs([experiment], "tags.`gaplab.kind` = 'point'", max_results=1000, page_token=token)
        runs.update(run.data.tags["gaplab.key"] for run in page)
        token = page.token
        if not token:
            break
    mirrored = {row["key"]: row for row in table("mlflow:soak", tracking_uri=uri)}
    wrong = sum(runs[row["key"]] != 1 or mirrored.get(row["key"]) != row for row in rows)
    return wrong + len(runs.keys() - {row["key"] for row in rows})


def main() -> None:
    """Run both studies, compare, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for a run without faults")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    os.environ |= {MARK: OWNER, "RAY_memory_monitor_refresh_ms": "0"}  # what else fills the machine is no fault of this study
    with TemporaryDirectory(prefix="gaplab-soak-") as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(spec_text(asked.points, asked.nodes))
        points = len(declared_points(study.read_spec(folder / "spec.yaml")))
        with ExitStack() as ended:
            server = Server(folder)
            ended.callback(server.kill)
            nodes = Nodes(asked.nodes)
            ended.callback(nodes.shutdown)
            driver = Driver(folder, nodes.address)
            calm = driver.run_to_the_end("calm", f"sqlite:///{folder}/calm.db", asked.timeout)
            injected, disturbed = torture(driver, server, nodes, asked.faults, points, random.Random(asked.seed))
            left = points - len(rows_written(f"{folder}/disturbed/soak"))
            server.settle()
            last = driver.run_to_the_end("disturbed", server.uri, asked.timeout)
            expected, found = table(f"{folder}/calm/soak"), table(f"{folder}/disturbed/soak")
            written = rows_written(f"{folder}/disturbed/soak")
            figures = {
                "points": points,
                "nodes": asked.nodes,
                "faults": injected.total(),
                "drivers killed": injected["driver"],
                "workers killed": injected["worker"],
                "nodes killed": injected["node"],
                "server killed or started again": injected["server"],
                "points left after the last fault": left,
                "points lost": len({row["key"] for row in expected} - {row["key"] for row in found}),
                "points written twice, read once": sum(count - 1 for count in written.values()),
                "rows that differ": sum(a != b for a, b in zip(expected, found, strict=False)) + abs(len(expected) - len(found)),
                "records unlike MLflow": mirror_differences(server.uri, found),
                "seconds undisturbed": round(calm, 1),
                "seconds with faults": round(disturbed + last, 1),
            }
    print(json.dumps(figures, indent=2))
    if asked.output:
        asked.output.write_text(json.dumps(figures, indent=2) + "\n")
    bad = ("points lost", "rows that differ", "records unlike MLflow")
    sys.exit(any(figures[name] for name in bad))


if __name__ == "__main__":
    main()
