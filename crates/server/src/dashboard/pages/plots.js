// Figures over time: small plots with a line for each member, and tiles with the newest value.

import { brief, byId, bytes, clock, draw, make, micros } from "./dom.js";
import { FIGURES } from "./figures.js";

const [HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [170, 60, 20, 8, 8];
const MINUTE_MS = 60_000;
/** What is seen: all that is known, but at least and at most so much. */
const [SPAN_LEAST, SPAN_MOST] = [MINUTE_MS, 5 * MINUTE_MS];
const UNITS = { "µs": micros, B: bytes, "B/s": (v) => `${bytes(v)}/s`, "/s": (v) => `${brief(v)}/s`, "%": (v) => `${brief(v)}\u2009%`, "": brief };
/** Where a reader points, as a share of the width. */
let pointed = null;

const TILES = [
  { key: "ops", title: "ZooKeeper requests", join: sum },
  { key: "p99", title: "latency p99", join: most },
  { key: "writes", title: "entries committed", join: most },
  { key: "fsync99", title: "fdatasync p99", join: most },
  { key: "sessions", title: "sessions", join: most },
  { key: "memory", title: "memory", join: sum },
];

function sum(values) {
  return values.reduce((a, b) => a + b, 0);
}

function most(values) {
  return Math.max(...values);
}

/** The newest values at a glance, and how they were lately. */
export function showTiles(place, history, cluster) {
  const nodes = cluster.nodes.map((node) => node.id);
  place.replaceChildren(...TILES.map(({ key, title, join }) => {
    const values = history.together(key, nodes, join).slice(-60);
    const { unit } = FIGURES.find((figure) => figure.key === key);
    const value = values.at(-1) ?? null;
    return make("div", { class: "card tile" },
      make("div", { class: "soft", text: title }),
      make("div", { class: "value", text: value === null ? "–" : UNITS[unit](value) }), sparkline(values));
  }));
}

function sparkline(values) {
  const top = Math.max(1e-9, ...values.map((value) => value ?? 0)) * 1.1;
  const x = (i) => 100 - (values.length - 1 - i) * (100 / 59);
  const points = values.map((value, i) => `${x(i).toFixed(1)} ${(30 - 28 * ((value ?? 0) / top)).toFixed(1)}`);
  const svg = draw("svg", { viewBox: "0 0 100 31", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (points.length > 1) svg.append(draw("path", { class: "area", d: `M${x(0)} 31 L${points.join(" L")} L100 31 Z` }), draw("path", { d: `M${points.join(" L")}` }));
  return svg;
}

/** All figures, each a plot. */
export function showPlots(place, history, cluster) {
  const nodes = cluster.nodes.map((node) => node.id);
  const now = Date.now();
  for (const figure of FIGURES) {
    const card = byId(`plot-${figure.key}`) ?? newCard(place, figure);
    const lines = nodes.map((id) => ({ id, points: history.of(figure.key, id).filter((point) => point.at > now - SPAN_MOST) }));
    const oldest = Math.min(now, ...lines.flatMap((line) => line.points.slice(0, 1).map((point) => point.at)));
    fillCard(card, figure, lines, { now, span: Math.max(SPAN_LEAST, now - oldest) });
  }
}

function newCard(place, figure) {
  const svg = draw("svg", { class: "plot", role: "img", tabindex: 0 });
  const card = make("figure", { class: "card", id: `plot-${figure.key}` },
    make("figcaption", {}, make("h2", { text: figure.title }), make("span", { class: "now" })), svg);
  const point = (share) => { pointed = share === null ? null : Math.min(1, Math.max(0, share)); card.dispatchEvent(new Event("pointed")); };
  svg.addEventListener("pointermove", (event) => point(shareAt(svg, event.clientX)));
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("blur", () => point(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    point((pointed ?? 1) + step / 60);
  });
  place.append(card);
  return card;
}

function shareAt(svg, clientX) {
  const box = svg.getBoundingClientRect();
  return (clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
}

function fillCard(card, figure, lines, time) {
  const redraw = () => {
    const at = pointed === null ? time.now : time.now - (1 - pointed) * time.span;
    const values = lines.map((line, i) => ({ ...line, hue: `hue${i % 5}`, value: valueAt(line.points, at) }));
    card.querySelector(".now").replaceChildren(...values.map((line) => key(line, figure)));
    drawPlot(card.querySelector("svg"), figure, values, time, at);
  };
  if (card.redraw) card.removeEventListener("pointed", card.redraw);
  card.redraw = redraw;
  card.addEventListener("pointed", redraw);
  redraw();
}

function valueAt(points, at) {
  const point = points.findLast((point) => point.at <= at) ?? points[0];
  return point && at - point.at < 5000 ? point.value : null;
}

function key(line, figure) {
  return make("span", { class: `key ${line.hue}`, text: `n${line.id} ${told(line.value, figure)}` });
}

function told(value, figure) {
  return value === null || value === undefined ? "–" : UNITS[figure.unit](value);
}

/** A round number above all values. */
function ceiling(top) {
  if (top <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(top));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= top);
}

function drawPlot(svg, figure, lines, { now, span }, at) {
  const width = svg.clientWidth || 400;
  const top = ceiling(Math.max(0, ...lines.flatMap((line) => line.points.map((point) => point.value ?? 0))));
  const x = (time) => LEFT + (1 - (now - time) / span) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.replaceChildren(...grid(figure, top, y, width), ...(pointed === null ? times(x, now, span) : []), ...lines.map((line) => curve(line, x, y)));
  if (pointed !== null) {
    svg.append(draw("line", { class: "cross", x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM }),
      draw("text", { x: x(at), y: HEIGHT - 5, "text-anchor": "middle", text: clock(at) }),
      ...lines.filter((line) => line.value !== null).map((line) => draw("circle", { class: `dot ${line.hue}`, cx: x(at), cy: y(line.value), r: 4 })));
  }
  const words = lines.map((line) => `n${line.id} ${told(line.value, figure)}`).join(", ");
  svg.setAttribute("aria-label", `${figure.title}${pointed === null ? "" : ` at ${clock(at)}`}: ${words}. Left and right arrows move through time.`);
}

function grid(figure, top, y, width) {
  return [0, 0.5, 1].flatMap((share) => [
    draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(top * share), y2: y(top * share) }),
    draw("text", { x: LEFT - 7, y: y(top * share) + 4, "text-anchor": "end", text: UNITS[figure.unit](top * share) })]);
}

function times(x, now, span) {
  const step = span > 2 * MINUTE_MS ? MINUTE_MS : MINUTE_MS / 4;
  const marks = Array.from({ length: Math.floor((span - 1) / step) + 1 }, (_, i) => i * step);
  const word = (ago) => (ago === 0 ? "now" : step < MINUTE_MS ? `−${ago / 1000} s` : `−${ago / MINUTE_MS} min`);
  return marks.map((ago) => draw("text", { x: x(now - ago), y: HEIGHT - 5, "text-anchor": ago ? "middle" : "end", text: word(ago) }));
}

/** A line that is broken where nothing was measured. */
function curve(line, x, y) {
  let path = "";
  let before = null;
  for (const { at, value } of line.points) {
    if (value !== null) path += `${before !== null && at - before < 5000 ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    before = value === null ? null : at;
  }
  return draw("path", { class: `curve ${line.hue}`, d: path });
}
