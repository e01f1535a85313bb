"use strict";
// The live page: one long answer is read message by message (edge_runtime/live/framing.py), and drawn.
// Text from the run (names of sources, reasons) only ever becomes textContent: it cannot become markup.

const SECONDS_SHOWN = 120;
const SILENT_MS = 6000;
const cards = new Map();
let board = { may_change: false, state: { sources: [] }, events: [], statuses: [] };
let opacity = 0.6;
let opacityBefore = 0.6;
let lastHeard = performance.now();
let focusedEvent = -1;

// ---- the stream ------------------------------------------------------------------------------------------------

let reading = null;

async function follow() {
  for (;;) {
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    reading = new AbortController();
    try {
      const answer = await fetch("api/stream", { signal: reading.signal, cache: "no-store" });
      if (!answer.ok) {
        const told = await answer.json().catch(() => ({ error: answer.statusText }));
        throw new Error(told.error);
      }
      connected(true);
      await readMessages(answer.body.getReader());
      connected(false, "The run has ended, or its page was started again.");
    } catch (error) {
      if (!document.hidden) connected(false, error instanceof TypeError ? "Nothing answers." : error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
}

async function readMessages(reader) {
  let held = new Uint8Array(0);
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    lastHeard = performance.now();
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held);
    joined.set(value, held.length);
    held = joined;
    while (held.length >= 8) {
      const lengths = new DataView(held.buffer, held.byteOffset, 8);
      const nHeader = lengths.getUint32(0, true);
      const whole = 8 + nHeader + lengths.getUint32(4, true);
      if (held.length < whole) break;
      const header = JSON.parse(new TextDecoder().decode(held.subarray(8, 8 + nHeader)));
      take(header, held.slice(8 + nHeader, whole));
      held = held.slice(whole);
    }
  }
}

function take(header, body) {
  if (header.kind === "board") { board = header; showBoard(); }
  else if (header.kind === "scores") Object.entries(header.sources).forEach(([source, told]) => card(source).scores(told));
  else if (header.kind === "picture") card(header.source_id).picture(header, body);
}

function connected(yes, reason) {
  const pill = element("connection");
  pill.textContent = yes ? "live" : "not connected";
  pill.className = yes ? "pill good" : "pill bad";
  element("banner").hidden = yes;
  if (!yes) element("banner").textContent = `${reason} Trying again.`;
  if (!yes) cards.forEach((one) => one.root.classList.add("down"));
}

document.addEventListener("visibilitychange", () => { if (document.hidden && reading) reading.abort(); });
setInterval(() => {
  if (!document.hidden && performance.now() - lastHeard > SILENT_MS && reading) reading.abort();
}, 1000);

// ---- a camera ---------------------------------------------------------------------------------------------------

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

class Card {
  constructor(source) {
    this.source = source;
    this.root = made("article", "card");
    this.root.dataset.source = source;
    const screen = made("div", "screen");
    this.image = made("canvas");
    this.image.setAttribute("role", "img");
    this.image.width = 16; this.image.height = 9;
    this.heat = made("canvas", "heat");
    this.heat.setAttribute("aria-hidden", "true");
    this.over = made("p");
    this.over.textContent = "waiting for a picture";
    screen.append(this.image, this.heat, this.over);
    const inside = made("div", "inside");
    this.title = made("h2", "", source);
    const line = made("p", "score");
    this.number = made("b", "", "–");
    this.state = made("span", "state");
    line.append(this.number, this.state);
    this.facts = made("p", "quiet");
    this.chart = made("div", "chart");
    this.chart.setAttribute("aria-hidden", "true");
    this.spoken = made("p", "heard");
    this.spoken.setAttribute("aria-live", "polite");
    inside.append(this.title, line, this.facts, this.chart, this.spoken);
    this.root.append(screen, inside);
    this.t = []; this.values = []; this.limits = []; this.clears = []; this.alarms = [];
    this.pictures = 0;
    this.stateText = "";
    this.lastFrameId = null;
  }

  known() { return board.state.sources.find((one) => one.source_id === this.source) || {}; }

  columns() { return [this.t, this.values, this.limits, this.clears, this.alarms]; }

  async picture(header, body) {
    const [rows, columns] = header.map_shape;
    const bitmap = await createImageBitmap(new Blob([body.subarray(0, header.n_jpeg)], { type: "image/jpeg" }));
    if (this.image.width !== bitmap.width || this.image.height !== bitmap.height) {
      this.image.width = bitmap.width; this.image.height = bitmap.height;
      this.image.parentElement.style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
    }
    this.image.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    this.heat.width = columns; this.heat.height = rows;
    const pixels = new ImageData(columns, rows);
    for (let index = 0; index < rows * columns; index += 1) {
      const level = body[header.n_jpeg + index];
      pixels.data.set(HEAT.subarray(3 * level, 3 * level + 3), 4 * index);
      pixels.data[4 * index + 3] = level;
    }
    this.heat.getContext("2d").putImageData(pixels, 0, 0);
    this.heat.style.opacity = opacity;
    this.pictures += 1;
    this.root.dataset.pictures = this.pictures;
    this.root.dataset.frame = header.frame_id;
  }

  scores(told) {
    const clear = this.known().clear_threshold;
    for (const [t, score, limit, inEvent] of told.scores) {
      // A clock that was put back: what was drawn lies in the future now, and a chart's times must rise.
      if (this.t.length && t < this.t[this.t.length - 1]) this.columns().forEach((list) => list.splice(0));
      this.t.push(t); this.values.push(score); this.limits.push(limit);
      this.clears.push(clear === null || clear === undefined || clear === limit ? null : clear);
      this.alarms.push(inEvent ? score : null);
    }
    const first = this.t.findIndex((t) => t >= this.t[this.t.length - 1] - SECONDS_SHOWN);
    if (first > 0) this.columns().forEach((list) => list.splice(0, first));
    this.told = told;
    this.number.textContent = told.scores[told.scores.length - 1][1].toFixed(2);
    const spent = Object.entries(told.latency_ms).filter(([name]) => name !== "capture").reduce((sum, [, ms]) => sum + ms, 0);
    this.facts.textContent = `threshold ${told.threshold.toFixed(3)} · ${spent.toFixed(1)} ms a frame · ${told.age_ms.toFixed(0)} ms old · frame ${told.frame_id}${told.regions ? ` · ${told.regions}` : ""}${told.too_small ? " · all it shows is too small" : ""}${told.image_quality ? ` · bad picture: ${told.image_quality}` : ""}`;
    this.root.dataset.points = this.t.length;
    this.root.dataset.scored = told.scored;
    this.draw();
    this.show();
  }

  show() {
    const source = this.known();
    const inEvent = Boolean(source.event_id);
    const last = this.told;
    let text = "waiting", kind = "warn", over = "";
    if (source.up === false) {
      text = source.stalled ? "stalled" : "no picture"; kind = "bad";
      over = source.last_error || "No good frame has come for a while.";
    } else if (inEvent) { text = "alarm"; kind = "bad"; }
    else if (last && last.is_anomaly) { text = "anomalous"; kind = "warn"; }
    else if (last && last.is_anomaly === null) { text = "unknown"; kind = "warn"; }
    else if (last) { text = "normal"; kind = "good"; }
    this.state.textContent = text;
    this.state.className = `state ${kind}`;
    this.root.classList.toggle("alarm", inEvent);
    this.root.classList.toggle("down", source.up === false);
    this.root.dataset.state = text;
    this.over.textContent = over || (this.pictures ? "" : "waiting for a picture");
    this.over.hidden = !this.over.textContent;
    this.image.setAttribute("aria-label", `Live picture of ${this.source}, ${text}`);
    if (text !== this.stateText) { this.stateText = text; this.spoken.textContent = `${this.source}: ${text}`; }
  }

  draw() {
    const now = performance.now();
    if (this.drawn && now - this.drawn < 200) return;
    this.drawn = now;
    const data = this.columns();
    const width = Math.max(200, this.chart.clientWidth);
    if (!this.plot) {
      const style = getComputedStyle(document.documentElement);
      const colour = (name) => style.getPropertyValue(name).trim();
      const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
      this.plot = new uPlot({
        width, height: 150, cursor: { show: false }, legend: { show: false },
        scales: { y: { range: (_, low, high) => [low - 0.12 * (high - low || 1), high + 0.12 * (high - low || 1)] } },
        axes: [{ ...axis }, { ...axis, size: 46 }],
        series: [{}, { stroke: colour("--chart"), width: 1.5, points: { show: false } },
          { stroke: colour("--bad"), width: 1.5, dash: [6, 4], points: { show: false } },
          { stroke: colour("--good"), width: 1.5, dash: [2, 4], points: { show: false } },
          { stroke: colour("--bad"), width: 3, points: { show: false } }],
      }, data, this.chart);
    } else {
      if (this.plot.width !== width) this.plot.setSize({ width, height: 150 });
      this.plot.setData(data);
    }
  }
}

function card(source) {
  let one = cards.get(source);
  if (!one) {
    one = new Card(source);
    cards.set(source, one);
    element("sources").append(one.root);
    element("sources").classList.toggle("one", cards.size === 1);
  }
  return one;
}

// ---- what changes seldom -----------------------------------------------------------------------------------------

const clock = (text) => (text ? new Date(text).toLocaleTimeString() : "");

function showBoard() {
  const { state } = board;
  element("model").textContent = `bundle ${String(state.model).slice(7, 19)} · ${state.view}`;
  state.sources.forEach((source) => card(source.source_id).show());
  element("threshold-now").textContent = Number(state.threshold).toFixed(4);
  element("rate-field").hidden = !state.has_rates;
  element("threshold-use").hidden = !board.may_change;
  showEvents();
  showMessages();
  showHealth();
}

function showEvents() {
  const list = element("event-list");
  element("n-events").textContent = board.events.length ? `(${board.events.length})` : "";
  element("no-events").hidden = board.events.length > 0;
  const focused = document.activeElement && document.activeElement.closest("[data-event]");
  const focusedId = focused && focused.dataset.event;
  const pressed = focused && document.activeElement.dataset.answer;
  list.replaceChildren(...board.events.map(eventItem));
  if (focusedId) {
    const again = [...list.children].find((item) => item.dataset.event === focusedId);
    if (again) (pressed ? again.querySelector(`[data-answer="${pressed}"]`) : again).focus();
  }
}

function eventItem(event) {
  const item = made("li", event.end_time || event.phase === "end" ? "" : "on");
  item.dataset.event = event.event_id;
  item.dataset.phase = event.phase;
  item.tabIndex = -1;
  if (event.picture) {
    const image = made("img");
    image.alt = `Frame with the highest score of the event of ${clock(event.start_time)}`;
    image.loading = "lazy";
    image.src = `api/events/${encodeURIComponent(event.event_id)}.jpg?score=${event.peak_score.toFixed(4)}`;
    item.append(image);
  }
  const running = event.phase !== "end";
  item.append(made("p", "state " + (running ? "bad" : ""), running ? `since ${clock(event.start_time)}` : `${clock(event.start_time)} to ${clock(event.end_time) || "?"}`));
  item.append(made("p", "quiet", `${event.source_id} · peak ${event.peak_score.toFixed(2)} · ${event.frames} frames`));
  const answers = made("div", "answers");
  answers.setAttribute("role", "group");
  answers.setAttribute("aria-label", "Was this alarm right?");
  for (const answer of ["right", "wrong", "unsure"]) {
    const button = made("button", "", answer);
    button.type = "button";
    button.dataset.answer = answer;
    button.setAttribute("aria-pressed", String(event.answer === answer));
    button.addEventListener("click", () => feedBack(event.event_id, answer));
    answers.append(button);
  }
  if (board.may_change) item.append(answers);
  return item;
}

function showMessages() {
  element("n-messages").textContent = board.statuses.length ? `(${board.statuses.length})` : "";
  element("no-messages").hidden = board.statuses.length > 0;
  element("message-list").replaceChildren(...board.statuses.map((status) => {
    const item = made("li");
    item.append(made("span", `state ${{ info: "good", warning: "warn", error: "bad" }[status.severity]}`, status.event_type));
    const reason = status.payload.reason || JSON.stringify(status.payload);
    item.append(` ${new Date(1000 * status.time).toLocaleTimeString()} `, made("span", "quiet", `${status.source_id}: ${reason}`));
    return item;
  }));
}

function showHealth() {
  const facts = [["state", board.state.ok ? "ok" : "not ok"], ["bundle", board.state.model], ["threshold", board.state.threshold], ["view", board.state.view], ...(board.state.sizes ? [["sizes", board.state.sizes]] : [])];
  for (const source of board.state.sources) {
    facts.push([source.source_id, source.up ? `up, ${source.state || "no alarm asked for"}` : `down: ${source.last_error || "no good frames"}`]);
  }
  element("health-list").replaceChildren(...facts.flatMap(([name, value]) => [made("dt", "", name), made("dd", "", String(value))]));
}

// ---- what people ask for -------------------------------------------------------------------------------------------

async function feedBack(eventId, answer) {
  try { await post("api/feedback", { event_id: eventId, answer }); }
  catch (error) { alertOnce(error.message); }
}

function alertOnce(text) {
  element("banner").textContent = text;
  element("banner").hidden = false;
  setTimeout(() => { if (element("connection").classList.contains("good")) element("banner").hidden = true; }, 6000);
}

let previewTimer = 0;

function asked() {
  const rate = element("rate-input").value;
  return rate ? { target_fpr: rate } : { threshold: element("threshold-input").value };
}

function preview() {
  clearTimeout(previewTimer);
  previewTimer = setTimeout(async () => {
    const query = asked();
    if (!query.target_fpr && query.threshold === "") return;
    const answer = await fetch(`api/preview?${new URLSearchParams(query)}`);
    const told = await answer.json();
    if (!answer.ok) { element("preview").textContent = told.error; return; }
    if (query.target_fpr) element("threshold-input").value = told.threshold.toPrecision(6);
    element("preview").textContent = told.sources.map((source) =>
      `${source.source_id}: ${source.flagged} of ${source.frames} frames of the last hour above ${told.threshold.toPrecision(4)}, in ${source.runs} stretches.`).join(" ")
      + (told.sources.length && board.state.sizes ? " By score: how large they are is known of frames above today's threshold alone." : "")
      || "No frame has been scored yet.";
  }, 200);
}

element("threshold-input").addEventListener("input", () => { element("rate-input").value = ""; preview(); });
element("rate-input").addEventListener("change", preview);
element("threshold-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const told = await post("api/threshold", asked());
    element("preview").textContent = `Threshold ${told.threshold.toPrecision(6)} is in force from the next frame on.`;
  } catch (error) { element("preview").textContent = error.message; }
});
element("doctor-button").addEventListener("click", async () => {
  element("doctor-list").replaceChildren(made("li", "quiet", "looking …"));
  const told = await (await fetch("api/doctor")).json();
  element("doctor-list").replaceChildren(...told.checks.map((check) => {
    const item = made("li");
    item.append(made("span", `state ${{ ok: "good", error: "bad", warning: "warn" }[check.state] || ""}`, check.state), ` ${check.name}: ${check.found}`);
    if (check.remedy) item.append(made("div", "quiet", check.remedy));
    return item;
  }));
});

// ---- tabs, opacity, keys ----------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll('[role="tab"]')];

function choose(tab, focus) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    element(one.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
}

tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) choose(tabs[(index + step + tabs.length) % tabs.length], true);
  });
});

function setOpacity(value) {
  opacity = value;
  element("opacity").value = Math.round(100 * value);
  element("opacity-value").textContent = `${Math.round(100 * value)} %`;
  cards.forEach((one) => { one.heat.style.opacity = value; });
}

element("opacity").addEventListener("input", (event) => setOpacity(event.target.value / 100));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const items = [...element("event-list").children];
  if (/^[1-4]$/.test(event.key)) choose(tabs[event.key - 1], true);
  else if (event.key === "h") { if (opacity > 0) opacityBefore = opacity; setOpacity(opacity > 0 ? 0 : opacityBefore || 0.6); }
  else if ((event.key === "j" || event.key === "k") && items.length) {
    const current = items.findIndex((item) => item.contains(document.activeElement));
    focusedEvent = Math.max(0, Math.min(items.length - 1, current + (event.key === "j" ? 1 : -1)));
    choose(tabs[0]);
    items[focusedEvent].focus();
  } else if ({ r: 1, w: 1, u: 1 }[event.key]) {
    const item = document.activeElement.closest("[data-event]");
    if (item) feedBack(item.dataset.event, { r: "right", w: "wrong", u: "unsure" }[event.key]);
  }
});

window.addEventListener("resize", () => cards.forEach((one) => { one.drawn = 0; if (one.plot) one.draw(); }));
setOpacity(opacity);
follow();
