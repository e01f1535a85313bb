"use strict";
// Rejected images, group by group. Names come as data and only ever become textContent.

const MARKS = { keep: "✓ keep", reject: "✕ reject", "": "open" };
const KEYS = { k: "keep", r: "reject", u: "" };
const zoom = element("zoom");
let decisions = 0, unsaved = 0; // numbers of the last decision, and of the last at a failure
let current = null; // the image that keys are about, whether or not it has the focus

function choices(decided) {
  const answers = made("div", "answers");
  for (const [verdict, text] of [["keep", "Keep"], ["reject", "Reject"]]) {
    const button = made("button", verdict, text);
    button.type = "button";
    button.addEventListener("click", () => decided(verdict));
    answers.append(button);
  }
  return answers;
}

function shot(image, words) {
  const card = made("div", "shot");
  card.image = image;
  card.words = words;
  card.saved = image.verdict;
  const opener = made("button", "picture");
  opener.type = "button";
  const picture = made("img");
  picture.loading = "lazy";
  picture.alt = "";
  picture.src = `api/images/${image.index}`;
  opener.append(picture);
  opener.title = `${image.reason}\nEnlarge (z)`;
  opener.addEventListener("click", () => { goTo(card); enlarge(); });
  opener.addEventListener("focus", () => choose(card));
  const answers = choices((verdict) => decide([card], card.dataset.verdict === verdict ? "" : verdict));
  card.append(opener, made("span", "mark"), made("span", "name", `${image.score.toFixed(2)} ${image.name}`), answers);
  mark(card, image.verdict);
  return card;
}

function mark(card, verdict) {
  card.dataset.verdict = verdict;
  card.querySelector(".mark").textContent = MARKS[verdict];
  card.firstChild.setAttribute("aria-label", `${card.querySelector(".name").textContent}: ${MARKS[verdict]}; enlarge`);
  card.querySelectorAll(".answers button").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.className === verdict));
  });
  if (zoom.open && card === current) fill();
}

async function decide(cards, verdict) {
  const mine = decisions += 1;
  cards.forEach((card) => { card.decision = mine; mark(card, verdict); });
  try {
    for (let first = 0; first < cards.length; first += 400) {
      const some = cards.slice(first, first + 400);
      show(await post("api/verdicts", { indices: some.map((card) => card.image.index), verdict }));
      some.forEach((card) => { card.saved = verdict; });
    }
    if (unsaved < mine) element("banner").hidden = true;
  } catch (error) {
    cards.filter((card) => card.decision === mine).forEach((card) => mark(card, card.saved));
    unsaved = decisions; // what was on its way may come through, what failed is still not there
    element("banner").textContent = `Not saved: ${error.message}`;
    element("banner").hidden = false;
  }
}

function show(told) {
  const looked = told.keep + told.reject, n = looked + told.open;
  element("counts").textContent = `${looked} of ${n} looked at: ${told.keep} keep, ${told.reject} reject`;
  element("progress").max = Math.max(1, n);
  element("progress").value = looked;
  element("command").textContent = told.command;
}

const shots = () => [...document.querySelectorAll(".shot")];

function choose(card) {
  if (current) current.classList.remove("current");
  current = card;
  card.classList.add("current");
}

function goTo(card) {
  choose(card);
  if (!zoom.open) card.firstChild.focus();
  else fill();
}

function enlarge() {
  if (!current) return;
  if (!zoom.open) zoom.showModal();
  fill();
}

function fill() {
  const { image } = current, all = shots();
  const address = `api/photographs/${image.index}`;
  if (element("large").getAttribute("src") !== address) element("large").src = address;
  element("large").alt = image.name;
  element("large-name").textContent = `${image.name}: score ${image.score.toFixed(2)}, ${MARKS[current.dataset.verdict]}`;
  element("large-why").textContent = `${all.indexOf(current) + 1} of ${all.length}. Set aside: ${image.reason}. Its group: ${current.words}`;
}

function beside(step) {
  const all = shots(), at = all.indexOf(current);
  if (all.length) goTo(all[Math.max(0, Math.min(all.length - 1, at + step))]);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !current) return;
  const key = event.key.toLowerCase(), verdict = KEYS[key];
  if (verdict !== undefined) {
    const chosen = event.shiftKey ? [...current.closest(".group").querySelectorAll(".shot")] : [current];
    decide(chosen, verdict);
    if (!event.shiftKey) beside(1);
  } else if (key === "z") {
    if (zoom.open) zoom.close(); else enlarge();
  } else if (key === "arrowright" || key === "arrowleft") {
    beside(key === "arrowright" ? 1 : -1);
  } else if ((key === "arrowdown" || key === "arrowup") && !zoom.open) {
    const box = current.getBoundingClientRect(), sign = key === "arrowdown" ? 1 : -1;
    const beyond = shots().filter((one) => sign * (one.getBoundingClientRect().top - box.top) > 4);
    const near = beyond.sort((a, b) => distance(a, box) - distance(b, box))[0];
    if (!near) return;
    goTo(near);
  } else {
    return;
  }
  event.preventDefault();
});

function distance(one, box) {
  const other = one.getBoundingClientRect();
  return Math.abs(other.top - box.top) * 4 + Math.abs(other.left - box.left);
}

element("zoom-choices").append(choices((verdict) => { decide([current], verdict); beside(1); }));
element("before").addEventListener("click", () => beside(-1));
element("after").addEventListener("click", () => beside(1));
element("close").addEventListener("click", () => zoom.close());
zoom.addEventListener("close", () => current.firstChild.focus());

async function start() {
  const answer = await fetch("api/groups");
  const told = await answer.json();
  if (!answer.ok) { element("banner").textContent = told.error; element("banner").hidden = false; return; }
  element("run").textContent = told.run;
  const counts = { keep: 0, reject: 0, open: 0, command: told.command };
  told.groups.forEach((group, index) => {
    const section = made("section", "group");
    section.append(made("h2", "", told.groups.length > 1 ? `Group ${index + 1}` : "All of them"));
    section.append(made("p", "why", group.words));
    const answers = made("div", "answers");
    for (const [verdict, text] of [["keep", "Keep all"], ["reject", "Reject all"], ["", "Leave all open"]]) {
      const button = made("button", "", text);
      button.type = "button";
      button.addEventListener("click", () => decide([...section.querySelectorAll(".shot")], verdict));
      answers.append(button);
    }
    const grid = made("div", "grid");
    grid.append(...group.images.map((image) => shot(image, group.words)));
    group.images.forEach((image) => { counts[image.verdict || "open"] += 1; });
    section.append(answers, grid);
    element("groups").append(section);
  });
  if (!told.groups.length) element("groups").append(made("p", "quiet", "This run rejected no image."));
  show(counts);
  // Keys work at once, on the first image that nobody has looked at.
  const first = shots().find((card) => !card.dataset.verdict) || shots()[0];
  if (first) goTo(first);
}

start();
