// Parallel coordinates: an axis a column, a line a point; a drag along an axis keeps what passes there.

const MOST_LINES = 3_000; // of more points as many are drawn, evenly: more lines hide each other
const FAINT_LINES = 400;
const TOP = 42;
const BOTTOM = 26;
const SIDE = 46;
const REACH = 16; // pixels beside an axis that belong to it
const BETWEEN = 104; // pixels that two axes need between them

class Parallel {
  constructor(box, explorer) {
    Object.assign(this, { box, explorer });
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "Parallel coordinates of the points");
    box.append(this.canvas);
    this.brush = null;
    this.listen();
  }

  columns() {
    return this.explorer.state.axes.map((name) => this.explorer.data.columns.get(name)).filter(Boolean);
  }

  layout() {
    const columns = this.columns();
    this.width = Math.max(this.box.clientWidth, 2 * SIDE + BETWEEN * (columns.length - 1));
    this.height = this.box.clientHeight - 6;
    const step = (this.width - 2 * SIDE) / Math.max(columns.length - 1, 1);
    return columns.map((column, index) => ({ column, left: SIDE + step * index, scale: this.scaleOf(column) }));
  }

  // From a place of the column to a pixel, and back. What has no place lies below the axis.
  scaleOf(column) {
    const { low, high } = column.ends;
    const bottom = this.height - BOTTOM;
    const stepped = column.kind === "name" ? [-0.5, column.values.length - 0.5] : [low, high];
    const to = column.log ? Math.log : (value) => value;
    const back = column.log ? Math.exp : (value) => value;
    let [from, until] = stepped.map(to);
    if (from === until) [from, until] = [from - 1, until + 1];
    return {
      pixel: (place) => (Number.isFinite(place) ? bottom - ((to(place) - from) / (until - from)) * (bottom - TOP) : this.height - 8),
      place: (pixel) => back(from + ((bottom - pixel) / (bottom - TOP)) * (until - from)),
    };
  }

  draw() {
    const { explorer, canvas } = this;
    const ratio = devicePixelRatio || 1;
    this.height = this.box.clientHeight - 6;
    const axes = this.layout();
    Object.assign(canvas.style, { width: `${this.width}px`, height: `${this.height}px` });
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(this.height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.axes = axes;
    const colours = explorer.colouring();
    if (explorer.shownCount < explorer.data.count) this.drawAll(context, colours);
    const drawn = explorer.evenly(MOST_LINES);
    this.drawnCount = drawn.length;
    context.lineWidth = drawn.length > 800 ? 0.7 : 1.1;
    context.globalAlpha = Math.min(0.75, Math.max(0.16, 9 / Math.sqrt(drawn.length)));
    for (const point of drawn) { // one by one: as one path they would neither add up nor be quick
      const colour = colours.index[point];
      context.strokeStyle = colour === GREY ? colours.grey : colours.palette[colour];
      this.trace(context, point);
    }
    context.globalAlpha = 1;
    if (explorer.state.focus >= 0) {
      context.strokeStyle = colours.ink;
      context.lineWidth = 2.4;
      this.trace(context, explorer.state.focus);
    }
    axes.forEach((axis, index) => this.drawAxis(context, axis, index, colours));
  }

  // What a selection leaves out stays in sight, faintly.
  drawAll(context, colours) {
    const { count } = this.explorer.data;
    const step = Math.max(1, count / FAINT_LINES);
    context.strokeStyle = colours.grey;
    context.lineWidth = 0.6;
    context.globalAlpha = 0.12;
    for (let point = 0; point < count; point += step) this.trace(context, Math.floor(point));
  }

  trace(context, point) {
    context.beginPath();
    this.axes.forEach(({ column, left, scale }) => context.lineTo(left, scale.pixel(column.places[point])));
    context.stroke();
  }

  drawAxis(context, { column, left, scale }, index, colours) {
    const bottom = this.height - BOTTOM;
    const family = getComputedStyle(document.body).fontFamily;
    context.strokeStyle = colours.soft;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(left, TOP);
    context.lineTo(left, bottom);
    context.stroke();
    context.font = `600 11.5px ${family}`;
    context.textAlign = "center";
    context.fillStyle = colours.ink;
    wrapped(column.label, 16).forEach((text, line, lines) => context.fillText(text, left, TOP - 10 - 13 * (lines.length - 1 - line), 2 * SIDE));
    context.font = `11px ${family}`;
    context.textAlign = index === this.axes.length - 1 && index ? "right" : "left";
    const beside = context.textAlign === "left" ? 6 : -6;
    const label = (text, height) => {
      context.lineWidth = 3;
      context.strokeStyle = colours.paper;
      context.strokeText(text, left + beside, height, BETWEEN - 14);
      context.fillStyle = colours.soft;
      context.fillText(text, left + beside, height, BETWEEN - 14);
    };
    for (const [place, text] of ticksOf(column)) label(text, scale.pixel(place) + 4);
    if (column.missing === undefined) column.missing = column.places.some((place) => !Number.isFinite(place));
    if (column.missing) label("none", this.height - 4);
    const brush = this.brush && this.brush.name === column.name ? this.brush : null;
    context.fillStyle = colours.accent;
    context.globalAlpha = 0.28;
    for (const [from, to] of brush ? [[brush.from, brush.to]] : this.brushed(column, scale)) {
      context.fillRect(left - 7, Math.min(from, to), 14, Math.max(Math.abs(to - from), 3));
    }
    context.globalAlpha = 1;
  }

  // The stretches of an axis that its column's filter keeps, in pixels.
  brushed(column, scale) {
    const filter = this.explorer.state.filters.get(column.name);
    if (!filter) return [];
    if (filter.codes) {
      return [...filter.codes].map((code) => scale.pixel(column.kind === "name" ? code : column.values[code])).map((at) => [at - 6, at + 6]);
    }
    const bounded = (place, end) => (Number.isFinite(place) ? scale.pixel(place) : end);
    return [[bounded(filter.low, this.height - BOTTOM), bounded(filter.high, TOP)]];
  }

  listen() {
    const at = (event) => {
      const { left, top } = this.canvas.getBoundingClientRect();
      return { x: event.clientX - left, y: event.clientY - top };
    };
    const clamped = (y) => Math.min(Math.max(y, TOP - 6), this.height - BOTTOM + 6);
    this.canvas.addEventListener("pointerdown", (event) => {
      const { x, y } = at(event);
      const axis = (this.axes || []).find((one) => Math.abs(one.left - x) <= REACH);
      if (!axis) return;
      event.preventDefault();
      this.canvas.setPointerCapture(event.pointerId);
      this.brush = { name: axis.column.name, axis, from: clamped(y), to: clamped(y) };
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const { x, y } = at(event);
      this.canvas.style.cursor = (this.axes || []).some((one) => Math.abs(one.left - x) <= REACH) ? "crosshair" : "default";
      if (!this.brush) return;
      this.brush.to = clamped(y);
      this.draw();
    });
    this.canvas.addEventListener("pointerup", () => {
      if (!this.brush) return;
      const { name, axis, from, to } = this.brush;
      this.brush = null;
      if (Math.abs(to - from) < 4) this.explorer.filter(name, null); // a click clears the axis
      else this.explorer.keepBetween(name, axis.scale.place(Math.max(from, to)), axis.scale.place(Math.min(from, to)));
    });
    this.canvas.addEventListener("pointercancel", () => { this.brush = null; });
    new ResizeObserver(() => this.explorer.ready && this.draw()).observe(this.box);
  }
}

function ticksOf(column) {
  if (column.kind === "name") return column.values.slice(0, 14).map((value, code) => [code, shortly(value).slice(0, 18)]);
  if (column.few && !column.log) return column.values.map((value) => [value, shortly(value, column.whole)]);
  const { low, high } = column.ends;
  const share = (part) => (column.log ? low * (high / low) ** part : low + part * (high - low));
  return (low === high ? [0] : [0, 0.25, 0.5, 0.75, 1]).map((part) => [share(part), shortly(Number(share(part).toPrecision(3)))]);
}

function wrapped(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines[lines.length - 1];
    if (last && (last + " " + word).length > width) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines.length > 3 ? [...lines.slice(0, 2), lines.slice(2).join(" ")] : lines;
}
