// A block of code: its language, a button that copies it, the text itself.

import { copy, iconButton, make } from "./elements.js";

export function codeBlock(text, language) {
  const code = make("code", {}, text);
  const button = iconButton("copy", "copyCode", () => copy(code.textContent, button));
  const head = make("figcaption", {}, make("span", {}, language), button);
  return make("figure", { class: "code" }, head, make("pre", { tabindex: "0" }, code));
}
