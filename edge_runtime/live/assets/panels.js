"use strict";
// Threshold, messages and health of the live page.

// ---- threshold -----------------------------------------------------------------------------------------------------

let previewTimer = 0;
let previews = 0;
let previewed = null;

// Cameras that have a threshold of their own.
const apart = ({ sources, threshold }) => sources.filter((source) => source.threshold !== threshold);

const inForce = (state) => [shown(state.threshold), ...apart(state).map((source) => `of ${nameOf(source.source_id)} ${shown(source.threshold)}`)].join(", ");

function showThreshold() {
  const { state } = board, desk = state.desk || {};
  offerCameras(state.sources.map((source) => source.source_id));
  put(element("threshold-now"), inForce(state));
  element("rate-field").hidden = !state.has_rates;
  element("threshold-change").hidden = !board.may_change;
  if (!board.may_change) element("confirm").hidden = true;
  const kept = desk.kept;
  const keptOwn = Object.entries((kept || {}).sources || {}).map(([source, one]) => ` Of ${nameOf(source)} it is ${shown(one.threshold)}, ${one.frames ? "from its frames" : `chosen by ${one.by || "a person"}`}, ${clock(one.created)}.`);
  put(element("threshold-kept"), kept ? `Kept for good is ${shown(kept.threshold)}, ${{ person: `chosen by ${kept.by || "a person"}`, bundle: "the bundle's own" }[kept.basis] || "from frames of this place"}, ${clock(kept.created)}.${keptOwn.join("")}` : "Nothing else is kept beside the bundle.");
  element("threshold-fixed").hidden = !desk.fixed_by;
  put(element("threshold-fixed"), desk.fixed_by ? `This run was started with ${desk.fixed_by}, which wins again at its next start, over what is kept for good: take it out of the command.` : "");
  element("threshold-undo").hidden = !desk.undo;
  if (desk.undo) put(element("threshold-undo"), undoWords(desk.undo));
  const changes = board.statuses.filter((status) => ["THRESHOLD_SET", "THRESHOLD_NOT_SET"].includes(status.event_type));
  element("history-title").hidden = !changes.length;
  element("threshold-history").replaceChildren(...changes.map(messageItem));
}

function undoWords({ kept_alone: alone, source_id: source, threshold, own }) {
  if (alone === "sources") return "Undo: no camera has a threshold of its own any more";
  if (alone) return "Undo: the bundle's own threshold again";
  const others = Object.entries(own).map(([name, value]) => `, ${shown(value)} for ${nameOf(name)}`);
  return `Undo: ${shown(threshold)}${source ? ` for ${nameOf(source)}` : others.join("")} again`;
}

function offerCameras(sources) {
  const choice = element("threshold-of"), key = sources.map(nameOf).join("\n");
  element("of-field").hidden = sources.length < 2;
  if (choice.dataset.offered === key) return;
  choice.dataset.offered = key;
  choice.replaceChildren(...["", ...sources].map((source) => {
    const option = made("option", "", source ? nameOf(source) : "all");
    option.value = source;
    return option;
  }));
}

function asked() {
  const rate = element("rate-input").value;
  return { ...(rate ? { target_fpr: rate } : { threshold: element("threshold-input").value }), source_id: element("threshold-of").value };
}

async function previewNow() {
  const query = asked();
  const mine = previews += 1;
  previewed = null;
  if (!query.target_fpr && query.threshold === "") {
    element("preview").replaceChildren("Type a threshold first, or choose a rate: its preview comes here.");
    return;
  }
  const answer = await fetch(`api/preview?${new URLSearchParams(query)}`);
  const told = await answer.json();
  if (mine !== previews) return; // another threshold is asked about by now
  if (!answer.ok) { element("preview").replaceChildren(told.error); return; }
  if (query.target_fpr) element("threshold-input").value = told.threshold.toPrecision(6);
  previewed = told;
  if (!told.sources.length) { element("preview").replaceChildren("No frame has been scored yet: there is nothing to try it on."); return; }
  const table = made("table");
  table.append(made("caption", "", `What ${shown(told.threshold)} would have flagged in the last hour`));
  const head = made("tr");
  head.append(...["Camera", "Frames above", "in stretches"].map((text) => made("th", "", text)));
  const rows = told.sources.map((source) => {
    const row = made("tr");
    const share = source.frames ? ` (${(100 * source.flagged / source.frames).toFixed(1)} %)` : "";
    row.append(made("td", "", nameOf(source.source_id)), made("td", "", `${source.flagged} of ${source.frames}${share}`), made("td", "", String(source.runs)));
    return row;
  });
  table.append(head, ...rows);
  element("preview").replaceChildren(table, ...(board.state.sizes ? [made("p", "quiet", "By score: how large they are is known of frames above today's threshold alone.")] : []));
}

function preview() {
  element("confirm").hidden = true;
  clearTimeout(previewTimer);
  previewTimer = setTimeout(previewNow, 200);
}

async function setThreshold(content, text) {
  element("confirm").hidden = true;
  try {
    const told = await post("api/threshold", content);
    element("preview").replaceChildren(text(told));
  } catch (error) { element("preview").replaceChildren(error.message); }
}

element("threshold-input").addEventListener("input", () => { element("rate-input").value = ""; preview(); });
element("rate-input").addEventListener("change", preview);
element("threshold-of").addEventListener("change", preview);
element("threshold-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(previewTimer);
  await previewNow();
  if (!previewed) return;
  const flagged = previewed.sources.reduce((sum, source) => sum + source.flagged, 0);
  const frames = previewed.sources.reduce((sum, source) => sum + source.frames, 0);
  const { state } = board, one = state.sources.find((source) => source.source_id === previewed.source_id);
  const before = one || (state.sources.length === 1 ? state.sources[0] : state);
  const whose = one ? `the threshold of ${nameOf(one.source_id)}` : "the threshold";
  const whom = one ? ", and of no other camera" : ` for ${counted(state.sources.length, "camera")}${apart(state).length ? ", those with one of their own too" : ""}`;
  put(element("confirm-text"), `Change ${whose} from ${shown(before.threshold)} to ${shown(previewed.threshold)}${whom}? Of the last hour ${flagged} of ${frames} frames lie above it.`);
  element("keep").checked = false;
  element("confirm").hidden = false;
  element("confirm-no").focus();
});
element("confirm-yes").addEventListener("click", () => setThreshold(
  { threshold: previewed.threshold, keep: element("keep").checked, source_id: previewed.source_id || "" },
  (told) => `Threshold ${shown(told.threshold)} is asked for; it is in force from the next frame on${told.keep ? ", and is kept for good" : ", until the run is started again"}.`,
));
element("confirm-no").addEventListener("click", () => { element("confirm").hidden = true; element("threshold-use").focus(); });
element("threshold-undo").addEventListener("click", () => setThreshold({ undo: true }, () => "The change is taken back from the next frame on."));

// ---- messages, health ----------------------------------------------------------------------------------------------

function messageItem(status) {
  const item = made("li");
  const tone = { info: "good", warning: "warn", error: "bad" }[status.severity];
  item.dataset.type = status.event_type;
  item.append(timeOf(status.time), " ", made("span", `mark ${tone}`, { info: "", warning: "Attention: ", error: "Fault: " }[status.severity]), sentence(status));
  item.title = status.event_type;
  return item;
}

function showMessages() {
  put(element("n-messages"), board.statuses.length ? `(${board.statuses.length})` : "");
  element("no-messages").hidden = board.statuses.length > 0;
  element("message-list").replaceChildren(...board.statuses.map(messageItem));
}

function showHealth() {
  const { state } = board;
  const facts = [
    ["Run", state.ok ? "scores, and every camera gives frames" : state.scorer_moves === false ? "hangs while it scores a frame" : "does not get frames of every camera"],
    ["Bundle", state.model], ["Threshold", inForce(state)], ["View", state.view],
    ["Alarm", state.alarm ? `after ${state.alarm} frames above the threshold` : "none"],
    ...(state.sizes ? [["Sizes", state.sizes]] : []),
  ];
  for (const source of state.sources) {
    const error = named(source.last_error, source.source_id) || "no good frames";
    facts.push([nameOf(source.source_id), `${source.up ? `gives frames; ${source.state}` : `gives none: ${error}`}${nameOf(source.source_id) === source.source_id ? "" : ` (${source.source_id})`}`]);
  }
  element("health-list").replaceChildren(...facts.flatMap(([name, value]) => [made("dt", "", name), made("dd", "", String(value))]));
}

element("doctor-button").addEventListener("click", async () => {
  element("doctor-list").replaceChildren(made("li", "quiet", "looking …"));
  try {
    const answer = await fetch("api/doctor");
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    element("doctor-list").replaceChildren(...told.checks.map((check) => {
      const item = made("li");
      item.append(made("span", `state ${{ ok: "good", error: "bad", warning: "warn" }[check.state] || ""}`, check.state), ` ${check.name}: ${check.found}`);
      if (check.remedy) item.append(made("div", "quiet", check.remedy));
      return item;
    }));
  } catch (error) { element("doctor-list").replaceChildren(made("li", "", `The doctor does not answer: ${error.message}`)); }
});
