// The columns of the points: typed arrays out of the bytes that the page holds deflated, and what is read off them.

const ARRAYS = { u1: Uint8Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };
const DIGITS = { f3: 6, f4: 8 }; // significant ones that such a number holds, and one more
const FEW = 12; // a setting of no more values is filtered value by value, and coloured value by value
const GREY = 255; // the index of a point without a colour

async function unpacked(description) {
  const buffer = await (await embedded("explorer-bytes")).arrayBuffer();
  const columns = new Map(description.columns.map((one) => [one.name, new Column(one, buffer, description.count)]));
  return { count: description.count, columns, keyOf: keysOf(description.keys, buffer), curveOf: curvesOf(description.curves, buffer) };
}

class Column {
  constructor(about, buffer, count) {
    Object.assign(this, { name: about.name, label: about.label, role: about.role, kind: about.kind, whole: about.whole, log: about.log });
    this.stated = "default" in about;
    this.default = about.default;
    this.always = about.always; // left to a probe where a spec does not state it
    this.values = about.values;
    const stored = about.type === "f3" ? shortened(buffer, about.offset, count) : new ARRAYS[about.type](buffer, about.offset, count);
    this.digits = DIGITS[about.type];
    this.codes = about.values ? stored : null;
    // Where each point lies along an axis of this column: its number, or the place of its name; NaN where it has none.
    this.places = this.kind === "number" && !this.codes ? stored : Float64Array.from(stored, this.kind === "number"
      ? (code) => (code < this.values.length ? this.values[code] : NaN)
      : (code) => (code < this.values.length ? code : NaN));
    this.few = this.codes !== null && this.values.length <= FEW && (this.role === "setting" || this.kind === "name");
  }

  // Lowest and highest place, and the lowest that a logarithmic axis can show.
  get ends() {
    if (!this.found) {
      let [low, high, positive] = [Infinity, -Infinity, Infinity];
      for (const place of this.places) {
        if (!Number.isFinite(place)) continue;
        if (place < low) low = place;
        if (place > high) high = place;
        if (place > 0 && place < positive) positive = place;
      }
      this.found = low > high ? { low: 0, high: 1, positive: 1 } : { low, high, positive };
    }
    return this.found;
  }

  exact(point) {
    if (this.codes) return this.codes[point] < this.values.length ? this.values[this.codes[point]] : null;
    const place = this.places[point];
    if (Number.isNaN(place)) return null;
    return this.digits ? Number(place.toPrecision(this.digits)) : place;
  }

  text(point) {
    const value = this.exact(point);
    return value === null ? "" : shortly(value, this.whole);
  }

  // The colour of each point, as an index into a palette: by value where there are few, along the ramp otherwise.
  colours(palettes) {
    const index = new Uint8Array(this.places.length).fill(GREY);
    const ramp = palettes.ramp;
    if (this.few) {
      const named = this.kind === "name" && this.values.length <= palettes.names.length;
      const last = Math.max(this.values.length - 1, 1);
      const palette = this.values.map((_, code) => (named ? palettes.names[code] : ramp[Math.round((code / last) * (ramp.length - 1))]));
      for (let point = 0; point < index.length; point += 1) if (this.codes[point] < palette.length) index[point] = this.codes[point];
      return { index, palette };
    }
    const { low, high, positive } = this.ends;
    const scale = this.log ? Math.log : (value) => value;
    const [from, to] = [scale(this.log ? positive : low), scale(high)];
    for (let point = 0; point < index.length; point += 1) {
      const share = (scale(this.places[point]) - from) / (to - from || 1);
      if (Number.isFinite(share)) index[point] = Math.round(Math.min(Math.max(share, 0), 1) * (ramp.length - 1));
    }
    return { index, palette: ramp };
  }
}

// Numbers of 24 bits: the three upper bytes of a number of 32, the highest bytes of all first, then the middle ones, then the low ones.
function shortened(buffer, offset, count) {
  const [high, middle, low] = [0, 1, 2].map((plane) => new Uint8Array(buffer, offset + plane * count, count));
  const bits = new Uint32Array(count);
  for (let point = 0; point < count; point += 1) bits[point] = (high[point] << 24) | (middle[point] << 16) | (low[point] << 8);
  return new Float32Array(bits.buffer);
}

function keysOf(about, buffer) {
  if (about.values) return (point) => about.values[point];
  const bytes = new Uint8Array(buffer, about.offset);
  return (point) => Array.from(bytes.subarray(16 * point, 16 * point + 16), (one) => one.toString(16).padStart(2, "0")).join("");
}

function curvesOf(about, buffer) {
  if (!about) return () => null;
  const starts = new Uint32Array(buffer, about.starts);
  const array = (name) => new Float32Array(buffer, about[name], about.length);
  const [epoch, train, test] = ["epoch", "train_error", "test_error"].map(array);
  return (point) => {
    const [from, to] = [starts[point], starts[point + 1]];
    return to > from ? { epoch: [...epoch.subarray(from, to)], train: [...train.subarray(from, to)], test: [...test.subarray(from, to)] } : null;
  };
}

function shortly(value, whole = false) {
  if (typeof value !== "number") return String(value);
  if (whole || (Number.isInteger(value) && Math.abs(value) < 1e6)) return value.toLocaleString("en-US");
  return String(Number(value.toPrecision(4)));
}
