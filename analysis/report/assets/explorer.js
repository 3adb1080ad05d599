// The explorer: one state of what is shown, which its panel, its charts and its table all read and change.

const MOST_MEANS = 400; // lines of means: of more as many are drawn, evenly
const ROWS = 25; // of a page of the table: the other points are no part of the document

class Explorer {
  constructor(description, data) {
    Object.assign(this, { description, data, ready: false });
    this.columns = [...data.columns.values()];
    this.varying = this.columns.filter((one) => one.ends.low !== one.ends.high || (one.codes && one.values.length > 1));
    const fit = data.columns.get("interpolated");
    this.fit = fit && fit.codes ? Uint8Array.from(fit.codes, (code) => (fit.values[code] === true ? 1 : 0)) : null;
    const completed = data.columns.get("status");
    this.completed = completed ? Uint8Array.from(completed.codes, (code) => (completed.values[code] === "completed" ? 1 : 0)) : null;
    const { x, y, colour, axes } = description.start;
    const log = (name) => data.columns.get(name).log;
    this.state = {
      x, y, colour, axes: [...axes], xLog: log(x), yLog: false, marks: "points", filters: new Map(), picked: null, focus: -1,
      sort: { name: null, up: true }, page: 0,
    };
    if (served !== undefined) this.restore(JSON.parse(sessionStorage.getItem("explorer") || "{}"));
    this.shown = new Uint8Array(data.count).fill(1);
    this.panel = new Panel(this);
    this.scatter = new Scatter(document.getElementById("explorer-scatter"), this);
    this.parallel = new Parallel(document.getElementById("explorer-parallel"), this);
    this.table = new PointTable(this);
    this.ready = true;
    this.scatter.frame();
    this.apply();
  }

  // What the reader chose, by names and values, which stay when new records come.
  chosen() {
    const { x, y, colour, axes, xLog, yLog, marks, sort, filters } = this.state;
    const kept = [...filters].map(([name, filter]) => {
      const { values } = this.data.columns.get(name);
      return [name, filter.codes ? { values: [...filter.codes].map((code) => values[code]) } : filter];
    });
    return { x, y, colour, axes, xLog, yLog, marks, sort, filters: kept };
  }

  restore({ filters = [], axes = this.state.axes, sort = this.state.sort, ...choices }) {
    const known = (name) => this.data.columns.has(name);
    if ([choices.x, choices.y, choices.colour].every(known)) Object.assign(this.state, choices);
    this.state.axes = axes.filter(known);
    if (sort.name === "key" || known(sort.name)) this.state.sort = sort;
    for (const [name, filter] of filters.filter((one) => known(one[0]))) {
      const { values, few } = this.data.columns.get(name);
      if (!filter.values) this.state.filters.set(name, filter);
      else if (few) this.state.filters.set(name, { codes: new Set(filter.values.map((one) => values.indexOf(one)).filter((code) => code >= 0)) });
    }
  }

  columnsShown() {
    return { x: this.data.columns.get(this.state.x), y: this.data.columns.get(this.state.y) };
  }

  colouring() {
    const name = dark.matches && !printing ? "dark" : "light";
    if (!this.coloured || this.coloured.of !== this.state.colour + name) {
      const style = getComputedStyle(document.documentElement);
      const [ink, soft, paper, accent] = ["--ink", "--soft", "--paper", "--accent"].map((one) => style.getPropertyValue(one).trim());
      const found = this.data.columns.get(this.state.colour).colours(this.description.palettes[name]);
      this.coloured = { ...found, of: this.state.colour + name, grey: "#8d949e", ink, soft, paper, accent };
    }
    return this.coloured;
  }

  // Which points are shown: those that every filter keeps, and that are selected where a selection was made.
  apply() {
    const { filters, picked } = this.state;
    const shown = picked ? Uint8Array.from(picked) : new Uint8Array(this.data.count).fill(1);
    for (const [name, filter] of filters) {
      const column = this.data.columns.get(name);
      if (filter.codes) {
        const kept = Uint8Array.from({ length: column.values.length + 1 }, (_, code) => (filter.codes.has(code) ? 1 : 0));
        for (let point = 0; point < shown.length; point += 1) shown[point] &= kept[column.codes[point]];
      } else {
        const { low = -Infinity, high = Infinity } = filter;
        const { places } = column;
        for (let point = 0; point < shown.length; point += 1) if (!(places[point] >= low && places[point] <= high)) shown[point] = 0;
      }
    }
    this.shown = shown;
    this.shownCount = shown.reduce((sum, one) => sum + one, 0);
    this.state.page = 0;
    this.table.order();
    this.draw();
  }

  draw() {
    if (!this.ready) return;
    this.scatter.draw();
    this.parallel.draw();
    this.table.draw();
    this.panel.draw();
  }

  filter(name, filter) {
    if (filter === null) this.state.filters.delete(name);
    else this.state.filters.set(name, filter);
    this.apply();
  }

  // Keep what lies between two places of a column: by value where its values are filtered one by one.
  keepBetween(name, low, high) {
    const column = this.data.columns.get(name);
    if (!column.few) return this.filter(name, { low, high });
    const places = column.values.map((value, code) => (column.kind === "name" ? code : value));
    const room = column.kind === "name" ? 0.3 : 0.01 * (column.ends.high - column.ends.low);
    return this.filter(name, { codes: new Set(places.flatMap((place, code) => (place >= low - room && place <= high + room ? [code] : []))) });
  }

  pick(picked) {
    this.state.picked = picked && picked.some((one) => one) ? picked : null;
    this.apply();
  }

  focus(point) {
    this.state.focus = point;
    this.draw();
    showPoint(this, point);
  }

  clear() {
    this.state.filters.clear();
    this.state.picked = null;
    Plotly.relayout(this.scatter.plot, { selections: [] });
    this.apply();
  }

  change(change) {
    const { state } = this;
    Object.assign(state, change);
    if ("x" in change) state.xLog = this.data.columns.get(state.x).log;
    if ("y" in change) state.yLog = this.data.columns.get(state.y).log && this.data.columns.get(state.y).role === "setting";
    if (("x" in change || "y" in change) && state.picked) state.picked = null; // its outline was drawn over other axes
    if (!this.description.lines[state.x]) state.marks = "points";
    if (["x", "y", "xLog", "yLog"].some((name) => name in change)) this.scatter.frame();
    this.apply();
  }

  // At most so many of the points that are shown, evenly over all.
  evenly(most) {
    const step = Math.max(1, this.shownCount / most);
    const found = [];
    for (let point = 0, seen = 0, next = 0; point < this.shown.length; point += 1) {
      if (!this.shown[point]) continue;
      if (seen >= next) { found.push(point); next += step; }
      seen += 1;
    }
    return found;
  }

  // Lines of means over seeds alone: runs of a line agree in all that varies but the axis; those that fit and those that did not are two.
  means() {
    const by = this.description.lines[this.state.x].map((name) => this.data.columns.get(name)).filter(Boolean);
    const { x, y } = this.columnsShown();
    const { index } = this.colouring();
    const lines = new Map();
    for (let point = 0; point < this.shown.length; point += 1) {
      if (!this.shown[point] || (this.completed && !this.completed[point])) continue;
      const [across, up] = [x.places[point], y.places[point]];
      if (!Number.isFinite(across) || !Number.isFinite(up)) continue;
      const fit = this.fit ? this.fit[point] : 1;
      const name = `${fit}|${by.map((column) => column.places[point]).join("|")}`;
      if (!lines.has(name)) lines.set(name, { fit, colour: index[point], cells: new Map() });
      const { cells } = lines.get(name);
      const cell = cells.get(across) || { x: across, sum: 0, seeds: 0 };
      cell.sum += up;
      cell.seeds += 1;
      cells.set(across, cell);
    }
    this.linesCount = lines.size;
    const step = Math.max(1, lines.size / MOST_MEANS);
    const drawn = [...lines.values()].filter((_, index) => Math.floor(index / step) !== Math.floor((index - 1) / step));
    return drawn.map((line) => ({
      ...line, points: [...line.cells.values()].map((cell) => ({ x: cell.x, y: cell.sum / cell.seeds })).sort((one, other) => one.x - other.x),
    }));
  }

  summary(point) {
    const line = (text, tag = "div") => Object.assign(document.createElement(tag), { textContent: text });
    const settings = this.varying.filter((one) => one.role === "setting" && one.exact(point) !== null);
    const { x, y } = this.columnsShown();
    const named = [...new Set([...settings, x, y, this.data.columns.get(this.state.colour)])].slice(0, 14);
    const fit = !this.fit ? "" : this.fit[point] ? "reached the train target" : "did not reach the train target";
    return [line(this.data.keyOf(point), "b"), ...named.map((one) => line(`${one.label} ${one.text(point) || "none"}`)), line(fit)];
  }
}

// What varies: the axes and the colour to choose, and a filter for each column.
class Panel {
  constructor(explorer) {
    this.explorer = explorer;
    const { state, varying, columns } = explorer;
    const choices = [...new Set([...varying, ...columns.filter((one) => [state.x, state.y, state.colour].includes(one.name))])];
    for (const which of ["x", "y", "colour"]) {
      const select = document.getElementById(`explorer-${which}`);
      for (const [title, role] of [["settings", "setting"], ["outcomes", "outcome"]]) {
        const group = Object.assign(document.createElement("optgroup"), { label: title });
        group.append(...choices.filter((one) => one.role === role && one.name !== "reason").map((one) => new Option(one.label, one.name)));
        if (group.children.length) select.append(group);
      }
      select.value = state[which];
      select.addEventListener("change", () => explorer.change({ [which]: select.value }));
    }
    if (matchMedia("(max-width: 760px)").matches) document.querySelector(".panel").open = false;
    for (const which of ["xLog", "yLog"]) {
      document.getElementById(`explorer-${which}`).addEventListener("change", (event) => explorer.change({ [which]: event.target.checked }));
    }
    document.getElementById("explorer-marks").addEventListener("change", (event) => explorer.change({ marks: event.target.value }));
    document.getElementById("explorer-clear").addEventListener("click", () => explorer.clear());
    const filters = document.getElementById("explorer-filters");
    const later = Object.assign(document.createElement("details"), { className: "outcomes" });
    later.append(Object.assign(document.createElement("summary"), { textContent: "Outcomes" }));
    this.parts = varying.map((column) => this.part(column)).filter(Boolean);
    for (const { column, box } of this.parts) (column.role === "setting" || column.few ? filters : later).append(box);
    if (later.children.length > 1) filters.append(later);
    const chosen = document.getElementById("explorer-axes");
    this.axes = choices.filter((one) => one.kind === "number" || one.few).map((column) => {
      const button = chip(column.label);
      button.addEventListener("click", () => {
        const { axes } = explorer.state;
        explorer.state.axes = axes.includes(column.name) ? axes.filter((name) => name !== column.name) : [...axes, column.name];
        explorer.draw();
      });
      chosen.append(button);
      return { column, button };
    });
  }

  part(column) {
    const box = Object.assign(document.createElement("div"), { className: "filter" });
    box.dataset.name = column.name;
    const { explorer } = this;
    if (column.few) {
      const head = Object.assign(document.createElement("span"), { textContent: column.label });
      const buttons = column.values.map((value, code) => {
        const button = chip(shortly(value, column.whole));
        button.addEventListener("click", () => {
          const filter = explorer.state.filters.get(column.name);
          const codes = new Set(filter ? filter.codes : []);
          codes.has(code) ? codes.delete(code) : codes.add(code);
          explorer.filter(column.name, codes.size && codes.size < column.values.length ? { codes } : null);
        });
        return button;
      });
      box.append(head, ...buttons);
      return { column, box, buttons };
    }
    if (column.kind !== "number") return null; // such as reasons: they stand in the table
    const head = Object.assign(document.createElement("span"), { textContent: column.label });
    const ends = ["low", "high"].map((end) => {
      const input = Object.assign(document.createElement("input"), { type: "number", step: "any", placeholder: shortly(column.ends[end]) });
      input.setAttribute("aria-label", `${column.label}: ${end === "low" ? "at least" : "at most"}`);
      input.addEventListener("change", () => {
        const filter = { ...explorer.state.filters.get(column.name) };
        if (input.value === "") delete filter[end];
        else filter[end] = Number(input.value);
        explorer.filter(column.name, Object.keys(filter).length ? filter : null);
      });
      return input;
    });
    box.append(head, ends[0], "to", ends[1]);
    return { column, box, ends };
  }

  draw() {
    const { explorer } = this;
    const { state } = explorer;
    for (const { column, box, buttons, ends } of this.parts) {
      const filter = state.filters.get(column.name);
      box.classList.toggle("active", filter !== undefined);
      if (buttons) buttons.forEach((button, code) => button.setAttribute("aria-pressed", String(Boolean(filter && filter.codes.has(code)))));
      else ends.forEach((input, index) => {
        const value = filter && filter[index ? "high" : "low"];
        if (document.activeElement !== input) input.value = value === undefined ? "" : Number(value.toPrecision(4));
      });
    }
    for (const { column, button } of this.axes) button.setAttribute("aria-pressed", String(state.axes.includes(column.name)));
    for (const which of ["x", "y", "colour"]) document.getElementById(`explorer-${which}`).value = state[which];
    const { x, y } = explorer.columnsShown();
    for (const [which, column] of [["x", x], ["y", y]]) {
      const box = document.getElementById(`explorer-${which}Log`);
      box.checked = state[`${which}Log`];
      box.disabled = column.kind === "name" || column.ends.high <= 0;
    }
    const marks = document.getElementById("explorer-marks");
    marks.value = state.marks;
    marks.options[1].disabled = !explorer.description.lines[state.x];
    const { count } = explorer.data;
    const [all, shown] = [count, explorer.shownCount].map((one) => one.toLocaleString("en-US"));
    document.getElementById("explorer-count").textContent = explorer.shownCount === count ? `${all} points` : `${shown} of ${all} points`;
    document.getElementById("explorer-clear").hidden = !state.filters.size && !state.picked;
    document.getElementById("explorer-note").textContent = this.note();
    this.key();
  }

  // What the charts leave out, and how to read them.
  note() {
    const { explorer } = this;
    const { state, shown } = explorer;
    const { x, y } = explorer.columnsShown();
    let left = 0;
    const drawable = (place, log) => Number.isFinite(place) && (!log || place > 0);
    for (let point = 0; point < shown.length; point += 1) {
      if (shown[point] && !(drawable(x.places[point], state.xLog) && drawable(y.places[point], state.yLog))) left += 1;
    }
    const why = state.xLog || state.yLog ? "they lack a value, or it is not positive and the axis is logarithmic" : "they lack a value";
    const { drawnCount } = explorer.parallel;
    return [
      state.marks === "means" ? `Lines join means over seeds; dashed and hollow: seeds that did not reach their train target.${explorer.linesCount > MOST_MEANS ? ` ${MOST_MEANS} of ${explorer.linesCount.toLocaleString("en-US")} lines are drawn.` : ""}` : explorer.fit ? "Hollow: runs that did not reach their train target." : "",
      left ? `${left.toLocaleString("en-US")} points are not drawn above: ${why}.` : "",
      drawnCount < explorer.shownCount ? `The lines below are ${drawnCount.toLocaleString("en-US")} of ${explorer.shownCount.toLocaleString("en-US")} points, evenly taken.` : "",
    ].filter(Boolean).join(" ");
  }

  // What the colours stand for.
  key() {
    const { explorer } = this;
    const column = explorer.data.columns.get(explorer.state.colour);
    const { palette } = explorer.colouring();
    const box = document.getElementById("explorer-key");
    const head = Object.assign(document.createElement("span"), { textContent: column.label });
    if (column.few) {
      box.replaceChildren(head, ...column.values.map((value, code) => {
        const item = Object.assign(document.createElement("span"), { className: "item", textContent: shortly(value, column.whole) });
        const mark = document.createElement("i");
        mark.style.setProperty("--line", palette[code]);
        item.prepend(mark);
        return item;
      }));
      return;
    }
    const ramp = Object.assign(document.createElement("i"), { className: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${palette.join(", ")})`;
    const { low, high, positive } = column.ends;
    const ends = [column.log ? positive : low, high].map((value) => Object.assign(document.createElement("span"), { className: "item", textContent: shortly(value) }));
    box.replaceChildren(head, ends[0], ramp, ends[1], ...(column.log ? [Object.assign(document.createElement("span"), { textContent: "(log)" })] : []));
  }
}

function chip(text) {
  return Object.assign(document.createElement("button"), { type: "button", className: "chip", textContent: text });
}

// The points that are shown, a page at a time.
class PointTable {
  constructor(explorer) {
    this.explorer = explorer;
    this.box = document.getElementById("points-table");
    const rank = (one) => (one.name === "status" ? 0 : one.role === "setting" ? 1 : one.name === "reason" ? 3 : 2);
    this.columns = [...explorer.columns].sort((one, other) => rank(one) - rank(other));
    const heads = [{ name: "key" }, ...this.columns].map((column) => {
      const head = Object.assign(document.createElement("th"), { scope: "col", className: column.kind === "number" ? "number" : "" });
      head.append(Object.assign(document.createElement("button"), { type: "button", textContent: column.name, title: column.label || "" }));
      head.firstChild.addEventListener("click", () => this.sort(column.name));
      head.dataset.name = column.name;
      return head;
    });
    this.box.tHead.rows[0].append(...heads);
    document.getElementById("points-before").addEventListener("click", () => this.turn(-1));
    document.getElementById("points-after").addEventListener("click", () => this.turn(1));
    document.getElementById("points-download").addEventListener("click", () => this.save());
  }

  sort(name) {
    const { state } = this.explorer;
    state.sort = { name, up: !(state.sort.name === name && state.sort.up) };
    state.page = 0;
    this.order();
    this.draw();
  }

  turn(by) {
    this.explorer.state.page += by;
    this.draw();
  }

  // The points that are shown, in the order of the table; those without a value stand last.
  order() {
    const { shown, shownCount, data, state } = this.explorer;
    const order = new Uint32Array(shownCount);
    for (let point = 0, index = 0; point < shown.length; point += 1) if (shown[point]) order[index++] = point;
    const sign = state.sort.up ? 1 : -1;
    if (state.sort.name === "key") {
      const keys = Array.from({ length: data.count }, (_, point) => (shown[point] ? data.keyOf(point) : ""));
      order.sort((one, other) => (keys[one] < keys[other] ? -sign : sign));
    } else if (state.sort.name) {
      const { places } = data.columns.get(state.sort.name);
      order.sort((one, other) => {
        const [left, right] = [places[one], places[other]];
        if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right) || one - other;
        return sign * (left < right ? -1 : left > right ? 1 : 0) || one - other;
      });
    }
    this.ordered = order;
  }

  draw() {
    const { explorer, ordered } = this;
    const { state, data } = explorer;
    const pages = Math.max(1, Math.ceil(ordered.length / ROWS));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const cell = (text, kind) => Object.assign(document.createElement("td"), { textContent: text, className: kind });
    const rows = Array.from(ordered.subarray(state.page * ROWS, (state.page + 1) * ROWS), (point) => {
      const row = document.createElement("tr");
      const key = document.createElement("td");
      key.append(Object.assign(document.createElement("button"), { type: "button", className: "key", textContent: data.keyOf(point).slice(0, 10), title: data.keyOf(point) }));
      row.append(key, ...this.columns.map((column) => cell(column.text(point), column.kind === "number" ? "number" : "text")));
      row.addEventListener("click", () => explorer.focus(point));
      row.setAttribute("aria-selected", String(point === state.focus));
      return row;
    });
    this.box.tBodies[0].replaceChildren(...rows);
    for (const head of this.box.tHead.rows[0].cells) {
      if (head.dataset.name === state.sort.name) head.setAttribute("aria-sort", state.sort.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
    document.getElementById("points-page").textContent = `Page ${(state.page + 1).toLocaleString("en-US")} of ${pages.toLocaleString("en-US")}`;
    document.getElementById("points-before").disabled = state.page === 0;
    document.getElementById("points-after").disabled = state.page === pages - 1;
  }

  save() {
    const quoted = (value) => (value === null ? "" : /[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
    const lines = [["key", ...this.columns.map((one) => one.name)].map(quoted).join(",")];
    for (const point of this.ordered) {
      lines.push([this.explorer.data.keyOf(point), ...this.columns.map((one) => one.exact(point))].map(quoted).join(","));
    }
    saveAs("points.csv", `${lines.join("\n")}\n`);
  }
}

// One point: what it was, what came out, how it trained, and how to train it again.
function showPoint(explorer, point) {
  const { data, description } = explorer;
  document.getElementById("point-empty").hidden = true;
  document.getElementById("point-body").hidden = false;
  document.getElementById("point-key").textContent = data.keyOf(point);
  const facts = (columns) => columns.flatMap((column) => {
    const value = column.exact(point);
    if (value === null) return [];
    const shown = typeof value === "number" && column.role !== "setting" ? shortly(value, column.whole) : String(value);
    return [Object.assign(document.createElement("dt"), { textContent: column.label }), Object.assign(document.createElement("dd"), { textContent: shown })];
  });
  const named = [...data.columns.values()];
  document.getElementById("point-settings").replaceChildren(...facts(named.filter((one) => one.role === "setting")));
  document.getElementById("point-outcome").replaceChildren(...facts(named.filter((one) => one.role !== "setting")));
  const text = reproduction(explorer, point);
  document.getElementById("point-again").hidden = text === null;
  document.getElementById("point-command").textContent = text || "";
  const curve = data.curveOf(point);
  const box = document.getElementById("point-curve");
  box.hidden = curve === null;
  document.getElementById("point-curve-none").hidden = curve !== null;
  if (curve) drawCurve(box, curve);
}

function drawCurve(box, curve) {
  const names = explorer.description.palettes[dark.matches && !printing ? "dark" : "light"].names;
  const trace = (y, name, colour) => ({ x: curve.epoch, y, name, mode: curve.epoch.length > 2 ? "lines" : "lines+markers", line: { color: colour, width: 2 }, hovertemplate: `epoch %{x}: ${name} %{y:.4f}<extra></extra>` });
  const axis = { zeroline: false, showline: true, automargin: true };
  const layout = {
    xaxis: { ...axis, title: { text: "epoch" } }, yaxis: { ...axis, title: { text: "error (of regression: squared error / variance)" }, rangemode: "tozero" },
    font: { family: getComputedStyle(document.body).fontFamily, size: 12 }, margin: { l: 52, r: 10, t: 8, b: 40 }, showlegend: true,
    legend: { x: 1, xanchor: "right", y: 1, bgcolor: "rgba(0,0,0,0)" }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
  };
  Plotly.react(box, [trace(curve.train, "train error", names[0]), trace(curve.test, "test error", names[1])], layout, { ...options, displayModeBar: false });
  Plotly.relayout(box, theme());
}

// A spec of this one point, and the command that trains it: a key is the hash of what counts, so it comes out the same.
function reproduction(explorer, point) {
  const { data, description } = explorer;
  if (!description.point) return null;
  const fields = { ...description.point.fields };
  for (const column of data.columns.values()) {
    if (!column.stated) continue;
    const value = column.exact(point);
    if (value !== column.default || column.always) fields[column.name] = value;
  }
  const groups = new Map();
  const plain = [];
  for (const [name, value] of Object.entries(fields)) {
    const dot = name.indexOf(".");
    const written = (own) => `${own}: ${JSON.stringify(value)}`;
    if (dot < 0) plain.push(`  ${written(name)}`);
    else groups.set(name.slice(0, dot), [...(groups.get(name.slice(0, dot)) || []), written(name.slice(dot + 1))]);
  }
  const spec = [
    `study: point-${data.keyOf(point).slice(0, 12)}`,
    ...Object.entries(description.point.spec).map(([name, value]) => `${name}: ${JSON.stringify(value)}`),
    "trial:", ...[...groups].map(([group, inner]) => `  ${group}: {${inner.join(", ")}}`), ...plain,
  ];
  return `cat > point.yaml <<'END'\n${spec.join("\n")}\nEND\ngaplab run point.yaml`;
}

let explorer = null;

async function openExplorer() {
  const description = JSON.parse(document.getElementById("explorer-description").textContent);
  const data = await unpacked(description);
  document.getElementById("explorer-body").hidden = false;
  explorer = new Explorer(description, data);
  document.getElementById("explorer-opening").remove();
  document.getElementById("point-copy").addEventListener("click", () => {
    const command = document.getElementById("point-command");
    getSelection().selectAllChildren(command);
    if (navigator.clipboard) navigator.clipboard.writeText(command.textContent).catch(() => {});
  });
}

function repaintExplorer() {
  if (!explorer) return;
  explorer.scatter.frame();
  explorer.draw();
  if (explorer.state.focus >= 0) showPoint(explorer, explorer.state.focus);
}
