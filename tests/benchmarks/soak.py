"""A study under random kills of its driver and workers and a tracking server that comes and goes; then compared with calm.

    python -m tests.benchmarks.soak --points 2000 --faults 40 --output tests/benchmarks/results/soak.json

Every fault is real: SIGKILL for drivers and workers, an `mlflow server` on loopback that is killed and started again.
What is compared: every column of every record but those that tell of the run, and every run of MLflow with its record.
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
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import analysis
import study
from study.records import fragments, read_fragments
from tests.study.worker_processes import MARK, workers
from trainables.config import flatten

OWNER = f"soak {os.getpid()}"
OWN_RUN = ("seconds", "finished", "host", "git_commit")
WIDTHS = (2, 3, 4, 6, 8, 12, 16, 24)
RUN = "import sys; from study.cli import main; sys.argv[0] = 'gaplab'; main()"


def spec_text(points: int, workers: int) -> str:
    """A study of so many small points: widths times two corruption levels times seeds."""
    seeds = -(-points // (2 * len(WIDTHS)))
    return json.dumps(
        {
            "study": "soak",
            "trial": {
                "data": {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 300},
                "budget": {"epochs": 10, "evaluate_every": 10, "stop_at_train_error": None},
            },
            "space": {"model.width": {"values": list(WIDTHS)}, "corruption.level": {"values": [0.0, 1.0]}, "seed": {"range": seeds}},
            "resources": {"workers": workers},
        }
    )


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
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

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


def run_to_the_end(folder: Path, storage: str, uri: str, deadline: float) -> float:
    """Run the study undisturbed, or what is left of it; seconds."""
    started = time.monotonic()
    with (folder / "driver.log").open("ab") as log:
        subprocess.run(_command(folder, storage, uri), stdout=log, stderr=log, check=True, timeout=deadline)
    return time.monotonic() - started


def _command(folder: Path, storage: str, uri: str) -> list[str]:
    return [sys.executable, "-c", RUN, "run", str(folder / "spec.yaml"), "--storage", storage, "--tracking-uri", uri]


def torture(folder: Path, storage: str, server: Server, faults: int, points: int, dice: random.Random) -> tuple[Counter[str], float]:
    """Keep a driver running and inject faults at random moments until they are used up; their counts, and seconds."""
    injected: Counter[str] = Counter()
    driver: subprocess.Popen[bytes] | None = None
    started = time.monotonic()
    root = f"{storage}/soak"
    while sum(injected.values()) < faults and _recorded(root) < points:
        if driver is None or driver.poll() is not None:
            if driver is not None and driver.returncode == 0:
                break
            server.settle()  # a driver refuses to start without the server that it was given
            with (folder / "driver.log").open("ab") as log:
                driver = subprocess.Popen(_command(folder, storage, server.uri), stdout=log, stderr=log, start_new_session=True)
            _await_workers(driver)
        time.sleep(dice.uniform(0.5, 3.0))
        fault = dice.choices(("driver", "worker", "server"), weights=(2, 5, 3))[0]
        if fault == "server":
            server.flap()
        elif fault == "worker":
            victims = workers(OWNER)
            if not victims:
                continue
            with suppress(ProcessLookupError):
                os.kill(dice.choice(victims), signal.SIGKILL)
        else:
            with suppress(ProcessLookupError):
                os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
        injected[fault] += 1
    if driver and driver.poll() is None:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        injected["driver"] += 1
    return injected, time.monotonic() - started


def _recorded(root: str) -> int:
    """Rows recorded so far; torture ends when there is nothing left to disturb."""
    return sum(1 for _ in fragments(root)) and read_fragments(root, fragments(root), ["key"]).num_rows


def _await_workers(driver: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if workers(OWNER) or driver.poll() is not None:
            return
        time.sleep(0.2)


def table(root: str) -> list[dict[str, Any]]:
    return analysis.load(root).drop_columns(OWN_RUN).sort_by("key").to_pylist()


def rows_written(root: str) -> Counter[str]:
    """key -> how often it has been recorded as completed."""
    rows = read_fragments(root, fragments(root), ["key", "status"])
    return Counter(key for key, status in zip(rows["key"].to_pylist(), rows["status"].to_pylist(), strict=True) if status != "failed")


def mirror_differences(uri: str, rows: list[dict[str, Any]]) -> int:
    """Records without exactly one finished run of MLflow that has their errors."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("soak")
    runs: dict[str, list[Any]] = {}
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], "tags.`gaplab.kind` = 'point'", max_results=1000, page_token=token)
        for one in page:
            runs.setdefault(one.data.tags["gaplab.key"], []).append(one)
        token = page.token
        if not token:
            break
    wrong = len(runs.keys() - {row["key"] for row in rows})
    for row in rows:
        found = runs.get(row["key"], [])
        same = len(found) == 1 and all(found[0].data.metrics.get(name) == row[name] for name in ("train_error", "test_error", "train_loss"))
        wrong += not same
    return wrong


def main() -> None:
    """Run both studies, compare, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for a run without faults")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    os.environ[MARK] = OWNER
    with TemporaryDirectory(prefix="gaplab-soak-") as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(spec_text(asked.points, asked.workers))
        points = len({json.dumps(flatten(point), sort_keys=True) for point in _declared(folder)})
        server = Server(folder)
        try:
            calm = run_to_the_end(folder, f"{folder}/calm", f"sqlite:///{folder}/calm.db", asked.timeout)
            injected, disturbed = torture(folder, f"{folder}/soak", server, asked.faults, points, random.Random(asked.seed))
            server.settle()
            last = run_to_the_end(folder, f"{folder}/soak", server.uri, asked.timeout)
            expected, found = table(f"{folder}/calm/soak"), table(f"{folder}/soak/soak")
            written = rows_written(f"{folder}/soak/soak")
            figures = {
                "points": points,
                "faults": dict(injected),
                "points lost": len({row["key"] for row in expected} - {row["key"] for row in found}),
                "points recorded twice": sum(count - 1 for count in written.values()),
                "rows that differ": sum(a != b for a, b in zip(expected, found, strict=False)) + abs(len(expected) - len(found)),
                "records unlike MLflow": mirror_differences(server.uri, found),
                "seconds undisturbed": round(calm, 1),
                "seconds with faults": round(disturbed + last, 1),
            }
        finally:
            server.kill()
    print(json.dumps(figures, indent=2))
    if asked.output:
        asked.output.write_text(json.dumps(figures, indent=2) + "\n")
    bad = ("points lost", "rows that differ", "records unlike MLflow")
    sys.exit(any(figures[name] for name in bad))


def _declared(folder: Path) -> list[Any]:
    from study.plan import declared_points

    return [point.config for point in declared_points(study.read_spec(folder / "spec.yaml"))]


if __name__ == "__main__":
    main()
