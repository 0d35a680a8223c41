// Makes elements. Text goes in as text: nothing here, or anywhere on this page, is read as HTML.

import { say, translate } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

export const find = (id) => document.getElementById(id);

/** An element with attributes (`onclick` and its like are listeners) and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** One of the symbols at the top of index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows an icon and is called by a word. */
export function iconButton(name, word, onclick, attributes = {}) {
  const button = make(
    "button",
    { type: "button", class: "button bare icon", "data-say-label": word, onclick, ...attributes },
    icon(name),
  );
  translate(button);
  return button;
}

/** Put text on the clipboard; the button that was pressed says for a moment that it is there. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // pages without TLS have no clipboard of their own
  }
  const use = button.querySelector("use");
  const before = use.getAttribute("href");
  if (before === "#i-check") return;
  use.setAttribute("href", "#i-check");
  announce(say("copied"));
  setTimeout(() => use.setAttribute("href", before), 1500);
}

/** Tell those who listen rather than look. */
export function announce(text) {
  find("told").textContent = text;
}

function copyBySelection(text) {
  const area = make("textarea", { class: "unseen" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
