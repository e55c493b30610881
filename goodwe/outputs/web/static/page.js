// Live numbers on the first page, and the cursor in the curve of a day. Without it everything is there, too.
"use strict";

const EVERY = 5000;
const language = document.documentElement.lang;

// As the server writes them.
function number(value, digits) {
  const [whole, rest] = value.toFixed(digits).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return rest === undefined ? grouped : grouped + (language === "en" ? "." : ",") + rest;
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

// The middle of the slot, where its point stands; in the time of the house, not of whoever looks.
const clock = (slot) => `${slot.time.slice(11, 14)}${String(Number(slot.time.slice(14, 16)) + 2).padStart(2, "0")}`;

function told(slots, { keys, unit, digits, names }) {
  if (!slots.length) return "";
  const chosen = keys === "pac" || keys === "temp" ? ["vac1"] : keys.split(" ");
  const [of, places] = chosen[0] === "vac1" ? ["V", 1] : [unit, Number(digits)];
  const parts = slots.map((slot) => {
    const values = [];
    if (slot.pac !== undefined) values.push(`${number(slot.pac, 0)} W`);
    const shown = chosen.filter((key) => slot[key]).map((key) => number(slot[key], places));
    if (shown.length) values.push(`${shown.join(" / ")} ${of}`);
    if (slot.temp !== undefined) values.push(`${number(slot.temp, 1)} °C`);
    return { serial: slot.serial, text: values.join(", ") };
  });
  const named = JSON.parse(names);
  const several = new Set(slots.map((slot) => slot.serial)).size > 1;
  const texts = parts.map(({ serial, text }) => (several ? `${named[serial] ?? serial}: ${text}` : text));
  return `${clock(slots[0])}  ${texts.join("  ·  ")}`;
}

function cursors() {
  for (const figure of document.querySelectorAll("figure.day")) {
    const words = figure.querySelector(".cursor-text");
    const serial = new URLSearchParams(location.search).get("serial") || "";
    let loading = null;
    const load = async () => {
      try {
        const answer = await fetch(`api/day?${new URLSearchParams({ date: figure.dataset.date, serial })}`);
        if (answer.ok) return (await answer.json()).slots;
      } catch {
        // as in `fetched`
      }
      loading = null; // to be tried again
      return [];
    };
    for (const svg of figure.querySelectorAll("svg.chart")) {
      const { left, right, top, bottom, from, to } = Object.fromEntries(
        Object.entries(svg.dataset).map(([name, value]) => [name, Number(value)]),
      );
      const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("class", "cursor");
      let within = false;
      const move = async (event) => {
        within = true;
        const slots = await (loading ??= load());
        if (!within) return;
        const box = svg.getBoundingClientRect();
        const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
        if (x < left || x > right) return leave();
        const moment = from + ((x - left) / (right - left)) * (to - from);
        line.setAttribute("d", `M${x.toFixed(1)} ${top}V${bottom}`);
        svg.append(line);
        cursorShown = true;
        words.textContent = told(nearest(slots, moment), figure.dataset);
      };
      const leave = () => {
        within = cursorShown = false;
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
