"use strict";
// Rejected images, group by group. Names come as data and only ever become textContent.

const MARKS = { keep: "✓ keep", reject: "✕ reject", "": "open" };
const NEXT = { "": "keep", keep: "reject", reject: "" };

function shot(image) {
  const button = made("button", "shot");
  button.type = "button";
  button.dataset.index = image.index;
  const picture = made("img");
  picture.loading = "lazy";
  picture.alt = "";
  picture.src = `api/images/${image.index}.png`;
  button.append(picture, made("span", "mark"), made("span", "", `${image.score.toFixed(2)} ${image.name}`));
  button.title = image.reason;
  button.addEventListener("click", () => decide([button], NEXT[button.dataset.verdict]));
  mark(button, image.verdict);
  return button;
}

function mark(button, verdict) {
  button.dataset.verdict = verdict;
  button.querySelector(".mark").textContent = MARKS[verdict];
  button.setAttribute("aria-label", `${button.lastChild.textContent}: ${MARKS[verdict]}`);
}

async function decide(buttons, verdict) {
  const before = buttons.map((button) => button.dataset.verdict);
  buttons.forEach((button) => mark(button, verdict));
  try {
    for (let first = 0; first < buttons.length; first += 400) {
      const indices = buttons.slice(first, first + 400).map((button) => Number(button.dataset.index));
      show(await post("api/verdicts", { indices, verdict }));
    }
    element("banner").hidden = true;
  } catch (error) {
    buttons.forEach((button, index) => mark(button, before[index]));
    element("banner").textContent = `Not saved: ${error.message}`;
    element("banner").hidden = false;
  }
}

function show(told) {
  element("counts").textContent = `${told.keep} keep, ${told.reject} reject, ${told.open} open`;
  element("command").textContent = told.command;
}

const shots = () => [...document.querySelectorAll(".shot")];

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const all = shots();
  const current = all.indexOf(document.activeElement);
  const verdict = { k: "keep", r: "reject", u: "" }[event.key.toLowerCase()];
  if (verdict !== undefined && current >= 0) {
    const chosen = event.shiftKey ? [...all[current].closest(".group").querySelectorAll(".shot")] : [all[current]];
    decide(chosen, verdict);
    if (!event.shiftKey && current + 1 < all.length) all[current + 1].focus();
    event.preventDefault();
    return;
  }
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) { all[Math.max(0, Math.min(all.length - 1, current + step))].focus(); event.preventDefault(); return; }
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && current >= 0) {
    const box = all[current].getBoundingClientRect();
    const sign = event.key === "ArrowDown" ? 1 : -1;
    const beyond = all.filter((one) => sign * (one.getBoundingClientRect().top - box.top) > 4);
    const near = beyond.sort((a, b) => distance(a, box) - distance(b, box))[0];
    if (near) { near.focus(); event.preventDefault(); }
  }
});

function distance(one, box) {
  const other = one.getBoundingClientRect();
  return Math.abs(other.top - box.top) * 4 + Math.abs(other.left - box.left);
}

async function start() {
  const answer = await fetch("api/groups");
  const told = await answer.json();
  if (!answer.ok) { element("banner").textContent = told.error; element("banner").hidden = false; return; }
  element("run").textContent = told.run;
  const counts = { keep: 0, reject: 0, open: 0, command: told.command };
  told.groups.forEach((group, index) => {
    const section = made("section", "group");
    section.append(made("h2", "", `Group ${index + 1}: ${group.images.length} images`));
    section.append(made("p", "quiet", `spread ${group.spread.toFixed(2)}: below 1 they look alike, the smaller the more`));
    const answers = made("div", "answers");
    for (const [verdict, text] of [["keep", "Keep all"], ["reject", "Reject all"], ["", "Leave all open"]]) {
      const button = made("button", "", text);
      button.type = "button";
      button.addEventListener("click", () => decide([...section.querySelectorAll(".shot")], verdict));
      answers.append(button);
    }
    const grid = made("div", "grid");
    grid.append(...group.images.map(shot));
    group.images.forEach((image) => { counts[image.verdict || "open"] += 1; });
    section.append(answers, grid);
    element("groups").append(section);
  });
  if (!told.groups.length) element("groups").append(made("p", "quiet", "This run rejected no image."));
  show(counts);
}

start();
