// The cluster's page: the picture, the groups' logs, and what each member says of itself.

import { byId, bytes, make, micros, span, termClass, whole } from "./dom.js";
import { fillGroup, newGroup } from "./logs.js";
import { groupNames, leading, membersOf } from "./members.js";
import { drawMembers } from "./picture.js";

let chosen = null;

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
  byId("picture").replaceChildren(...(names.length > 1 ? [chooser(names, cluster, history)] : []), drawMembers(cluster, chosen));
}

function chooser(names, cluster, history) {
  const button = (name) => make("button", {
    text: name, type: "button", "aria-pressed": String(name === chosen),
    click: () => { chosen = name; showCluster(cluster, history); },
  });
  return make("div", { class: "bar", role: "group", "aria-label": "Group shown" }, ...names.map(button));
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
