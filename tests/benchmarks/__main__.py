"""Run the benchmarks: ``make bench``, or ``python -m tests.benchmarks NAME ...`` for some of them.

Each prints its ratios and saves them with the machine's description in tests/benchmarks/results/NAME.json. A benchmark
never fails for being slow.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

NAMES = (
    *("engine", "convolutions", "against_ray", "overhead", "analysis", "search", "samplers", "measures"),
    *("scale", "tracking", "coverage", "forecasts", "report"),
)
RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    cores = len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"cpu": cpu, "cores": cores, "gpus": gpus, "python": platform.python_version(), "torch": torch.__version__}


def save(name: str, measured: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    stamped = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "measured": measured}
    (RESULTS / f"{name}.json").write_text(json.dumps(stamped, indent=1) + "\n")


def main(names: list[str]) -> None:
    for name in names or NAMES:
        print(f"== {name}")
        save(name, importlib.import_module(f"tests.benchmarks.bench_{name}").measure())


if __name__ == "__main__":
    main(sys.argv[1:])
