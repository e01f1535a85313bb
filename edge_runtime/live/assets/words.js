"use strict";
// What the live page says in words: moments in the reader's own locale, names of cameras, and sentences of records.

const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const DAY_AND_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const SHORT_TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

// ISO text, or seconds since the epoch.
const dateOf = (moment) => new Date(typeof moment === "number" ? 1000 * moment : moment);

function clock(moment) {
  if (moment === null || moment === undefined || moment === "") return "?";
  const date = dateOf(moment);
  return (date.toDateString() === new Date().toDateString() ? TIME : DAY_AND_TIME).format(date);
}

function timeOf(moment) {
  const node = made("time", "", clock(moment));
  node.dateTime = dateOf(moment).toISOString();
  node.title = DAY_AND_TIME.format(dateOf(moment));
  return node;
}

function duration(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

const counted = (n, one, many) => `${n} ${n === 1 ? one : many || `${one}s`}`;

// A camera's name: as the run calls it, without the query of an address; numbered where two are alike.
function nameOf(source) {
  const plain = (id) => id.split("?")[0] || id;
  const alike = board.state.sources.map((one) => one.source_id).filter((id) => plain(id) === plain(source));
  return alike.length > 1 && alike.includes(source) ? `${plain(source)} (${alike.indexOf(source) + 1})` : plain(source);
}

const named = (text, source) => String(text || "").replaceAll(source, nameOf(source));

const who = (by) => (by ? `${by.role === "local" ? "somebody at this machine" : `the ${by.role}`}${by.address && by.role !== "local" ? ` at ${by.address}` : ""}` : "somebody");

const SENTENCES = {
  SOURCE_OPEN_FAILED: (n, p, why) => `${n} could not be opened: ${why}${p.retry_s ? `; it is tried again in ${duration(p.retry_s)}` : ""}.`,
  SOURCE_LOST: (n, p, why) => `${n} was lost: ${why}${p.retry_s ? `; it is tried again in ${duration(p.retry_s)}` : ""}.`,
  SOURCE_STALLED: (n, p, why) => `${n} gives no good frame any more${why ? `: ${why}` : ""}.`,
  SOURCE_RECOVERED: (n, p) => `${n} gives good frames again${p.silent_s ? `, after ${duration(p.silent_s)} without` : ""}.`,
  SOURCE_FAILED: (n, p, why) => `The frames of ${n} cannot be scored: ${why}.`,
  FRAME_REPEATED: (n) => `${n} repeats one frame: it is not scored.`,
  FRAME_BLACK: (n) => `${n} gives black frames: they are not scored.`,
  FRAME_TORN: (n) => `${n} gives torn frames: they are not scored.`,
  FRAME_SIZE: (n, p, why) => `${n} gives frames of another size: ${why}.`,
  FRAMES_GOOD: (n, p) => `${n} gives good frames again; ${counted(p.refused || 0, "frame was", "frames were")} refused${p.seconds ? ` within ${duration(p.seconds)}` : ""}.`,
  FRAME_NOT_SCORED: (n, p, why) => `A frame of ${n} was not scored: ${why}.`,
  MODEL_SWAPPED: () => "Another bundle lies at the path, and is used from now on.",
  MODEL_REFUSED: (n, p, why) => `The bundle at ${n} is not used: ${why}.`,
  SHADOW_FAILED: (n, p, why) => `The shadow bundle ${n} failed and is switched off: ${why}.`,
  SCORES_DRIFT: (n, p, why) => `The scores of ${n} are no longer as usual: ${why}.`,
  SCORES_USUAL: (n) => `The scores of ${n} are as usual again.`,
  THRESHOLD_SET: (n, p) => (p.undo && !p.one_source && p.before === p.threshold) ? `${who(p.by)} took back the thresholds of single cameras${p.kept ? ", for good" : ""}.` : `${who(p.by)} ${p.undo ? "took back a change of" : "changed"} the threshold ${p.one_source ? `of ${n} ` : ""}from ${shown(p.before)} to ${shown(p.threshold)}${p.kept ? ", for good" : p.undo ? "" : ", until the run is started again"}.`,
  THRESHOLD_NOT_SET: (n, p, why) => `The threshold ${p.one_source ? `of ${n} ` : ""}that ${who(p.by)} asked for is not in force: ${why}.`,
  SINK_REOPENED: (n, p, why) => `${n} was begun again: ${why}.`,
  BOARD_POWER: (n, p) => `The board draws ${p.watts === undefined ? "an unknown power" : `${JSON.stringify(p.watts)} W`}${p.mode ? ` in mode ${p.mode}` : ""}.`,
  SINK_DROPS: (n, p, why) => `${n} is too slow for what it is given: ${why}.`,
  SINK_FAILED: (n, p, why) => `${n} takes no records: ${why}.`,
  SINK_RECOVERED: (n) => `${n} takes records again.`,
  DELIVERY_FAILED: (n, p, why) => `${n} cannot be told of events: ${why}.`,
  DELIVERY_RECOVERED: (n) => `${n} is told of events again.`,
  DELIVERY_REFUSED: (n, p, why) => `${n} refuses a message for good: ${why}.`,
};

function sentence(status) {
  const name = nameOf(status.source_id), reason = named(status.payload.reason, status.source_id).replace(/\.$/, "");
  const why = reason.startsWith(`${name} `) ? `it ${reason.slice(name.length + 1)}` : reason;
  const make = SENTENCES[status.event_type];
  const text = make ? make(nameOf(status.source_id), status.payload, why) : `${status.event_type} of ${nameOf(status.source_id)}: ${why || JSON.stringify(status.payload)}.`;
  return text.startsWith(nameOf(status.source_id)) ? text : text[0].toUpperCase() + text.slice(1);
}

// A threshold as people compare it; as many digits as tell 0.9994 from 1.
const shown = (number) => (number === null || number === undefined ? "?" : String(Number(Number(number).toPrecision(5))));
