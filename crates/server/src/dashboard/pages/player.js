// The player: opens a trace, keeps where in the run one is, and tells the diagram, the logs and the story.

import { byId, make, say, termClass, whole } from "./dom.js";
import { drawLogs } from "./logs.js";
import { Diagram, drawOverview, linksAt, readColours } from "./diagram.js";
import { firstAfter, readTrace, serverAt } from "./trace.js";

const KINDS = { votes: ["elections", "--line3"], entries: ["entries", "--accent"], reads: ["reads", "--line2"], signs: ["heartbeats and acknowledgements", "--soft"] };
const CHAPTERS = { election: "elections", fault: "faults", change: "replaced entries", client: "clients", violation: "violations" };
/** Where in the window the present stands. */
const PRESENT = 0.6;
const LISTED_MOST = 300;
const SPAN_FIRST = 500;

const player = {
  trace: null, now: 0, span: SPAN_FIRST, playing: false, speed: 0.05, chosen: null, drawn: false, listed: "",
  kinds: new Set(Object.keys(KINDS)), chapters: new Set(["election", "fault", "change", "violation"]),
};
let diagram = null;
let colours = null;

/** Begins to play a trace: shows what went wrong first, or else the first election. */
function play(text, name) {
  const trace = readTrace(text);
  if (trace.events.length === 0 || trace.nodes.length === 0) {
    say(byId("problem"), `${name} is no trace: no line of it tells what happened to a server. docs/trace.md has the format.`);
    return;
  }
  Object.assign(player, { trace, chosen: null, listed: "" });
  byId("welcome").hidden = true;
  byId("play").hidden = false;
  tellRun(trace, name);
  const first = trace.violation ?? trace.story.find((item) => item.kind === "election") ?? { t: 0 };
  byId("scrub").max = trace.end;
  player.span = spanFor(trace);
  go(first.t);
}

/** So wide that the way of a common message is seen as a slope. */
function spanFor(trace) {
  const ways = trace.messages.filter((message) => message.arrives.length).map((message) => message.arrives[0] - message.at).sort((a, b) => a - b);
  return Math.min(trace.end, Math.max(40, (ways[ways.length >> 1] ?? SPAN_FIRST / 30) * 30));
}

function tellRun(trace, name) {
  const verdict = byId("verdict");
  verdict.className = `pill ${trace.violation ? "bad" : "good"}`;
  say(verdict, trace.violation ? "a property was violated" : "every promise kept");
  const elected = trace.story.filter((item) => item.text.includes("elected")).length;
  say(byId("summary"), `${name}: ${trace.nodes.length} servers, ${(trace.end / 1000).toFixed(1)} s, ${whole(trace.messages.length)} messages, ${elected} elections`);
  document.title = `${name} – Quorate`;
  byId("violation").hidden = !trace.violation;
  if (trace.violation) byId("violation").replaceChildren(make("b", { text: `At ${seconds(trace.violation.t)}: ` }), trace.violation.text);
}

function seconds(t) {
  return `${(t / 1000).toFixed(3)}\u2009s`;
}

/** Moves to a time of the run. */
function go(t) {
  player.now = Math.min(player.trace.end, Math.max(0, t));
  redrawSoon();
}

function redrawSoon() {
  if (player.drawn) return;
  player.drawn = true;
  requestAnimationFrame(() => {
    player.drawn = false;
    if (player.trace) redraw();
  });
}

function view() {
  const { now, span, kinds, chosen } = player;
  return { now, from: now - span * PRESENT, to: now + span * (1 - PRESENT), kinds, chosen };
}

function redraw() {
  const { trace, now } = player;
  diagram.draw(trace, view(), colours);
  drawOverview(byId("overview"), trace, view(), colours);
  byId("scrub").value = now;
  byId("scrub").setAttribute("aria-valuetext", seconds(now));
  say(byId("time"), `${(now / 1000).toFixed(4)}\u2009s`);
  const servers = trace.nodes.map((node) => serverAt(trace, node, now));
  byId("logs").replaceChildren(drawLogs(servers, servers.find((server) => server.group?.role === "leader") ?? null, byId("logs").clientWidth));
  showServers(servers);
  const links = linksAt(trace, now);
  say(byId("links"), links ? `partition: ${links}` : "all links work");
  byId("diagram").setAttribute("aria-label", inSentences(servers, links));
  showStory();
}

function inSentences(servers, links) {
  const word = (server) => `n${server.id} ${server.down ? "is down" : `is ${server.group?.role ?? "not there"}, term ${server.last?.term ?? 0}`}`;
  return `At ${seconds(player.now)}: ${servers.map(word).join("; ")}. ${links ? `Partition: ${links}.` : "All links work."}`;
}

const COLUMNS_OF_SERVER = [
  ["Server", (s) => make("b", { text: `n${s.id}` })],
  ["Role", (s) => (s.down ? "down" : s.stopped ? `${s.group.role}, stopped` : s.group?.role ?? "–")],
  ["Term", (s) => s.last && make("span", { class: `chip ${termClass(s.last.term)}`, text: String(s.last.term) })],
  ["Vote", (s) => (s.last?.vote ? `n${s.last.vote}` : "–")],
  ["Leader it knows", (s) => (s.group?.leader ? `n${s.group.leader}` : "–")],
  ["Last entry", (s) => s.last && `${whole(s.last.last)}@${s.last.terms.at(-1)?.[1] ?? 0}`],
  ["Durable", (s) => s.last && whole(s.last.durable)],
  ["Committed", (s) => s.last && whole(s.last.commit)],
  ["Applied", (s) => s.last && whole(s.last.applied)],
];

function showServers(servers) {
  const head = make("tr", {}, ...COLUMNS_OF_SERVER.map(([title]) => make("th", { text: title, scope: "col" })));
  const row = (server) => make("tr", {}, ...COLUMNS_OF_SERVER.map(([, value]) => make("td", {}, value(server) ?? "–")));
  byId("servers").replaceChildren(make("thead", {}, head), make("tbody", {}, ...servers.map(row)));
}

function tale() {
  return player.trace.story.filter((item) => player.chapters.has(item.kind));
}

/** The story around the present; rebuilt only when what is listed changes. */
function showStory() {
  const items = tale();
  const at = firstAfter(items, player.now) - 1;
  const begin = Math.max(0, Math.min(at - LISTED_MOST / 2, items.length - LISTED_MOST));
  const listed = `${begin}/${items.length}/${[...player.chapters].join()}`;
  const list = byId("story");
  if (listed !== player.listed) {
    player.listed = listed;
    list.replaceChildren(...items.slice(begin, begin + LISTED_MOST).map(line));
  }
  [...list.children].forEach((child, i) => mark(child.firstChild, begin + i - at));
}

function line(item) {
  return make("li", {}, make("button", { type: "button", class: item.kind, click: () => go(item.t) },
    make("time", { text: (item.t / 1000).toFixed(3) }), make("span", { text: item.text })));
}

function mark(button, distance) {
  const isNow = distance === 0;
  button.classList.toggle("later", distance > 0);
  if (isNow && !button.hasAttribute("aria-current")) {
    const list = byId("story");
    list.scrollTop = button.offsetTop - list.offsetTop - list.clientHeight / 2;
  }
  if (isNow) button.setAttribute("aria-current", "step");
  else button.removeAttribute("aria-current");
}

/** To the next or previous one of a list in order of time. */
function step(list, direction) {
  const target = direction > 0 ? list[firstAfter(list, player.now + 1e-6)] : list.findLast((one) => one.t < player.now - 1e-6);
  if (!target) return;
  pause();
  go(target.t);
  if (target.text) say(byId("message"), `${seconds(target.t)}  ${target.text}`);
}

function pause() {
  player.playing = false;
  tellPlaying();
}

function tellPlaying() {
  say(byId("run"), player.playing ? "Pause" : "Play");
  byId("run").setAttribute("aria-pressed", String(player.playing));
}

function toggle() {
  player.playing = !player.playing;
  if (player.playing && player.now >= player.trace.end) go(0);
  tellPlaying();
  if (player.playing) tick(performance.now());
}

function tick(before) {
  requestAnimationFrame((at) => {
    if (!player.playing) return;
    go(player.now + Math.max(0, at - before) * player.speed);
    if (player.now >= player.trace.end) pause();
    else tick(at);
  });
}

function zoom(factor) {
  player.span = Math.min(player.trace.end * 1.1, Math.max(2, player.span * factor));
  redrawSoon();
}

function seeAll() {
  player.span = player.trace.end * 1.05;
  redrawSoon();
}

function ofKind(kind) {
  return player.trace.story.filter((item) => item.kind === kind);
}

const KEYS = {
  ArrowRight: () => step(tale(), 1), ArrowLeft: () => step(tale(), -1), ".": () => step(player.trace.events, 1), ",": () => step(player.trace.events, -1),
  " ": toggle, "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: seeAll,
  e: () => step(ofKind("election"), 1), f: () => step(ofKind("fault"), 1), v: () => player.trace.violation && go(player.trace.violation.t),
  Home: () => go(0), End: () => go(player.trace.end),
};

function onKeyDown(event) {
  const typing = event.target.matches?.(event.key === " " ? "select, button, input" : "select");
  if (!player.trace || typing || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
}

function tip(event) {
  const box = byId("diagram").getBoundingClientRect();
  const message = player.trace && diagram.messageAt(event.clientX - box.left, event.clientY - box.top);
  const shown = byId("tip");
  shown.hidden = !message;
  if (!message) return;
  say(shown, inOneLine(message));
  shown.style.left = `${Math.min(event.clientX - box.left + 12, box.width - 260)}px`;
  shown.style.top = `${event.clientY - box.top + 76}px`;
}

function inOneLine(message) {
  const fate = message.arrives.length === 0 ? "lost" : `arrives after ${(message.arrives[0] - message.at).toFixed(2)} ms${message.arrives.length > 1 ? ", and once more" : ""}${message.got ? "" : ", where nobody is up"}`;
  return `n${message.from} → n${message.to}: ${message.about}; ${fate}`;
}

/** A click chooses a message; beside any, it moves the present there. A drag moves through time. */
function listenToDiagram(canvas) {
  let held = null;
  canvas.addEventListener("pointerdown", (event) => { held = { x: event.clientX, now: player.now, moved: false }; });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return tip(event);
    held.moved ||= Math.abs(event.clientX - held.x) > 4;
    if (held.moved) go(held.now - ((event.clientX - held.x) / canvas.clientWidth) * player.span);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !held.moved) choose(event, canvas);
    held = null;
  });
  canvas.addEventListener("pointerleave", () => { held = null; byId("tip").hidden = true; });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey && Math.abs(event.deltaX) < Math.abs(event.deltaY)) return;
    event.preventDefault();
    if (event.ctrlKey) zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2);
    else go(player.now + ((event.deltaX || event.deltaY) / canvas.clientWidth) * player.span);
  }, { passive: false });
}

function choose(event, canvas) {
  const box = canvas.getBoundingClientRect();
  player.chosen = diagram.messageAt(event.clientX - box.left, event.clientY - box.top);
  say(byId("message"), player.chosen ? `${seconds(player.chosen.at)}  ${inOneLine(player.chosen)}` : "");
  if (player.chosen) redrawSoon();
  else go(diagram.time(event.clientX - box.left));
}

function listenToOverview(canvas) {
  const seek = (event) => go(((event.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth) * player.trace.end);
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); seek(event); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
}

/** A row of check boxes over a set. */
function toggles(place, names, chosen, changed) {
  const box = ([name, word]) => {
    const [text, colour] = [].concat(word);
    const input = make("input", { type: "checkbox", change: () => { if (input.checked) chosen.add(name); else chosen.delete(name); changed(); } });
    input.checked = chosen.has(name);
    const swatch = colour ? make("span", { class: "swatch" }) : null;
    swatch?.style.setProperty("--hue", `var(${colour})`);
    return make("label", { class: "toggle" }, input, swatch, text);
  };
  byId(place).append(...Object.entries(names).map(box));
}

async function openFile(file) {
  if (file) play(await file.text(), file.name);
}

function listenToFiles() {
  const welcome = byId("welcome");
  byId("file").addEventListener("change", (event) => openFile(event.target.files[0]));
  addEventListener("dragover", (event) => { event.preventDefault(); welcome.classList.add("over"); });
  addEventListener("dragleave", () => welcome.classList.remove("over"));
  addEventListener("drop", (event) => { event.preventDefault(); openFile(event.dataTransfer.files[0]); });
}

function start() {
  diagram = new Diagram(byId("diagram"));
  colours = readColours();
  toggles("kinds", KINDS, player.kinds, redrawSoon);
  toggles("chapters", CHAPTERS, player.chapters, redrawSoon);
  listenToDiagram(byId("diagram"));
  listenToOverview(byId("overview"));
  listenToFiles();
  const press = { run: toggle, previous: () => step(tale(), -1), following: () => step(tale(), 1), closer: () => zoom(0.6), farther: () => zoom(1 / 0.6), whole: seeAll };
  for (const [id, action] of Object.entries(press)) byId(id).addEventListener("click", action);
  byId("speed").addEventListener("change", (event) => { player.speed = Number(event.target.value); });
  byId("scrub").addEventListener("input", (event) => { pause(); go(Number(event.target.value)); });
  addEventListener("keydown", onKeyDown);
  addEventListener("resize", redrawSoon);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours = readColours(); redrawSoon(); });
  const own = byId("trace");
  if (own) play(own.textContent, document.querySelector("h1").textContent);
  else byId("back").append(make("a", { href: "/", text: "Dashboard" }));
}

start();
