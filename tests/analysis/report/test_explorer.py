"""The explorer shows the records as they are, and a selection in one of its views is a selection in all."""

from __future__ import annotations

import base64
import subprocess
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import analysis
from analysis.records.schema import CURVES
from analysis.report.explorer import CURVES_READ, MOST_EPOCHS, explorer
from tests.analysis.made_up_study import curve, gap_study, record, records
from tests.analysis.report.conftest import wait

pytestmark = pytest.mark.xdist_group("analysis")  # one browser


def curves_of(rows):
    return pa.Table.from_pylist([{name: point.get(name) for name in ("key", "epoch", *CURVES_READ)} for point in rows])


def read(explored, about, dtype=None, count=None):
    """An array of the payload."""
    types = {"u1": "<u1", "u4": "<u4", "f4": "<f4", "f8": "<f8"}
    plain = zlib.decompress(base64.b64decode(explored.payload))
    return np.frombuffer(plain, dtype or types[about["type"]], count or explored.description["count"], about["offset"])


def values_of(explored, name):
    (about,) = [one for one in explored.description["columns"] if one["name"] == name]
    stored = read(explored, about)
    if "values" in about:
        return [about["values"][code] if code < len(about["values"]) else None for code in stored.tolist()]
    return [None if np.isnan(value) else value for value in stored.tolist()]


@pytest.fixture(scope="module")
def rows():
    rows = gap_study(capacities=(0.1, 1, 10, 100), levels=(0.0, 0.5, 1.0), seeds=3)
    rows += [record(seed=90, status="diverged", reason="not finite", train_error=None, test_error=None, interpolated=False)]
    return [row | {"test_loss": 1 / (3 + index), "optimizer.learning_rate": 0.1 + index / 7} for index, row in enumerate(rows)]


def test_every_column_comes_back_as_it_was_recorded(rows):
    table = records(rows * 8)  # more values than codes: numbers themselves
    table = table.set_column(0, "key", pa.array([f"{index:032x}" for index in range(table.num_rows)]))
    table = table.set_column(table.column_names.index("test_loss"), "test_loss", pa.array(np.arange(table.num_rows) / 7))
    table = table.append_column("measure.norm", pa.array([None, *np.linspace(1e-9, 1e9, table.num_rows - 1)]))
    explored = explorer(table, lambda _: curves_of(curve(rows[0])).slice(0, 0), spec={})
    names = {one["name"] for one in explored.description["columns"]}
    assert names >= {"status", "reason", "corruption.level", "model.width", "seed", "parameters_per_sample", "generalization_gap"}
    for name in names:
        stored, recorded = values_of(explored, name), table[name].to_pylist()
        assert [value is None for value in stored] == [value is None for value in recorded]
        if name in ("test_loss", "measure.norm"):
            stored, recorded = ([value for value in values if value is not None] for values in (stored, recorded))
            np.testing.assert_allclose(stored, recorded, rtol=1e-6)
        else:
            assert stored == recorded
    keys = read(explored, explored.description["keys"], "S16", table.num_rows)
    assert [key.ljust(16, b"\0").hex() for key in keys.tolist()] == table["key"].to_pylist()


def test_of_very_many_points_what_came_out_keeps_sixteen_bits(rows, tmp_path, monkeypatch, open_page):
    monkeypatch.setattr("analysis.report.explorer.MOST_EXACT", 100)
    rng = np.random.default_rng(0)
    table = records(rows * 8)
    table = table.set_column(0, "key", pa.array([f"{index:032x}" for index in range(table.num_rows)]))
    values = np.ldexp(rng.uniform(-1, 1, table.num_rows), rng.integers(-120, 120, table.num_rows))
    values[:4] = [np.inf, -np.inf, 0.0, 1.0]
    table = table.append_column("measure.norm", pa.array([*values[:-1], None]))
    (tmp_path / "records").mkdir()
    pq.write_table(table, tmp_path / "records" / "all.parquet")
    (tmp_path / "curves").mkdir()
    curves = {name.name: table["key"] if name.name == "key" else pa.nulls(table.num_rows, name.type) for name in CURVES}
    pq.write_table(pa.table(curves | {"epoch": table["epochs"]}, CURVES), tmp_path / "curves" / "all.parquet")
    opened = open_page(analysis.write_report(str(tmp_path), tmp_path / "report.html"))
    read = "const column = explorer.data.columns.get(arguments[0]); return column.codes ? null : Array.from(column.places, String)"
    np.testing.assert_allclose([float(one) for one in opened.execute_script(read, "measure.norm")][:-1], values[:-1], rtol=2**-16)
    assert opened.execute_script(read, "measure.norm")[-1] == "NaN"
    shown = "const column = explorer.data.columns.get('measure.norm'); return [0, 1, 2, 3, 4].map((point) => String(column.exact(point)))"
    exact = opened.execute_script(shown)
    assert exact[:4] == ["Infinity", "-Infinity", "0", "1"]
    assert float(exact[4]) == pytest.approx(values[4], rel=2**-16 + 5e-6)
    script = (
        "const rates = explorer.data.columns.get('optimizer.learning_rate'); return Array.from(rates.codes, (one) => rates.values[one])"
    )
    assert opened.execute_script(script) == table["optimizer.learning_rate"].to_pylist()


def test_a_long_curve_is_thinned_to_its_shape(rows):
    table = records(rows[:2])
    long = [point | {"epoch": epoch} for epoch in range(1, 501) for point in curve(rows[0])[:1]]
    explored = explorer(table, lambda _: curves_of([*long, *curve(rows[1])]), spec={})
    about = explored.description["curves"]
    starts = read(explored, {"offset": about["starts"]}, "<u4", 3).tolist()
    epochs = read(explored, {"offset": about["epoch"]}, "<f4", about["length"])
    first, second = epochs[: starts[1]], epochs[starts[1] :]
    assert len(first) == MOST_EPOCHS
    assert (first[0], first[-1]) == (1, 500)
    assert np.diff(first).max() < 10
    assert second.tolist() == [point["epoch"] for point in curve(rows[1])]


def test_runs_of_other_origin_have_no_command(rows):
    table = records(rows[:2]).set_column(0, "key", pa.array(["wandb/a", "wandb/b"]))
    explored = explorer(table, lambda _: curves_of(curve(rows[0])), spec=None)
    assert explored.description["point"] is None
    assert explored.description["keys"] == {"values": ["wandb/a", "wandb/b"]}


@pytest.fixture(scope="module")
def declared():
    """The points of a real spec, none of them trained."""
    from study.plan.points import declared_points
    from study.spec.reading import understand

    spec = understand(
        {
            "study": "declared",
            "trial": {"model": {"name": "mlp", "depth": 1}, "budget": {"stop_at_train_error": None}},
            "space": {
                "model.parameters_per_sample": {"values": [0.5, 5]},
                "optimizer.learning_rate": {"values": [0.05, 0.1]},
                "regularizers.weight_decay": {"values": [1e-7]},
                "corruption.level": {"values": [0, 0.5, 1]},
            },
            "replicates": 2,
        }
    )
    return declared_points(spec)


@pytest.fixture(scope="module")
def page(declared, tmp_path_factory):
    from trainables.point.config import flatten

    folder = tmp_path_factory.mktemp("explored") / "declared"
    (folder / "records").mkdir(parents=True)
    (folder / "curves").mkdir()
    rows = []
    for index, point in enumerate(declared):
        fields = flatten(point.config)
        train, test = 0.01 * (index % 5), 0.1 + 0.8 * fields["corruption.level"] + 0.001 * index
        outcome = {"parameters": fields["model.width"] * 75, "train_error": train, "test_error": test, "interpolated": train == 0}
        rows.append(record(**fields) | fields | {"key": point.key, "generalization_gap": test - train} | outcome)
        rows[-1]["parameters_per_sample"] = rows[-1]["parameters"] / fields["data.train_size"]
    pq.write_table(records(rows), folder / "records" / "all.parquet")
    pq.write_table(pa.Table.from_pylist([point for row in rows for point in curve(row)], CURVES), folder / "curves" / "all.parquet")
    return analysis.write_report(str(folder), folder / "report.html")


@pytest.fixture
def opened(open_page, page):
    """The report with nothing selected."""
    browser = open_page(page)
    browser.execute_script("explorer.clear(); scrollTo(0, 0);")
    return browser


@pytest.fixture(scope="module")
def table(page):
    return analysis.load(str(page.parent))


def listed(browser):
    """The keys that the explorer shows, by every one of its views: its count, its charts, and all pages of its table."""
    count = browser.find_element("id", "explorer-count").text
    charts = browser.execute_script("return explorer.evenly(1e6).map(explorer.data.keyOf)")
    rows = browser.execute_script(
        "const keys = []; const pages = Math.ceil(explorer.table.ordered.length / 25);"
        "for (let page = 0; page < pages; page += 1) { explorer.state.page = page; explorer.table.draw();"
        "keys.push(...[...document.querySelectorAll('#points-table button.key')].map((one) => one.title)); } return keys"
    )
    assert int(count.split()[0]) == len(charts)
    assert sorted(rows) == sorted(charts)
    return set(charts)


def drag(browser, box, start, end):
    """Press the button at one place of a box, in shares of its sides, and let go at another."""
    from selenium.webdriver import ActionChains

    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    size = box.size
    (x1, y1), (x2, y2) = ((round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"])) for x, y in (start, end))
    chain = ActionChains(browser, duration=20).move_to_element_with_offset(box, x1, y1).click_and_hold()
    chain.move_by_offset((x2 - x1) // 2, (y2 - y1) // 2).move_by_offset(
        x2 - x1 - (x2 - x1) // 2, y2 - y1 - (y2 - y1) // 2
    ).release().perform()


def test_a_filter_is_a_filter_of_every_view(opened, table):
    assert listed(opened) == set(table["key"].to_pylist())
    box = opened.find_element("css selector", ".filter[data-name='corruption.level']")
    button = next(one for one in box.find_elements("css selector", "button") if one.text == "0.5")
    opened.execute_script("arguments[0].click()", button)
    half = pc.field("corruption.level") == 0.5
    assert listed(opened) == set(table.filter(half)["key"].to_pylist())
    low = opened.find_element("css selector", ".filter[data-name='test_error'] input")
    opened.execute_script("arguments[0].value = 0.51; arguments[0].dispatchEvent(new Event('change'))", low)
    both = table.filter(half & (pc.field("test_error") >= 0.51))
    assert 0 < both.num_rows < 8
    assert listed(opened) == set(both["key"].to_pylist())
    opened.find_element("id", "explorer-clear").click()
    assert listed(opened) == set(table["key"].to_pylist())


def test_a_brush_on_an_axis_keeps_what_passes_there(opened, table):
    opened.execute_script("explorer.state.axes = ['corruption.level', 'test_error']; explorer.draw()")
    canvas = opened.find_element("css selector", "#explorer-parallel canvas")
    axis = opened.execute_script("return explorer.parallel.axes[0].left / explorer.parallel.width")
    drag(opened, canvas, (axis, 0.05), (axis, 0.6))  # levels 1 and 0.5 lie in the upper half
    wait(lambda: opened.find_element("id", "explorer-count").text.startswith("16 of"))
    assert listed(opened) == set(table.filter(pc.field("corruption.level") > 0)["key"].to_pylist())
    pressed = opened.find_elements("css selector", ".filter[data-name='corruption.level'] button[aria-pressed=true]")
    assert [one.text for one in pressed] == ["0.5", "1"]


def test_a_box_in_the_scatter_selects_everywhere(opened, table):
    opened.execute_script("explorer.change({x: 'train_error', y: 'test_error'})")
    drag(opened, opened.find_element("css selector", "#explorer-scatter .nsewdrag"), (0.01, 0.01), (0.99, 0.4))
    wait(lambda: "of" in opened.find_element("id", "explorer-count").text)
    errors = table["test_error"].to_numpy()
    low, high = errors.min(), errors.max()
    edge = low - 0.04 * (high - low) + 0.6 * 1.08 * (high - low)  # of the axis, which has some room at both ends
    assert listed(opened) == set(table.filter(pc.field("test_error") > edge)["key"].to_pylist())


def place_of(browser, selector):
    """Left, top, width and height of an element in the window, once it is in sight."""
    return browser.execute_script(
        "const box = document.querySelector(arguments[0]); box.scrollIntoView({block: 'center'});"
        "const {left, top, width, height} = box.getBoundingClientRect(); return [left, top, width, height]",
        selector,
    )


def test_a_lasso_selects_what_lies_in_it(opened):
    from selenium.webdriver import ActionChains

    opened.execute_script(
        "explorer.change({x: 'train_error', y: 'test_error'}); Plotly.relayout(explorer.scatter.plot, {dragmode: 'lasso'})"
    )
    left, top, width, height = place_of(opened, "#explorer-scatter canvas")
    corners = [(0.02, 0.98), (0.98, 0.98), (0.02, 0.02)]  # what lies below the diagonal from the upper left to the lower right
    chain = ActionChains(opened, duration=20)
    for index, (x, y) in enumerate([*corners, corners[0]]):
        chain.w3c_actions.pointer_action.move_to_location(round(left + x * width), round(top + y * height))
        if index == 0:
            chain.w3c_actions.pointer_action.pointer_down()
    chain.w3c_actions.pointer_action.pointer_up()
    chain.perform()
    wait(lambda: "of" in opened.find_element("id", "explorer-count").text)
    at = "return [...explorer.scatter.at.xs].map((x, point) => [explorer.data.keyOf(point), x, explorer.scatter.at.ys[point]])"
    places = [(key, x / width, y / height) for key, x, y in opened.execute_script(at)]
    assert listed(opened) == {key for key, x, y in places if x > 0.02 and y < 0.98 and y > x}


def test_the_command_is_copied(opened):
    opened.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    opened.execute_script("explorer.focus(2)")
    button = opened.find_element("id", "point-copy")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    command = opened.execute_script("return document.getElementById('point-command').textContent")
    assert command.startswith("cat > point.yaml")
    assert opened.execute_script("return getSelection().toString()").strip() == command.strip(), "it is selected where it cannot be copied"
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    assert opened.execute_async_script(read) == command


@pytest.fixture
def touch(opened):
    """Gestures of one finger: from place to place in the window, and away."""
    opened.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 1})

    def gesture(*places):
        for index, (x, y) in enumerate(places):
            event = {"type": "touchMove" if index else "touchStart", "touchPoints": [{"x": x, "y": y}]}
            opened.execute_cdp_cmd("Input.dispatchTouchEvent", event)
        opened.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    yield gesture
    opened.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_a_finger_selects_brushes_and_opens_a_point(opened, table, touch):
    opened.execute_script("explorer.change({x: 'train_error', y: 'test_error'})")
    left, top, width, height = place_of(opened, "#explorer-scatter canvas")
    x, y = opened.execute_script("return [explorer.scatter.at.xs[5], explorer.scatter.at.ys[5]]")
    touch((left + x, top + y))
    wait(lambda: opened.find_element("id", "point-key").text == opened.execute_script("return explorer.data.keyOf(5)"))
    assert len(listed(opened)) == table.num_rows, "a tap selects nothing"

    left, top, width, height = place_of(opened, "#explorer-scatter canvas")
    touch(*((left + share * width, top + 0.4 * share * height) for share in (0.01, 0.3, 0.6, 0.99)))
    wait(lambda: "of" in opened.find_element("id", "explorer-count").text)
    places = opened.execute_script("return [...explorer.scatter.at.ys].map((y, point) => [explorer.data.keyOf(point), y])")
    assert listed(opened) == {key for key, y in places if 0.004 * height < y < 0.396 * height}

    opened.execute_script("explorer.clear(); explorer.state.axes = ['corruption.level', 'test_error']; explorer.draw()")
    left, top, width, height = place_of(opened, "#explorer-parallel canvas")
    axis = left + opened.execute_script("return explorer.parallel.axes[0].left")
    before = opened.execute_script("return scrollY")
    touch(*((axis, top + share * height) for share in (0.05, 0.2, 0.4, 0.6)))
    wait(lambda: opened.find_element("id", "explorer-count").text.startswith("16 of"))
    assert opened.execute_script("return scrollY") == before, "the page stays where it is"


def test_the_table_is_sorted_by_a_click(opened, table):
    head = opened.find_element("css selector", "#points-table th[data-name=test_error] button")
    keys = "return [...document.querySelectorAll('#points-table button.key')].map((one) => one.title)"
    opened.execute_script("arguments[0].click()", head)
    assert opened.execute_script(keys) == table.sort_by("test_error")["key"].to_pylist()
    opened.execute_script("arguments[0].click()", head)
    assert opened.execute_script(keys) == table.sort_by([("test_error", "descending")])["key"].to_pylist()


def test_lines_join_means_over_seeds_alone(opened, table):
    opened.execute_script("explorer.change({x: 'parameters_per_sample', y: 'test_error', marks: 'means'})")
    drawn = opened.execute_script("return explorer.means().flatMap((line) => line.points.map((one) => [line.fit, one.x, one.y]))")
    by = ["parameters_per_sample", "optimizer.learning_rate", "corruption.level", "interpolated"]
    cells = table.group_by(by).aggregate([("test_error", "mean")]).to_pylist()
    expected = sorted((int(cell["interpolated"]), cell["parameters_per_sample"], cell["test_error_mean"]) for cell in cells)
    assert sorted(map(tuple, drawn)) == [pytest.approx(one) for one in expected]


def test_a_click_on_a_point_shows_how_to_train_it_again(opened, declared, table):
    """The command's spec declares that one point: the same key comes out."""
    from study.plan.points import declared_points
    from study.spec.reading import understand
    from study.spec.text import parsed

    opened.execute_script("explorer.change({x: 'parameters_per_sample', y: 'test_error', marks: 'points'})")
    for index in (0, 7, len(declared) - 1):
        key = table["key"][index].as_py()
        opened.execute_script("explorer.focus(explorer.evenly(1e6).find((one) => explorer.data.keyOf(one) === arguments[0]))", key)
        assert opened.find_element("id", "point-key").text == key
        command = opened.find_element("id", "point-command").text
        echoed = subprocess.run(["sh", "-c", command.partition("\ngaplab")[0].replace("> point.yaml ", "")], capture_output=True, text=True)
        again = understand(parsed(echoed.stdout))
        assert not again.left_open, "a probe would choose anew"
        assert [point.key for point in declared_points(again)] == [key]
        assert opened.execute_script("return document.getElementById('point-curve').data[0].x.length") == 12
    places = "return [...explorer.scatter.at.xs].map((x, one) => [explorer.data.keyOf(one), x, explorer.scatter.at.ys[one]])"
    keys, xs, ys = zip(*opened.execute_script(places), strict=True)
    x, y = xs[3], ys[3]
    there = {keys[one] for one in range(len(keys)) if np.hypot(xs[one] - x, ys[one] - y) < 1}  # a page lies at parts of a pixel
    assert len(there) < 4
    canvas = opened.find_element("css selector", "#explorer-scatter .nsewdrag")
    drag(opened, canvas, (x / canvas.size["width"], y / canvas.size["height"]), (x / canvas.size["width"], y / canvas.size["height"]))
    wait(lambda: opened.find_element("id", "point-key").text in there)


def test_many_points_are_no_part_of_the_document(open_page, tmp_path):
    (tmp_path / "records").mkdir()
    some = records(gap_study(seeds=5))
    many = pa.concat_tables([some] * 25)
    rng = np.random.default_rng(0)
    many = many.set_column(0, "key", pa.array([rng.bytes(16).hex() for _ in range(many.num_rows)]))
    many = many.set_column(many.column_names.index("seed"), "seed", pa.array(np.arange(many.num_rows)))
    pq.write_table(many, tmp_path / "records" / "all.parquet")
    (tmp_path / "curves").mkdir()
    curves = {name.name: many["key"] if name.name == "key" else pa.nulls(many.num_rows, name.type) for name in CURVES}
    pq.write_table(pa.table(curves | {"epoch": many["epochs"]}, CURVES), tmp_path / "curves" / "all.parquet")
    page = analysis.write_report(str(tmp_path), tmp_path / "report.html")
    browser = open_page(page)
    assert browser.find_element("id", "explorer-count").text == f"{many.num_rows:,} points"
    assert browser.execute_script("return document.querySelectorAll('#explore *, #points *').length") < 2_500
    assert browser.execute_script("return explorer.parallel.drawnCount") <= 3_000
    assert page.stat().st_size < 15e6
