// The figures of the report: plotly.js draws them, in colours of the theme; their panels and their legend are linked.

const figures = JSON.parse(texts.figures);
const dark = matchMedia("(prefers-color-scheme: dark)");
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const plotsOf = (figure) => figure.plots.map((_, index) => document.getElementById(`plot-${figure.name}-${index}`));
const options = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
if (!matchMedia("(hover: hover)").matches) options.displayModeBar = false;
let printing = false;

function coloured(figure, trace) {
  const style = getComputedStyle(document.documentElement);
  const meta = trace.meta;
  if (!meta) return {};
  if (meta.role === "reference") return { "line.color": style.getPropertyValue("--soft") };
  const palette = figure.colours[dark.matches && !printing ? "dark" : "light"];
  const index = Math.max(figure.lines.findIndex((line) => same(line, meta.line)), 0);
  const colour = palette[index];
  if (meta.role === "band") return { fillcolor: colour + (figure.lines.length > 6 ? "10" : "29"), "line.color": colour };
  if (meta.role === "threshold") return { "line.color": colour, "marker.color": colour };
  if (meta.role === "run") return { "marker.color": colour, "marker.opacity": 0.45 };
  return { "line.color": colour, "marker.color": colour };
}

function layoutOf(plot) {
  const axis = { zeroline: false, automargin: true };
  const title = { font: { size: 14 }, x: 0, xref: "paper", xanchor: "left", y: 1, yref: "container", yanchor: "top", pad: { t: 8 } };
  return {
    xaxis: { ...axis, ...plot.layout.xaxis, showline: true },
    yaxis: { ...axis, ...plot.layout.yaxis, title: undefined },
    title: { ...title, text: plot.layout.yaxis.title.text },
    font: { family: getComputedStyle(document.body).fontFamily, size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 34, b: 44 }, showlegend: false, hovermode: "closest", hoverlabel: { align: "left" },
  };
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  const [ink, soft, rule, card] = ["--ink", "--soft", "--rule", "--card"].map((name) => style.getPropertyValue(name));
  return {
    "font.color": ink, "title.font.color": ink, "hoverlabel.font.color": ink, "hoverlabel.bgcolor": card, "hoverlabel.bordercolor": rule,
    "xaxis.gridcolor": rule, "xaxis.linecolor": rule, "yaxis.gridcolor": rule, "yaxis.linecolor": rule,
    "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": soft, "modebar.activecolor": ink,
  };
}

function draw(figure) {
  plotsOf(figure).forEach((box, index) => {
    const plot = figure.plots[index];
    const data = plot.data.map((trace) => filled(structuredClone(trace), coloured(figure, trace)));
    Plotly.newPlot(box, data, filled(layoutOf(plot), theme()), options);
    if (figure.linked) box.on("plotly_relayout", (change) => follow(figure, box, change));
  });
  legend(figure);
  paintLegend(figure);
}

// An object with values at paths such as "line.color".
function filled(object, values) {
  for (const [path, value] of Object.entries(values)) {
    const names = path.split(".");
    const last = names.pop();
    let inner = object;
    for (const name of names) inner = inner[name] ??= {};
    inner[last] = value;
  }
  return object;
}

// The panels of a figure over one axis show one stretch of it: a zoom in one is a zoom in all.
function follow(figure, zoomed, change) {
  if (!Object.keys(change).some((name) => name.startsWith("xaxis.range") || name === "xaxis.autorange")) return;
  const wanted = zoomed.layout.xaxis.range;
  for (const box of plotsOf(figure)) {
    const own = box.layout && box.layout.xaxis.range;
    if (box === zoomed || !own || own.every((end, index) => Math.abs(end - wanted[index]) < 1e-9)) continue;
    Plotly.relayout(box, { "xaxis.range": [...wanted] });
  }
}

// Colour a figure anew, all traces at once: plotly.js draws it whole for each change.
function paint(figure) {
  plotsOf(figure).forEach((box, index) => {
    const changes = figure.plots[index].data.map((trace) => coloured(figure, trace));
    const paths = [...new Set(changes.flatMap((change) => Object.keys(change)))];
    Plotly.update(box, Object.fromEntries(paths.map((path) => [path, changes.map((change) => change[path])])), theme());
  });
  paintLegend(figure);
}

function paintLegend(figure) {
  document.querySelectorAll(`#legend-${figure.name} i`).forEach((mark, index) => {
    mark.style.setProperty("--line", figure.colours[dark.matches && !printing ? "dark" : "light"][index]);
  });
}

function legend(figure) {
  const box = document.getElementById(`legend-${figure.name}`);
  const named = new Map();
  figure.plots.forEach((plot) => plot.data.forEach((trace) => {
    if (trace.meta && trace.meta.line && trace.legendgroup) named.set(JSON.stringify(trace.meta.line), trace.name);
  }));
  if (figure.lines.length < 2) return;
  const head = document.createElement("span");
  head.textContent = figure.legend.replaceAll("$", "");
  box.append(head);
  const hidden = new Set();
  figure.lines.forEach((line) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "click: hide or show; double click: only this one";
    button.setAttribute("aria-pressed", "true");
    const label = new DOMParser().parseFromString(named.get(JSON.stringify(line)) || "", "text/html").body.textContent;
    button.append(document.createElement("i"), label);
    const key = JSON.stringify(line);
    const apply = () => {
      box.querySelectorAll("button").forEach((one, index) => one.setAttribute("aria-pressed", String(!hidden.has(JSON.stringify(figure.lines[index])))));
      plotsOf(figure).forEach((target, index) => {
        const visible = figure.plots[index].data.map((trace) => !(trace.meta && trace.meta.line && hidden.has(JSON.stringify(trace.meta.line))));
        Plotly.restyle(target, { visible });
      });
    };
    button.addEventListener("click", () => { hidden.has(key) ? hidden.delete(key) : hidden.add(key); apply(); });
    button.addEventListener("dblclick", () => {
      const alone = figure.lines.every((one) => same(one, line) || hidden.has(JSON.stringify(one)));
      hidden.clear();
      if (!alone) figure.lines.filter((one) => !same(one, line)).forEach((one) => hidden.add(JSON.stringify(one)));
      apply();
    });
    box.append(button);
  });
}

function drawSearch(cell, number) {
  cell.forEach((one, index) => {
    const layout = {
      ...one.figure.layout, margin: { l: 52, r: 12, t: 28, b: 44 }, hoverlabel: { align: "left" },
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "#1d2430" },
    };
    Plotly.newPlot(`search-${number}-${index}`, structuredClone(one.figure.data), layout, options);
  });
}

function sortable(table) {
  table.querySelectorAll("th").forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    const body = table.tBodies[0];
    const value = (row) => {
      const cell = row.cells[column];
      return cell.dataset.sort === undefined ? cell.textContent : Number(cell.dataset.sort);
    };
    const order = (one, other) => typeof one === "number" && typeof other === "number" ? one - other
      : typeof one === "number" ? -1 : typeof other === "number" ? 1 : one.localeCompare(other, "en", { numeric: true });
    const rows = [...body.rows].map((row) => [value(row), row]).sort((one, other) => (up ? 1 : -1) * order(one[0], other[0]));
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows.map((pair) => pair[1]));
  }));
}
