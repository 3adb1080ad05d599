"""Hostile specs, damaged record files and damaged journals, as many as wanted: no traceback but a defect's, and no hang.

python -m tests.benchmarks.fuzz --inputs 100000 --output tests/benchmarks/results/fuzz.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analysis.records.fragments import fragments
from study.records.writer import FragmentWriter, Provenance
from study.search.storage import JOURNAL
from tests.study.hostile_inputs import CHANGES, DAMAGE, SPECS, load_hostile_spec, read_damaged, read_damaged_journal
from tests.study.made_up_results import result
from tests.study.made_up_searches import Trained, spec_of
from trainables.training.limits import within

LONGEST = 20.0
"""Seconds for one input; one that takes longer hangs."""


def main() -> None:
    """Half of the inputs for the loader of specs, half for the reader of records, a hundredth for journals; counts and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    at_length = settings(
        max_examples=asked.inputs // 2, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    few = settings(at_length, max_examples=max(1, asked.inputs // 100))  # a search takes long to plan
    counts = {
        **{"specs": 0, "specs understood": 0, "damaged files": 0, "damaged files read": 0},
        **{"damaged journals": 0, "damaged journals gone on with": 0},
    }
    slowest = {"specs": 0.0, "damaged files": 0.0, "damaged journals": 0.0}
    with TemporaryDirectory(prefix="gaplab-fuzz-") as name:
        folder = Path(name)
        root = str(folder / "damaged")
        FragmentWriter(root, Provenance("damaged", None, "0"))([result(seed=seed) for seed in range(4)], "cpu")
        whole = Path(fragments(root)[0]).read_bytes()

        @at_length
        @given(text=SPECS, changes=CHANGES)
        def spec(text: str, changes: list[str]) -> None:
            started = time.perf_counter()
            counts["specs understood"] += within(LONGEST, lambda: load_hostile_spec(folder, text, changes))
            counts["specs"] += 1
            slowest["specs"] = max(slowest["specs"], time.perf_counter() - started)

        @at_length
        @given(damage=DAMAGE, cut=st.just(1.0) | st.floats(0, 1))
        def file(damage: list[tuple[float, int]], cut: float) -> None:
            started = time.perf_counter()
            counts["damaged files read"] += within(LONGEST, lambda: read_damaged(root, whole, damage, cut)) > 0
            counts["damaged files"] += 1
            slowest["damaged files"] = max(slowest["damaged files"], time.perf_counter() - started)

        Trained(folder / "searched").run(spec_of(trials=4, at_once=2))
        lines = (folder / "searched" / JOURNAL).read_bytes()

        @few
        @given(damage=DAMAGE, cut=st.just(1.0) | st.floats(0, 1))
        def journal(damage: list[tuple[float, int]], cut: float) -> None:
            started = time.perf_counter()
            gone_on = within(LONGEST, lambda: read_damaged_journal(folder / "searched", lines, damage, cut))
            counts["damaged journals gone on with"] += gone_on
            counts["damaged journals"] += 1
            slowest["damaged journals"] = max(slowest["damaged journals"], time.perf_counter() - started)

        for fuzz in (journal, spec, file):
            started = time.perf_counter()
            fuzz()
            print(f"{fuzz.__name__}: {time.perf_counter() - started:.0f} s", flush=True)
    figures = counts | {f"slowest of {name}, seconds": round(longest, 2) for name, longest in slowest.items()}
    print(json.dumps(figures, indent=2))
    if asked.output:
        asked.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
