"""The faults of a soak: each a function of the torture that is going on; it says whether the fault happened."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

from analysis.records.fragments import fragments
from study.records.compaction import COMPACTING, MANY
from study.records.writer import FragmentWriter, Provenance
from tests.benchmarks.soak.proxy import CUT, LOST, REFUSED
from tests.benchmarks.soak.surroundings import Command, Nodes, ObjectStore, Server, Study
from tests.study.made_up_results import result
from tests.study.worker_processes import workers

GRID, FAR, SEARCH = "soak", "soak-far", "soak-search"
_WEIGHTS = {GRID: 6, FAR: 2, SEARCH: 2}
"""How often a driver runs which study, in proportion."""


@dataclass
class Torture:
    """What can be made to fail, and the driver that runs meanwhile."""

    folder: Path
    owner: str
    server: Server
    store: ObjectStore
    nodes: Nodes
    command: Command
    studies: dict[str, Study]
    dice: random.Random
    add_measure: Callable[[], bool]
    broken: list[str] = field(default_factory=list)
    """Promises that did not hold, in words."""
    process: Popen[bytes] | None = None
    study: Study | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def keep_running(self) -> None:
        """Start the driver of some study, unless one runs."""
        if not self.runs:
            self.start(self.studies[self.dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]])

    def start(self, study: Study) -> None:
        self.server.settle()  # a driver refuses to start without the server that it was given
        self.study, self.process = study, self.command.run(study, self.server.uri)

    def kill_driver(self) -> bool:
        if not self.runs:
            return False
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL

    def until(self, condition: Callable[[], Any], seconds: float) -> bool:
        """Wait for it while the driver runs; whether it came true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.runs:
            if condition():
                return True
            time.sleep(0.02)
        return False

    @contextmanager
    def frozen(self, stop: Callable[[signal.Signals], None]) -> Any:
        stop(signal.SIGSTOP)
        time.sleep(self.dice.uniform(1, 6))
        try:
            yield
        finally:
            stop(signal.SIGCONT)


def driver_killed(at: Torture) -> bool:
    return at.kill_driver()


def driver_killed_while_training(at: Torture) -> bool:
    return at.until(lambda: workers(at.owner), 60) and at.kill_driver()


def driver_killed_while_mirroring(at: Torture) -> bool:
    return at.runs and at.server.proxy.write_passes(45) and at.kill_driver()


def driver_killed_while_searching(at: Torture) -> bool:
    if at.study is None or at.study.name != SEARCH:
        at.kill_driver()
        at.start(at.studies[SEARCH])
    time.sleep(at.dice.uniform(0, 4))
    return at.until(lambda: workers(at.owner), 90) and at.kill_driver()


def driver_killed_while_compacting(at: Torture) -> bool:
    """Or while it puts damaged files aside: the same lock is held."""
    study = at.studies[GRID]
    if sum("/merged/" not in path for path in fragments(study.root)) <= MANY:
        return False
    at.kill_driver()
    at.start(study)
    assert study.folder is not None
    lock = study.folder / COMPACTING
    held = at.until(lambda: _is_held(lock), 90)
    time.sleep(at.dice.uniform(0, 0.6))
    return held and at.kill_driver()


def _is_held(lock: Path) -> bool:
    with suppress(FileNotFoundError), lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def worker_killed(at: Torture) -> bool:
    return _signal_a_worker(at, signal.SIGKILL)


def _signal_a_worker(at: Torture, number: signal.Signals) -> bool:
    with suppress(ProcessLookupError, IndexError):
        os.kill(at.dice.choice(workers(at.owner)), number)
        return True
    return False


def node_killed(at: Torture) -> bool:
    at.nodes.replace_one(at.dice)
    return True


def worker_frozen(at: Torture) -> bool:
    there = workers(at.owner)
    return bool(there) and _frozen(at, at.dice.choice(there))


def driver_frozen(at: Torture) -> bool:
    return at.process is not None and at.runs and _frozen(at, at.process.pid)


def node_frozen(at: Torture) -> bool:
    return _frozen(at, at.nodes.raylet(at.dice))


def _frozen(at: Torture, process: int) -> bool:
    with suppress(ProcessLookupError), at.frozen(lambda number: os.kill(process, number)):
        return True
    return False


def server_frozen(at: Torture) -> bool:
    with at.frozen(at.server.send):
        return at.server.is_up


def server_killed_or_started(at: Torture) -> bool:
    if at.server.is_up:
        at.server.kill()
    else:
        at.server.start()
    return True


def database_locked(at: Torture) -> bool:
    if not (at.server.is_up and at.server.database.exists()):
        return False
    at.server.lock(at.dice.uniform(2, 9))
    return True


def database_deleted(at: Torture) -> bool:
    at.server.lose_database()
    return True


def answers_dropped(at: Torture) -> bool:
    return _failing(at, at.server.proxy, LOST)


def server_answers_503(at: Torture) -> bool:
    return _failing(at, at.server.proxy, REFUSED)


def store_answers_503(at: Torture) -> bool:
    return _store_failing(at, REFUSED)


def store_cuts_connections(at: Torture) -> bool:
    return _store_failing(at, CUT)


def store_answers_dropped(at: Torture) -> bool:
    return _store_failing(at, LOST)


def _store_failing(at: Torture, fate: str) -> bool:
    if at.study is None or at.study.name != FAR or not at.runs:
        if at.dice.random() < 0.7:  # drivers start slowly: rather when it runs anyway
            return False
        at.kill_driver()
        at.start(at.studies[FAR])
        at.until(lambda: workers(at.owner), 120)
    return _failing(at, at.store.proxy, fate)


def _failing(at: Torture, proxy: Any, fate: str) -> bool:
    """Let some requests fail; whether at least one did within half a minute."""
    before = proxy.failed
    proxy.fail(fate, at.dice.randint(1, 8))
    at.until(lambda: proxy.failed > before, 30)
    return bool(proxy.failed > before)


def runs_deleted(at: Torture) -> bool:
    """Some runs of points, or a whole experiment, as a user deletes them."""
    from mlflow import MlflowClient

    client = MlflowClient(at.server.own_uri)
    with suppress(Exception):  # the server is down
        found = client.get_experiment_by_name(at.dice.choice(list(at.studies)))
        if found is not None and found.lifecycle_stage == "active":
            if at.dice.random() < 0.3:
                client.delete_experiment(found.experiment_id)
            else:
                for run in client.search_runs([found.experiment_id], max_results=at.dice.randint(1, 20)):
                    client.delete_run(run.info.run_id)
            return True
    return False


def bit_of_records_flipped(at: Torture) -> bool:
    return _damaged(at, "records", _flip)


def bit_of_curves_flipped(at: Torture) -> bool:
    return _damaged(at, "curves", _flip)


def curves_cut_short(at: Torture) -> bool:
    return _damaged(at, "curves", lambda path, dice: os.truncate(path, dice.randrange(path.stat().st_size)))


def bit_flipped_on_s3(at: Torture) -> bool:
    names = at.store.files()
    if names:
        at.store.flip(at.dice.choice(names), at.dice)
    return bool(names)


def _flip(path: Path, dice: random.Random) -> None:
    with path.open("r+b") as file:
        place = dice.randrange(path.stat().st_size)
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ 1 << dice.randrange(8)]))


def _damaged(at: Torture, kind: str, damage: Callable[[Path, random.Random], None]) -> bool:
    folder = at.dice.choice([study.folder for study in at.studies.values() if study.folder])
    files = sorted((folder / kind).rglob("*.parquet")) if folder else []
    with suppress(FileNotFoundError, IndexError):  # merged meanwhile, or nothing is there yet
        damage(at.dice.choice(files), at.dice)
        return True
    return False


def measure_added(at: Torture) -> bool:
    """The study asks for one more from its next start on."""
    if not at.add_measure():
        return False
    if at.study is not None and at.study.name == GRID:
        at.kill_driver()
    return True


def second_storage(at: Torture) -> bool:
    """Another storage of a study of the same name is to be copied to the same server: it is told apart, and refused."""
    at.server.settle()
    if not _holds_points(at.server.own_uri):
        return False
    other = at.folder / "other"
    FragmentWriter(f"{other}/{GRID}", Provenance(GRID, None, "0"))([result(seed=seed) for seed in range(3)], "cpu")
    arguments = ["sync", str(at.studies[GRID].spec), "--storage", str(other), "--tracking-uri", at.server.own_uri]
    code, said = at.command.answer(*arguments, timeout=240)
    if code == 0 or (code is not None and "another storage" not in said):
        at.broken.append(f"a second storage was not refused ({code}): {said[-300:]}")
    return code is not None


def _holds_points(uri: str) -> bool:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    with suppress(Exception):
        found = client.get_experiment_by_name(GRID)
        return found is not None and len(client.search_runs([found.experiment_id], max_results=5)) >= 2
    return False


def second_driver(at: Torture) -> bool:
    """One more driver of the study that runs: it is refused."""
    if at.study is None or at.study.folder is None or not at.until(lambda: workers(at.owner), 60):
        return False
    assert at.process is not None
    first, arguments = at.process, ["run", str(at.study.spec), "--storage", at.study.storage, "--tracking-uri", at.server.uri]
    at.server.settle()
    code, said = at.command.answer(*arguments, "--address", at.nodes.address, timeout=60)
    if first.poll() is not None:
        return False
    if code != 2 or "another gaplab is at work" not in said:
        at.broken.append(f"a second driver was not refused ({code}): {said[-300:]}")
    return True


FAULTS: dict[Callable[[Torture], bool], int] = {
    **{driver_killed: 5, driver_killed_while_training: 5, driver_killed_while_mirroring: 6},
    **{driver_killed_while_searching: 4, driver_killed_while_compacting: 4},
    **{worker_killed: 8, worker_frozen: 6, node_killed: 4, node_frozen: 4, driver_frozen: 5},
    **{server_frozen: 4, server_killed_or_started: 6, database_locked: 5, database_deleted: 2},
    **{answers_dropped: 9, server_answers_503: 4, runs_deleted: 4},
    **{store_answers_503: 3, store_cuts_connections: 3, store_answers_dropped: 3, bit_flipped_on_s3: 3},
    **{bit_of_records_flipped: 6, bit_of_curves_flipped: 6, curves_cut_short: 6},
    **{measure_added: 2, second_storage: 2, second_driver: 2},
}
"""What happens, and how often in proportion."""
