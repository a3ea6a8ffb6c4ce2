// A run as a space-time diagram: a lane for each server, time from left to right, messages between them.
// Draws what it is told to; which part of the run is seen, and what is chosen, is the player's business.

import { cutAt, firstAfter, parts } from "./trace.js";

const [MARGIN, HEAD, LANE] = [74, 26, 92];
const MESSAGES_MOST = 3500;
const COLOURS = ["paper", "card", "ink", "soft", "line", "row", "accent", "good", "warn", "bad", ...Array.from({ length: 8 }, (_, i) => `t${i}`), ...Array.from({ length: 5 }, (_, i) => `line${i}`)];
const THICK = { Leader: 24, Candidate: 16, PreCandidate: 16, Follower: 9, Learner: 5 };

/** The page's colours, as a canvas needs them. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Makes a canvas as sharp as the screen and gives its pen. */
function penOf(canvas, height) {
  const [ratio, width] = [devicePixelRatio || 1, canvas.clientWidth];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

/** The space-time diagram on a canvas. */
export class Diagram {
  constructor(canvas) {
    this.canvas = canvas;
  }

  get width() {
    return this.canvas.clientWidth;
  }

  get margin() {
    return this.width < 560 ? 40 : MARGIN;
  }

  get lane() {
    return this.width < 560 ? 70 : LANE;
  }

  /** `view` is `{ from, to, now, kinds, chosen }`. */
  draw(trace, view, colours) {
    Object.assign(this, { trace, view, colours });
    const height = HEAD + this.lane * trace.nodes.length + 8;
    this.pen = penOf(this.canvas, height);
    this.drawScale(height);
    this.drawCuts();
    trace.nodes.forEach((node) => this.drawLane(node));
    this.inside(() => this.shown().forEach((message) => this.drawMessage(message)));
    this.drawNow(height);
  }

  /** Draws right of the servers' names only. */
  inside(drawing) {
    this.pen.save();
    this.pen.beginPath();
    this.pen.rect(this.margin, 0, this.width, 1e5);
    this.pen.clip();
    drawing();
    this.pen.restore();
  }

  x(t) {
    const { from, to } = this.view;
    return this.margin + ((t - from) / (to - from)) * (this.width - this.margin - 10);
  }

  /** The time under a place of the canvas. */
  time(x) {
    const { from, to } = this.view;
    return from + ((x - this.margin) / (this.width - this.margin - 10)) * (to - from);
  }

  y(node) {
    return HEAD + this.lane * (this.trace.nodes.indexOf(node) + 0.5);
  }

  /** A round step that gives about eight marks. */
  step() {
    const rough = (this.view.to - this.view.from) / Math.max(3, this.width / 130);
    const power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  }

  drawScale(height) {
    const { pen, colours, view } = this;
    const step = this.step();
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "center";
    for (let t = Math.ceil(Math.max(0, view.from) / step) * step; t <= view.to; t += step) {
      pen.fillStyle = colours.line;
      pen.fillRect(this.x(t), HEAD - 6, 1, height);
      pen.fillStyle = colours.soft;
      pen.fillText(`${(t / 1000).toFixed(step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3)} s`, this.x(t), 13);
    }
  }

  /** A wall between lanes whose servers cannot talk. */
  drawCuts() {
    const { trace, view } = this;
    const within = trace.cuts.filter((cut, i) => cut.t <= view.to && (trace.cuts[i + 1]?.t ?? Infinity) >= view.from);
    for (const cut of within) {
      if (cut.cut.size === 0) continue;
      const next = trace.cuts[trace.cuts.indexOf(cut) + 1]?.t ?? trace.end;
      this.drawWalls(cut.cut, Math.max(cut.t, view.from), Math.min(next, view.to));
    }
  }

  drawWalls(cut, from, to) {
    const { pen, colours, trace } = this;
    const sides = parts(trace.nodes, cut);
    const sideOf = (node) => sides.findIndex((side) => side.includes(node));
    pen.save();
    pen.fillStyle = colours.bad;
    trace.nodes.forEach((node, i) => {
      const below = trace.nodes[i + 1];
      if (below === undefined) return;
      const whole = sideOf(node) !== sideOf(below);
      const one = cut.has(`${node}-${below}`) || cut.has(`${below}-${node}`);
      if (!whole && !one) return;
      const y = HEAD + this.lane * (i + 1);
      pen.globalAlpha = whole ? 0.16 : 0.07;
      pen.fillRect(this.x(from), y - 7, this.x(to) - this.x(from), 14);
      pen.globalAlpha = 0.9;
      if (whole) this.dashes(this.x(from), this.x(to), y);
    });
    pen.restore();
  }

  dashes(from, to, y) {
    for (let x = from; x < to; x += 12) this.pen.fillRect(x, y - 1, Math.min(7, to - x), 2);
  }

  drawLane(node) {
    const { pen, colours, view } = this;
    const life = this.trace.lives.get(node);
    const y = this.y(node);
    pen.fillStyle = colours.line;
    pen.fillRect(this.margin, y - 0.5, this.width, 1);
    const seen = (spans) => spans.filter((span) => span.to >= view.from && span.from <= view.to);
    this.inside(() => {
      seen(life.segments).forEach((segment) => this.drawSegment(segment, y));
      seen(life.downs).forEach((down) => this.drawDown(down, y));
      seen(life.stops).forEach((stop) => this.drawStop(stop, y));
      this.drawWrites(life, y);
    });
    pen.fillStyle = colours.ink;
    pen.font = "700 15px system-ui, sans-serif";
    pen.textAlign = "left";
    pen.fillText(`n${node}`, 6, y + 5);
  }

  drawSegment({ from, to, role, term }, y) {
    const { pen, colours } = this;
    const [left, right] = [Math.max(this.x(from), this.margin - 4), Math.min(this.x(to), this.width)];
    const thick = THICK[role] ?? 9;
    pen.fillStyle = colours[`t${term % 8}`];
    pen.globalAlpha = role === "Candidate" || role === "PreCandidate" ? 0.55 : 1;
    pen.beginPath();
    pen.roundRect(left, y - thick / 2, Math.max(1, right - left), thick, Math.min(4, thick / 2));
    pen.fill();
    pen.globalAlpha = 1;
    if (role !== "Follower" && role !== "Learner") {
      pen.strokeStyle = colours.ink;
      pen.lineWidth = role === "Leader" ? 1.6 : 1;
      pen.setLineDash(role === "Leader" ? [] : [3, 3]);
      pen.stroke();
      pen.setLineDash([]);
    }
    this.nameSegment(role, term, left, right, y);
  }

  nameSegment(role, term, left, right, y) {
    const { pen, colours } = this;
    const words = { Leader: `leader, term ${term}`, Candidate: `candidate, term ${term}`, PreCandidate: "asking" }[role] ?? `term ${term}`;
    pen.font = `${role === "Leader" ? "650" : "500"} 11.5px system-ui, sans-serif`;
    if (pen.measureText(words).width + 12 > right - left) return;
    pen.fillStyle = role === "Leader" ? colours.ink : colours.soft;
    pen.textAlign = "left";
    pen.fillText(words, left + 7, role === "Leader" ? y + 4 : y - THICK[role] / 2 - 4);
  }

  drawDown({ from, to }, y) {
    const { pen, colours } = this;
    const [left, right] = [Math.max(this.x(from), this.margin), Math.min(this.x(to), this.width)];
    pen.fillStyle = colours.card;
    pen.fillRect(left, y - 13, right - left, 26);
    pen.fillStyle = colours.bad;
    this.dashes(left, right, y);
    this.cross(this.x(from), y, 7);
    this.word("down", left, right, y);
  }

  drawStop({ from, to }, y) {
    const { pen, colours } = this;
    const [left, right] = [Math.max(this.x(from), this.margin), Math.min(this.x(to), this.width)];
    pen.fillStyle = colours.warn;
    pen.globalAlpha = 0.75;
    for (let x = left; x < right; x += 6) pen.fillRect(x, y - 13, 2, 26);
    pen.globalAlpha = 1;
    this.word("stopped", left, right, y);
  }

  word(text, left, right, y) {
    const { pen, colours } = this;
    pen.font = "600 11.5px system-ui, sans-serif";
    const width = pen.measureText(text).width;
    if (width + 20 > right - left) return;
    pen.fillStyle = colours.card;
    pen.fillRect(left + 12, y - 8, width + 8, 16);
    pen.fillStyle = colours.bad;
    pen.textAlign = "left";
    pen.fillText(text, left + 16, y + 4);
  }

  cross(x, y, size) {
    const { pen, colours } = this;
    pen.strokeStyle = colours.bad;
    pen.lineWidth = 2.4;
    pen.beginPath();
    pen.moveTo(x - size, y - size);
    pen.lineTo(x + size, y + size);
    pen.moveTo(x + size, y - size);
    pen.lineTo(x - size, y + size);
    pen.stroke();
  }

  /** Entries that went to the disk: small ticks under the lane. */
  drawWrites(life, y) {
    const { pen, colours, view } = this;
    const begin = firstAfter(life.writes, view.from);
    const end = firstAfter(life.writes, view.to);
    pen.fillStyle = colours.ink;
    pen.globalAlpha = 0.55;
    for (const write of life.writes.slice(begin, Math.min(end, begin + 2000))) pen.fillRect(this.x(write.t) - 0.75, y + 14, 1.5, 5);
    pen.globalAlpha = 1;
  }

  /** The messages that are seen: all in the window, but the commonest kinds go first where there are too many. */
  shown() {
    const { trace, view } = this;
    const begin = firstAfter(trace.messages, view.from - trace.slowest, (message) => message.at);
    const end = firstAfter(trace.messages, view.to, (message) => message.at);
    let seen = trace.messages.slice(begin, end).filter((message) => view.kinds.has(message.kind));
    for (const common of ["signs", "reads", "entries"]) {
      if (seen.length > MESSAGES_MOST) seen = seen.filter((message) => message.kind !== common);
    }
    return seen.slice(0, MESSAGES_MOST);
  }

  inkOf(message) {
    const { colours } = this;
    return { votes: colours.line3, entries: colours.accent, reads: colours.line2, signs: colours.soft }[message.kind];
  }

  drawMessage(message) {
    const { pen, view } = this;
    const chosen = view.chosen === message;
    pen.strokeStyle = pen.fillStyle = this.inkOf(message);
    pen.lineWidth = chosen ? 3.5 : message.kind === "votes" ? 2.2 : message.kind === "entries" ? 1.5 : 0.8;
    const strength = message.kind === "signs" ? 0.4 : 0.85;
    pen.globalAlpha = chosen ? 1 : message.at > view.now ? strength * 0.38 : strength;
    if (message.arrives.length === 0) this.drawLost(message);
    for (const arrives of message.arrives) this.drawArrow(message, arrives);
    pen.globalAlpha = 1;
  }

  drawArrow(message, arrives) {
    const { pen, view } = this;
    const [x1, y1, x2, y2] = this.ends(message, arrives);
    pen.setLineDash(message.got ? [] : [4, 4]);
    pen.beginPath();
    pen.moveTo(x1, y1);
    pen.lineTo(x2, y2);
    pen.stroke();
    pen.setLineDash([]);
    if (message.kind !== "signs" || view.chosen === message) this.head(x1, y1, x2, y2);
    if (message.at <= view.now && view.now < arrives) this.drawFlying(message, arrives);
  }

  /** From the edge of one lane to the edge of the other. */
  ends(message, arrives) {
    const [y1, y2] = [this.y(message.from), this.y(message.to)];
    const down = Math.sign(y2 - y1);
    return [this.x(message.at), y1 + down * 13, this.x(arrives), y2 - down * 13];
  }

  head(x1, y1, x2, y2) {
    const { pen } = this;
    const angle = Math.atan2(y2 - y1, x2 - x1);
    pen.beginPath();
    pen.moveTo(x2, y2);
    pen.lineTo(x2 - 8 * Math.cos(angle - 0.36), y2 - 8 * Math.sin(angle - 0.36));
    pen.lineTo(x2 - 8 * Math.cos(angle + 0.36), y2 - 8 * Math.sin(angle + 0.36));
    pen.fill();
  }

  drawFlying(message, arrives) {
    const { pen, view, colours } = this;
    const [x1, y1, x2, y2] = this.ends(message, arrives);
    const share = (view.now - message.at) / (arrives - message.at);
    pen.globalAlpha = 1;
    pen.beginPath();
    pen.arc(x1 + share * (x2 - x1), y1 + share * (y2 - y1), message.kind === "signs" ? 3 : 5.5, 0, 7);
    pen.fill();
    pen.strokeStyle = colours.card;
    pen.lineWidth = 1.5;
    pen.stroke();
    pen.strokeStyle = pen.fillStyle;
  }

  /** A message that never arrives ends between the lanes. */
  drawLost(message) {
    const { pen } = this;
    const [x1, y1, x2, y2] = this.ends(message, message.at + Math.min(this.trace.slowest, (this.view.to - this.view.from) / 30));
    const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
    pen.setLineDash([3, 3]);
    pen.beginPath();
    pen.moveTo(x1, y1);
    pen.lineTo(x, y);
    pen.stroke();
    pen.setLineDash([]);
    this.cross(x, y, message.kind === "signs" ? 2.5 : 4);
  }

  drawNow(height) {
    const { pen, colours, trace, view } = this;
    const bad = trace.violation;
    if (bad && bad.t >= view.from && bad.t <= view.to) {
      pen.fillStyle = colours.bad;
      pen.fillRect(this.x(bad.t) - 2, HEAD - 8, 4, height);
    }
    pen.fillStyle = colours.ink;
    pen.fillRect(this.x(view.now) - 0.75, HEAD - 8, 1.5, height);
    pen.beginPath();
    pen.moveTo(this.x(view.now) - 6, HEAD - 10);
    pen.lineTo(this.x(view.now) + 6, HEAD - 10);
    pen.lineTo(this.x(view.now), HEAD - 2);
    pen.fill();
  }

  /** The message nearest to a place, within a few pixels. */
  messageAt(x, y) {
    let [best, distance] = [null, 7];
    for (const message of this.shown()) {
      for (const arrives of message.arrives.length ? message.arrives : [message.at + 1]) {
        const away = distanceTo(x, y, ...this.ends(message, arrives));
        if (away < distance) [best, distance] = [message, away];
      }
    }
    return best;
  }
}

/** How far a place is from a line. */
function distanceTo(x, y, x1, y1, x2, y2) {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const share = Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x1 - share * dx, y - y1 - share * dy);
}

const [BAND, TICKS] = [9, 14];

/** The whole run at a glance: who led when, and the faults. */
export function drawOverview(canvas, trace, view, colours) {
  const pen = penOf(canvas, TICKS + trace.nodes.length * BAND + 6);
  const x = (t) => 1 + (Math.min(t, trace.end) / trace.end) * (canvas.clientWidth - 2);
  trace.nodes.forEach((node, i) => {
    const y = TICKS + i * BAND;
    for (const { from, to, role, term } of trace.lives.get(node).segments) {
      const leads = role === "Leader";
      pen.fillStyle = colours[`t${term % 8}`];
      pen.globalAlpha = leads ? 1 : 0.45;
      pen.fillRect(x(from), y + (leads ? 0 : 2), Math.max(1, x(to) - x(from)), leads ? BAND - 1 : BAND - 5);
    }
    pen.globalAlpha = 1;
    pen.fillStyle = colours.bad;
    for (const { from, to } of trace.lives.get(node).downs) pen.fillRect(x(from), y + 3, Math.max(1, x(to) - x(from)), 2);
  });
  drawFaults(pen, trace, x, colours);
  drawWindow(pen, trace, view, x, colours);
}

function drawFaults(pen, trace, x, colours) {
  trace.cuts.forEach((cut, i) => {
    if (cut.cut.size === 0) return;
    const end = trace.cuts[i + 1]?.t ?? trace.end;
    pen.fillStyle = colours.bad;
    pen.globalAlpha = 0.5;
    pen.fillRect(x(cut.t), 6, Math.max(1, x(end) - x(cut.t)), 4);
  });
  pen.globalAlpha = 1;
  for (const item of trace.story) {
    if (item.kind !== "fault" && item.kind !== "violation") continue;
    pen.fillStyle = item.kind === "violation" ? colours.bad : colours.warn;
    pen.fillRect(x(item.t) - 0.5, 2, item.kind === "violation" ? 3 : 1, 9);
  }
}

function drawWindow(pen, trace, view, x, colours) {
  const height = TICKS + trace.nodes.length * BAND + 4;
  const [left, right] = [x(Math.max(0, view.from)), x(Math.min(trace.end, view.to))];
  pen.fillStyle = colours.accent;
  pen.globalAlpha = 0.13;
  pen.fillRect(left, 1, Math.max(3, right - left), height);
  pen.globalAlpha = 1;
  pen.strokeStyle = colours.accent;
  pen.lineWidth = 1.5;
  pen.strokeRect(left, 1, Math.max(3, right - left), height);
  pen.fillStyle = colours.ink;
  pen.fillRect(x(view.now) - 0.75, 0, 1.5, height + 2);
}

/** What can talk to what, in words: empty while all links work. */
export function linksAt(trace, t) {
  const cut = cutAt(trace, t);
  if (cut.size === 0) return "";
  const sides = parts(trace.nodes, cut);
  return sides.length > 1 ? sides.map((side) => side.map((node) => `n${node}`).join(" ")).join(" | ") : `${cut.size} links cut`;
}
