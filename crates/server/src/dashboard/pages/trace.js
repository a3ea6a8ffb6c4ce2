// A simulated run, as its trace tells it (docs/trace.md): what each server looked like when, what its log held, which
// messages were under way, and the story in sentences. Pure: text in, values out. Times are milliseconds.

/** Reads the JSON lines of a trace; lines and kinds that are not known are skipped, as the format asks. */
export function readTrace(text) {
  const trace = { nodes: [], end: 0, events: [], messages: [], lives: new Map(), cuts: [], story: [], violation: null, skipped: 0, slowest: 1 };
  const reader = { trace, cut: new Set(), sent: new Map(), batch: null };
  for (const line of text.split("\n")) {
    if (!line.trim()) continue;
    const event = parseLine(line);
    if (!event) trace.skipped += 1;
    else takeEvent(reader, event);
  }
  endBatch(reader);
  trace.nodes.sort((a, b) => a - b);
  trace.end = Math.max(1, trace.end);
  trace.story.sort((a, b) => a.t - b.t);
  return trace;
}

function parseLine(line) {
  try {
    const event = JSON.parse(line);
    return typeof event.t === "number" && typeof event.e === "string" ? { ...event, t: event.t / 1e6 } : null;
  } catch {
    return null;
  }
}

/** Everything that is told of one server, in order of time. */
function lifeOf(trace, node) {
  if (!trace.lives.has(node)) {
    trace.nodes.push(node);
    trace.lives.set(node, { states: [], logs: [], downs: [], stops: [], writes: [], segments: [] });
  }
  return trace.lives.get(node);
}

function takeEvent(reader, event) {
  const { trace } = reader;
  if (reader.batch && reader.batch.t !== event.t) endBatch(reader);
  const take = TAKE[event.e];
  if (!take) {
    trace.skipped += 1;
    return;
  }
  trace.end = Math.max(trace.end, event.t);
  trace.events.push(event);
  take(reader, event, event.n === undefined ? null : lifeOf(trace, event.n));
}

const TAKE = {
  state: takeState, wrote: takeWrote, durable: () => {}, sent: takeSent, arrived: takeArrived, crashed: takeCrashed,
  restarted: takeRestarted, stopped: takeStopped, cut: takeLink, joined: takeLink, healed: takeHealed, said: takeSaid, violated: takeViolated,
};

function tell(trace, t, kind, n, text) {
  trace.story.push({ t, kind, n: n ?? null, text });
}

function takeState({ trace }, event, life) {
  const before = life.states.at(-1);
  life.states.push(event);
  const opens = !before || before.role !== event.role || before.term !== event.term;
  if (opens) life.segments.push({ from: event.t, to: Infinity, role: event.role, term: event.term });
  if (opens && life.segments.length > 1) life.segments.at(-2).to = Math.min(life.segments.at(-2).to, event.t);
  if (before && opens) tellRole(trace, before, event);
  fitLog(life, event);
}

function tellRole(trace, before, event) {
  const who = `n${event.n}`;
  if (event.role === "Leader" && before.role !== "Leader") tell(trace, event.t, "election", event.n, `${who} is elected leader of term ${event.term}`);
  else if (event.role === "Candidate" && (before.role !== "Candidate" || before.term !== event.term)) tell(trace, event.t, "election", event.n, `${who} stands for term ${event.term}`);
  else if (event.role === "PreCandidate" && before.role !== "PreCandidate") tell(trace, event.t, "election", event.n, `${who} asks whether it would be elected`);
  else if (before.role === "Leader") tell(trace, event.t, "election", event.n, `${who} steps down, term ${event.term}`);
}

/** A log as runs of one term, `{ first, term }`, and its last index. */
function logNow(life) {
  return life.logs.at(-1) ?? { t: 0, base: 0, last: 0, runs: [] };
}

/** What a state says of the log that no write told: a snapshot that came, or what a crash lost. */
function fitLog(life, { t, base, last }) {
  const log = logNow(life);
  if (log.base === base[0] && log.last === last[0]) return;
  const kept = log.last > last[0] ? cutFrom(log.runs, last[0] + 1) : log.runs;
  const runs = log.last < last[0] ? [...kept, { first: Math.max(log.last, base[0]) + 1, term: last[1] }] : kept;
  life.logs.push({ t, base: base[0], last: last[0], runs: runs.filter((run, i) => (runs[i + 1]?.first ?? Infinity) > base[0] + 1) });
}

function cutFrom(runs, index) {
  return runs.filter((run) => run.first < index);
}

function takeWrote({ trace }, event, life) {
  const log = logNow(life);
  const first = event.truncated ?? event.entries[0]?.[0];
  if (first === undefined) return;
  const runs = first <= log.last ? cutFrom(log.runs, first) : [...log.runs];
  for (const [index, term] of event.entries) if (runs.at(-1)?.term !== term) runs.push({ first: index, term });
  const last = event.entries.at(-1)?.[0] ?? first - 1;
  life.logs.push({ t: event.t, base: log.base, last, runs });
  if (event.truncated !== undefined) tell(trace, event.t, "change", event.n, replacedInWords(event));
  life.writes.push({ t: event.t, first, last });
}

function replacedInWords({ n, truncated, entries }) {
  const [first, last] = [entries[0], entries.at(-1)];
  const instead = first ? `, and writes ${first[0]}@${first[1]}${last[0] > first[0] ? ` to ${last[0]}@${last[1]}` : ""}` : "";
  return `n${n} removes its entries from ${truncated} on${instead}`;
}

/** What a message is about, for its colour and for the filters. */
export function kindOf(about) {
  const word = about.split(" ", 1)[0];
  if (/Vote|TimeoutNow/.test(word)) return "votes";
  if (/Append|Snapshot|Forward|NotTaken/.test(word)) return "entries";
  if (/Read/.test(word)) return "reads";
  return "signs";
}

function takeSent({ trace, sent }, event) {
  lifeOf(trace, event.to);
  const arrives = event.arrives.map((at) => at / 1e6);
  const message = { id: event.id, from: event.n, to: event.to, at: event.t, arrives, about: event.about, kind: kindOf(event.about), got: false };
  trace.messages.push(message);
  sent.set(event.id, message);
  trace.slowest = Math.max(trace.slowest, ...arrives.map((at) => at - event.t));
}

function takeArrived({ sent }, event) {
  const message = sent.get(event.id);
  if (message) message.got = true;
}

function takeCrashed({ trace }, event, life) {
  life.downs.push({ from: event.t, to: Infinity });
  const segment = life.segments.at(-1);
  if (segment) segment.to = Math.min(segment.to, event.t);
  tell(trace, event.t, "fault", event.n, `n${event.n} crashes${event.noticed ? "" : ", and nobody is told"}`);
}

function takeRestarted({ trace }, event, life) {
  const down = life.downs.at(-1);
  if (down) down.to = event.t;
  const before = life.states.at(-1);
  if (before) life.segments.push({ from: event.t, to: Infinity, role: "Follower", term: before.term });
  tell(trace, event.t, "fault", event.n, `n${event.n} restarts from its disk`);
}

function takeStopped({ trace }, event, life) {
  const until = event.until / 1e6;
  life.stops.push({ from: event.t, to: until });
  tell(trace, event.t, "fault", event.n, `n${event.n} is stopped for ${Math.round(until - event.t)} ms`);
}

/** Links that change at one instant are one sentence. */
function takeLink(reader, event) {
  lifeOf(reader.trace, event.to);
  reader.batch ??= { t: event.t };
  if (event.e === "cut") reader.cut.add(`${event.n}-${event.to}`);
  else reader.cut.delete(`${event.n}-${event.to}`);
}

function endBatch(reader) {
  const { trace, batch, cut } = reader;
  if (!batch) return;
  reader.batch = null;
  trace.cuts.push({ t: batch.t, cut: new Set(cut) });
  tell(trace, batch.t, "fault", null, linksInWords(trace.nodes, cut));
}

function linksInWords(nodes, cut) {
  if (cut.size === 0) return "all links work again";
  const sides = parts(nodes, cut);
  if (sides.length > 1) return `partition: ${sides.map((side) => side.map((n) => `n${n}`).join(" ")).join(" | ")}`;
  return `cut: ${[...cut].sort().map((link) => link.replace(/(\d+)-(\d+)/, "n$1→n$2")).join(", ")}`;
}

/** The servers that can talk to each other both ways, directly or through others. */
export function parts(nodes, cut) {
  const rest = new Set([...nodes].sort((a, b) => a - b));
  const sides = [];
  for (const node of rest) {
    const side = [node];
    rest.delete(node);
    for (let i = 0; i < side.length; i++) {
      for (const other of rest) {
        if (cut.has(`${side[i]}-${other}`) || cut.has(`${other}-${side[i]}`)) continue;
        side.push(other);
        rest.delete(other);
      }
    }
    sides.push(side.sort((a, b) => a - b));
  }
  return sides;
}

function takeHealed(reader, event) {
  if (reader.cut.size === 0) return;
  reader.cut.clear();
  reader.trace.cuts.push({ t: event.t, cut: new Set() });
  tell(reader.trace, event.t, "fault", null, "all links work again");
}

function takeSaid({ trace }, event) {
  if (event.n === undefined) tell(trace, event.t, "fault", null, event.text);
  else tell(trace, event.t, "client", event.n, `n${event.n} ${event.text}`);
}

function takeViolated({ trace }, event) {
  trace.violation = { t: event.t, text: event.text };
  tell(trace, event.t, "violation", null, event.text);
}

/** The last one of a list in order of time that is not after `t`; undefined before the first. */
export function lastAt(list, t) {
  return list[firstAfter(list, t) - 1];
}

/** Where the first one after `t` stands in a list in order of time. */
export function firstAfter(list, t, when = (one) => one.t) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (when(list[middle]) <= t) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What a server looked like at a time, in the words of the dashboard; `null` parts where it was down. */
export function serverAt(trace, node, t) {
  const life = trace.lives.get(node);
  const state = lastAt(life.states, t);
  const log = lastAt(life.logs, t) ?? { base: 0, last: 0, runs: [] };
  const down = life.downs.some((down) => down.from <= t && t < down.to);
  const stopped = life.stops.some((stop) => stop.from <= t && t < stop.to);
  if (!state) return { id: node, group: null, down, stopped };
  const { role, term, vote, leader, commit, applied, durable } = state;
  const terms = log.runs.map((run) => [run.first, run.term]);
  const group = { role: role.toLowerCase(), term, vote, leader, commit, applied, durable, base: log.base, last: log.last, terms, snapshot: log.base, followers: [] };
  return { id: node, group: down ? null : group, last: group, down, stopped };
}

/** The links that were cut at a time, as `from-to`. */
export function cutAt(trace, t) {
  return lastAt(trace.cuts, t)?.cut ?? new Set();
}
