// A group's logs: strips of entries coloured by term, the newest at the right, one strip a member on one scale.

import { clock, draw, make, say, span, termClass, whole } from "./dom.js";
import { leading, membersOf } from "./members.js";

const [CELL, GAP, ROW, LABEL, TOP] = [30, 3, 40, 64, 46];

/** The card of a group, empty. */
export function newGroup(name) {
  return make("div", { class: "card group", id: `group-${name}` },
    make("div", { class: "group-head" }, make("h2", { text: `Log of ${name}` }), make("span", { class: "soft" })),
    make("div", { class: "log" }), legend(), make("ol", { class: "reigns", "aria-label": "Who led" }));
}

/** Shows in a card, which is in the page, how a group's logs are. */
export function fillGroup(card, cluster, name) {
  const members = membersOf(cluster, name);
  const leader = leading(members);
  say(card.querySelector(".group-head .soft"), headline(leader));
  const log = card.querySelector(".log");
  log.replaceChildren(drawLogs(members, leader, log.clientWidth || 900));
  card.querySelector(".reigns").replaceChildren(...reigns(members));
}

function headline(leader) {
  if (!leader) return "nobody leads";
  const { group } = leader;
  const since = group.reigns.at(-1)?.[2];
  const when = since ? ` since ${clock(since)} (${span(Date.now() - since)})` : "";
  const snapshot = group.snapshot ? `; snapshot up to ${whole(group.snapshot)}` : "";
  return `n${leader.id} leads term ${group.term}${when}; ${whole(group.commit)} committed, ${whole(group.last - group.base)} entries in the log${snapshot}`;
}

/** Who led, the newest last, as the node knows that has heard most. */
function reigns(members) {
  const known = members.flatMap((member) => member.group?.reigns ?? []);
  const byTerm = new Map(known.map((reign) => [`${reign[0]}/${reign[1]}`, reign]));
  const sorted = [...byTerm.values()].sort((a, b) => a[0] - b[0]).slice(-6);
  return sorted.map(([term, leader, since]) =>
    make("li", { class: termClass(term) }, make("b", { text: `n${leader}` }), `term ${term}, from ${clock(since)}`));
}

/** All members' strips, for a width in pixels. */
export function drawLogs(members, leader, width) {
  const room = Math.max(4, Math.floor((width - LABEL - 8) / (CELL + GAP)));
  const last = Math.max(1, ...members.map((member) => member.group?.last ?? 0));
  // One place more: a follower's nextIndex lies behind the last entry.
  const first = Math.max(1, last - room + 2);
  const height = TOP + ROW * members.length + 6;
  const view = { first, last: first + room - 1, leader, x: (index) => LABEL + (index - first) * (CELL + GAP) };
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": inWords(members) });
  svg.append(...overview(leader ?? members.find((member) => member.group), view, width), ...scale(view));
  members.forEach((member, i) => svg.append(strip(member, view, TOP + i * ROW)));
  return svg;
}

function inWords(members) {
  const word = ({ id, group }) => (group ? `n${id}: entries ${group.base + 1} to ${group.last}, committed ${group.commit}, applied ${group.applied}` : `n${id}: no answer`);
  return `Logs. ${members.map(word).join("; ")}`;
}

/** The term of the entry at an index, as a member's runs say; null before them. */
function termAt(group, index) {
  if (index <= group.base || index > group.last) return null;
  return group.terms.findLast(([start]) => start <= index)?.[1] ?? null;
}

/** The whole log, and which part of it the strips show. */
function overview(member, view, width) {
  const group = member?.group;
  if (!group) return [];
  const [from, to, room] = [Math.max(1, group.base), Math.max(group.last, 1), width - LABEL - 8];
  const x = (index) => LABEL + ((Math.max(from, index) - from) / Math.max(1, to - from)) * room;
  const bars = group.terms.map(([start, term], i) => {
    const end = group.terms[i + 1]?.[0] ?? to;
    return draw("rect", { class: `cell ${termClass(term)}`, x: x(start), y: 4, width: Math.max(2, x(end) - x(start)), height: 9, rx: 2 },
      draw("title", { text: `term ${term} from entry ${start}` }));
  });
  const snapshot = group.snapshot ? [draw("path", { class: "snap", d: `M${x(group.snapshot)} 3 l5 -3 h-10 Z` })] : [];
  const shown = draw("rect", { class: "window", x: x(view.first) - 2, y: 2, width: Math.max(5, x(Math.min(to, view.last)) - x(view.first) + 4), height: 13, rx: 3 });
  const words = draw("text", { class: "faint", x: 0, y: 12, text: "whole log" });
  return [words, ...bars, ...snapshot, shown];
}

function scale(view) {
  const every = 5;
  const marks = [];
  for (let index = Math.ceil(view.first / every) * every; index <= view.last; index += every) {
    marks.push(draw("text", { class: "faint", x: view.x(index) + CELL / 2, y: 33, "text-anchor": "middle", text: whole(index) }));
  }
  return marks;
}

function strip(member, view, y) {
  const row = draw("g", { transform: `translate(0 ${y})` }, draw("text", { class: "who", x: 0, y: 19, text: `n${member.id}` }));
  const { group } = member;
  if (!group) {
    row.append(draw("text", { class: "faint", x: LABEL, y: 19, text: member.down ? "down" : "no answer" }));
    return row;
  }
  if (group.role === "leader") row.append(draw("text", { class: "faint", x: 0, y: 32, text: "leads" }));
  if (group.last < view.first) row.append(draw("text", { class: "faint", x: LABEL, y: 19, text: `ends at ${whole(group.last)}` }));
  for (let index = view.first; index <= Math.min(view.last, group.last); index++) row.append(...cell(group, index, view));
  row.append(...marks(member, view));
  return row;
}

function cell(group, index, view) {
  const x = view.x(index);
  const term = termAt(group, index);
  if (term === null) return [draw("rect", { class: "gone", x, y: 6, width: CELL, height: 20, rx: 4 }, draw("title", { text: `${index}: in the snapshot` }))];
  const committed = index <= group.commit;
  const box = draw("rect", { class: `cell ${termClass(term)}${committed ? "" : " open"}`, x, y: 6, width: CELL, height: 20, rx: 4 },
    draw("title", { text: `${index}@${term}, ${committed ? "committed" : "not committed"}${index <= group.applied ? ", applied" : ""}${index <= group.durable ? "" : ", not durable yet"}` }));
  const text = draw("text", { x: x + CELL / 2, y: 20, "text-anchor": "middle", text: String(term), "aria-hidden": "true" });
  const applied = index <= group.applied ? [draw("rect", { class: "applied", x: x + 4, y: 28, width: CELL - 8, height: 2, rx: 1 })] : [];
  return [box, text, ...applied];
}

/** Where the commit index stands, and what the leader knows of this member. */
function marks({ id, group }, view) {
  const within = (index) => index >= view.first - 1 && index <= view.last;
  const end = (index) => view.x(index) + CELL + GAP / 2;
  const drawn = [];
  if (within(group.commit)) drawn.push(draw("line", { class: "commit", x1: end(group.commit), x2: end(group.commit), y1: 2, y2: 32 }, draw("title", { text: `commit index ${group.commit}` })));
  const follower = view.leader?.group.followers.find((follower) => follower.id === id);
  if (!follower) return drawn;
  const triangle = (index, kind, text) => draw("path", { class: kind, d: `M${view.x(index) + CELL / 2} 6 l-5 -6 h10 Z` }, draw("title", { text }));
  if (within(follower.next)) drawn.push(triangle(follower.next, "next", `nextIndex ${follower.next}`));
  if (within(follower.matched)) drawn.push(triangle(follower.matched, "match", `matchIndex ${follower.matched}`));
  return drawn;
}

function legend() {
  const entry = (text, ...shapes) => make("span", {}, draw("svg", { viewBox: "0 0 15 13", "aria-hidden": "true" }, ...shapes), text);
  return make("div", { class: "legend log" },
    entry("committed (its number is the term)", draw("rect", { class: "cell term0", x: 1, y: 1, width: 13, height: 11, rx: 3 })),
    entry("not committed", draw("rect", { class: "cell open term0", x: 1, y: 1, width: 13, height: 11, rx: 3 })),
    entry("applied", draw("rect", { class: "applied", x: 1, y: 6, width: 13, height: 2 })),
    entry("commit index", draw("line", { class: "commit", x1: 7, x2: 7, y1: 0, y2: 13 })),
    entry("matchIndex", draw("path", { class: "match", d: "M7 10 l-5 -7 h10 Z" })),
    entry("nextIndex", draw("path", { class: "next", d: "M7 10 l-5 -7 h10 Z" })),
    entry("in the snapshot", draw("rect", { class: "gone", x: 1, y: 1, width: 13, height: 11, rx: 3 })));
}
