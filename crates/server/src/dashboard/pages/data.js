// Bytes that somebody stored, as text, as JSON if they are, and as numbers.

import { bytes, make, say } from "./dom.js";

/** The form that the reader chose last. */
let form = "text";

/** What there is in base64, `size` bytes of which may be more than are shown; null is no data. */
export function showData(base64, size) {
  const raw = Uint8Array.from(atob(base64 ?? ""), (letter) => letter.charCodeAt(0));
  const forms = { text: new TextDecoder().decode(raw), hex: hexdump(raw) };
  const json = asJson(forms.text);
  if (json) forms.json = json;
  if (!forms[form]) form = "text";
  const data = make("pre", { tabindex: 0 });
  const buttons = Object.keys(forms).sort().map((name) => make("button", { type: "button", text: name, click: () => turn(name) }));
  const turn = (name) => {
    form = name;
    data.className = `data mono ${name}`;
    say(data, forms[name] || "(empty)");
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === name)));
  };
  turn(json && form === "text" ? "json" : form);
  const cut = raw.length < size ? `, the first ${bytes(raw.length)} are shown` : "";
  const words = base64 === null ? "no data (null)" : `${bytes(size)} of data${cut}`;
  return [make("div", { class: "bar" }, make("h3", { text: words }), ...buttons), data];
}

function asJson(text) {
  if (!/^\s*[{[]/.test(text)) return null;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

/** Sixteen bytes a line: offset, numbers, letters. */
function hexdump(raw) {
  const lines = [];
  for (let at = 0; at < raw.length; at += 16) {
    const row = [...raw.subarray(at, at + 16)];
    const numbers = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(48);
    lines.push(`${at.toString(16).padStart(6, "0")}  ${numbers} ${row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("")}`);
  }
  return lines.join("\n");
}
