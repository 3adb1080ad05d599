"""The report of 100,000 points: how long it takes to make and to open, and what plotly.js's own charts on WebGL would take instead.

Chromium draws on the processor, as on a remote desktop: WebGL runs on its software renderer. Needs chromium and chromedriver.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from plotly.offline import get_plotlyjs

import analysis
from analysis.records.schema import CURVES
from tests.analysis.made_up_study import gap_study, records

POINTS = 100_000
_COLUMNS = ("parameters_per_sample", "corruption.level", "optimizer.learning_rate", "train_error", "test_error", "generalization_gap")
_POLICY = "default-src 'none'; script-src 'unsafe-inline'{also}; style-src 'unsafe-inline'; img-src data: blob:"
_SELECT = "Plotly.restyle('scatter', {selectedpoints: [Array.from({length: 10000}, (_, index) => 10 * index)]})"
_OURS = {
    "draw 100,000 points": "explorer.scatter.draw(); explorer.scatter.canvas.getContext('2d').getImageData(0, 0, 1, 1)",
    "draw parallel coordinates": "explorer.parallel.draw(); explorer.parallel.canvas.getContext('2d').getImageData(0, 0, 1, 1)",
    "filter, everywhere": "explorer.filter('corruption.level', {codes: new Set([3, 4])})",
    "sort the table": "explorer.table.sort('test_error')",
}


def study(folder: Path, *, searched: bool) -> None:
    """Write a made-up study: a grid, or a random search in which each point has a learning rate of its own."""
    some = records(gap_study(capacities=np.geomspace(0.1, 100, 20), levels=np.linspace(0, 1, 11), seeds=5))
    table = pa.concat_tables([some] * (POINTS // some.num_rows + 1)).slice(0, POINTS)
    noise, index = np.random.default_rng(0), np.arange(POINTS)
    test = np.clip(table["test_error"].to_numpy() + noise.normal(0, 0.02, POINTS), 0, 1)
    seeds = 5 * (index // some.num_rows) + table["seed"].to_numpy()
    changed = {"key": [noise.bytes(16).hex() for _ in index], "seed": seeds, "test_error": test}
    changed |= {"generalization_gap": test - table["train_error"].to_numpy(), "test_loss": noise.exponential(size=POINTS)}
    changed |= {"optimizer.learning_rate": 10 ** noise.uniform(-3, 0, POINTS) if searched else np.array([0.01, 0.03, 0.1, 0.3])[seeds % 4]}
    for name, values in changed.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))
    for kind in ("records", "curves"):
        (folder / kind).mkdir(parents=True)
    pq.write_table(table, folder / "records" / "all.parquet")
    curves = {field.name: pa.nulls(POINTS, field.type) for field in CURVES} | {"key": table["key"], "epoch": table["epochs"]}
    pq.write_table(pa.table(curves, CURVES), folder / "curves" / "all.parquet")


@contextmanager
def browser(*arguments: str) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1250,900", *arguments):
        options.add_argument(argument)
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or ""))
    try:
        running.get("about:blank")
        yield running
    finally:
        running.quit()


def opened(running: Any, page: Path, ready: str, seconds: float = 120) -> float | None:
    """Seconds from the address to the page that is ready; None if it never is."""
    start = time.perf_counter()
    running.get(page.as_uri())
    while not running.execute_script(f"return {ready}"):
        if time.perf_counter() - start > seconds:
            return None
        time.sleep(0.02)
    return time.perf_counter() - start


def milliseconds(running: Any, code: str) -> float:
    return float(
        running.execute_async_script(
            f"const done = arguments[0], start = performance.now(); Promise.resolve((() => {{ return {code}; }})())"
            ".then(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))));"
        )
    )


def webgl_page(folder: Path, path: Path, *, evaluation: bool) -> None:
    """The same columns in plotly.js's scattergl and parcoords."""
    columns = {name: analysis.load(str(folder), columns=[name])[name].cast(pa.float32()).to_pylist() for name in _COLUMNS}
    policy = _POLICY.format(also=" 'unsafe-eval'" if evaluation else "")
    path.write_text(f"""<!doctype html><meta http-equiv="Content-Security-Policy" content="{policy}">
<div id="scatter" style="height:430px"></div><div id="parallel" style="height:360px"></div>
<script type="application/json" id="columns">{json.dumps(columns)}</script><script>{get_plotlyjs()}</script><script>
let drawn = false;
const columns = JSON.parse(document.getElementById("columns").textContent);
const [x, y, color] = [columns["parameters_per_sample"], columns["generalization_gap"], columns["corruption.level"]];
Plotly.newPlot("scatter", [{{type: "scattergl", mode: "markers", x, y, marker: {{color, size: 3}}}}], {{xaxis: {{type: "log"}}}})
.then(() => Plotly.newPlot("parallel", [{{type: "parcoords", line: {{color}},
  dimensions: Object.entries(columns).map(([label, values]) => ({{label, values}}))}}]))
.then(() => {{ drawn = true; }});</script>""")


def measure() -> dict[str, Any]:
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for name, searched in (("grid", False), ("random search", True)):
            folder = root / name.replace(" ", "-")
            study(folder, searched=searched)
            start = time.perf_counter()
            page = analysis.write_report(str(folder), folder / "report.html")
            found: dict[str, Any] = {"make, s": time.perf_counter() - start, "MB": page.stat().st_size / 1e6}
            with browser("--disable-gpu") as running:
                ready = "typeof explorer !== 'undefined' && explorer !== null"
                found["open, s"] = opened(running, page, ready)
                found["all figures, s"] = opened(running, page, f"{ready} && document.documentElement.dataset.drawn === 'all'")
                found["nodes"] = running.execute_script("return document.querySelectorAll('*').length")
                found |= {f"{what}, ms": milliseconds(running, f"(() => {{ {code} }})()") for what, code in _OURS.items()}
            measured[name] = found
        found = {}
        with browser("--use-angle=swiftshader", "--enable-unsafe-swiftshader") as running:
            for name, evaluation in (("open, s", True), ("open without unsafe-eval, s", False)):
                webgl_page(root / "grid", root / "webgl.html", evaluation=evaluation)
                found[name] = opened(running, root / "webgl.html", "drawn", 60)
                if evaluation:
                    found["select 10,000, ms"] = milliseconds(running, _SELECT)
        measured["plotly.js on WebGL"] = found
    for name, found in measured.items():
        print(name, {what: value if value is None else round(value, 2) for what, value in found.items()})
    return measured
