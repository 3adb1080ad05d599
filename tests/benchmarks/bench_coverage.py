"""How often intervals cover the truth, by simulation: the tables of the page on statistics, as Markdown.

``python -m tests.benchmarks.bench_coverage thresholds`` (or means, times, components) measures one table anew and leaves the others.

Goals: every default holds 95 % within the simulation's error where its assumptions hold; where no method can, the table says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.censored import median_time, restricted_mean
from analysis.statistics.decomposition import decompose
from analysis.statistics.interpolation import threshold
from analysis.statistics.intervals import mean_intervals
from tests.benchmarks.__main__ import RESULTS

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]

SEEDS = (3, 5, 10, 20)
REPEATS = 20_000
RESAMPLES = 999


def _lognormal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.minimum(0.04 * np.exp(0.7 * rng.standard_normal(shape) - 0.7**2 / 2), 1)


def _rare(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.where(rng.random(shape) < 0.1, 0.5, 0.02) + 0.002 * rng.standard_normal(shape)


OUTCOMES: dict[str, tuple[float, tuple[float, float], Draw]] = {
    "normal, 0.10 ± 0.01": (0.1, (0, 1), lambda rng, shape: 0.1 + 0.01 * rng.standard_normal(shape)),
    "normal near 0, 0.02 ± 0.005": (0.02, (0, 1), lambda rng, shape: np.maximum(0.02 + 0.005 * rng.standard_normal(shape), 0)),
    "gap, normal 0.30 ± 0.05 in [-1, 1]": (0.3, (-1, 1), lambda rng, shape: 0.3 + 0.05 * rng.standard_normal(shape)),
    "skewed, lognormal 0.04, log-deviation 0.7": (0.04, (0, 1), _lognormal),
    "skewed, beta(1, 19)": (0.05, (0, 1), lambda rng, shape: rng.beta(1, 19, shape)),
    "skewed to 1, 0.9 - lognormal": (0.86, (0, 1), lambda rng, shape: 0.9 - _lognormal(rng, shape)),
    "rare failures, 10 % at 0.5, else 0.02": (0.068, (0, 1), _rare),
}
"""Name: its mean, its range, and how it is drawn."""


def johnson(x: Floats, within: tuple[float, float]) -> tuple[Floats, Floats]:
    """Student's t corrected for skewness (Johnson 1978), cut to the range."""
    from scipy.special import stdtrit

    k = x.shape[1]
    mean, s = x.mean(axis=1), x.std(axis=1, ddof=1)
    third = ((x - mean[:, None]) ** 3).mean(axis=1)
    middle, half = mean + third / (6 * k * s**2), stdtrit(k - 1, 0.975) * s / np.sqrt(k)
    return np.maximum(middle - half, within[0]), np.minimum(middle + half, within[1])


def _resampled(x: Floats, rng: np.random.Generator) -> Floats:
    """Resamples of each row, shape (rows, RESAMPLES, k)."""
    rows, k = x.shape
    return np.take_along_axis(x[:, None], rng.integers(0, k, (rows, RESAMPLES, k)), axis=2)


def bca(x: Floats, within: tuple[float, float]) -> tuple[Floats, Floats]:
    """Efron's bias-corrected and accelerated bootstrap (1987)."""
    from scipy.special import ndtr, ndtri

    k, mean = x.shape[1], x.mean(axis=1)
    draws = np.sort(_resampled(x, np.random.default_rng(0)).mean(axis=2), axis=1)
    below = ((draws < mean[:, None]).mean(axis=1) + (draws <= mean[:, None]).mean(axis=1)) / 2
    z0 = ndtri(np.clip(below, 1e-3, 1 - 1e-3))
    left_out = (mean[:, None] * k - x) / (k - 1)
    away = left_out.mean(axis=1, keepdims=True) - left_out
    a = (away**3).sum(axis=1) / np.maximum(6 * (away**2).sum(axis=1) ** 1.5, 1e-300)
    ends = []
    for z in (-1.96, 1.96):
        share = ndtr(z0 + (z0 + z) / (1 - a * (z0 + z)))
        ends.append(np.take_along_axis(draws, np.clip((share * RESAMPLES).astype(int), 0, RESAMPLES - 1)[:, None], axis=1)[:, 0])
    return ends[0], ends[1]


def bootstrap_t(x: Floats, within: tuple[float, float]) -> tuple[Floats, Floats]:
    """The studentized bootstrap, cut to the range; resamples of one value count as infinite deviations."""
    mean, s = x.mean(axis=1), x.std(axis=1, ddof=1)
    drawn = _resampled(x, np.random.default_rng(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (drawn.mean(axis=2) - mean[:, None]) / drawn.std(axis=2, ddof=1)
    t = np.sort(np.nan_to_num(t, nan=0.0), axis=1)
    low, high = mean - t[:, int(0.975 * RESAMPLES)] * s, mean - t[:, int(0.025 * RESAMPLES)] * s
    return np.maximum(low, within[0]), np.minimum(high, within[1])


def anderson(x: Floats, within: tuple[float, float]) -> tuple[Floats, Floats]:
    """Bounds from the band of Dvoretzky, Kiefer and Wolfowitz around the distribution (Anderson 1969)."""
    unit = np.sort((x - within[0]) / (within[1] - within[0]), axis=1)
    k, width = x.shape[1], np.sqrt(np.log(2 / 0.025) / 2 / x.shape[1])

    def upper(ordered: Floats) -> Floats:
        steps = np.maximum(np.arange(k + 1) / k - width, 0)  # the lowest distribution function within the band
        grid = np.concatenate([np.zeros((len(ordered), 1)), ordered, np.ones((len(ordered), 1))], axis=1)
        return 1 - (np.diff(grid, axis=1) * steps).sum(axis=1)

    low, high = 1 - upper(np.sort(1 - unit, axis=1)), upper(unit)
    return within[0] + low * (within[1] - within[0]), within[0] + high * (within[1] - within[0])


def _of(method: Any) -> Callable[[Floats, tuple[float, float]], tuple[Floats, Floats]]:
    return lambda x, within: mean_intervals(np.clip(x, *within), within=within, method=method)


METHODS = {
    "student": (_of("student"), REPEATS),
    "logit": (_of("logit"), REPEATS),
    "johnson": (johnson, REPEATS),
    "BCa": (bca, 1000),
    "bootstrap-t": (bootstrap_t, 1000),
    "anderson": (anderson, REPEATS),
    "betting": (_of("betting"), 2000),
}
"""Name: the method and how many samples it is tried on."""


def coverage_of_means() -> list[dict[str, Any]]:
    """Coverage and median width of 95 % intervals, one row an outcome, number of seeds and method."""
    rows = []
    for outcome, (mean, within, draw) in OUTCOMES.items():
        for k in SEEDS:
            for method, (interval, repeats) in METHODS.items():
                low, high = interval(draw(np.random.default_rng(k), (repeats, k)), within)
                covered = float(((low <= mean) & (mean <= high)).mean())
                rows.append({"outcome": outcome, "seeds": k, "method": method, "coverage": covered, "width": float(np.median(high - low))})
    return rows


def markdown(rows: list[dict[str, Any]], down: tuple[str, ...], across: str, cell: Callable[[dict[str, Any]], str]) -> str:
    """A table with a row for each combination of ``down`` and a column for each value of ``across``."""
    columns = list(dict.fromkeys(row[across] for row in rows))
    lines = [" | ".join(["", *down, *map(str, columns), ""]).strip(), "|" + "---|" * (len(down) + len(columns))]
    found: dict[tuple[Any, ...], dict[Any, str]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in down), {})[row[across]] = cell(row)
    for place, cells in found.items():
        lines.append(" | ".join(["", *map(str, place), *(cells.get(column, "") for column in columns), ""]).strip())
    return "\n".join(lines)


GRID = np.geomspace(0.1, 100, 13)
"""Capacities of the preset gap-vs-capacity."""


def coverage_of_thresholds(repeats: int = 400) -> list[dict[str, Any]]:
    """Coverage of the interpolation threshold, its place drawn anywhere between two capacities; width in the grid's steps.

    "one threshold a seed": a seed fits from its own threshold on. "one a run": every run has its own, so outcomes need not be monotone.
    """
    rows = []
    step = float(np.log(GRID[1] / GRID[0]))
    for kind in ("one threshold a seed", "one a run"):
        for spread in (0.05, 0.25, 0.5, 1.0, 2.0):
            for seeds in (3, 5, 20):
                rng, covered, widths = np.random.default_rng(seeds), 0, []
                for _ in range(repeats):
                    centre = rng.uniform(np.log(0.5), np.log(20))
                    shape = (seeds, 1 if kind == "one threshold a seed" else len(GRID))
                    fitted = np.log(GRID) >= centre + spread * step * rng.standard_normal(shape)
                    found = threshold(np.tile(GRID, seeds), np.repeat(np.arange(seeds), len(GRID)), fitted.ravel())
                    covered += found.low <= np.exp(centre) <= found.high
                    widths.append(np.log(found.high / max(found.low, 1e-9)) / step)
                place = {"outcomes": kind, "deviation between seeds, in steps": spread, "seeds": seeds}
                rows.append(place | {"coverage": covered / repeats, "width": float(np.median(widths))})
    return rows


def coverage_of_times(repeats: int = 2000) -> list[dict[str, Any]]:
    """Exponential times of mean 10 with one budget of 15, or budgets drawn between 5 and 40."""
    rows = []
    horizons = {"one budget": 15.0, "different budgets": 5.0}
    for budgets, horizon in horizons.items():
        for seeds in (3, 5, 10):
            rng, hits = np.random.default_rng(seeds), []
            for _ in range(repeats):
                times = rng.exponential(10, seeds)
                ends = np.full(seeds, 15.0) if budgets == "one budget" else rng.uniform(5, 40, seeds)
                watched, fitted = np.minimum(times, ends), times <= ends
                mean = restricted_mean(watched, fitted, horizon=min(horizon, watched.max()))
                truth = 10 * (1 - np.exp(-min(horizon, watched.max()) / 10))
                hits.append((10 * np.log(2) in median_time(watched, fitted), truth in mean))
            median, mean = np.mean(hits, axis=0)
            rows += [{"times": budgets, "seeds": seeds, "of": "median", "coverage": median}]
            rows += [{"times": budgets, "seeds": seeds, "of": "restricted mean", "coverage": mean}]
    return rows


def coverage_of_components(repeats: int = 200) -> list[dict[str, Any]]:
    """A full factorial of 3, 2 and 4 settings with one interaction, its shares known; the worst term of all is in brackets."""
    a, b, c = np.array([0.0, 1.0, 3.0]), np.array([-1.0, 1.0]), np.array([0.0, 0.5, 0.2, 0.9])
    ab = np.array([[1.0, -1.0], [0.0, 0.0], [-1.0, 1.0]])
    rows = []
    for noise in (0.3, 1.0, 3.0):
        for seeds in (2, 3, 5, 10):
            rng, hits = np.random.default_rng(seeds), []
            i, j, k = (axis.ravel() for axis in np.meshgrid(range(3), range(2), range(4), indexing="ij"))
            i, j, k = (np.repeat(axis, seeds) for axis in (i, j, k))
            parts = [a.var(), b.var(), c.var(), ab.var(), 0.0, 0.0]
            total = sum(parts) + noise**2
            for _ in range(repeats):
                y = a[i] + b[j] + c[k] + ab[i, j] + noise * rng.standard_normal(len(i))
                terms = [term for term in decompose({"a": i, "b": j, "c": k}, y, resamples=500) if term.factors]
                hits.append([part / total in term.share for part, term in zip(parts, terms, strict=True)])
            covered = np.mean(hits, axis=0)
            rows.append({"noise": noise, "seeds": seeds, "coverage": float(covered.mean()), "worst": float(covered.min())})
    return rows


TABLES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "means": coverage_of_means,
    "thresholds": coverage_of_thresholds,
    "times": coverage_of_times,
    "components": coverage_of_components,
}


def measure_again(names: Sequence[str]) -> None:
    """Replace some tables of the stored results, and say under ``dates`` when they were measured."""
    path = RESULTS / "coverage.json"
    stored = json.loads(path.read_text())
    for name in names:
        stored["measured"][name] = TABLES[name]()
        stored.setdefault("dates", {})[name] = datetime.now(UTC).date().isoformat()
    path.write_text(json.dumps(stored, indent=1) + "\n")


def measure() -> dict[str, Any]:
    measured: dict[str, Any] = {"means": coverage_of_means()}
    print("Coverage of 95 % intervals for a mean over seeds (median width in brackets)\n")
    print(markdown(measured["means"], ("outcome", "seeds"), "method", lambda row: f"{row['coverage']:.3f} ({row['width']:.2g})"))
    measured["thresholds"] = coverage_of_thresholds()
    print("\nCoverage of the interpolation threshold on 13 capacities from 0.1 to 100 (median width in steps of the grid)\n")
    down = ("outcomes", "deviation between seeds, in steps")
    print(markdown(measured["thresholds"], down, "seeds", lambda row: f"{row['coverage']:.3f} ({row['width']:.2g})"))
    measured["times"] = coverage_of_times()
    print("\nCoverage of the median and the restricted mean of censored times\n")
    print(markdown(measured["times"], ("times", "of"), "seeds", lambda row: f"{row['coverage']:.3f}"))
    measured["components"] = coverage_of_components()
    print("\nCoverage of shares of variance, mean over terms (worst term in brackets)\n")
    print(markdown(measured["components"], ("noise",), "seeds", lambda row: f"{row['coverage']:.3f} ({row['worst']:.3f})"))
    return measured


if __name__ == "__main__":
    measure_again(sys.argv[1:])
