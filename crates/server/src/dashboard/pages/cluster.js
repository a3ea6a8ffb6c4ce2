// The members as people draw them, and what each says of itself.

import { byId, bytes, draw, make, micros, span, termClass, whole } from "./dom.js";
import { fillGroup, newGroup } from "./logs.js";
import { groupNames, leading, membersOf } from "./members.js";

const [WIDTH, HEIGHT, MEMBER] = [520, 420, 46];
/** Labels stand nearer to the follower: at the leader many links meet. */
const LABEL_AT = 0.56;
/** A follower that was not heard for so long is drawn as silent. */
const SILENT_MS = 1500;
const CROWN = "M-13 -4 L-9 -16 L-4 -8 L0 -18 L4 -8 L9 -16 L13 -4 Z";

let chosen = null;
const commitBefore = new Map();

/** Draws the cluster that the stream told of. */
export function showCluster(cluster, history) {
  const names = groupNames(cluster);
  if (!names.includes(chosen)) chosen = names[0];
  showPicture(cluster, history, names);
  showMembers(cluster, history);
  showGroups(byId("groups"), cluster, names.filter((name) => name === chosen));
  showGroups(byId("other-groups"), cluster, names.filter((name) => name !== chosen));
}

/** The cards of some groups, moved only where they are not there yet. */
function showGroups(place, cluster, names) {
  const cards = names.map((name) => byId(`group-${name}`) ?? newGroup(name));
  if (cards.length !== place.children.length || cards.some((card, i) => place.children[i] !== card)) place.replaceChildren(...cards);
  cards.forEach((card, i) => fillGroup(card, cluster, names[i]));
}

function showPicture(cluster, history, names) {
  const place = byId("picture");
  const members = membersOf(cluster, chosen);
  const leader = leading(members);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": inWords(members, leader) });
  const at = positions(members);
  svg.append(...wires(members, at));
  if (leader) svg.append(...links(cluster, members, leader, at));
  svg.append(...members.map((member) => drawMember(member, leader, at.get(member.id))));
  place.replaceChildren(...(names.length > 1 ? [chooser(names, cluster, history)] : []), svg);
}

function chooser(names, cluster, history) {
  const button = (name) => make("button", {
    text: name, type: "button", "aria-pressed": String(name === chosen),
    click: () => { chosen = name; showCluster(cluster, history); },
  });
  return make("div", { class: "bar", role: "group", "aria-label": "Group shown" }, ...names.map(button));
}

function inWords(members, leader) {
  const word = (member) => `n${member.id} ${member.group ? `${member.group.role}, term ${member.group.term}` : "does not answer"}`;
  return `${members.length} members: ${members.map(word).join("; ")}. ${leader ? `n${leader.id} leads.` : "Nobody leads."}`;
}

/** On a circle, the first at the top. */
function positions(members) {
  const radius = members.length === 1 ? 0 : Math.min(WIDTH, HEIGHT) / 2 - MEMBER - 16;
  const middle = HEIGHT / 2 + (members.length === 3 ? 32 : 6);
  const spot = (i) => {
    const angle = (2 * Math.PI * i) / members.length - Math.PI / 2;
    return { x: WIDTH / 2 + 1.22 * radius * Math.cos(angle), y: middle + radius * Math.sin(angle) };
  };
  return new Map(members.map((member, i) => [member.id, spot(i)]));
}

function wires(members, at) {
  const pairs = members.flatMap((a, i) => members.slice(i + 1).map((b) => [at.get(a.id), at.get(b.id)]));
  return pairs.map(([a, b]) => draw("line", { class: "wire", x1: a.x, y1: a.y, x2: b.x, y2: b.y }));
}

/** From the leader to each follower: how far it is behind, as the leader knows it. */
function links(cluster, members, leader, at) {
  const moving = leader.group.commit > (commitBefore.get(leader.group.name) ?? Infinity);
  commitBefore.set(leader.group.name, leader.group.commit);
  const drawn = leader.group.followers.filter((follower) => at.has(follower.id)).map((follower) => {
    const gone = !members.some((member) => member.id === follower.id && member.group);
    return drawLink(cluster, leader, follower, at.get(leader.id), at.get(follower.id), gone, moving);
  });
  return [...drawn.map((link) => link.line), ...drawn.map((link) => link.label)];
}

function drawLink(cluster, leader, follower, from, to, gone, moving) {
  const lag = Math.max(0, leader.group.last - follower.matched);
  const asleep = follower.feed === "asleep";
  const silent = gone || (!asleep && follower.heard_ms > SILENT_MS);
  const kind = silent ? "silent" : asleep ? "asleep" : follower.feed !== "replicate" ? "probing" : lag > 100 ? "lagging" : "";
  const ends = { x1: from.x, y1: from.y, x2: to.x, y2: to.y };
  const line = draw("g", {}, draw("line", { class: `link ${kind}`, ...ends }));
  if (moving && !silent) line.append(draw("line", { class: "flow", ...ends }));
  const trip = cluster.by === leader.id ? cluster.round_trips_us[follower.id] : undefined;
  // A new leader knows nothing yet of who does not answer.
  const words = silent
    ? [follower.matched && lag ? `silent, ${whole(lag)} behind` : "silent"]
    : [lag ? `${whole(lag)} behind` : asleep ? null : "up to date", follower.feed !== "replicate" ? follower.feed : trip === undefined ? null : micros(trip)];
  return { line, label: labelAt(from.x + LABEL_AT * (to.x - from.x), from.y + LABEL_AT * (to.y - from.y), words.filter(Boolean).join(" · "), silent) };
}

function labelAt(x, y, text, alarm) {
  const width = text.length * 6.1 + 16;
  return draw("g", { class: `label${alarm ? " alarm" : ""}` },
    draw("rect", { x: x - width / 2, y: y - 11, width, height: 21, rx: 10.5 }),
    draw("text", { x, y: y + 4, text }));
}

function drawMember(member, leader, { x, y }) {
  const { group } = member;
  const kind = group ? group.role : "gone";
  const leads = leader?.id === member.id;
  const body = draw("g", { class: `${kind} ${group ? termClass(group.term) : ""}`, transform: `translate(${x} ${y})` },
    draw("circle", { class: "body", r: kind === "learner" ? MEMBER - 8 : MEMBER }),
    draw("text", { class: "name", y: -6, text: `n${member.id}` }),
    draw("text", { class: "role", y: 12, text: group ? group.role : member.listed?.admin ? "no answer" : "not started" }),
    draw("text", { class: "term", y: 28, text: group ? `term ${group.term}` : "" }));
  if (leads) body.append(draw("path", { class: "crown", d: CROWN, transform: `translate(0 ${-MEMBER})` }));
  return body;
}

const COLUMNS = [
  ["Member", (m) => memberCell(m)],
  ["Role", (m) => m.group?.role ?? "no answer"],
  ["Votes", (m) => (m.listed ? (m.listed.votes ? "yes" : "no") : "–")],
  ["Term", (m) => m.group && make("span", { class: `chip ${termClass(m.group.term)}`, text: String(m.group.term) })],
  ["Committed", (m) => m.group && whole(m.group.commit), "right"],
  ["Match / next", (m, c) => matchCell(m, c), "right"],
  ["Heard", (m, c) => heardCell(m, c), "right"],
  ["Asked in", (m, c) => (c.cluster.round_trips_us[m.id] ? micros(c.cluster.round_trips_us[m.id]) : m.id === c.cluster.by ? "this node" : "–"), "right"],
  ["Clients", (m) => m.node && whole(m.node.connections), "right"],
  ["fdatasync p99", (m, c) => told(c.history.now("fsync99", m.id), micros), "right"],
  ["Log", (m) => m.node && `${m.node.segments} × ${bytes(m.node.segment_bytes / Math.max(1, m.node.segments))}`, "right"],
  ["Snapshots", (m) => m.node && (m.node.snapshots ? `${m.node.snapshots}, ${bytes(m.node.snapshot_bytes)}` : "none"), "right"],
  ["Memory", (m) => m.node && bytes(m.node.resident_bytes), "right"],
  ["Up", (m) => m.node && span(m.node.uptime_ms), "right"],
];

function told(value, how) {
  return value === null ? "–" : how(value);
}

function memberCell(member) {
  return make("b", { text: `n${member.id}${stateOf(member)}`, title: member.group?.missing });
}

/** What is not as it should be, in words. */
function stateOf({ node, group, listed }) {
  if (!listed) return " (left the cluster)";
  if (!node) return listed.admin ? " (no answer)" : " (added, has not started yet)";
  if (group?.stranded) return " (its disk lost entries, and nobody leads who has them)";
  if (group?.missing) return " (its disk lost entries)";
  return node.serving && (node.kv?.serving ?? true) ? "" : " (catching up)";
}

function matchCell(member, { leader }) {
  const follower = leader?.group.followers.find((follower) => follower.id === member.id);
  if (follower) return `${whole(follower.matched)} / ${whole(follower.next)}`;
  return member.id === leader?.id ? `${whole(leader.group.durable)} durable` : "–";
}

function heardCell(member, { leader }) {
  const follower = leader?.group.followers.find((follower) => follower.id === member.id);
  return follower ? `${span(follower.heard_ms)} ago` : "–";
}

function showMembers(cluster, history) {
  const members = membersOf(cluster, chosen);
  const context = { cluster, history, leader: leading(members) };
  const head = byId("members-head");
  if (!head.firstChild) head.append(make("tr", {}, ...COLUMNS.map(([title, , side]) => make("th", { text: title, class: side, scope: "col" }))));
  const cell = (member) => ([title, value, side]) => {
    const content = value(member, context);
    return make("td", { class: side, "data-label": title }, content === null || content === undefined || content === false ? "–" : content);
  };
  byId("members").replaceChildren(...members.map((member) => make("tr", {}, ...COLUMNS.map(cell(member)))));
}
