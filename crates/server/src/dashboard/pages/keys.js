// The key/value store: keys by prefix, as they are or as they were at a revision, and leases. Read-only.

import { byId, make, say, whole } from "./dom.js";
import { showData } from "./data.js";

let begun = false;

export function openKeys() {
  if (!begun) {
    begun = true;
    byId("keys-form").addEventListener("submit", (event) => {
      event.preventDefault();
      list();
    });
  }
  list();
}

/** The revision that is asked for; 0 is the newest. */
function revision() {
  return Math.max(0, Math.floor(Number(byId("keys-revision").value) || 0));
}

async function ask(kind, key) {
  const answer = await fetch(`/dashboard/${kind}/${revision()}/${encodeURIComponent(key)}`);
  return answer.json();
}

async function list() {
  try {
    show(await ask("keys", byId("keys-prefix").value));
  } catch {
    say(byId("keys-note"), "The node does not answer; ask again.");
  }
}

const COLUMNS = [
  ["Key", (kv) => make("button", { type: "button", class: "mono", text: kv.key, click: () => open(kv.key) })],
  ["Version", (kv) => whole(kv.version), "right"],
  ["Created at", (kv) => whole(kv.create_revision), "right"],
  ["Changed at", (kv) => whole(kv.mod_revision), "right"],
  ["Lease", (kv) => (kv.lease === "0" ? "–" : make("code", { text: kv.lease }))],
];

const LEASES = [["Lease", (lease) => make("code", { text: lease.id })], ["Granted for", (lease) => `${whole(lease.ttl)}\u2009s`, "right"]];

function show(told) {
  say(byId("keys-note"), told.error ?? inWords(told));
  fillTable(byId("keys"), COLUMNS, told.keys ?? []);
  fillTable(byId("leases"), LEASES, told.leases ?? []);
  say(byId("leases-note"), told.error ? "" : `${whole(told.leases_total)} granted${told.leases.length < told.leases_total ? `; the first ${told.leases.length} are listed` : ""}`);
}

function inWords(told) {
  const compacted = told.compacted > 0 ? `; what was before ${whole(told.compacted)} is compacted` : "";
  const listed = told.keys.length < told.count ? `, the first ${whole(told.keys.length)} are listed` : "";
  return `${whole(told.count)} keys${listed}. The newest revision is ${whole(told.revision)}${compacted}.`;
}

async function open(key) {
  const told = await ask("key", key).catch(() => ({ error: "The node does not answer; ask again." }));
  const place = byId("key");
  place.replaceChildren(make("h2", { class: "mono", text: key }), ...(told.error || !told.keys.length
    ? [make("p", { class: "soft", text: told.error ?? "It is gone." })]
    : showData(told.keys[0].value, told.keys[0].value_bytes)));
}

function fillTable(table, columns, rows) {
  const head = make("tr", {}, ...columns.map(([title, , side]) => make("th", { text: title, class: side, scope: "col" })));
  const line = (row) => make("tr", {}, ...columns.map(([, value, side]) => make("td", { class: side }, value(row))));
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows.map(line)));
}
