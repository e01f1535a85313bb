"use strict";
// Events on the live page: the list, one in detail with its map, curve, snapshot and clip, and what people say of them.

const ANSWERS = { right: "Right: a defect", wrong: "Wrong: all is good", unsure: "Unsure" };
const MOST_PLAYED_BYTES = 64e6;
let detail = { id: "", chart: null, playing: 0 };

const eventPath = (id) => `api/events/${encodeURIComponent(id)}`;
const spoken = (event) => (event.phase !== "end" ? "goes on" : { interrupted: "ended when the run was interrupted", stopped: "ended with the run", ended: "ended with the file" }[event.reason] || "");

function chosenEvents() {
  const source = element("event-source").value, answer = element("event-answer").value, hours = element("event-since").value;
  return board.events.filter((event) => (!source || event.source_id === source)
    && (!answer || (answer === "none" ? !event.answer : event.answer === answer))
    && (!hours || dateOf(event.start_time) > Date.now() - 3.6e6 * hours));
}

function showEvents() {
  const list = element("event-list"), chosen = chosenEvents();
  put(element("n-events"), board.events.length ? `(${board.events.length})` : "");
  element("event-bar").hidden = board.events.length === 0;
  showSourceChoice();
  element("no-events").hidden = chosen.length > 0;
  put(element("no-events"), board.events.length ? "No event is as chosen above." : `No events yet.${board.state.alarm ? ` One begins after ${board.state.alarm} frames above the threshold.` : ""}`);
  const none = board.state.sources.length > 0 && board.state.alarm === null;
  element("no-alarm").hidden = !none;
  if (none) put(element("no-alarm"), "This run raises no alarm and keeps no event: it has no alarm rule (--alarm none), or reads image files. Start it with --alarm 3/5 to have them.");
  const focused = document.activeElement && document.activeElement.closest("#event-list [data-event]");
  const focusedId = focused && focused.dataset.event;
  const pressed = focused && document.activeElement.dataset.answer;
  const there = new Map([...list.children].map((item) => [item.key, item]));
  list.replaceChildren(...chosen.map((event) => {
    // What did not change stays as it is, picture and all.
    const key = JSON.stringify([event, board.may_change, nameOf(event.source_id), new Date().toDateString()]);
    return there.get(key) || Object.assign(eventItem(event), { key });
  }));
  if (focusedId) {
    const again = [...list.children].find((item) => item.dataset.event === focusedId);
    if (again) (pressed ? again.querySelector(`[data-answer="${pressed}"]`) : again).focus();
  }
  element("not-kept").hidden = !board.not_kept;
  put(element("not-kept"), board.not_kept || "");
  if (detail.id && element("event-dialog").open) showDetailText();
  showTraining();
}

function showSourceChoice() {
  const select = element("event-source"), before = select.value;
  const sources = [...new Set(board.events.map((event) => event.source_id))];
  if (select.options.length === sources.length + 1 && sources.every((one, index) => select.options[index + 1].value === one)) return;
  select.replaceChildren(new Option("all", ""), ...sources.map((one) => new Option(nameOf(one), one)));
  if (sources.includes(before)) select.value = before;
}

function eventItem(event) {
  const running = event.phase !== "end";
  const item = made("li", running ? "on" : "");
  item.dataset.event = event.event_id;
  item.dataset.phase = event.phase;
  item.tabIndex = -1;
  const open = made("button", "open");
  open.type = "button";
  open.setAttribute("aria-label", `Look at the event of ${nameOf(event.source_id)}, ${clock(event.start_time)}`);
  if (event.picture) {
    const image = made("img");
    image.alt = "";
    image.loading = "lazy";
    image.src = `${eventPath(event.event_id)}.jpg?score=${event.peak_score.toFixed(4)}`;
    open.append(image);
  } else open.append(made("span", "quiet", "no picture is kept; look at the details"));
  open.addEventListener("click", () => openDetail(event.event_id));
  const when = made("p", `state ${running ? "bad" : ""}`);
  when.append(running ? "since " : "", timeOf(event.start_time));
  if (!running && event.end_time) when.append(" to ", timeOf(event.end_time));
  item.append(open, when, made("p", "quiet", `${nameOf(event.source_id)} · peak ${event.peak_score.toFixed(2)} · ${counted(event.frames, "frame")}${spoken(event) ? ` · ${spoken(event)}` : ""}`));
  if (board.may_change) item.append(answersOf(event));
  else if (event.answer) item.append(made("p", "quiet", `said: ${event.answer}`));
  return item;
}

function answersOf(event) {
  const answers = made("div", "answers");
  answers.setAttribute("role", "group");
  answers.setAttribute("aria-label", "Was this alarm right?");
  for (const [answer, label] of Object.entries(ANSWERS)) {
    const button = made("button", "", label);
    button.type = "button";
    button.dataset.answer = answer;
    button.setAttribute("aria-pressed", String(event.answer === answer));
    button.addEventListener("click", () => feedBack(event.event_id, answer));
    answers.append(button);
  }
  return answers;
}

async function feedBack(eventId, answer) {
  try { await post("api/feedback", { event_id: eventId, answer }); }
  catch (error) { alertOnce(error.message); }
}

function showTraining() {
  const kept = board.feedback;
  element("training").hidden = !(kept && kept.good + kept.defects);
  if (!kept) return;
  put(element("training-text"), `${counted(kept.good, "false alarm")} and ${counted(kept.defects, "defect")} are kept. The next training takes them, the first as good images, the others as known defects, with`);
  put(element("training-command"), kept.command);
}

// ---- one event -----------------------------------------------------------------------------------------------------

async function openDetail(id) {
  detail.playing += 1;
  detail.id = id;
  element("event-dialog").showModal();
  showDetailText();
  for (const name of ["detail-image", "detail-heat"]) { element(name).width = 16; element(name).height = 9; }
  element("detail-over").hidden = false;
  put(element("detail-over"), "loading …");
  element("detail-files").replaceChildren();
  element("detail-chart").replaceChildren();
  detail.chart = null;
  try {
    const answer = await fetch(`${eventPath(id)}.json`);
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    if (detail.id !== id) return;
    await showDetail(told);
  } catch (error) { put(element("detail-over"), error.message); }
}

function showDetailText() {
  const event = board.events.find((one) => one.event_id === detail.id);
  if (!event) return;
  put(element("detail-title"), `${nameOf(event.source_id)}, ${clock(event.start_time)}`);
  const end = event.phase === "end" ? ` to ${clock(event.end_time || event.peak_time)}` : ", and it goes on";
  put(element("detail-text"), `From ${clock(event.start_time)}${end}${event.phase === "end" && spoken(event) ? ` (${spoken(event)})` : ""}: ${counted(event.frames, "frame")}. The highest score was ${event.peak_score.toFixed(3)}${event.peak_time ? ` at ${clock(event.peak_time)}` : ""}, the threshold ${shown(event.threshold)}.`);
  element("detail-answers").replaceChildren(...(board.may_change ? [answersOf(event)] : []));
}

async function showDetail(told) {
  const id = detail.id, over = element("detail-over");
  if (told.map_shape) {
    const picture = await (await fetch(`${eventPath(id)}.jpg`)).blob();
    const bitmap = await createImageBitmap(picture);
    if (detail.id !== id) return;
    showFrame(bitmap);
    drawHeat(element("detail-heat"), Uint8Array.from(atob(told.heat), (one) => one.charCodeAt(0)), told.map_shape);
    element("detail-heat").style.opacity = opacity;
  }
  over.hidden = Boolean(told.map_shape);
  put(over, told.map_shape ? "" : "no picture of this event is kept");
  const rows = told.scores;
  put(element("detail-chart-note"), rows.length ? "Score (red within an event) and threshold, ten seconds on either side." : "The scores of this event are no longer kept.");
  if (rows.length) {
    const data = [rows.map((row) => row[0]), rows.map((row) => row[1]), rows.map((row) => row[2]), rows.map(() => null), rows.map((row) => (row[3] ? row[1] : null))];
    detail.chart = chartOf(element("detail-chart"), Math.max(200, element("detail-chart").clientWidth), data);
  }
  const files = element("detail-files");
  if (told.map_shape) files.append(download("Picture", `${eventPath(id)}.jpg`, `${id}.jpg`));
  if (told.snapshot) files.append(download("Snapshot", `${eventPath(id)}/snapshot.jpg`, `${id}-snapshot.jpg`));
  if (told.clip) {
    const play = made("button", "", "Play the clip");
    play.type = "button";
    play.addEventListener("click", () => playClip(id));
    files.append(play, download("Clip", `${eventPath(id)}/clip.avi`, `${id}.avi`));
  } else if (told.record.clip) files.append(made("span", "quiet", "The clip is not there yet, or no longer kept."));
  const record = made("button", "", "Download the record");
  record.type = "button";
  record.addEventListener("click", () => save(`${id}.json`, "application/json", JSON.stringify(told.record, null, 2)));
  files.append(record);
}

function showFrame(bitmap) {
  const canvas = element("detail-image");
  canvas.width = bitmap.width; canvas.height = bitmap.height;
  element("detail-screen").style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}

function download(label, href, name) {
  const link = made("a", "button", `Download ${label.toLowerCase()}`);
  link.href = href;
  link.download = name;
  return link;
}

function save(name, type, content) {
  const link = made("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The frames of an AVI file in Motion JPEG, which browsers do not play themselves: the chunks `00dc` of its list `movi`.
function framesOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const code = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  const frames = [];
  let frameMs = 100;
  for (let at = 12; at + 8 <= bytes.length;) {
    const kind = code(at), size = view.getUint32(at + 4, true);
    if (kind === "LIST") { at += 12; continue; }
    if (kind === "avih") frameMs = Math.max(4, view.getUint32(at + 8, true) / 1000);
    if (kind === "00dc" && size) frames.push(bytes.subarray(at + 8, at + 8 + size));
    at += 8 + size + (size & 1);
  }
  return { frames, frameMs };
}

async function playClip(id) {
  const playing = detail.playing += 1, over = element("detail-over");
  over.hidden = false;
  put(over, "loading the clip …");
  try {
    const answer = await fetch(`${eventPath(id)}/clip.avi`);
    if (!answer.ok) throw new Error((await answer.json()).error);
    if (Number(answer.headers.get("content-length")) > MOST_PLAYED_BYTES) throw new Error("the clip is too long to be played here: download it");
    const { frames, frameMs } = framesOf(new Uint8Array(await answer.arrayBuffer()));
    element("detail-heat").style.opacity = 0; // the clip has its own
    for (let index = 0; index < frames.length && playing === detail.playing && element("event-dialog").open; index += 1) {
      const due = performance.now() + frameMs;
      const bitmap = await createImageBitmap(new Blob([frames[index]], { type: "image/jpeg" }));
      showFrame(bitmap);
      put(over, `clip, frame ${index + 1} of ${frames.length}`);
      element("event-dialog").dataset.played = index + 1;
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
    }
  } catch (error) { put(over, error.message); }
}

element("detail-close").addEventListener("click", () => element("event-dialog").close());
element("event-dialog").addEventListener("close", () => { detail.id = ""; detail.playing += 1; });
["event-source", "event-answer", "event-since"].forEach((id) => element(id).addEventListener("change", showEvents));
element("event-csv").addEventListener("click", () => {
  const columns = ["event_id", "source_id", "start_time", "end_time", "phase", "reason", "peak_score", "peak_time", "threshold", "frames", "answer"];
  // A cell that begins like a formula is one to a spreadsheet.
  const cell = (value) => `"${String(value ?? "").replace(/^[=+@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  save("events.csv", "text/csv", [columns, ...chosenEvents().map((event) => columns.map((name) => event[name]))].map((row) => row.map(cell).join(",")).join("\r\n"));
});
