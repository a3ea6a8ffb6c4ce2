// Who is connected to this node, and the sessions of the whole cluster; asked anew while the page is open.

import { byId, make, say, span, whole } from "./dom.js";

const EVERY_MS = 2000;
let timer = null;

export function openClients() {
  refresh();
  timer = setInterval(refresh, EVERY_MS);
}

export function closeClients() {
  clearInterval(timer);
}

async function refresh() {
  try {
    const answer = await fetch("/dashboard/clients");
    if (answer.ok) show(await answer.json());
  } catch {
    say(byId("clients-note"), "The node does not answer; asking again.");
  }
}

const CLIENTS = [
  ["Client", (c) => make("code", { text: c.peer.includes(":") ? `[${c.peer}]:${c.port}` : `${c.peer}:${c.port}` })],
  ["Session", (c) => (c.session ? make("code", { text: c.session }) : "none yet")],
  ["Idle", (c) => span(c.idle_ms), "right"],
  ["Times out after", (c) => (c.timeout_ms ? span(c.timeout_ms) : "–"), "right"],
  ["Outstanding", (c) => whole(c.outstanding), "right"],
  ["Sent us", (c) => whole(c.received), "right"],
  ["Was sent", (c) => whole(c.sent), "right"],
  ["Watches", (c) => whole(c.watches), "right"],
  ["Last request", (c) => (c.last === "NA" ? "–" : c.last)],
  ["Waited on average", (c) => `${c.mean_ms.toFixed(1)}\u2009ms`, "right"],
];

const SESSIONS = [
  ["Session", (s) => make("code", { text: s.session })],
  ["Attached to", (s) => `n${s.server}`],
  ["Times out after", (s) => span(s.timeout_ms), "right"],
  ["Ephemeral znodes", (s) => whole(s.ephemerals), "right"],
];

function show(told) {
  fillTable(byId("clients"), CLIENTS, told.clients);
  fillTable(byId("sessions"), SESSIONS, told.sessions);
  say(byId("clients-note"), count(told.clients_total, told.clients.length, "connected"));
  say(byId("sessions-note"), count(told.sessions_total, told.sessions.length, "alive"));
}

function count(all, listed, word) {
  return `${whole(all)} ${word}${listed < all ? `; the first ${whole(listed)} are listed` : ""}`;
}

function fillTable(table, columns, rows) {
  const head = make("tr", {}, ...columns.map(([title, , side]) => make("th", { text: title, class: side, scope: "col" })));
  const line = (row) => make("tr", {}, ...columns.map(([, value, side]) => make("td", { class: side }, value(row))));
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows.map(line)));
}
