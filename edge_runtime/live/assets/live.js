"use strict";
// The live page: one long answer is read message by message (edge_runtime/serving/framing.py), and drawn.
// Text from the run (names of sources, reasons) only ever becomes textContent: it cannot become markup.

const SILENT_MS = 6000;
const RUN_SILENT_MS = 5000;
const TICK_MS = 500;
const cards = new Map();
const connection = { live: false, reason: "", since: null };
let board = { may_change: false, state: { sources: [] }, events: [], statuses: [] };
let opacity = 0.6;
let opacityBefore = 0.6;
let lastHeard = performance.now();
let runHeardAt = null; // when the run last spoke to its page, by performance.now()
let reading = null;
let streams = false;
let lost = "Connecting.";

// ---- the stream ------------------------------------------------------------------------------------------------

async function follow() {
  for (;;) {
    reading = new AbortController();
    try {
      // A page that nobody sees goes on listening, for its title and its alarms; it needs no pictures.
      const answer = await fetch(`api/stream${document.hidden ? "?pictures=0" : ""}`, { signal: reading.signal, cache: "no-store" });
      if (!answer.ok) {
        const told = await answer.json().catch(() => ({ error: answer.statusText }));
        throw new Error(told.error);
      }
      streams = true;
      lastHeard = performance.now();
      await readMessages(answer.body.getReader());
      lost = "The run has ended, or its page was started again.";
    } catch (error) {
      if (error !== "again") lost = error instanceof TypeError ? "Nothing answers: the run has ended, or cannot be reached." : error.name === "AbortError" ? "The page was silent." : error.message;
    }
    streams = false;
    if (!reading.signal.reason || reading.signal.reason !== "again") { tick(); await new Promise((resolve) => setTimeout(resolve, 1500)); }
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
  else if (header.kind === "still here") {
    runHeardAt = performance.now() - 1000 * header.run_silent_s;
    Object.entries(header.ages_s).forEach(([source, age]) => card(source).aged(age));
    tick();
  }
  if (header.kind === "scores") summarise();
}

document.addEventListener("visibilitychange", () => { if (reading) reading.abort("again"); tick(); });

// ---- what is known, now ------------------------------------------------------------------------------------------

function tick() {
  const now = performance.now();
  if (streams && now - lastHeard > SILENT_MS && reading) reading.abort();
  const quiet = streams && runHeardAt !== null && now - runHeardAt > RUN_SILENT_MS;
  connection.live = streams && now - lastHeard <= SILENT_MS && !quiet;
  const newest = Math.max(...[...cards.values()].map((one) => (one.newest ? one.newest.t : -Infinity)));
  connection.since = Number.isFinite(newest) ? newest : null;
  connection.reason = quiet ? "The run has not said anything for a while: it hangs, or was stopped." : lost;
  const pill = element("connection");
  put(pill, connection.live ? "live" : "no data");
  pill.className = connection.live ? "pill good" : "pill bad";
  if (!connection.live) showBanner(`${connection.since === null ? "No data yet." : `No data since ${clock(connection.since)}.`} ${connection.reason} Trying again.`);
  else if (!said) element("banner").hidden = true;
  cards.forEach((one) => { one.show(); one.drawn = 0; one.draw(); });
  summarise();
}

let said = 0;

function showBanner(text) {
  put(element("banner"), text);
  element("banner").hidden = false;
}

function alertOnce(text) {
  showBanner(text);
  clearTimeout(said);
  said = setTimeout(() => { said = 0; tick(); }, 8000);
}

const KINDS = ["alarm", "stalled", "no picture", "no data", "anomalous", "unknown", "waiting", "normal"];
const TONE = { alarm: "bad", stalled: "bad", "no picture": "bad", "no data": "bad", anomalous: "warn", unknown: "warn", waiting: "warn", normal: "good" };
const SUMMED = { "no picture": "without picture", "no data": "without data" };
let alarmsBefore = new Set();
let listed = "";

function summarise() {
  const all = [...cards.values()].sort((a, b) => a.rank - b.rank || nameOf(a.source).localeCompare(nameOf(b.source), undefined, { numeric: true }));
  const place = element("sources");
  all.forEach((one, index) => { if (place.children[index] !== one.root) place.insertBefore(one.root, place.children[index] || null); });
  const groups = KINDS.map((kind) => [kind, all.filter((one) => one.kind === kind)]).filter(([, ones]) => ones.length);
  const key = JSON.stringify([connection.live, connection.since && !connection.live, groups.map(([kind, ones]) => [kind, ones.map((one) => one.source)])]);
  if (key !== listed) {
    listed = key;
    element("summary").replaceChildren(...(connection.live ? groups.map(summaryLink) : []));  // else the banner says it
    if (connection.live && !groups.length) element("summary").append(made("span", "quiet", "no camera yet"));
  }
  const alarms = all.filter((one) => one.kind === "alarm"), silent = all.filter((one) => one.rank === 1);
  document.title = !connection.live ? `NO DATA${connection.since === null ? "" : ` since ${clock(connection.since)}`} – edge-aae`
    : alarms.length ? `(${alarms.length}) ALARM ${nameOf(alarms[0].source)} – edge-aae`
      : silent.length ? `(${silent.length}) NO DATA ${nameOf(silent[0].source)} – edge-aae` : "edge-aae";
  const now = new Set(alarms.map((one) => one.source));
  const fresh = [...now].filter((source) => !alarmsBefore.has(source));
  if (connection.live) { if (fresh.length) announce(fresh); alarmsBefore = now; }
}

function summaryLink([kind, ones]) {
  const link = made("a", `state ${TONE[kind]}`, `${ones.length} ${SUMMED[kind] || kind}`);
  link.href = `#${ones[0].root.id}`;
  link.title = ones.map((one) => nameOf(one.source)).join(", ");
  let next = 0;
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const one = ones[next % ones.length];
    next += 1; // the next click goes on to the next of them
    reveal(one.root);
    one.root.focus({ preventScroll: true });
  });
  return link;
}

function reveal(node) {
  const head = document.querySelector(".top").offsetHeight;
  window.scrollTo({ top: node.getBoundingClientRect().top + window.scrollY - head - 8 });
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

// ---- alarms that are heard and told, where somebody asked for it ---------------------------------------------------

let audio = null;
const remembered = (name) => { try { return localStorage.getItem(`edge-aae-${name}`) === "on"; } catch { return false; } };
const remember = (name, on) => { try { localStorage.setItem(`edge-aae-${name}`, on ? "on" : "off"); } catch { /* a browser that keeps nothing */ } };

function beep() {
  if (!audio || audio.state !== "running") return;
  [0, 0.3, 0.6].forEach((delay) => {
    const tone = audio.createOscillator(), volume = audio.createGain();
    tone.frequency.value = 880; volume.gain.value = 0.2;
    tone.connect(volume).connect(audio.destination);
    tone.start(audio.currentTime + delay); tone.stop(audio.currentTime + delay + 0.18);
  });
}

function announce(sources) {
  document.documentElement.dataset.announced = Number(document.documentElement.dataset.announced || 0) + 1;
  if (element("sound").checked) beep();
  if (element("notify").checked && window.Notification && Notification.permission === "granted") {
    const told = new Notification(`Alarm: ${sources.map(nameOf).join(", ")}`, { tag: "edge-aae-alarm", body: clock(Date.now() / 1000) });
    told.onclick = () => { window.focus(); reveal(card(sources[0]).root); };
  }
}

function wakeSound() {
  if (!element("sound").checked) return;
  audio = audio || new AudioContext();
  audio.resume().then(() => put(element("sound-note"), ""));
}

function setUpAlerts() {
  const sound = element("sound"), notify = element("notify");
  sound.checked = remembered("sound");
  // A browser lets a page be heard only once somebody has touched it.
  if (sound.checked) put(element("sound-note"), "click or press a key once, so that the browser lets it sound");
  ["pointerdown", "keydown"].forEach((kind) => document.addEventListener(kind, wakeSound, { once: true }));
  sound.addEventListener("change", () => { remember("sound", sound.checked); put(element("sound-note"), ""); if (sound.checked) { wakeSound(); setTimeout(beep, 100); } });
  const can = window.isSecureContext && "Notification" in window;
  notify.disabled = !can;
  if (!can) put(element("notify-note"), "notifications need https, or this machine");
  notify.checked = can && remembered("notify") && Notification.permission === "granted";
  notify.addEventListener("change", async () => {
    if (notify.checked && await Notification.requestPermission() !== "granted") { notify.checked = false; put(element("notify-note"), "the browser does not allow notifications"); }
    remember("notify", notify.checked);
  });
}

// ---- tabs, opacity, keys ----------------------------------------------------------------------------------------

function showBoard() {
  const { state } = board;
  put(element("model"), `bundle ${String(state.model).slice(7, 19)} · ${state.view}`);
  const there = new Set(state.sources.map((source) => source.source_id));
  cards.forEach((one, source) => { if (!there.has(source)) { one.root.remove(); cards.delete(source); } });
  state.sources.forEach((source) => card(source.source_id).show());
  element("sources").classList.toggle("one", cards.size === 1);
  showThreshold();
  showEvents();
  showMessages();
  showHealth();
  summarise();
}

const tabs = [...document.querySelectorAll('[role="tab"]')];

function choose(tab, focus) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    element(one.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus({ preventScroll: true });
}

tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => { choose(tab); reveal(element("panels")); });
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) choose(tabs[(index + step + tabs.length) % tabs.length], true);
  });
});

function setOpacity(value) {
  opacity = value;
  element("opacity").value = Math.round(100 * value);
  element("opacity-value").textContent = `${Math.round(100 * value)} %`;
  document.querySelectorAll(".screen .heat").forEach((heat) => { heat.style.opacity = value; });
}

element("opacity").addEventListener("input", (event) => setOpacity(event.target.value / 100));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const items = [...element("event-list").children];
  if (/^[1-4]$/.test(event.key)) { choose(tabs[event.key - 1], true); reveal(element("panels")); }
  else if (event.key === "h") { if (opacity > 0) opacityBefore = opacity; setOpacity(opacity > 0 ? 0 : opacityBefore || 0.6); }
  else if ((event.key === "j" || event.key === "k") && items.length) {
    const current = items.findIndex((item) => item.contains(document.activeElement));
    choose(tabs[0]);
    items[Math.max(0, Math.min(items.length - 1, current + (event.key === "j" ? 1 : -1)))].focus();
  } else if ({ r: 1, w: 1, u: 1 }[event.key]) {
    const item = document.activeElement.closest("[data-event]");
    if (item && board.may_change) feedBack(item.dataset.event, { r: "right", w: "wrong", u: "unsure" }[event.key]);
  }
});

window.addEventListener("resize", tick);
setUpAlerts();
setOpacity(opacity);
setInterval(tick, TICK_MS);
tick();
follow();
