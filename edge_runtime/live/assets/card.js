"use strict";
// One camera of the live page. The picture and the number beside it are of one frame; what is old is not shown as now.

const SECONDS_SHOWN = 120;
const PICTURES_LATE_MS = 3000;
const GAP_S = 5;
const HEAT = heatColours();

function heatColours() {
  // Black body, as the pictures that the run itself draws: from dark violet over orange to pale yellow.
  const stops = [[0, 20, 11, 53], [0.25, 101, 21, 110], [0.5, 188, 55, 84], [0.75, 243, 120, 25], [1, 252, 255, 164]];
  const table = new Uint8Array(256 * 3);
  for (let level = 0; level < 256; level += 1) {
    const at = level / 255;
    const next = stops.findIndex((stop) => stop[0] >= at && stop[0] > 0);
    const [low, high] = [stops[next - 1], stops[next]];
    const part = (at - low[0]) / (high[0] - low[0]);
    for (let channel = 0; channel < 3; channel += 1) {
      table[3 * level + channel] = low[channel + 1] + part * (high[channel + 1] - low[channel + 1]);
    }
  }
  return table;
}

function drawHeat(canvas, levels, [rows, columns]) {
  canvas.width = columns; canvas.height = rows;
  const pixels = new ImageData(columns, rows);
  for (let index = 0; index < rows * columns; index += 1) {
    // As scoring/heatmap.py: no colour for what is usual, none of the black end, full weight from half the range on.
    const colour = 3 * Math.round(64 + 0.749 * levels[index]);
    pixels.data.set(HEAT.subarray(colour, colour + 3), 4 * index);
    pixels.data[4 * index + 3] = Math.min(255, 2 * levels[index]);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function chartOf(place, width, data, range) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const line = (name, more) => ({ stroke: colour(name), width: 1.5, points: { show: false }, ...more });
  return new uPlot({
    width, height: 150, cursor: { show: false }, legend: { show: false },
    scales: {
      x: range ? { range } : {},
      y: { range: (_, low, high) => [low - 0.12 * (high - low || 1), high + 0.12 * (high - low || 1)] },
    },
    padding: [null, 24, null, null],
    axes: [{ ...axis, space: 90, size: 32, values: (_, moments) => moments.map((t) => SHORT_TIME.format(dateOf(t))) }, { ...axis, size: 46 }],
    series: [{}, line("--chart"), line("--bad", { dash: [6, 4] }), line("--good", { dash: [2, 4] }), line("--bad", { width: 3 })],
  }, data, place);
}

class Card {
  constructor(source) {
    this.source = source;
    this.root = made("article", "card");
    this.root.dataset.source = source;
    this.root.id = `card-${cards.size + 1}-${Math.random().toString(36).slice(2, 8)}`;
    this.root.tabIndex = -1;
    const screen = made("div", "screen");
    this.image = made("canvas");
    this.image.setAttribute("role", "img");
    this.image.width = 16; this.image.height = 9;
    this.heat = made("canvas", "heat");
    this.heat.setAttribute("aria-hidden", "true");
    this.over = made("p", "", "waiting for a picture");
    screen.append(this.image, this.heat, this.over);
    const inside = made("div", "inside");
    this.title = made("h2", "", nameOf(source));
    this.title.title = source;
    const line = made("p", "score");
    this.number = made("b", "", "–");
    this.state = made("span", "state");
    line.append(this.number, this.state);
    this.facts = made("p", "quiet facts-line");
    this.age = made("p", "quiet age");
    this.chart = made("div", "chart");
    this.chart.setAttribute("aria-hidden", "true");
    this.spoken = made("p", "heard");
    this.spoken.setAttribute("aria-live", "polite");
    inside.append(this.title, line, this.age, this.facts, this.chart, this.spoken);
    this.root.append(screen, inside);
    this.pauses = []; // seconds between the newest frames
    this.t = []; this.values = []; this.limits = []; this.clears = []; this.alarms = [];
    this.pictures = 0; this.pictureAt = -Infinity; this.pictureOrder = 0; this.drawnOrder = 0;
    this.frame = null; // what is told of the frame that is shown
    this.newest = null; // and of the newest
    this.heardAt = null; // when that one was taken, by performance.now()
    this.spokenText = ""; this.rank = 9; this.kind = "waiting";
  }

  known() { return board.state.sources.find((one) => one.source_id === this.source) || {}; }

  columns() { return [this.t, this.values, this.limits, this.clears, this.alarms]; }

  async picture(header, body) {
    const order = this.pictureOrder += 1;
    const bitmap = await createImageBitmap(new Blob([body.subarray(0, header.n_jpeg)], { type: "image/jpeg" }));
    if (order < this.drawnOrder) { bitmap.close(); return; } // a later one was ready first
    this.drawnOrder = order;
    if (this.image.width !== bitmap.width || this.image.height !== bitmap.height) {
      this.image.width = bitmap.width; this.image.height = bitmap.height;
      this.image.parentElement.style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
    }
    this.image.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    drawHeat(this.heat, body.subarray(header.n_jpeg), header.map_shape);
    this.heat.style.opacity = opacity;
    this.pictures += 1;
    this.pictureAt = performance.now();
    this.frame = header.told; // in one go with the picture: no number of another frame stands beside it
    this.root.dataset.pictures = this.pictures;
    this.root.dataset.frame = header.frame_id;
    this.show();
  }

  scores(told) {
    const clear = this.known().clear_threshold;
    for (const [t, score, limit, inEvent] of told.scores) {
      const before = this.t[this.t.length - 1];
      // A clock that was put back: what was drawn lies in the future now, and a chart's times must rise.
      if (t < before) this.columns().forEach((list) => list.splice(0));
      else if (t > before + GAP_S) [before + 0.001, null, null, null, null].forEach((value, index) => this.columns()[index].push(value));
      this.t.push(t); this.values.push(score); this.limits.push(limit);
      this.clears.push(clear === null || clear === undefined || clear === limit ? null : clear);
      this.alarms.push(inEvent ? score : null);
    }
    const first = this.t.findIndex((t) => t >= this.t[this.t.length - 1] - SECONDS_SHOWN);
    if (first > 0) this.columns().forEach((list) => list.splice(0, first));
    if (this.newest && told.t > this.newest.t) this.pauses = [...this.pauses, told.t - this.newest.t].slice(-10);
    this.newest = told;
    this.aged(told.came_s_ago);
    this.root.dataset.points = this.t.length;
    this.root.dataset.scored = told.scored;
    this.draw();
    this.show();
  }

  // The newest frame was taken so many seconds ago; from here on the browser counts.
  aged(seconds) { this.heardAt = performance.now() - 1000 * seconds; }

  ageS() { return this.heardAt === null ? Infinity : (performance.now() - this.heardAt) / 1000; }

  // Whether what is known of the camera is of now; else why not.
  silence() {
    const source = this.known();
    if (!connection.live) return "no data";
    if (source.up === false) return source.stalled ? "stalled" : "no picture";
    // A camera that is asked for a frame a minute is not silent after a second.
    if (this.newest && source.stall_timeout_s && this.ageS() > Math.max(source.stall_timeout_s + 1, 3 * Math.max(0, ...this.pauses))) return "no data";
    return "";
  }

  show() {
    const silence = this.silence(), last = this.newest, frame = this.now();
    const inEvent = !silence && Boolean(last && last.event_id);
    let text = "waiting", tone = "warn", over = "";
    this.kind = silence || "waiting";
    if (silence) {
      text = last ? `${silence === "no data" ? "" : `${silence}: `}no data since ${clock(last.t)}` : silence; tone = "bad";
      over = silence === "no data" ? "" : named(this.known().last_error, this.source);
      over = `${over ? `${over}. ` : ""}${last ? `The picture is of ${clock(last.t)}.` : "No good frame has come."}`;
    } else if (inEvent) { this.kind = text = "alarm"; tone = "bad"; }
    else if (frame && frame.is_anomaly === null) { this.kind = text = "unknown"; tone = "warn"; }
    else if (frame && frame.is_anomaly) { this.kind = text = "anomalous"; tone = "warn"; }
    else if (frame) { this.kind = text = "normal"; tone = "good"; }
    this.rank = { alarm: 0, "no data": 1, stalled: 1, "no picture": 1, anomalous: 2, unknown: 2, waiting: 3, normal: 4 }[this.kind];
    this.number.textContent = silence || !frame ? "–" : frame.shown_score.toFixed(2);
    put(this.state, text);
    this.state.className = `state ${tone}`;
    this.root.classList.toggle("alarm", inEvent);
    this.root.classList.toggle("down", Boolean(silence));
    this.root.dataset.state = this.kind;
    put(this.title, nameOf(this.source));
    put(this.facts, silence || !frame ? "" : this.told(frame));
    put(this.age, last ? `last frame ${duration(this.ageS())} ago` : "");
    put(this.over, over || (this.pictures ? "" : "waiting for a picture"));
    this.over.hidden = !this.over.textContent;
    this.image.setAttribute("aria-label", `${silence ? "Last" : "Live"} picture of ${nameOf(this.source)}, ${this.kind}`);
    if (this.kind !== this.spokenText) { this.spokenText = this.kind; put(this.spoken, `${nameOf(this.source)}: ${this.kind}`); }
  }

  // What the number is of: the frame that is shown, or the newest where pictures come late or not at all.
  now() { return this.frame && performance.now() - this.pictureAt < PICTURES_LATE_MS ? this.frame : this.newest; }

  told(frame) {
    const spent = Object.entries(frame.latency_ms).filter(([name]) => name !== "capture").reduce((sum, [, ms]) => sum + ms, 0);
    const late = frame !== this.frame && this.pictures ? " · the picture is older" : "";
    return `threshold ${shown(frame.threshold)} · ${spent.toFixed(1)} ms a frame · frame ${frame.frame_id}${frame.regions ? ` · ${frame.regions}` : ""}${frame.too_small ? " · all it shows is too small" : ""}${frame.image_quality ? ` · ${frame.image_quality}` : ""}${late}`;
  }

  draw() {
    const now = performance.now();
    if (this.drawn && now - this.drawn < 200) return;
    this.drawn = now;
    const data = this.columns();
    if (!data[0].length) return;
    const width = Math.max(200, this.chart.clientWidth);
    // To now, not to the last frame: what is old lies to the left.
    const range = () => { const end = this.t[this.t.length - 1] + this.ageS(); return [Math.max(this.t[0], end - SECONDS_SHOWN), end + 0.5]; };
    if (!this.plot) this.plot = chartOf(this.chart, width, data, range);
    else {
      if (this.plot.width !== width) this.plot.setSize({ width, height: 150 });
      this.plot.setData(data);
    }
  }
}

// Only what changed, so that a screen reader and a selection are left in peace.
function put(node, text) { if (node.textContent !== text) node.textContent = text; }
