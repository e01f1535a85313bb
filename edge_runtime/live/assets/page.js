"use strict";
// What our pages share: finding and making elements, and asking for a change. Text only ever becomes textContent.

const element = (id) => document.getElementById(id);

const made = (name, className, text) => {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

async function post(path, content) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}
