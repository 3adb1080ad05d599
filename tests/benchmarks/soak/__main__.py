"""Studies under faults of all kinds, then compared with a calm run of them.

    python -m tests.benchmarks.soak --points 3000 --faults 120 --folder /tmp/soak --output tests/benchmarks/results/soak.json

A grid on a disk, one on an object store (moto's server), and a search, all mirrored to one `mlflow server` over SQLite. Every
fault is real: SIGKILL and SIGSTOP for drivers, workers, nodes and the server, bits flipped in files, answers that are lost after
the server acted (see `faults.FAULTS`). Compared are every column of every record but those that tell of the run, curves, measures,
every run of MLflow with its record, and every trial of the search with its records. What was done stands in FOLDER: the same command
goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import study
from study.plan.points import declared_points
from tests.benchmarks.soak.comparison import compared, mirror_compared, search_compared, trained_anew
from tests.benchmarks.soak.faults import FAR, FAULTS, GRID, SEARCH, Torture
from tests.benchmarks.soak.surroundings import CREDENTIALS, Command, Nodes, ObjectStore, Server, Study
from tests.study.worker_processes import MARK
from trainables.reproducibility import keep_bits

MEASURES = ("l2_norm", "path_norm", "frobenius_distance")
"""The first from the beginning; the others are added on the way."""
LEVELS, FAR_WIDTHS = (0.0, 1.0), range(50, 54)
TRIAL: dict[str, Any] = {
    "data": {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 300, "validation_size": 60},
    "optimizer": {"learning_rate": 0.1},
    "budget": {"epochs": 100, "evaluate_every": 25, "stop_at_train_error": None},
}
HARMLESS = ("points", "trials", "rows written beyond the first")
"""Figures that need not be zero."""


def specs(points: int, measures: int) -> dict[str, dict[str, Any]]:
    """The studies: of so many points the object store has a tenth, and the search about as many."""
    far = max(1, points // 10 // (len(LEVELS) * len(FAR_WIDTHS)))
    searched = max(1, points // 20 // (len(LEVELS) * 2))
    widths = 40
    seeds = -(-(points - far * len(LEVELS) * len(FAR_WIDTHS) - searched * len(LEVELS) * 2) // (len(LEVELS) * widths))
    level = {"corruption.level": {"values": list(LEVELS)}}
    grid = level | {"model.width": {"values": list(range(2, 2 + widths))}, "seed": {"range": seeds}}
    axes = {
        "optimizer.learning_rate": {"log_uniform": {"low": 1e-3, "high": 1.0}},
        "regularizers.label_smoothing": {"uniform": {"low": 0, "high": 0.4}},
    }
    search = {"kind": "optuna", "trials": searched, "at_once": 4, "ablation_seeds": 2}
    both = {"trial": TRIAL, "resources": {"workers": 2}}
    return {
        GRID: both | {"study": GRID, "space": grid, "measures": list(MEASURES[:measures])},
        FAR: both | {"study": FAR, "space": level | {"model.width": {"values": list(FAR_WIDTHS)}, "seed": {"range": far}}},
        SEARCH: both | {"study": SEARCH, "space": level | axes, "replicates": 2, "search": search},
    }


class State:
    """What a soak has done, in a file: it goes on from there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.kept: dict[str, Any] = (
            json.loads(path.read_text()) if path.exists() else {"faults": {}, "measures": 1, "seconds": {}, "broken": []}
        )

    def keep(self) -> None:
        self._path.write_text(json.dumps(self.kept))

    @property
    def faults(self) -> Counter[str]:
        return Counter(self.kept["faults"])

    def add_seconds(self, name: str, seconds: float) -> None:
        self.kept["seconds"][name] = self.kept["seconds"].get(name, 0.0) + seconds
        self.keep()


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


def run_calmly(command: Command, some: Study, uri: str, patience: float) -> float:
    """Run a study to its end without any fault; seconds."""
    started = time.monotonic()
    process = command.run(some, uri)
    if process.wait(timeout=patience):
        raise RuntimeError(
            f"the driver ended with {process.returncode}: {(command.folder / 'driver.log').read_text(errors='replace')[-3000:]}"
        )
    say(f"{some.name} ran calmly in {time.monotonic() - started:.0f} s")
    return time.monotonic() - started


def torture(at: Torture, state: State, faults: int) -> None:
    """Keep a driver running and let things happen at random moments until there were enough of them.

    What could not happen just now waits until something else has: else a study that it stops again and again would never get there.
    """
    started, waiting = time.monotonic(), set[str]()
    while (done := state.faults).total() < faults:
        at.keep_running()
        time.sleep(at.dice.uniform(0.2, 3.0))
        possible = {fault: weight for fault, weight in FAULTS.items() if fault.__name__ not in waiting} or FAULTS
        fewest = min(done[fault.__name__] / weight for fault, weight in possible.items())
        due = {fault: weight for fault, weight in possible.items() if done[fault.__name__] / weight < fewest + 0.5}
        fault = at.dice.choices(list(due), list(due.values()))[0]
        waiting.add(fault.__name__)
        if fault(at):
            waiting.clear()
            done[fault.__name__] += 1
            state.kept["faults"], state.kept["broken"] = dict(done), at.broken
            state.add_seconds("with faults", time.monotonic() - started)
            started = time.monotonic()
            say(f"{done.total()} {fault.__name__} ({at.study.name if at.study else 'nothing'} runs)")
    at.kill_driver()
    at.server.proxy.calm()
    at.store.proxy.calm()


def main() -> None:
    """Run everything, compare, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=3000)
    parser.add_argument("--faults", type=int, default=120)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=7200, help="seconds for a run without faults")
    parser.add_argument("--folder", type=Path, required=True, help="where everything lies")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    keep_bits()  # as workers do: what is trained anew here is compared with theirs
    folder: Path = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    owner = f"soak {os.getpid()}"
    busy = {"RAY_memory_monitor_refresh_ms": "0", "RAY_worker_niceness": "0"}  # what else fills the machine is no fault of a study
    os.environ |= {MARK: owner, **busy, **CREDENTIALS}
    state = State(folder / "state.json")

    def write_specs() -> None:
        for name, spec in specs(asked.points, state.kept["measures"]).items():
            (folder / f"{name}.yaml").write_text(json.dumps(spec))

    def add_measure() -> bool:
        if state.kept["measures"] == len(MEASURES):
            return False
        state.kept["measures"] += 1
        state.keep()
        write_specs()
        return True

    write_specs()
    with ExitStack() as ended:
        server = Server(folder)
        ended.callback(server.kill)
        store = ObjectStore(folder)
        ended.callback(store.kill)
        nodes = Nodes(asked.nodes)
        ended.callback(nodes.shutdown)
        say("everything stands")
        studies = {name: Study(name, folder / f"{name}.yaml", str(folder / "disturbed")) for name in (GRID, SEARCH)}
        studies[FAR] = Study(FAR, folder / f"{FAR}.yaml", store.storage)
        command = Command(folder, nodes.address)
        calm = _calm(folder, command, state, asked.points, asked.patience)
        dice = random.Random(asked.seed + state.faults.total())
        at = Torture(folder, owner, server, store, nodes, command, studies, dice, add_measure, broken=state.kept["broken"])
        ended.callback(at.kill_driver)
        torture(at, state, asked.faults)
        while add_measure():
            pass
        server.settle()
        for one in studies.values():
            state.add_seconds("with faults", run_calmly(command, one, server.uri, asked.patience))
        figures = _figures(folder, state, studies | {FAR: Study(FAR, folder, store.own_storage)}, calm, server)
    print(json.dumps(figures, indent=2))
    if asked.output:
        asked.output.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(bool(_bad(figures)))


def _calm(folder: Path, command: Command, state: State, points: int, patience: float) -> dict[str, str]:
    """The roots of the studies as a calm run leaves them, all measures asked for at once; the search's is made afterwards."""
    for name, spec in specs(points, len(MEASURES)).items():
        (folder / f"calm-{name}.yaml").write_text(json.dumps(spec))
    for name in (GRID, FAR):
        if name not in state.kept["seconds"]:
            one = Study(name, folder / f"calm-{name}.yaml", str(folder / "calm"))
            state.add_seconds(name, run_calmly(command, one, f"sqlite:///{folder}/calm.db", patience))
    return {name: str(folder / "calm" / name) for name in (GRID, FAR)}


def _figures(folder: Path, state: State, studies: dict[str, Study], calm: dict[str, str], server: Server) -> dict[str, Any]:
    expected = calm | {SEARCH: trained_anew(studies[SEARCH].root, folder / "calm" / f"{SEARCH}-{time.time_ns()}")}
    found: dict[str, dict[str, int]] = {}
    for name, one in studies.items():
        found[name] = compared(one.root, expected[name]) | mirror_compared(server.own_uri, f"sqlite:///{server.database}", name, one.root)
        if name != SEARCH:
            found[name]["points lost"] += len(declared_points(study.read_spec(folder / f"{name}.yaml"))) - found[name]["points"]
    found[SEARCH] |= search_compared(study.read_spec(folder / f"{SEARCH}.yaml"), studies[SEARCH].storage)
    said = (folder / "driver.log").read_text(errors="replace")
    seconds = state.kept["seconds"]
    return {
        "points": sum(one["points"] for one in found.values()),
        "faults": state.faults.total(),
        "kinds of faults": len(state.faults),
        **{name.replace("_", " "): count for name, count in sorted(state.faults.items())},
        "promises broken": state.kept["broken"],
        "tracebacks shown": said.count("Traceback"),
        "studies": found,
        "seconds of the two grids undisturbed": round(sum(seconds[name] for name in calm), 1),
        "seconds with faults": round(seconds["with faults"], 1),
    }


def _bad(figures: dict[str, Any]) -> list[str]:
    """What is not as promised."""
    wrong = [
        f"{study}: {name}" for study, found in figures["studies"].items() for name, count in found.items() if count and name not in HARMLESS
    ]
    return wrong + [name for name in ("promises broken", "tracebacks shown") if figures[name]]


if __name__ == "__main__":
    main()
