// A block of code: its language, a button that copies it, the text itself.

import { coloured } from "./colour.js";
import { copy, iconButton, make } from "./elements.js";

/** `closed`: it grows no more, so it is worth its colours. */
export function codeBlock(text, language, closed) {
  const code = make("code");
  fill(code, text, language, closed);
  const button = iconButton("copy", "copyCode", () => copy(code.textContent, button));
  const head = make("figcaption", {}, make("span", {}, language), button);
  return make("figure", { class: "code" }, head, make("pre", { tabindex: "0" }, code));
}

export function fill(code, text, language, closed) {
  const colours = closed ? coloured(text, language) : null;
  const known = code.childNodes.length === 1 ? code.firstChild.data : "";
  if (!colours && known && text.startsWith(known)) code.firstChild.appendData(text.slice(known.length));
  else code.replaceChildren(...(colours ?? [text]));
}
