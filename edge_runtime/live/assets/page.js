"use strict";
// What our pages share: finding and making elements, and asking for a change. Text only ever becomes textContent.

const element = (id) => document.getElementById(id);

const made = (name, className, text) => {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

const LONGEST_ANSWER_MS = 30000;
let posted = Promise.resolve();

// One change after another, in the order in which they were made: sent side by side, the answer to an older one may come
// last and be shown for what holds now, and the older one of two about the same thing may win. The next one waits for an
// answer, or for as long as one may take.
function post(path, content) {
  const mine = posted.then(() => postNow(path, content));
  posted = mine.catch(() => {}); // whoever asked is told; the next one is sent all the same
  return mine;
}

async function postNow(path, content) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), LONGEST_ANSWER_MS);
  const answer = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content), signal: patience.signal,
  }).finally(() => clearTimeout(timer));
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}
