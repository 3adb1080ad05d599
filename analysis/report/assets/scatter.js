// One point against another: plotly.js draws the axes and gives zoom and selection; the points are drawn on a canvas above them.
// A canvas of two dimensions draws 100,000 points without WebGL, which remote desktops lack.

const MARGIN = { l: 62, r: 14, t: 12, b: 48 };

class Scatter {
  constructor(box, explorer) {
    Object.assign(this, { box, explorer });
    this.canvas = document.createElement("canvas");
    this.tip = document.createElement("div");
    this.canvas.className = "marks";
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.plot = document.createElement("div");
    box.append(this.plot, this.canvas, this.tip);
    this.axes = null;
  }

  // Draw the axes anew, at their whole range: for other columns or another theme. The points are drawn by whoever calls.
  frame() {
    const { x, y } = this.explorer.columnsShown();
    const layout = {
      xaxis: this.axisOf(x, this.explorer.state.xLog), yaxis: this.axisOf(y, this.explorer.state.yLog),
      font: { family: getComputedStyle(document.body).fontFamily, size: 12 }, margin: MARGIN, showlegend: false, dragmode: "select",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: false, newselection: { line: { width: 1, dash: "dot" } },
    };
    const none = { x: [null], y: [null], mode: "markers", hoverinfo: "skip" }; // plotly.js selects only where there is a trace
    const config = { ...options, responsive: true, displayModeBar: true, modeBarButtons: [["select2d", "lasso2d", "zoom2d", "pan2d", "resetScale2d"]] };
    const first = !this.plot.data;
    Plotly.newPlot(this.plot, [none], layout, config);
    Plotly.relayout(this.plot, { ...theme(), "newselection.line.color": getComputedStyle(document.documentElement).getPropertyValue("--ink") });
    this.axes = { x: this.scaleOf("x"), y: this.scaleOf("y") };
    for (const event of ["plotly_relayout", "plotly_relayouting"]) this.plot.on(event, () => this.moved());
    this.plot.on("plotly_selected", (event) => event && this.pick(event));
    this.plot.on("plotly_deselect", () => this.explorer.pick(null));
    if (first) this.listen();
  }

  axisOf(column, log) {
    const { low, high, positive } = column.ends;
    const scale = log ? Math.log10 : (value) => value;
    let [from, to] = [scale(log ? positive : low), scale(high)];
    if (column.kind === "name") [from, to] = [-0.5, Math.max(column.values.length - 0.5, 0.5)];
    const room = column.kind === "name" ? 0 : 0.04 * (to - from) || 0.5;
    const ticks = column.kind === "name" ? { tickvals: column.values.map((_, code) => code), ticktext: column.values.map(escaped) } : {};
    const axis = { title: { text: escaped(column.label), standoff: 8 }, type: log ? "log" : "linear", zeroline: false, showline: true };
    return { ...axis, ...ticks, range: [from - room, to + room], ...(log ? { dtick: to - from > 1.2 ? 1 : "D2" } : {}) };
  }

  scaleOf(letter) {
    const axis = this.plot.layout[`${letter}axis`];
    return { log: axis.type === "log", range: [...axis.range] };
  }

  moved() {
    this.axes = { x: this.scaleOf("x"), y: this.scaleOf("y") };
    this.tip.hidden = true;
    this.draw();
  }

  // The pixel of each point in the canvas, in CSS pixels; NaN where an axis cannot show it.
  pixels() {
    const { x, y } = this.explorer.columnsShown();
    const along = (places, { log, range }, from, to) => {
      const found = new Float32Array(places.length);
      const factor = (to - from) / (range[1] - range[0]);
      for (let point = 0; point < found.length; point += 1) {
        const place = log ? Math.log10(places[point] > 0 ? places[point] : NaN) : places[point];
        found[point] = from + factor * (place - range[0]);
      }
      return found;
    };
    return { xs: along(x.places, this.axes.x, 0, this.canvas.clientWidth), ys: along(y.places, this.axes.y, this.canvas.clientHeight, 0) };
  }

  draw() {
    if (!this.axes) return;
    const { explorer, canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [this.box.clientWidth - MARGIN.l - MARGIN.r, this.box.clientHeight - MARGIN.t - MARGIN.b];
    Object.assign(canvas.style, { left: `${MARGIN.l}px`, top: `${MARGIN.t}px`, width: `${width}px`, height: `${height}px` });
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    const context = canvas.getContext("2d");
    this.at = this.pixels();
    const radius = explorer.data.count > 20_000 ? 1.6 : explorer.data.count > 3_000 ? 2.4 : 3.4;
    const colours = explorer.colouring();
    if (explorer.state.marks === "points") this.drawPoints(context, colours, radius * ratio, ratio);
    context.scale(ratio, ratio);
    if (explorer.state.marks === "means") this.drawMeans(context, colours);
    context.globalAlpha = 1;
    const focus = explorer.state.focus;
    if (focus >= 0 && Number.isFinite(this.at.xs[focus] + this.at.ys[focus])) {
      context.strokeStyle = colours.ink;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(this.at.xs[focus], this.at.ys[focus], radius + 4, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  // Stamp the points into the pixels: those that are not shown faintly below, then the others in their colours.
  drawPoints(context, colours, radius, ratio) {
    const { shown, shownCount, data, fit } = this.explorer;
    const { width, height } = context.canvas;
    const image = new Picture(width, height);
    const marks = [stampOf(radius, false), stampOf(radius, true)];
    const palette = [...colours.palette, colours.grey].map(channels);
    const grey = palette.length - 1;
    const { xs, ys } = this.at;
    const put = (point, colour, alpha) => image.stamp(xs[point] * ratio, ys[point] * ratio, marks[fit && !fit[point] ? 1 : 0], palette[colour], alpha);
    if (shownCount < data.count) for (let point = 0; point < data.count; point += 1) if (!shown[point]) put(point, grey, 0.15);
    const opacity = data.count > 20_000 ? 0.6 : 0.9;
    for (let point = 0; point < data.count; point += 1) {
      if (shown[point]) put(point, colours.index[point] === GREY ? grey : colours.index[point], opacity);
    }
    context.putImageData(new ImageData(image.bytes, width, height), 0, 0);
  }

  drawMeans(context, colours) {
    const { height } = context.canvas;
    const pixel = (place, { log, range }, from, to) => from + ((to - from) * ((log ? Math.log10(place) : place) - range[0])) / (range[1] - range[0]);
    for (const line of this.explorer.means()) {
      const points = line.points.map((one) => ({
        left: pixel(one.x, this.axes.x, 0, this.canvas.clientWidth), top: pixel(one.y, this.axes.y, this.canvas.clientHeight, 0),
      })).filter((one) => Number.isFinite(one.left + one.top) && Math.abs(one.top) < 20 * height);
      context.strokeStyle = context.fillStyle = line.colour === GREY ? colours.grey : colours.palette[line.colour];
      context.globalAlpha = 0.9;
      context.lineWidth = 1.8;
      context.setLineDash(line.fit ? [] : [5, 4]);
      context.beginPath();
      points.forEach(({ left, top }) => context.lineTo(left, top));
      context.stroke();
      context.setLineDash([]);
      points.forEach(({ left, top }) => {
        context.beginPath();
        context.arc(left, top, 3.2, 0, 2 * Math.PI);
        line.fit ? context.fill() : context.stroke();
      });
    }
  }

  pick(event) {
    const { x, y } = this.explorer.columnsShown();
    const picked = new Uint8Array(this.explorer.data.count);
    if (event.range) {
      const within = (place, [low, high]) => place >= Math.min(low, high) && place <= Math.max(low, high);
      for (let point = 0; point < picked.length; point += 1) {
        picked[point] = within(x.places[point], event.range.x) && within(y.places[point], event.range.y) ? 1 : 0;
      }
    } else if (event.lassoPoints) {
      const scale = (axis) => (axis.log ? Math.log10 : (value) => value);
      const [across, up] = [scale(this.axes.x), scale(this.axes.y)];
      const corners = event.lassoPoints.x.map((one, index) => [across(one), up(event.lassoPoints.y[index])]);
      for (let point = 0; point < picked.length; point += 1) picked[point] = inside(corners, across(x.places[point]), up(y.places[point])) ? 1 : 0;
    } else return;
    this.explorer.pick(picked);
  }

  // The point nearest to a place on the screen, of those shown; -1 if none lies near.
  nearest(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    if (!this.at || x < 0 || y < 0 || x > this.canvas.clientWidth || y > this.canvas.clientHeight) return -1;
    const { xs, ys } = this.at;
    const { shown } = this.explorer;
    let [found, least] = [-1, 12 ** 2];
    for (let point = 0; point < xs.length; point += 1) {
      const distance = (xs[point] - x) ** 2 + (ys[point] - y) ** 2;
      if (distance < least && shown[point]) [found, least] = [point, distance];
    }
    return found;
  }

  listen() {
    let pressed = null;
    this.box.addEventListener("pointermove", (event) => {
      const point = event.buttons || this.explorer.state.marks === "means" ? -1 : this.nearest(event);
      this.tip.hidden = point < 0;
      if (point < 0) return;
      this.tip.replaceChildren(...this.explorer.summary(point));
      const { left, top, width } = this.box.getBoundingClientRect();
      const [x, y] = [event.clientX - left, event.clientY - top];
      Object.assign(this.tip.style, x < width / 2 ? { left: `${x + 14}px`, right: "" } : { left: "", right: `${width - x + 14}px` });
      this.tip.style.top = `${y + 8}px`;
    });
    this.box.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    // plotly.js lays a cover over the page while the button is down: the window hears what happens meanwhile.
    this.box.addEventListener("pointerdown", (event) => { pressed = event; }, true);
    addEventListener("pointerup", (event) => {
      if (!pressed) return;
      const still = Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) < 4;
      pressed = null;
      const point = still && this.explorer.state.marks === "points" ? this.nearest(event) : -1;
      if (point >= 0) this.explorer.focus(point);
    }, true);
    new ResizeObserver(() => this.draw()).observe(this.box);
  }
}

// Pixels that marks are blended into. A canvas takes as long for a drawing call as this for a whole mark.
class Picture {
  constructor(width, height) {
    Object.assign(this, { width, height, bytes: new Uint8ClampedArray(4 * width * height) });
  }

  stamp(x, y, mark, [red, green, blue], opacity) {
    if (!(x > -20 && y > -20 && x < this.width + 20 && y < this.height + 20)) return;
    const { bytes, width, height } = this;
    const [left, top] = [Math.round(x), Math.round(y)];
    for (let index = 0; index < mark.alphas.length; index += 1) {
      const [column, row] = [left + mark.columns[index], top + mark.rows[index]];
      if (column < 0 || row < 0 || column >= width || row >= height) continue;
      const at = 4 * (row * width + column);
      const alpha = opacity * mark.alphas[index];
      const below = (bytes[at + 3] / 255) * (1 - alpha);
      const all = alpha + below;
      bytes[at] = (red * alpha + bytes[at] * below) / all;
      bytes[at + 1] = (green * alpha + bytes[at + 1] * below) / all;
      bytes[at + 2] = (blue * alpha + bytes[at + 2] * below) / all;
      bytes[at + 3] = 255 * all;
    }
  }
}

// The pixels of a mark, around its middle, and how much of each it covers; hollow for runs that did not fit.
function stampOf(radius, hollow) {
  const reach = Math.ceil(radius + 1);
  const mark = { columns: [], rows: [], alphas: [] };
  const thickness = Math.max(0.9, radius / 3);
  for (let row = -reach; row <= reach; row += 1) {
    for (let column = -reach; column <= reach; column += 1) {
      const distance = Math.hypot(column, row);
      const covered = hollow ? (thickness + 1) / 2 - Math.abs(distance - radius + thickness / 2) : radius + 0.5 - distance;
      if (covered <= 0.04) continue;
      mark.columns.push(column);
      mark.rows.push(row);
      mark.alphas.push(Math.min(1, covered));
    }
  }
  return mark;
}

function channels(colour) {
  return [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
}

function inside(corners, x, y) {
  let within = false;
  corners.forEach(([x1, y1], index) => {
    const [x2, y2] = corners[(index || corners.length) - 1];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) within = !within;
  });
  return within;
}

function escaped(text) {
  const holder = document.createElement("i");
  holder.textContent = text;
  return holder.innerHTML;
}
