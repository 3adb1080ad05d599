"""Hostile specs, damaged files of records and of curves, and damaged journals, as many as wanted: no traceback but a defect's, and no hang.

Half of the inputs are specs, a hundredth journals (a search takes long to plan), the rest files: as they are written now, and under older
names, which carry no checksums.

nice -n 10 python -m tests.benchmarks.fuzz --inputs 100000 --output tests/benchmarks/results/fuzz.json
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings

from analysis.records.fragments import fragments, read_fragments
from study.search.storage import JOURNAL
from tests.study.hostile_inputs import CHANGES, SPECS, load_hostile_spec, made_up_study, read_damaged, read_damaged_journal
from tests.study.made_up_searches import Trained, spec_of
from trainables.training.limits import within

LONGEST = 20.0
"""Seconds for one input; one that takes longer hangs."""
_SEED = 0


class Figures:
    """How many inputs of each kind there were, what became of them, and the longest time that one took."""

    def __init__(self) -> None:
        self.counts, self.slowest, self.seconds = Counter[str](), dict[str, float](), dict[str, float]()

    def tried(self, kind: str, read: Callable[[], str]) -> None:
        """Give an input to its reader, which says what became of it."""
        started = time.perf_counter()
        became = within(LONGEST, read)
        took = time.perf_counter() - started
        self.counts[kind] += 1
        self.counts[f"{kind} {became}"] += 1
        self.slowest[kind] = max(self.slowest.get(kind, 0.0), took)
        self.seconds[kind] = self.seconds.get(kind, 0.0) + took

    def as_json(self) -> dict[str, Any]:
        seconds = {name: round(took, 1) for name, took in self.seconds.items()}
        slowest = {name: round(took, 2) for name, took in self.slowest.items()}
        return {
            "inputs": dict(sorted(self.counts.items())),
            "processor seconds, all in all": round(time.process_time()),
            "seconds": seconds,
            "seconds of the slowest": slowest,
        }


def fuzz_specs(folder: Path, inputs: int, figures: Figures) -> None:
    at_length = settings(
        max_examples=inputs, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )

    @at_length
    @given(text=SPECS, changes=CHANGES)
    def spec(text: str, changes: list[str]) -> None:
        figures.tried("specs", lambda: "understood" if load_hostile_spec(folder, text, changes) else "refused")

    spec()


def fuzz_files(folder: Path, inputs: int, figures: Figures) -> None:
    """Files of records and of curves in turn, under names of now and older ones, beside the other that is whole."""
    dice = random.Random(_SEED)
    for older in (False, True):
        kind = "files under older names" if older else "files"
        root, files = made_up_study(folder / kind, older=older)
        before = read_fragments(root, fragments(root))
        for file in files:
            whole = file.read_bytes()
            for _ in range(inputs // 4):
                damage, cut = _damage(dice)
                figures.tried(kind, lambda: _became(before, read_damaged(root, file, whole, damage, cut)))  # noqa: B023  # called at once
            file.write_bytes(whole)


def _became(before: pa.Table, found: pa.Table) -> str:
    if not found.num_rows:
        return "refused"
    return "read as before" if found.equals(before) else "read in part, or otherwise"


def fuzz_journals(folder: Path, inputs: int, figures: Figures) -> None:
    root = folder / "searched"
    Trained(root).run(spec_of(trials=4, at_once=2))
    whole, dice = (root / JOURNAL).read_bytes(), random.Random(_SEED)
    for _ in range(inputs):
        damage, cut = _damage(dice)
        figures.tried("journals", lambda: "gone on with" if read_damaged_journal(root, whole, damage, cut) else "refused")  # noqa: B023


def _damage(dice: random.Random) -> tuple[list[tuple[float, int]], float]:
    """As `tests.study.hostile_inputs.DAMAGE`, and where the file is cut; half are not cut."""
    damage = [(dice.random(), dice.randrange(256)) for _ in range(dice.randint(1, 6))]
    return damage, 1.0 if dice.random() < 0.5 else dice.random()


def main() -> None:
    """Print what became of the inputs, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    figures = Figures()
    journals, specs = max(1, asked.inputs // 100), asked.inputs // 2
    with TemporaryDirectory(prefix="gaplab-fuzz-") as name:
        fuzz_journals(Path(name), journals, figures)
        fuzz_specs(Path(name), specs, figures)
        fuzz_files(Path(name), asked.inputs - specs - journals, figures)
    text = json.dumps(figures.as_json(), indent=2)
    print(text)
    if asked.output:
        asked.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
