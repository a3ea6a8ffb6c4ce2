// The members as people draw them: who leads, and how far each follower is.

import { draw, micros, termClass, whole } from "./dom.js";
import { leading, membersOf } from "./members.js";

/** The picture's size in its own units, and a member's radius. */
export const [WIDTH, HEIGHT, MEMBER] = [520, 420, 46];
/** Labels stand nearer to the follower: at the leader many links meet. */
const LABEL_AT = 0.56;
/** A follower that was not heard for so long is drawn as silent. */
const SILENT_MS = 1500;
const CROWN = "M-13 -4 L-9 -16 L-4 -8 L0 -18 L4 -8 L9 -16 L13 -4 Z";

const commitBefore = new Map();

/** The members of a group. `cuts` are links that carry nothing, as pairs of ids; `words` are said of members that do not answer, by id. */
export function drawMembers(cluster, name, { cuts = [], words = {} } = {}) {
  const members = membersOf(cluster, name);
  const leader = leading(members);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": inWords(members, leader) });
  const at = positions(members);
  svg.append(...wires(members, at, cuts));
  if (leader) svg.append(...links(cluster, members, leader, at, cuts));
  svg.append(...members.map((member) => drawMember(member, leader, at.get(member.id), words[member.id])));
  return svg;
}

function inWords(members, leader) {
  const word = (member) => `n${member.id} ${member.group ? `${member.group.role}, term ${member.group.term}` : "does not answer"}`;
  return `${members.length} members: ${members.map(word).join("; ")}. ${leader ? `n${leader.id} leads.` : "Nobody leads."}`;
}

/** Where they stand, by id: on a circle, the first at the top. */
export function positions(members) {
  const radius = members.length === 1 ? 0 : Math.min(WIDTH, HEIGHT) / 2 - MEMBER - 16;
  const middle = HEIGHT / 2 + (members.length === 3 ? 32 : 6);
  const spot = (i) => {
    const angle = (2 * Math.PI * i) / members.length - Math.PI / 2;
    return { x: WIDTH / 2 + 1.22 * radius * Math.cos(angle), y: middle + radius * Math.sin(angle) };
  };
  return new Map(members.map((member, i) => [member.id, spot(i)]));
}

function wires(members, at, cuts) {
  const pairs = members.flatMap((a, i) => members.slice(i + 1).map((b) => [a.id, b.id]));
  const ends = ([a, b]) => ({ x1: at.get(a).x, y1: at.get(a).y, x2: at.get(b).x, y2: at.get(b).y });
  return pairs.map((pair) => draw("line", { class: isCut(cuts, pair) ? "wire cut" : "wire", ...ends(pair) }));
}

function isCut(cuts, [a, b]) {
  return cuts.some((pair) => pair.includes(a) && pair.includes(b));
}

/** From the leader to each follower: how far it is behind, as the leader knows it. */
function links(cluster, members, leader, at, cuts) {
  const moving = leader.group.commit > (commitBefore.get(leader.group.name) ?? Infinity);
  commitBefore.set(leader.group.name, leader.group.commit);
  const drawn = leader.group.followers.filter((follower) => at.has(follower.id) && !isCut(cuts, [leader.id, follower.id])).map((follower) => {
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

function drawMember(member, leader, { x, y }, silence) {
  const { group } = member;
  const kind = group ? group.role : "gone";
  const leads = leader?.id === member.id;
  const body = draw("g", { class: `${kind} ${group ? termClass(group.term) : ""}`, transform: `translate(${x} ${y})` },
    draw("circle", { class: "body", r: kind === "learner" ? MEMBER - 8 : MEMBER }),
    draw("text", { class: "name", y: -6, text: `n${member.id}` }),
    draw("text", { class: "role", y: 12, text: group ? group.role : silence ?? (member.listed?.admin ? "no answer" : "not started") }),
    draw("text", { class: "term", y: 28, text: group ? `term ${group.term}` : "" }));
  if (leads) body.append(draw("path", { class: "crown", d: CROWN, transform: `translate(0 ${-MEMBER})` }));
  return body;
}
