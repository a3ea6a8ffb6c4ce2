"use strict";
// Draws the history in the element "data". Everything that can be seen is drawn anew for each view: what is not in view
// costs nothing, and bars too narrow to be told apart become one shape.
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const ROW = 34, BAR = 24, LEFT = 74, TOP = 26, STRIP = 26, GAP = 8;
const end = Math.max(1, ...data.bars.map((b) => Math.max(b.from, b.to ?? 0)), ...data.notes.map((n) => n[0]));
const PAD = end * 0.02;
const view = { from: -PAD, to: end + PAD, part: null, core: false, order: true };
const hasCore = data.bars.some((b) => b.core);
const breaks = data.parts.filter((p) => p.breaks_at != null);
const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

function time(value, step) {
  if (!data.timed) return value <= 0 ? "" : String(Math.round(value));
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
  const [size, unit] = units.find(([s]) => (step ? Math.max(step, view.to - view.from) : Math.abs(value)) >= s) ?? units[3];
  const digits = step ? Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9)) : 2;
  return (value / size).toFixed(Math.min(digits, 3)).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "") + " " + unit;
}

function niceStep(span, count) {
  const rough = span / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
  return data.timed ? step : Math.max(1, step);
}

// What is shown: bars of the chosen key, of the contradiction only or all; and only the rows they need.
function shown() {
  let bars = data.bars.filter((b) => view.part == null || b.part === view.part);
  if (view.core) bars = bars.filter((b) => b.core);
  const few = view.core || view.part != null;
  const lanes = few ? [...new Set(bars.map((b) => b.lane))].sort((a, b) => a - b) : data.lanes.map((_, i) => i);
  return { bars, lanes, row: new Map(lanes.map((lane, i) => [lane, i])) };
}

function strips(bars) {
  const parts = view.part != null ? [view.part] : data.parts.length <= 3 ? data.parts.map((_, i) => i) : [];
  if (view.core) return [];
  return parts.map((part) => {
    const steps = bars.filter((b) => b.part === part && b.point).sort((a, b) => a.point[1] - b.point[1]);
    const states = [{ at: -Infinity, text: data.parts[part].initial }];
    for (const b of steps) if (b.state !== states.at(-1).text) states.push({ at: b.point[0], text: b.state });
    const last = data.parts[part].breaks_at ?? Infinity;
    return { name: data.parts[part].key ?? "state", states, last };
  });
}

let hues = new Map();
function hue(text) {
  // Nothing near red: that colour says that something is wrong.
  if (!hues.has(text)) hues.set(text, 45 + ((hues.size * 0.618 + 0.62) % 1) * 265);
  return hues.get(text);
}
const dark = () => document.documentElement.classList.contains("dark");
const tint = (text) => `hsl(${hue(text)} ${dark() ? "32% 24%" : "62% 90%"})`;

let measured = document.createElement("canvas").getContext("2d");
function fit(text, width) {
  measured.font = "12.5px system-ui, sans-serif";
  if (measured.measureText(text).width <= width) return text;
  const chars = Math.floor(width / 7);
  return chars < 3 ? "" : text.slice(0, chars - 1) + "…";
}

function draw(width, top, height) {
  const now = shown(), band = strips(now.bars);
  const headHeight = TOP + band.length * (STRIP + 3) + (band.length ? GAP : 0);
  const full = headHeight + now.lanes.length * ROW + 20;
  const scale = (width - LEFT - 8) / (view.to - view.from);
  const x = (t) => LEFT + (t - view.from) * scale;
  const right = width - 8, out = [];
  const c = Object.fromEntries(["paper", "ink", "soft", "line", "row", "write", "write-ink", "read", "read-line", "read-ink", "unknown",
    "unknown-line", "unknown-ink", "bad", "bad-fill", "point", "note"].map((n) => [n, css(n)]));
  const rect = (x, y, w, h, more) => `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(0, w).toFixed(1)}" height="${h}" ${more}/>`;
  const text = (x, y, fill, what, more = "") => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" fill="${fill}" ${more}>${escape(what)}</text>`;
  const y = (row) => headHeight + row * ROW;
  const first = Math.max(0, Math.floor((top - headHeight) / ROW) - 1), last = Math.ceil((top + height - headHeight) / ROW) + 1;
  now.lanes.forEach((lane, row) => {
    if (row >= first && row <= last && row % 2 === 0) out.push(rect(0, y(row), width, ROW, `fill="${c.row}"`));
  });
  const step = niceStep(view.to - view.from, Math.max(2, width / 130));
  for (let t = Math.ceil(Math.max(0, view.from) / step) * step; t <= view.to; t += step) {
    out.push(`<path d="M${x(t).toFixed(1)} ${TOP - 6}V${full - 18}" stroke="${c.line}" fill="none"/>`);
    const atEdge = x(t) > right - 24;
    out.push(text(atEdge ? right : x(t), 15, c.soft, time(t, step), `text-anchor="${atEdge ? "end" : "middle"}" font-size="11"`));
  }
  band.forEach((strip, i) => {
    const top = TOP + i * (STRIP + 3);
    strip.states.forEach((state, j) => {
      const from = Math.max(LEFT, x(state.at)), to = Math.min(right, x(Math.min(strip.states[j + 1]?.at ?? Infinity, strip.last, view.to)));
      if (to <= from + 0.4) return;
      out.push(rect(from, top, to - from, STRIP, `fill="${tint(state.text)}"` + (to - from > 8 ? ` stroke="${c.paper}" rx="3"` : "")));
      const label = fit(state.text, to - from - 12);
      if (label) out.push(text((from + to) / 2, top + 17, c.ink, label, 'text-anchor="middle"'));
    });
    out.push(rect(0, top, LEFT - 1, STRIP, `fill="${c.paper}"`), text(LEFT - 10, top + 17, c.soft, fit(strip.name, LEFT - 14), 'text-anchor="end" font-style="italic"'));
  });
  for (const [at, what] of data.notes) {
    if (at < view.from || at > view.to) continue;
    out.push(`<path d="M${x(at).toFixed(1)} ${headHeight}V${full - 18}" stroke="${c.note}" stroke-dasharray="2 3" fill="none"/>`);
    out.push(text(x(at) + 4, full - 5, c.note, what, 'font-size="11"'));
  }
  const points = [], narrow = new Map(), bars = [], labels = [];
  for (const b of now.bars) {
    const row = now.row.get(b.lane);
    const open = b.kind === "unknown", to = open ? view.to + PAD : (b.to ?? end + PAD);
    if (to < view.from || b.from > view.to || row < first || row > last) { if (b.point && !view.core) points.push([b, row, false]); continue; }
    const x0 = Math.max(LEFT - 4, x(b.from)), x1 = Math.min(right + 12, x(to)), w = Math.max(1.2, x1 - x0), top = y(row) + (ROW - BAR) / 2;
    const bad = b.core || b.stuck;
    let [fill, line, ink] = { read: [c.read, c["read-line"], c["read-ink"]], write: [c.write, c.write, c["write-ink"]],
      unknown: [c.unknown, c["unknown-line"], c["unknown-ink"]], refused: [c.paper, c["unknown-line"], c["unknown-ink"]] }[b.kind];
    if (bad) [fill, line, ink] = [c["bad-fill"], c.bad, c.ink];
    if (b.stuck) [fill, line, ink] = [c.bad, c.bad, c.paper];
    if (w < 4 && !bad) {
      const lane = narrow.get(fill + line) ?? narrow.set(fill + line, { fill: b.kind === "read" ? line : fill, path: [], seen: new Set() }).get(fill + line);
      const pixel = row + ":" + Math.round(x0);
      if (!lane.seen.has(pixel)) { lane.seen.add(pixel); lane.path.push(`M${x0.toFixed(1)} ${top.toFixed(1)}h${w.toFixed(1)}v${BAR}h-${w.toFixed(1)}z`); }
    } else {
      const dash = open ? 'stroke-dasharray="5 3"' : b.kind === "refused" ? 'stroke-dasharray="1.5 3"' : "";
      const given = open && b.to != null ? x(b.to) : null;
      bars.push(rect(x0, top, w, BAR, `rx="4" fill="${fill}" stroke="${line}" stroke-width="${bad ? 2 : 1.2}" ${dash}`));
      if (given != null && given > x0 + 2 && given < right) bars.push(`<path d="M${given.toFixed(1)} ${top + 3}v${BAR - 6}" stroke="${line}" fill="none"/>`);
      const label = fit(b.label, Math.min(x1, right) - Math.max(x0, LEFT) - 12);
      if (label) labels.push(text(Math.max(x0, LEFT) + 7, top + 16.5, ink, label));
    }
    if (b.point) points.push([b, row, true]);
  }
  for (const { fill, path } of narrow.values()) bars.push(`<path d="${path.join("")}" fill="${fill}"/>`);
  // The line through the points runs behind the bars, so that it strikes no label through.
  const [lines, marks] = view.order && !view.core ? orderLines(points, x, y, right, c) : [[], []];
  out.push(...lines, ...bars, ...labels, ...marks);
  for (const part of breaks) {
    if (view.part != null && data.parts[view.part] !== part) continue;
    const at = x(part.breaks_at);
    if (at < LEFT || at > right) continue;
    out.push(`<path d="M${at.toFixed(1)} ${TOP - 4}V${full - 18}" stroke="${c.bad}" stroke-width="1.6" stroke-dasharray="6 4" fill="none"/>`);
    const left = at > width - 190;
    if (breaks.length === 1 || view.part != null)
      out.push(text(at + (left ? -6 : 6), band.length && !left ? TOP + 17 : full - 5, c.bad, "no order gets past here",
        `font-weight="650" text-anchor="${left ? "end" : "start"}" font-size="12"`));
  }
  out.push(`<rect x="0" y="${headHeight}" width="${LEFT - 4}" height="${full - headHeight}" fill="${c.paper}" fill-opacity="0.88"/>`);
  now.lanes.forEach((lane, row) => {
    if (row >= first && row <= last) out.push(text(LEFT - 12, y(row) + ROW / 2 + 5, c.ink, data.lanes[lane], 'text-anchor="end" font-weight="600"'));
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${full}" viewBox="0 0 ${width} ${full}" font-family="system-ui, sans-serif" font-size="12.5">${rect(0, 0, width, full, `fill="${c.paper}"`)}${out.join("")}</svg>`;
}

// The points at which operations took effect, and a line through them in their order. One line for each part in view.
function orderLines(points, x, y, right, c) {
  const lines = [], marks = [], parts = new Map();
  for (const p of points) (parts.get(p[0].part) ?? parts.set(p[0].part, []).get(p[0].part)).push(p);
  const dense = points.filter(([, , seen]) => seen).length > right / 7;
  if (parts.size > 6) return [lines, marks];
  for (const list of parts.values()) {
    list.sort((a, b) => a[0].point[1] - b[0].point[1]);
    const at = list.map(([b, row]) => [x(b.point[0]), y(row) + ROW / 2]);
    const inView = (i) => at[i] && at[i][0] >= LEFT && at[i][0] <= right;
    const line = at.map(([px, py], i) => (inView(i) || inView(i + 1) || inView(i - 1) ? `${i === 0 || !(inView(i - 1) || inView(i)) ? "M" : "L"}${Math.max(LEFT, Math.min(right, px)).toFixed(1)} ${py.toFixed(1)}` : ""));
    if (!dense) lines.push(`<path d="${line.join("")}" stroke="${c.point}" stroke-opacity="0.5" stroke-width="1.4" fill="none" stroke-linejoin="round"/>`);
    list.forEach(([b, , seen], i) => {
      if (!inView(i) || !seen || dense) return;
      const [px, py] = at[i];
      marks.push(`<path d="M${px.toFixed(1)} ${(py - BAR / 2 - 3).toFixed(1)}v${BAR + 6}" stroke="${c.point}" stroke-width="1.6"/><circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="3.6" fill="${c.point}" stroke="${c.paper}" stroke-width="1.2"/>`);
    });
  }
  return [lines, marks];
}

const chart = by("chart");
let pending = false;
function render() {
  pending = false;
  const width = Math.max(480, chart.clientWidth || 1100);
  const top = chart.scrollTop;
  chart.innerHTML = draw(width, top, chart.clientHeight || 2000) ;
  chart.scrollTop = top;
  overview();
}
function later() { if (!pending) { pending = true; requestAnimationFrame(render); } }

// Where to look in a long history; a short one is seen whole.
const isLong = data.bars.length > 40;
by("overview").hidden = !isLong;
function overview() {
  if (!isLong) return;
  const width = by("overview").clientWidth || 1100, bins = new Float64Array(Math.ceil(width / 3)), scale = width / (end + 2 * PAD);
  const reds = [];
  for (const b of data.bars) {
    if (view.part != null && b.part !== view.part) continue;
    const from = Math.floor(((b.from + PAD) * scale) / 3), to = Math.floor((((b.kind === "unknown" ? b.from : b.to ?? b.from) + PAD) * scale) / 3);
    for (let i = from; i <= to && i < bins.length; i++) bins[i] += 1;
    if (b.core || b.stuck) reds.push((b.from + PAD) * scale);
  }
  const most = Math.max(1, ...bins);
  const path = Array.from(bins, (n, i) => n ? `M${i * 3} 38v-${Math.max(1.5, (n / most) * 32).toFixed(1)}h3v99` : "").join("").replace(/v99/g, "V38z");
  const a = (Math.max(view.from, -PAD) + PAD) * scale, z = (Math.min(view.to, end + PAD) + PAD) * scale;
  by("overview").innerHTML = `<svg width="${width}" height="40"><path d="${path}" fill="${css("read-line")}" fill-opacity="0.7"/>` +
    reds.map((x) => `<path d="M${x} 2v36" stroke="${css("bad")}" stroke-width="2"/>`).join("") +
    `<path fill-rule="evenodd" d="M0 0H${width}V40H0zM${a} 0V40H${z}V0z" fill="${css("soft")}" fill-opacity="0.25"/><rect x="${a}" y="0.5" width="${Math.max(3, z - a)}" height="39" fill="none" stroke="${css("soft")}"/></svg>`;
}

function zoom(factor, at = (view.from + view.to) / 2) {
  const least = Math.min(end / 50, data.timed ? 100 : 4);
  const span = Math.min(end + 2 * PAD, Math.max(least, (view.to - view.from) * factor)), share = (at - view.from) / (view.to - view.from);
  move(at - span * share, at + span * (1 - share));
}
function move(from, to) {
  const span = to - from;
  if (from < -PAD) [from, to] = [-PAD, -PAD + span];
  if (to > end + PAD) [from, to] = [end + PAD - span, end + PAD];
  [view.from, view.to] = [Math.max(-PAD, from), to];
  later();
}
const all = () => move(-PAD, end + PAD);
function toBreak() {
  const bars = data.bars.filter((b) => (b.core || b.stuck) && (view.part == null || b.part === view.part));
  if (!bars.length) return all();
  const from = Math.min(...bars.map((b) => b.from)), to = Math.max(...bars.map((b) => (b.kind === "unknown" ? b.from : b.to ?? b.from)));
  const around = (to - from) * 0.15 + end / 400;
  move(from - around, to + around);
}

const timeAt = (event) => view.from + ((event.clientX - chart.getBoundingClientRect().left - LEFT) / (chart.clientWidth - LEFT - 8)) * (view.to - view.from);
function barAt(event) {
  const now = shown(), band = strips(now.bars), headHeight = TOP + band.length * (STRIP + 3) + (band.length ? GAP : 0);
  const row = Math.floor((event.clientY - chart.getBoundingClientRect().top + chart.scrollTop - headHeight) / ROW);
  const t = timeAt(event), near = (3 * (view.to - view.from)) / chart.clientWidth;
  const hit = now.bars.filter((b) => now.row.get(b.lane) === row && b.from - near <= t && t <= (b.kind === "unknown" ? Infinity : (b.to ?? end)) + near);
  return hit.sort((a, b) => (a.core || a.stuck ? -1 : 0) - (b.core || b.stuck ? -1 : 0) || b.from - a.from)[0];
}
function tip(event) {
  const b = event && barAt(event), box = by("tip");
  box.hidden = !b;
  if (!b) return;
  const lane = data.lanes.slice(0, b.lane + 1).findLast((name) => name);
  const ended = b.kind === "unknown" ? "outcome unknown: it may take effect at any later time, or never" : b.kind === "refused" ? "refused: it did not happen" : "";
  const when = data.timed ? `from ${time(b.from)}` + (b.to != null ? ` to ${time(b.to)} (${time(b.to - b.from)})` : "") : "";
  box.innerHTML = `<b>${escape(b.label)}</b> <span>by ${escape(lane)}${b.server ? " at " + escape(b.server) : ""}</span>` +
    (when ? `<br><span>${when}</span>` : "") + (ended ? `<br>${ended}` : "") +
    (b.point ? `<br>takes effect as number ${b.point[1]}, state then: ${escape(b.state)}` : "") +
    (b.refused ? `<br><span class="bad">cannot come next: ${escape(b.refused)}</span>` : "") +
    (b.core ? `<br><span class="bad">part of the contradiction</span>` : "") + (b.stuck ? `<br><span class="bad">no order gets past its return</span>` : "");
  box.style.left = Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8) + "px";
  box.style.top = Math.min(event.clientY + 16, innerHeight - box.offsetHeight - 8) + "px";
}

function head() {
  by("title").textContent = data.title;
  const mood = { linearizable: "good", "not linearizable": "bad" }[data.answer] ?? (data.answer.startsWith("not") ? "bad" : "maybe");
  by("answer").textContent = { good: "✓ ", bad: "✗ ", maybe: "" }[mood] + data.answer;
  by("answer").className = mood;
  const count = data.bars.length + data.omitted, clients = data.lanes.filter((name) => name).length;
  by("summary").textContent = `${count.toLocaleString("en")} operations, ${clients} clients` + (data.parts.length > 1 ? `, ${data.parts.length} keys` : "") +
    (data.timed ? `, ${time(end)}` : "") + (data.omitted ? `; the ${data.bars.length.toLocaleString("en")} that matter most are shown` : "");
  by("why").innerHTML = data.parts.filter((p) => p.why).slice(0, 3).map((p) => `<p>${p.key != null ? `<span class="key">${escape(p.key)}: </span>` : ""}${escape(p.why)}</p>`).join("");
}
function keys() {
  if (data.parts.length < 2) return;
  const mood = (p) => ({ linearizable: "good", "not linearizable": "bad" })[p.answer] ?? "maybe";
  const order = data.parts.map((p, i) => [p, i]).sort((a, b) => (mood(b[0]) === "bad") - (mood(a[0]) === "bad"));
  const chips = order.slice(0, 10).map(([p, i]) => `<button data-part="${i}" class="${mood(p)} ${view.part === i ? "on" : ""}" title="${p.operations} operations">${escape(p.key)}</button>`);
  const rest = order.slice(10).map(([p, i]) => `<option value="${i}" ${view.part === i ? "selected" : ""}>${escape(p.key)} (${p.answer})</option>`);
  by("keys").innerHTML = `<button data-part="" class="${view.part == null ? "on" : ""}">all keys</button>` + chips.join("") +
    (rest.length ? `<select><option value="">${rest.length} more</option>${rest.join("")}</select>` : "");
  const choose = (value) => { view.part = value === "" ? null : Number(value); keys(); later(); };
  by("keys").querySelectorAll("button").forEach((b) => (b.onclick = () => choose(b.dataset.part)));
  const select = by("keys").querySelector("select");
  if (select) select.onchange = () => choose(select.value);
}
function legend() {
  const box = (fill, line, dash) => `<svg width="26" height="16"><rect x="1" y="2" width="24" height="12" rx="3" fill="${fill}" stroke="${line}" stroke-width="1.4" ${dash ?? ""}/></svg>`;
  const items = [[box(css("write"), css("write")), "changes the state"], [box(css("read"), css("read-line")), "only looks"]];
  if (data.bars.some((b) => b.kind === "unknown")) items.push([box(css("unknown"), css("unknown-line"), 'stroke-dasharray="5 3"'), "outcome unknown"]);
  if (data.bars.some((b) => b.kind === "refused")) items.push([box(css("paper"), css("unknown-line"), 'stroke-dasharray="1.5 3"'), "refused"]);
  if (data.bars.some((b) => b.core && !b.stuck)) items.push([box(css("bad-fill"), css("bad")), "part of the contradiction"]);
  if (breaks.length) items.push([box(css("bad"), css("bad")), "the return that cannot be explained"]);
  items.push([`<svg width="16" height="16"><path d="M8 1v14" stroke="${css("point")}" stroke-width="1.6"/><circle cx="8" cy="8" r="3.6" fill="${css("point")}"/></svg>`, "takes effect here"]);
  by("legend").innerHTML = items.map(([icon, words]) => `<span>${icon}${words}</span>`).join("") + "<span style='margin-left:auto'>scroll to zoom, drag to move</span>";
}

let drag = null;
chart.addEventListener("wheel", (event) => {
  const scrolls = chart.scrollHeight > chart.clientHeight + 2 && !event.ctrlKey && !event.metaKey && !event.shiftKey && Math.abs(event.deltaY) > Math.abs(event.deltaX);
  if (scrolls && event.clientX - chart.getBoundingClientRect().left < LEFT) return;
  event.preventDefault();
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) { const by = (event.deltaX / chart.clientWidth) * (view.to - view.from); move(view.from + by, view.to + by); }
  else zoom(Math.exp(event.deltaY * 0.0016), timeAt(event));
}, { passive: false });
chart.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, from: view.from, to: view.to, top: chart.scrollTop }; });
addEventListener("pointermove", (event) => {
  if (!drag) return;
  const span = drag.to - drag.from, by = ((drag.x - event.clientX) / (chart.clientWidth - LEFT)) * span;
  chart.scrollTop = drag.top + drag.y - event.clientY;
  move(drag.from + by, drag.to + by);
});
addEventListener("pointerup", () => (drag = null));
chart.addEventListener("mousemove", (event) => tip(drag ? null : event));
chart.addEventListener("mouseleave", () => tip(null));
chart.addEventListener("scroll", later);
let brush = null;
const overviewTime = (event) => { const box = by("overview").getBoundingClientRect(); return ((event.clientX - box.left) / box.width) * (end + 2 * PAD) - PAD; };
by("overview").addEventListener("pointerdown", (event) => { brush = overviewTime(event); event.preventDefault(); });
addEventListener("pointermove", (event) => { if (brush != null) { const t = overviewTime(event); if (Math.abs(t - brush) > end / 300) move(Math.min(t, brush), Math.max(t, brush)); } });
addEventListener("pointerup", (event) => {
  if (brush == null) return;
  const t = overviewTime(event), half = (view.to - view.from) / 2;
  if (Math.abs(t - brush) <= end / 300) move(t - half, t + half);
  brush = null;
});
by("zoom-in").onclick = () => zoom(0.6);
by("zoom-out").onclick = () => zoom(1 / 0.6);
by("zoom-all").onclick = all;
by("zoom-break").onclick = toBreak;
by("zoom-break").hidden = !breaks.length;
by("only-core").hidden = !hasCore;
by("only-core").firstChild.onchange = (event) => { view.core = event.target.checked; if (view.core) toBreak(); else later(); };
by("show-order").onchange = (event) => { view.order = event.target.checked; later(); };
by("theme").onclick = () => { document.documentElement.classList.toggle("dark"); legend(); render(); };
by("save").onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([draw(chart.clientWidth, 0, 1e9)], { type: "image/svg+xml" }));
  link.download = data.title.replace(/[^\w.-]+/g, "-") + ".svg";
  link.click();
};
addEventListener("keydown", (event) => {
  const does = { "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: all, b: toBreak,
    ArrowLeft: () => move(view.from - (view.to - view.from) / 5, view.to - (view.to - view.from) / 5),
    ArrowRight: () => move(view.from + (view.to - view.from) / 5, view.to + (view.to - view.from) / 5) }[event.key];
  if (does && !event.ctrlKey && !event.metaKey) does();
});
addEventListener("resize", later);
let beforePrint = null;
addEventListener("beforeprint", () => {
  beforePrint = dark();
  document.documentElement.classList.remove("dark");
  legend();
  chart.innerHTML = draw(1040, 0, 1e9);
});
addEventListener("afterprint", () => { document.documentElement.classList.toggle("dark", beforePrint); legend(); render(); });

const wish = new URLSearchParams(location.hash.slice(1)).get("theme");
if (wish ? wish === "dark" : matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.classList.add("dark");
const firstBad = data.parts.findIndex((p) => p.breaks_at != null);
if (data.parts.length > 3 && firstBad >= 0) view.part = firstBad;
head();
keys();
legend();
if (breaks.length && data.bars.length > 60) toBreak();
render();
