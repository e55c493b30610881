// Live numbers on the first page, and the cursor in the curve of a day. Without it everything is there, too.
"use strict";

const EVERY = 5000;
const language = document.documentElement.lang;

function number(value, digits) {
  return new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

// --- the first page: the server draws it, this puts its newer self in place

async function fetched(address) {
  try {
    const answer = await fetch(new URL(address, document.baseURI), { cache: "no-store" });
    return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
  } catch {
    return null; // the program restarts, or the network is away: the next time tells
  }
}

const live = (where) => [...where.querySelectorAll("[data-live]")];

// What the page is made of: which values, and how far the curve goes.
const made = (where) =>
  [where.querySelector(".now")?.dataset.drawn, ...live(where).map((one) => one.dataset.live)].join();

async function renew() {
  if (document.hidden) return;
  const next = await fetched("?part=numbers");
  if (next === null) return;
  if (made(document) !== made(next) && !cursorShown) {
    const page = await fetched(".");
    if (page === null) return;
    document.querySelector("main").replaceWith(document.adoptNode(page.querySelector("main")));
    cursors();
    return;
  }
  // Only what differs, so that nobody loses the place where he reads, or what he has marked.
  const fresh = new Map(live(next).map((one) => [one.dataset.live, one]));
  for (const old of live(document)) {
    const one = fresh.get(old.dataset.live);
    if (one && one.outerHTML !== old.outerHTML) old.replaceWith(document.adoptNode(one));
  }
}

// --- the cursor

let cursorShown = false;

function nearest(slots, moment) {
  const found = new Map();
  for (const slot of slots) {
    if (!slot.readings) continue;
    const distance = Math.abs(slot.from_epoch + 150 - moment);
    const best = found.get(slot.serial);
    if (distance <= 450 && (!best || distance < best.distance)) found.set(slot.serial, { distance, slot });
  }
  return [...found.values()].map((one) => one.slot);
}

function told(slots, several) {
  if (!slots.length) return "";
  const parts = slots.map((slot) => {
    const values = [];
    if (slot.pac !== undefined) values.push(`${number(slot.pac, 0)} W`);
    if (slot.vac1 !== undefined) values.push(`${number(slot.vac1, 1)} V`);
    if (slot.temp !== undefined) values.push(`${number(slot.temp, 1)} °C`);
    return (several ? `${slot.serial}: ` : "") + values.join(", ");
  });
  // The time of the house, not of whoever looks.
  return `${slots[0].time.slice(11, 16)}  ${parts.join("  ·  ")}`;
}

function cursors() {
  for (const figure of document.querySelectorAll("figure.day")) {
    const words = figure.querySelector(".cursor-text");
    const query = new URLSearchParams(location.search);
    query.set("date", figure.dataset.date);
    let slots = null;
    const load = async () => {
      if (slots !== null) return;
      slots = [];
      const answer = await fetch(`api/day?${new URLSearchParams({ date: query.get("date"), serial: query.get("serial") || "" })}`);
      if (answer.ok) slots = (await answer.json()).slots;
    };
    for (const svg of figure.querySelectorAll("svg.chart")) {
      const { left, right, top, bottom, from, to } = Object.fromEntries(
        Object.entries(svg.dataset).map(([name, value]) => [name, Number(value)]),
      );
      const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("class", "cursor");
      const move = async (event) => {
        await load();
        const box = svg.getBoundingClientRect();
        const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
        if (x < left || x > right) return leave();
        const moment = from + ((x - left) / (right - left)) * (to - from);
        line.setAttribute("d", `M${x.toFixed(1)} ${top}V${bottom}`);
        svg.append(line);
        cursorShown = true;
        const near = nearest(slots, moment);
        words.textContent = told(near, new Set(slots.map((slot) => slot.serial)).size > 1);
      };
      const leave = () => {
        cursorShown = false;
        line.remove();
        words.textContent = "";
      };
      svg.addEventListener("pointermove", move);
      svg.addEventListener("pointerdown", move);
      svg.addEventListener("pointerleave", leave);
    }
  }
}

cursors();
if (document.querySelector("[data-live]")) setInterval(renew, EVERY);
