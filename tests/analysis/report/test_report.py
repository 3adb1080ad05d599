"""The report says what the study says, asks nothing of the network, and works in a real browser."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import analysis
from analysis.records.schema import CURVES
from tests.analysis.made_up_study import gap_study, mirror, record, records
from tests.analysis.report.conftest import held, wait

pytestmark = pytest.mark.xdist_group("analysis")  # one browser, one MLflow database
NASTY = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned=2'> & \"quoted\" 'too' {{ 7191 * 7 }} $x_1$"
SPEC = f"# what it shows: {NASTY}\nstudy: made-up\nspace:\n  seed: {{range: 3}}\n"


def troubled_study():
    rows = gap_study(capacities=(0.1, 1, 10, 100), levels=(0.0, 0.5, 1.0), seeds=3)
    lost = {"train_error": None, "test_error": None, "interpolated": False, "epochs": 2}
    rows += [record(seed=seed, status="diverged", reason="train loss is not finite in epoch 3", **lost) for seed in (90, 91)]
    rows.append(record(seed=92, status="failed", reason=NASTY, **lost))
    return [row | {"host": NASTY, "git_commit": "abc123"} for row in rows]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    from tests.analysis.made_up_study import curve

    folder = tmp_path_factory.mktemp("report") / "made-up"
    rows = troubled_study()
    for kind in ("records", "curves"):
        (folder / kind).mkdir(parents=True)
    pq.write_table(records(rows), folder / "records" / "all.parquet")
    points = [point | {"clean_train_error": 0.5 / point["epoch"]} for row in rows if row["status"] == "completed" for point in curve(row)]
    points += [{"key": row["key"], "epoch": epoch} for row in rows if row["status"] == "diverged" for epoch in (1, 2)]
    pq.write_table(pa.Table.from_pylist(points, CURVES), folder / "curves" / "all.parquet")
    (folder / "spec.yaml").write_text(SPEC)
    return folder


@pytest.fixture(scope="module")
def page(study):
    return analysis.write_report(str(study), study / "report.html")


@pytest.fixture(scope="module")
def html(page):
    return page.read_text(encoding="utf-8")


def figures_of(html):
    return json.loads(held(html, "figures"))


def test_the_figures_hold_the_means_of_the_records(html, study):
    figures = figures_of(html)
    assert set(figures) == {"gap", "map", "error", "time", "scatter", "learning", "memorisation", "counts"}
    cells = analysis.gap_table(analysis.load(str(study)))
    for plot, value in zip(figures["gap"]["plots"], ("generalization_gap", "train_error", "test_error"), strict=True):
        drawn = {
            (trace["meta"]["line"][0], x, y)
            for trace in plot["data"]
            if trace["meta"]["role"] == "mean"
            for x, y in zip(trace["x"], trace["y"], strict=True)
        }
        expected = zip(*(cells[name].to_pylist() for name in ("corruption.level", "parameters_per_sample", value)), strict=True)
        assert drawn == set(expected)


def test_the_thresholds_stand_in_every_panel_of_the_gap(html, study):
    located = analysis.threshold_table(analysis.load(str(study))).to_pylist()
    for plot in figures_of(html)["gap"]["plots"]:
        marks = [trace for trace in plot["data"] if trace["meta"]["role"] == "threshold" and "marker" in trace]
        assert {(trace["meta"]["line"][0], trace["x"][1]) for trace in marks} == {
            (row["corruption.level"], row["threshold"]) for row in located if row["threshold"] is not None
        }
        lowest = min(y for trace in marks for y in trace["y"])
        assert lowest > max(y for trace in plot["data"] if trace["meta"]["role"] in ("mean", "run") for y in trace["y"])


def test_every_run_can_be_hovered_over_by_its_key(html, study):
    marks = [trace for trace in figures_of(html)["scatter"]["plots"][0]["data"] if trace["meta"]["role"] == "run"]
    keys = {text.removeprefix("<b>").partition("</b>")[0] for trace in marks for text in trace["text"]}
    completed = analysis.load(str(study), filter=pc.field("status") == "completed")
    assert keys == set(completed["key"].to_pylist())


def test_what_failed_and_why_and_what_was_asked(html):
    assert "39 (36 completed, 2 diverged, 1 failed)" in html
    assert "train loss is not finite in epoch 3" in html
    assert "gaplab run spec.yaml" in html
    assert "space:\n  seed: {range: 3}" in html
    assert "abc123" in html


def test_what_was_found_is_a_list_of_all_findings(html, study):
    findings = analysis.findings(analysis.load(str(study)))
    shown = [unescape(one) for one in re.findall("<li>(.*?)</li>", html)]
    assert len(findings.found) > 2
    assert {*findings.found, *findings.left_open} <= {*shown, *map(unescape, re.findall("<dd>(.*?)</dd>", html))}


def test_nothing_from_a_record_or_a_spec_is_markup(html):
    assert "window.pwned" in html
    for dangerous in ("<img", "<script>window", "50337"):
        assert dangerous not in re.sub(r"<script type=.*?</script>", "", html, flags=re.S)
    assert any(row["reason"] == NASTY for row in csv.DictReader(io.StringIO(held(html, "data"))))


def test_the_page_names_no_other_address(html):
    foreign = r'<script type="text/plain" id="(explorer-bytes|plotly|figures)">.*?</script>'
    own = re.sub(foreign, "", html, flags=re.S) + held(html, "figures")
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", own) == []
    assert "default-src 'none'" in own


def test_a_page_is_small(html):
    assert len(html) < 3e6  # plotly.js alone is 4.8 MB


def test_measures_are_ranked_or_the_page_says_why_not(tmp_path, monkeypatch):
    for kind in ("records", "curves"):
        (tmp_path / kind).mkdir()
    rows = gap_study(capacities=(10, 100), levels=(0.0, 1.0), seeds=3)
    rows = [row | {f"measure.m{index}": row["generalization_gap"] ** index for index in range(5)} for row in rows]
    rows = [row | {"interpolated": True, "data.name": "digits"} for row in rows]
    pq.write_table(records(rows), tmp_path / "records" / "all.parquet")
    curves = [{"key": row["key"], "epoch": row["epochs"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(curves, CURVES), tmp_path / "curves" / "all.parquet")
    page = analysis.write_report(str(tmp_path), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Which measure predicts the gap?" in page
    monkeypatch.setattr("analysis.statistics.questions.ranking.MOST_RUNS", 11)
    page = analysis.write_report(str(tmp_path), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Which measure predicts the gap?" not in page
    assert "how well measures predict the gap, as 12 runs fit, and at most 11 are compared pair by pair" in page


def test_a_study_of_failures_only_is_reported(tmp_path):
    (tmp_path / "records").mkdir()
    pq.write_table(records([record(status="failed", reason="no memory")]), tmp_path / "records" / "all.parquet")
    html = analysis.write_report(str(tmp_path), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no record is completed (1 failed)" in html
    assert "no memory" in html
    assert "The spec does not lie beside the results." in html


def test_an_empty_study_is_a_sentence(tmp_path):
    (tmp_path / "records").mkdir()
    with pytest.raises(analysis.NothingToShow, match="has no records yet"):
        analysis.write_report(str(tmp_path), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_one_run_with_a_bare_curve_and_nan_is_reported(tmp_path):
    for kind in ("records", "curves"):
        (tmp_path / kind).mkdir()
    unusual = record(test_loss=float("inf"), train_loss=float("nan"))
    pq.write_table(records([unusual]), tmp_path / "records" / "all.parquet")
    pq.write_table(pa.Table.from_pylist([{"key": unusual["key"], "epoch": 12}], CURVES), tmp_path / "curves" / "all.parquet")
    html = analysis.write_report(str(tmp_path), tmp_path / "report.html").read_text(encoding="utf-8")
    assert set(figures_of(html)) == {"gap", "scatter"}


def test_from_mlflow(tmp_path, mlflow_uri):
    mirror(gap_study(capacities=(1, 10), levels=(0.0, 1.0), seeds=2), mlflow_uri, "reported")
    html = analysis.write_report("mlflow:reported", tmp_path / "report.html", tracking_uri=mlflow_uri).read_text(encoding="utf-8")
    assert set(figures_of(html)) == {"gap", "map", "error", "time", "scatter", "learning", "counts"}


def test_exports_hold_the_records(study, tmp_path):
    table = analysis.load(str(study))
    assert pq.read_table(analysis.export(table, tmp_path / "deep" / "all.parquet")).equals(table)
    rows = list(csv.DictReader(io.StringIO(analysis.export(table, tmp_path / "all.csv").read_text())))
    assert [float(row["parameters_per_sample"]) for row in rows] == table["parameters_per_sample"].to_pylist()
    assert {row["reason"] for row in rows} == {"", NASTY, "train loss is not finite in epoch 3"}
    with pytest.raises(analysis.AnalysisError, match=r"'all\.xlsx' ends in neither"):
        analysis.export(table, tmp_path / "all.xlsx")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["all.csv"]


@pytest.fixture
def opened(open_page, page):
    """The browser with the report open and drawn."""
    return open_page(page)


def test_the_charts_draw(opened, html):
    for name, figure in figures_of(html).items():
        for index, plot in enumerate(figure["plots"]):
            box = f"document.getElementById('plot-{name}-{index}')"
            drawn = opened.execute_script(f"return {box}.querySelectorAll('.scatterlayer .trace, .heatmaplayer .hm').length")
            assert drawn == len(plot["data"]), (name, index)
            assert opened.execute_script(f"return {box}.querySelector('.main-svg').getBoundingClientRect().height") > 200


def test_hovering_shows_the_point_and_its_key(opened, html):
    from selenium.webdriver import ActionChains

    box = opened.find_element("id", "plot-scatter-0")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    mark = box.find_elements("css selector", ".scatterlayer .points path")[0]
    ActionChains(opened).move_to_element(mark).perform()
    wait(lambda: box.find_elements("css selector", ".hoverlayer .hovertext"))
    shown = box.find_element("css selector", ".hoverlayer .hovertext").text
    texts = figures_of(html)["scatter"]["plots"][0]["data"][0]["text"]
    assert re.match(r"[0-9a-f]{32}", shown)
    assert any(shown[:32] in text for text in texts)
    assert "reach the train target" in shown or "reached the train target" in shown


def test_a_click_on_the_legend_filters_every_panel(opened):
    def shown(index):
        return opened.execute_script(f"return document.getElementById('plot-gap-{index}').querySelectorAll('.scatterlayer .trace').length")

    before = [shown(index) for index in range(3)]
    button = opened.find_elements("css selector", "#legend-gap button")[1]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert all(shown(index) < count for index, count in enumerate(before))
    button.click()
    assert [shown(index) for index in range(3)] == before


def test_a_table_is_sorted_by_a_click(opened):
    head = opened.find_elements("css selector", "#problems-table th")
    column = [one.get_attribute("textContent") for one in head].index("points")
    cells = "return [...document.querySelectorAll('#problems-table tbody tr')].map(row => row.cells[arguments[0]].textContent)"
    opened.execute_script("arguments[0].querySelector('button').click()", head[column])
    assert opened.execute_script(cells, column) == ["1", "2"]
    opened.execute_script("arguments[0].querySelector('button').click()", head[column])
    assert opened.execute_script(cells, column) == ["2", "1"]
    assert head[column].get_attribute("aria-sort") == "descending"


def test_a_zoom_in_one_panel_is_a_zoom_in_all(opened):
    ranges = "return [0, 1, 2].map(index => document.getElementById(`plot-gap-${index}`).layout.xaxis.range)"
    whole = opened.execute_script(ranges)
    opened.execute_script("return Plotly.relayout('plot-gap-1', {'xaxis.range[0]': 0.1, 'xaxis.range[1]': 1.2})")
    wait(lambda: opened.execute_script(ranges) == [[0.1, 1.2]] * 3)
    opened.execute_script("return Plotly.relayout('plot-gap-2', {'xaxis.range': arguments[0]})", whole[0])
    wait(lambda: opened.execute_script(ranges) == [whole[0]] * 3)


def test_the_data_can_be_downloaded(opened, study):
    opened.execute_script("URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return '#'; }")
    opened.find_element("id", "download").click()
    wait(lambda: opened.execute_script("return window.saved !== undefined"))
    table = analysis.load(str(study))
    saved = pyarrow.csv.read_csv(io.BytesIO(opened.execute_script("return window.saved").encode()))
    assert saved["key"].to_pylist() == table["key"].to_pylist()
    assert saved["test_error"].to_pylist() == table["test_error"].to_pylist()


def test_dark_and_light(opened):
    def colours():
        script = "return [getComputedStyle(document.body).backgroundColor, document.querySelector('#plot-gap-0 .js-line').style.stroke]"
        return opened.execute_script(script)

    light = colours()
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    wait(lambda: colours()[1] != light[1])
    assert colours()[0] == "rgb(20, 23, 28)"
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
    wait(lambda: colours() == light)


def test_it_fits_a_phone(opened):
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True})
    wait(lambda: opened.execute_script("return document.getElementById('plot-gap-0').querySelector('.main-svg').clientWidth") < 390)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_prints(opened):
    import base64

    pdf = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    pages = len(re.findall(rb"/Type /Page\b", pdf))
    assert 3 <= pages <= 15


def test_a_study_over_sizes_has_its_laws_and_forecasts():
    from analysis.report.scaling import scaling_rows
    from tests.analysis.scaling.test_studies import falling, runs

    head, rows = scaling_rows(records(runs(falling, sizes=[100 * 2**power for power in range(11)])))
    assert head[:4] == ["line", "law", "at", "forecast"]
    assert rows[0][0] == "runs that fit"
    assert rows[0][3] == pytest.approx(falling(1_024_000), abs=0.01)
    assert scaling_rows(records(runs(falling, sizes=[100, 1000]))) is None
