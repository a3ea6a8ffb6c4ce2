// The znodes: a tree that is asked for as it is opened, and everything about the one that is chosen. Read-only.

import { byId, make, whole } from "./dom.js";
import { showData } from "./data.js";

let chosen = "/";
let root = null;

export function openZnodes() {
  if (root) return;
  root = item("/", "/", 1, false);
  byId("znode-tree").append(root);
  byId("znode-tree").addEventListener("keydown", onKey);
  byId("znode-form").addEventListener("submit", (event) => {
    event.preventDefault();
    reveal(byId("znode-path").value.trim() || "/");
  });
  root.tabIndex = 0;
  open(root);
  choose(root);
}

async function ask(path) {
  const answer = await fetch(`/dashboard/znodes${path.split("/").map(encodeURIComponent).join("/")}`);
  if (answer.headers.get("content-type") !== "application/json") throw new Error(await answer.text());
  return answer.json();
}

function item(path, name, children, ephemeral) {
  const twist = make("span", { class: "twist", "aria-hidden": "true", text: children ? "▸" : "" });
  const line = make("div", { class: "item" }, twist, make("span", { text: name }),
    make("span", { class: "count", text: ephemeral ? "ephemeral" : children && path !== "/" ? whole(children) : "" }));
  const element = make("li", { role: "treeitem", tabindex: -1, "aria-expanded": children ? "false" : null, "aria-selected": "false" }, line);
  element.path = path;
  line.addEventListener("click", (event) => {
    const toggled = event.target === twist;
    if (toggled && element.getAttribute("aria-expanded") === "true") close(element);
    else if (children) open(element);
    if (!toggled) choose(element);
  });
  return element;
}

/** Opens a branch with the children that it has now. */
async function open(element) {
  const answer = await ask(element.path).catch(() => null);
  if (!answer?.children) return;
  const base = element.path === "/" ? "" : element.path;
  const items = answer.children.map((child) => item(`${base}/${child.name}`, child.name, child.children, child.ephemeral));
  const more = answer.stat.num_children - items.length;
  if (more > 0) items.push(make("li", { class: "soft item", text: `and ${whole(more)} more; type a path` }));
  element.querySelector("ul")?.remove();
  element.append(make("ul", { role: "group" }, ...items));
  setOpen(element, true);
}

function close(element) {
  element.querySelector("ul")?.remove();
  setOpen(element, false);
}

function setOpen(element, isOpen) {
  element.setAttribute("aria-expanded", String(isOpen));
  element.querySelector(".twist").textContent = isOpen ? "▾" : "▸";
}

async function choose(element) {
  for (const other of byId("znode-tree").querySelectorAll("[aria-selected='true']")) other.setAttribute("aria-selected", "false");
  for (const other of byId("znode-tree").querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  element.setAttribute("aria-selected", "true");
  element.tabIndex = 0;
  await show(element.path);
}

/** Opens every branch on the way to a path. */
async function reveal(path) {
  let element = root;
  for (const name of path.split("/").filter(Boolean)) {
    await open(element);
    const next = [...element.querySelectorAll(":scope > ul > li")].find((child) => child.path?.split("/").at(-1) === name);
    if (!next) return show(path);
    element = next;
  }
  await choose(element);
  element.focus();
}

function visible() {
  return [...byId("znode-tree").querySelectorAll("[role='treeitem']")];
}

/** The keys of a tree, as screen readers' users know them. */
function onKey(event) {
  const element = event.target.closest("[role='treeitem']");
  const all = visible();
  const at = all.indexOf(element);
  const isOpen = element?.getAttribute("aria-expanded") === "true";
  const focus = (other) => other?.focus();
  const keys = {
    ArrowDown: () => focus(all[at + 1]), ArrowUp: () => focus(all[at - 1]), Home: () => focus(all[0]), End: () => focus(all.at(-1)),
    ArrowRight: () => (isOpen ? focus(all[at + 1]) : element.hasAttribute("aria-expanded") && open(element)),
    ArrowLeft: () => (isOpen ? close(element) : focus(element.parentElement.closest("[role='treeitem']"))),
    Enter: () => choose(element), " ": () => choose(element),
  };
  if (!element || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

async function show(path) {
  chosen = path;
  byId("znode-path").value = path;
  const place = byId("znode");
  try {
    const znode = await ask(path);
    if (chosen === path) place.replaceChildren(...(znode.error || znode.hidden ? nothing(path, znode) : describe(znode)));
  } catch (error) {
    place.replaceChildren(...nothing(path, { error: error.message }));
  }
}

function nothing(path, { hidden, error }) {
  const why = hidden ? "Its access control list lets not everybody read it, and who looks at this page has proven nothing." : error;
  return [make("h2", { class: "mono", text: path }), make("p", { class: "soft", text: why })];
}

function describe(znode) {
  const { stat, holder } = znode;
  const moment = (ms) => (ms ? new Date(ms).toLocaleString() : "–");
  const facts = [
    ["Version", `${stat.version} of the data, ${stat.cversion} of the children, ${stat.aversion} of the list`],
    ["Created", `${moment(stat.ctime)}, zxid ${stat.czxid}`], ["Changed", `${moment(stat.mtime)}, zxid ${stat.mzxid}`],
    ["Children", `${whole(stat.num_children)}, last change zxid ${stat.pzxid}; ${whole(znode.descendants)} znodes below`],
    ["Ephemeral", holder ? `held by session ${holder.session} at n${holder.server}` : "no"],
    ["May", znode.acl.map((entry) => `${entry.scheme}:${entry.id} ${entry.perms}`).join(", ")],
    ["Watches here", znode.watches.map((watch) => `${watch.kind}${watch.session ? ` by ${watch.session}` : ""}`).join(", ") || "none"],
  ];
  return [
    make("h2", { class: "mono", text: znode.path }),
    make("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [make("dt", { text: name }), make("dd", { text: value })])),
    ...showData(znode.data, znode.data_bytes),
  ];
}
