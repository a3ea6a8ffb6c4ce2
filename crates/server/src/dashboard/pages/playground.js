// The playground: nodes and links are taken hold of in the picture, and the page says whether what clients see is still linearizable.

import { byId, clock, make, say, whole } from "./dom.js";
import { fillGroup, newGroup } from "./logs.js";
import { groupNames, leading, membersOf } from "./members.js";
import { HEIGHT, WIDTH, drawMembers, positions } from "./picture.js";

/** `quorate up` is asked so often. */
const EVERY_MS = 500;
/** A slow disk's syncs take so much longer. */
const SLOW_MS = 200;
/** The operations of the last seconds make the rate. */
const RATE_MS = 5000;
/** So far from the leader, in the picture's units, its links are taken hold of. */
const HANDLE_AT = 70;

const key = location.hash.slice(1);
let told = null;
let group = "kv";
/** What the acts below the picture are for: ids of one node, or of two with a link between them. */
let chosen = [];
let counts = [];

async function ask(path, body) {
  const answer = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: { "X-Quorate-Playground": key },
    body: body && JSON.stringify(body),
  });
  return answer.json();
}

async function refresh() {
  try {
    const answer = await ask("/state");
    trouble(answer.error);
    if (!answer.error) show(answer);
  } catch {
    trouble("`quorate up` does not answer; asking again. What you see is old.");
  }
}

function trouble(text) {
  byId("trouble").hidden = !text;
  say(byId("trouble"), text ?? "");
}

/** Does one thing after another, and says what came of the last one. */
async function perform(...orders) {
  for (const [path, body] of orders) {
    const answer = await ask(path, body).catch(() => ({ error: "`quorate up` does not answer" }));
    say(byId("said"), answer.done ?? `Not done: ${answer.error}`);
  }
  await refresh();
}

const toNode = (node, act) => ["/nodes", { node, do: act }];
const toLink = (link, cut) => ["/links", { link, cut }];

function show(answer) {
  told = answer;
  const names = groupNames(told);
  if (names.length && !names.includes(group)) group = names[0];
  showVerdict(told.tally);
  showPicture(names);
  showActs();
  showGroup();
  showStory(told.story);
}

/** The rate of the last seconds; null while nothing is known. */
function rate(operations) {
  const now = performance.now();
  counts = [...counts.filter(([at]) => now - at < RATE_MS), [now, operations]];
  const [[since, before]] = counts;
  return now - since < 1500 ? null : Math.max(0, (operations - before) / ((now - since) / 1000));
}

function showVerdict({ linearizable, unknown, undecided, reread, broken }) {
  const number = (count) => count.toLocaleString("en");
  const perSecond = rate(linearizable);
  byId("verdict").className = `card verdict ${broken ? "bad" : linearizable ? "good" : ""}`;
  if (broken) say(byId("answer"), `Not linearizable, after ${number(linearizable)} operations that were.`);
  else if (linearizable) say(byId("answer"), `linearizable so far: ${number(linearizable)} operations`);
  const figures = [
    perSecond === null || broken ? null : perSecond < 1 ? "nothing is answered just now" : `${whole(perSecond)} a second`,
    `${number(unknown)} of unknown outcome`, `${number(reread)} batches read again`,
    undecided ? `${number(undecided)} could not be decided in time` : null,
  ];
  say(byId("figures"), figures.filter(Boolean).join(" · "));
  byId("why").hidden = !broken;
  if (broken) say(byId("why"), `${broken.why.join("\n").trim()}\n\nThe history: ${broken.file}`);
}

function wordsFor(id) {
  const state = told.processes[id]?.state;
  return state === "runs" ? undefined : state;
}

function showPicture(names) {
  const chooser = byId("groups-shown");
  const button = (name) => make("button", { type: "button", text: name, click: () => { group = name; show(told); } });
  if (chooser.children.length !== names.length) chooser.replaceChildren(...names.map(button));
  for (const one of chooser.children) one.setAttribute("aria-pressed", String(one.textContent === group));
  const words = Object.fromEntries(Object.keys(told.processes).map((id) => [id, wordsFor(id)]));
  byId("picture").replaceChildren(drawMembers(told, group, { cuts: told.cuts, words }));
  const members = membersOf(told, group);
  const leader = leading(members);
  say(byId("headline"), leader ? `n${leader.id} leads ${group}, term ${leader.group.term}` : `nobody leads ${group}`);
  const pages = Object.entries(told.members).map(([id, { admin }]) => make("a", { href: `http://${admin}/`, target: "_blank", rel: "noopener", text: `n${id}` }));
  if (byId("dashboards").children.length !== pages.length) byId("dashboards").replaceChildren(...pages);
  showHandles(members);
}

/** Buttons over the picture, which stay while it is drawn anew, so that the keyboard's focus does. */
function showHandles(members) {
  const at = positions(members);
  const leader = leading(members)?.id;
  const spots = members.flatMap(({ id }, i) => [
    { ids: [id], ...at.get(id) },
    ...members.slice(i + 1).map((other) => ({ ids: [id, other.id], ...spotOf(at, leader === other.id ? [other.id, id] : [id, other.id], leader) })),
  ]);
  for (const { ids, x, y } of spots) {
    const handle = byId(`handle-${ids.join("-")}`) ?? newHandle(ids);
    handle.style.left = `${(100 * x) / WIDTH}%`;
    handle.style.top = `${(100 * y) / HEIGHT}%`;
    handle.setAttribute("aria-pressed", String(chosen.join() === ids.join()));
    if (ids.length === 2) handle.classList.toggle("cut", isCut(ids));
  }
}

/** Where a link is taken hold of: near the leader, since its label stands nearer to the follower; else in the middle. */
function spotOf(at, [a, b], leader) {
  const [from, to] = [at.get(a), at.get(b)];
  const share = a === leader ? HANDLE_AT / Math.hypot(to.x - from.x, to.y - from.y) : 0.5;
  return { x: from.x + share * (to.x - from.x), y: from.y + share * (to.y - from.y) };
}

function newHandle(ids) {
  const name = ids.length === 1 ? `Node n${ids[0]}` : `Link between n${ids[0]} and n${ids[1]}`;
  const handle = make("button", {
    type: "button", id: `handle-${ids.join("-")}`, class: ids.length === 1 ? "node" : "link", "aria-label": name, title: name,
    text: ids.length === 1 ? "" : "✂\uFE0E", click: () => choose(ids),
  });
  byId("handles").append(handle);
  return handle;
}

function choose(ids) {
  chosen = ids;
  byId("acts").replaceChildren();
  say(byId("said"), "");
  show(told);
}

function isCut([a, b]) {
  return told.cuts.some((pair) => pair.includes(a) && pair.includes(b));
}

function showActs() {
  if (!chosen.length) return;
  const acts = chosen.length === 1 ? nodeActs(chosen[0]) : linkActs(chosen);
  const place = byId("acts");
  if (place.children.length !== acts.length) {
    place.replaceChildren(...acts.map(() => make("button", { type: "button", click: (event) => event.currentTarget.act() })));
  }
  acts.forEach(([text, can, ...orders], i) => {
    const button = place.children[i];
    say(button, text);
    button.disabled = !can;
    button.act = () => perform(...orders);
  });
}

function nodeActs(id) {
  const { state, pid, delay_ms: delay } = told.processes[id];
  const slow = delay ? `, its disk ${delay} ms slower` : "";
  say(byId("chosen"), `n${id}: process ${pid} ${state === "runs" ? "runs" : `is ${state}`}${slow}`);
  const others = Object.keys(told.processes).map(Number).filter((other) => other !== id);
  const alone = others.every((other) => isCut([id, other]));
  const ties = others.filter((other) => isCut([id, other]) === alone).map((other) => toLink([id, other], !alone));
  return [
    ["Kill −9", state !== "stopped", toNode(id, "kill")],
    ["Stop", state !== "stopped", toNode(id, "stop")],
    [state === "paused" ? "Go on" : "Pause", state !== "stopped", toNode(id, state === "paused" ? "resume" : "pause")],
    ["Start", state === "stopped", toNode(id, "start")],
    [delay ? "Quick disk" : "Slow disk", true, toNode(id, { slow: delay ? 0 : SLOW_MS })],
    [alone ? "Connect" : "Cut off", others.length > 0, ...ties],
  ];
}

function linkActs([a, b]) {
  const cut = isCut([a, b]);
  say(byId("chosen"), `The link between n${a} and n${b} ${cut ? "is cut" : "is whole"}`);
  return [[cut ? "Heal" : "Cut", true, toLink([a, b], !cut)]];
}

/** Whatever was done is undone. */
function mend() {
  const nodes = Object.entries(told?.processes ?? {}).flatMap(([id, { state, delay_ms: delay }]) => [
    ...(state === "paused" ? [toNode(Number(id), "resume")] : []),
    ...(state === "stopped" ? [toNode(Number(id), "start")] : []),
    ...(delay ? [toNode(Number(id), { slow: 0 })] : []),
  ]);
  return perform(...(told?.cuts ?? []).map((link) => toLink(link, false)), ...nodes);
}

function showGroup() {
  const place = byId("groups");
  if (place.firstChild?.id !== `group-${group}`) place.replaceChildren(newGroup(group));
  fillGroup(place.firstChild, told, group);
}

function showStory(story) {
  const items = story.toReversed().map(({ at, text }) => make("li", {}, make("time", { text: clock(at) }), text));
  byId("story").replaceChildren(...(items.length ? items : [make("li", { class: "soft", text: "Nothing yet." })]));
}

/** A digit chooses a node; all else is reached with the Tab key. */
addEventListener("keydown", (event) => {
  const handle = /^[1-9]$/.test(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey ? byId(`handle-${event.key}`) : null;
  handle?.focus();
  handle?.click();
});
addEventListener("resize", () => told && show(told));
byId("mend").addEventListener("click", mend);
for (;;) {
  await refresh();
  await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
}
