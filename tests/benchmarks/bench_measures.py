"""What complexity measures cost beside training: the same points with no measure, with all cheap ones, and what each costly one takes.

Every eighth point of two presets on digits, in one process on one thread; CPU seconds, which neighbours on the machine disturb least.
Goal: all cheap measures add less than 20 % to a study's time. Workers pay some imports once; they are paid before the clock starts.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from typing import Any

import torch

PRESETS = ("generalization-measures", "gap-vs-capacity")
SHARE = 8
TURNS = 2


def measure() -> dict[str, Any]:
    from trainables.measures import known_measures

    torch.set_num_threads(1)
    known = known_measures()
    cheap = tuple(name for name, one in known.items() if one.cheap)
    costly = tuple(name for name, one in known.items() if not one.cheap)
    measured: dict[str, Any] = {"cheap": len(cheap)}
    for preset in PRESETS:
        packs = _packs(preset)
        _seconds({key: pack[:1] for key, pack in packs.items()}, cheap + costly)
        turns = [(_seconds(packs, ()), _seconds(packs, cheap)) for _ in range(TURNS)]
        plain, added = (statistics.median(turn[side] for turn in turns) for side in (0, 1))
        points = sum(map(len, packs.values()))
        measured[preset] = {"points": points, "seconds": plain, "share_added_by_cheap": statistics.median(b / a - 1 for a, b in turns)}
        print(f"{preset}: {points} points, {plain:.1f} CPU seconds; with all cheap measures {added:.1f} ({added / plain - 1:+.0%})")
        if preset == PRESETS[0]:
            measured["milliseconds_a_point"] = costs = _each(packs, costly)
            for name, milliseconds in costs.items():
                print(f"  {name:40} {milliseconds:8.1f} ms a point")
    return measured


def _packs(preset: str) -> dict[Any, list[Any]]:
    """Every eighth point, in packs of one signature."""
    from study.plan.points import declared_points
    from study.spec.reading import read_spec

    packs: dict[Any, list[Any]] = defaultdict(list)
    for point in declared_points(read_spec(preset))[::SHARE]:
        packs[point.config.signature()].append(point.config)
    return packs


def _seconds(packs: dict[Any, list[Any]], measures: tuple[str, ...]) -> float:
    from trainables.training.loop import Training

    start = time.process_time()
    for pack in packs.values():
        training = Training(pack, torch.device("cpu"), measures=measures)
        while not training.finished:
            training.epoch()
    return time.process_time() - start


def _each(packs: dict[Any, list[Any]], costly: tuple[str, ...]) -> dict[str, float]:
    """Milliseconds a point of each costly measure, in the order given: what it shares with one before it is free."""
    import trainables.measures as registry

    spent: dict[str, float] = defaultdict(float)
    compute = registry.measure_all

    def timed(names: Any, subject: Any) -> dict[str, float]:
        start = time.process_time()
        found = compute(names, subject)
        spent[names[0]] += time.process_time() - start
        return found

    registry.measure_all = timed  # type: ignore[assignment]
    try:
        _seconds(packs, costly)
    finally:
        registry.measure_all = compute
    points = sum(map(len, packs.values()))
    return {name: seconds / points * 1e3 for name, seconds in spent.items()}
