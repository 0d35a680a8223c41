// Makes elements. Text goes in as text: nothing on this page is ever read as HTML.

import { say } from "./words.js";

export const find = (id) => document.getElementById(id);

/** An element with attributes (`onclick` and its like are listeners) and children. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function button(word, onclick, attributes = {}) {
  return make("button", { type: "button", class: "button", onclick, ...attributes }, say(word));
}

export function badge(text, kind = "") {
  return make("span", { class: `badge ${kind}` }, text);
}

/** A table; `heads` are [word, "number" or "", whether it is a name as it stands], rows are lists of cells or whole <tr>s. */
export function table(label, heads, rows) {
  const head = heads.map(([word, kind, name]) => make("th", { scope: "col", class: kind }, name ? word : say(word)));
  const body = rows.map((row) => Array.isArray(row) ? make("tr", {}, cells(heads, row)) : row);
  return make(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, // so that the arrow keys move it
    make("table", { "aria-label": label }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, body)),
  );
}

/** The first cell of a row names it; the others tell their heads, for where a row is a card. */
export function cells(heads, row) {
  return row.map((cell, place) => {
    const [word, kind, name] = heads[place];
    return place
      ? make("td", { class: kind, "data-head": name ? word : say(word) }, cell)
      : make("th", { scope: "row", class: kind }, cell);
  });
}

/** Something with a heading that stands where figures would be. */
export function nothing(title, hint) {
  return make("div", { class: "nothing" }, make("p", { class: "large" }, title), hint ? make("p", {}, hint) : null);
}

/** Tell everybody, in words that go away by themselves. */
export function announce(text, kind = "") {
  const note = make("p", { class: `notice ${kind}` }, text);
  find("notices").replaceChildren(note);
  setTimeout(() => note.remove(), 6000);
}

/** Put text on the clipboard; pages without TLS have none of their own. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { class: "unseen" });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
