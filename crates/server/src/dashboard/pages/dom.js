// Elements, numbers and words. Text always goes in as text: nothing that comes from a client is ever read as HTML.

const SVG_SPACE = "http://www.w3.org/2000/svg";

/** An element with these attributes and children; `text` is its text, functions are listeners. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in a picture. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_SPACE, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element of this id, which is in the page. */
export function byId(id) {
  return document.getElementById(id);
}

/** Sets a text only where it differs, so that a reader's selection stays. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** 1234567 as `1 234 567`, with thin spaces. */
export function whole(number) {
  return String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, "\u2009");
}

/** Three digits and a unit: `12.3 k`. */
export function brief(number) {
  if (number < 1000) return number < 10 && number % 1 ? number.toFixed(1) : String(Math.round(number));
  const power = Math.min(3, Math.floor(Math.log10(number) / 3));
  const scaled = number / 1000 ** power;
  return `${scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)}\u2009${["", "k", "M", "G"][power]}`;
}

/** Bytes for people: `12 MiB`. */
export function bytes(number) {
  let unit = 0;
  while (number >= 1024 && unit < 4) [number, unit] = [number / 1024, unit + 1];
  return `${number < 10 && unit ? number.toFixed(1) : Math.round(number)}\u2009${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** Microseconds for people: `0.4 ms`. */
export function micros(us) {
  if (us < 1000) return `${Math.round(us)}\u2009µs`;
  if (us < 1e6) return `${us < 1e4 ? (us / 1e3).toFixed(1) : Math.round(us / 1e3)}\u2009ms`;
  return `${(us / 1e6).toFixed(1)}\u2009s`;
}

/** Milliseconds for people: `3 min`. */
export function span(ms) {
  if (ms < 1000) return `${Math.round(ms)}\u2009ms`;
  const steps = [[60, "s"], [60, "min"], [48, "h"], [Infinity, "days"]];
  let value = ms / 1000;
  for (const [most, unit] of steps) {
    if (value < most) return `${Math.floor(value)}\u2009${unit}`;
    value /= unit === "h" ? 24 : most;
  }
  return "";
}

/** `12:03:11`, in the reader's own time. */
export function clock(unixMs) {
  return new Date(unixMs).toLocaleTimeString([], { hour12: false });
}

/** The class that colours a term: eight colours in turn. */
export function termClass(term) {
  return `term${((term % 8) + 8) % 8}`;
}
