// The dashboard: one stream of news, and the page that the address names.

import { byId, make, say } from "./dom.js";
import { History } from "./figures.js";
import { showCluster } from "./cluster.js";
import { groupNames, leading, membersOf } from "./members.js";
import { showPlots, showTiles } from "./plots.js";
import { openZnodes } from "./znodes.js";
import { openKeys } from "./keys.js";
import { openClients, closeClients } from "./clients.js";

const PAGES = ["cluster", "figures", "znodes", "keys", "clients"];
/** The node tells something every second: after so much silence it is not there. */
const SILENCE_MS = 4000;
const RETRY_MS = 1000;
/** A page that nobody sees for so long lets go of its stream: browsers have few connections to a host, and nodes better things to do. */
const HIDDEN_MS = 5 * 60_000;

const history = new History();
let latest = null;
let heardAt = performance.now();
let source = null;
let hidden = null;

function connect() {
  source?.close();
  source = new EventSource("/dashboard/stream");
  source.addEventListener("message", (event) => take(JSON.parse(event.data)));
  source.addEventListener("error", lost);
}

/** A browser gives up after an answer that is no stream; this page does not. */
function lost() {
  if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS);
  setTimeout(watch, 0);
}

/** Lets go of the stream of a page that is not seen, and takes it up when it is seen again. */
function seenOrNot() {
  clearTimeout(hidden);
  if (document.hidden) hidden = setTimeout(() => source.close(), HIDDEN_MS);
  else if (source.readyState === EventSource.CLOSED) connect();
}

function take(cluster) {
  heardAt = performance.now();
  latest = cluster;
  history.add(Date.now(), cluster);
  byId("trouble").hidden = true;
  render();
}

/** Says so when the node that serves this page is not heard, and where the others are. */
function watch() {
  const silent = performance.now() - heardAt;
  const gone = source?.readyState !== EventSource.OPEN && silent > 1200;
  if (silent < SILENCE_MS && !gone) return;
  const trouble = byId("trouble");
  const here = latest ? `n${latest.by}` : "The node";
  const others = Object.entries(latest?.members ?? {}).filter(([id, { admin }]) => admin && Number(id) !== latest.by);
  const links = others.flatMap(([id, { admin }]) => [" ", make("a", { href: `http://${admin}/`, text: `n${id}` })]);
  trouble.replaceChildren(
    `${here} does not answer; asking again. What you see is ${Math.round(silent / 1000)} s old.`,
    ...(links.length ? [" The same page at", ...links] : []),
  );
  trouble.hidden = false;
  pill("wait", "no connection");
}

function pill(kind, text) {
  const health = byId("health");
  health.className = `pill ${kind}`;
  say(health, text);
}

/** Whether the cluster can decide, in two words. */
function tellHealth(cluster) {
  const members = cluster.nodes.length + cluster.unreachable.length;
  const serving = cluster.nodes.filter((node) => node.serving && (node.kv?.serving ?? true)).length;
  const groups = groupNames(cluster).map((name) => ({ name, leader: leading(membersOf(cluster, name)) }));
  const leaderless = groups.some(({ leader }) => !leader);
  if (serving * 2 <= members || leaderless) pill("bad", leaderless ? "no leader" : "no majority");
  else if (serving < members) pill("warn", `${serving} of ${members} members`);
  else pill("good", "healthy");
  const words = groups.map(({ name, leader }) =>
    leader ? `n${leader.id} leads ${name}, term ${leader.group.term}` : `nobody leads ${name}`);
  say(byId("headline"), words.join(" · "));
  document.title = `${words[0] ?? "Quorate"} – Quorate`;
}

function render() {
  if (!latest) return;
  tellHealth(latest);
  if (current() === "cluster") {
    showTiles(byId("tiles"), history, latest);
    showCluster(latest, history);
  } else if (current() === "figures") {
    showPlots(byId("plots"), history, latest);
  }
}

function current() {
  const name = location.hash.slice(1).split("/")[0];
  return PAGES.includes(name) ? name : "cluster";
}

function turnPage() {
  const page = current();
  for (const name of PAGES) byId(`page-${name}`).hidden = name !== page;
  for (const link of document.querySelectorAll("nav.pages a")) {
    link.toggleAttribute("aria-current", link.getAttribute("href") === `#${page}`);
    if (link.hasAttribute("aria-current")) link.setAttribute("aria-current", "page");
  }
  closeClients();
  if (page === "znodes") openZnodes();
  if (page === "keys") openKeys();
  if (page === "clients") openClients();
  render();
}

addEventListener("hashchange", turnPage);
addEventListener("resize", render);
document.addEventListener("visibilitychange", seenOrNot);
setInterval(watch, 1000);
connect();
turnPage();
