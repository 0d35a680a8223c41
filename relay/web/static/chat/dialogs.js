// Small questions, each a <dialog>: the browser keeps the focus in it and closes it on Escape.

import { find, make } from "./elements.js";
import { say, translate } from "./words.js";

/** Whether the reader agrees. */
export async function confirm(question, word) {
  const body = [make("p", {}, question)];
  return (await open(body, word, "danger")) !== null;
}

/** A line of text from the reader; null when there is none. */
export async function prompt(question, value = "") {
  const field = make("input", { class: "field", value, "aria-label": question, autocomplete: "off" });
  const answer = await open([make("h2", {}, question), field], "save", "main");
  return answer === null ? null : field.value.trim() || null;
}

function open(body, word, kind) {
  const cancel = make("button", { type: "button", class: "button", "data-say": "cancel" });
  const agree = make("button", { class: `button ${kind}`, value: "yes" }, say(word));
  const form = make("form", { method: "dialog" }, ...body, make("p", { class: "row end" }, cancel, agree));
  const dialog = make("dialog", { class: "small" }, form);
  cancel.addEventListener("click", () => dialog.close(""));
  translate(dialog);
  find("asked").append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? "yes" : null);
    });
  });
}

/** Open a dialog of the page, or close it. */
export function toggle(dialog) {
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

/** A click beside a dialog closes it. */
export function closeByClickBeside(dialog) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

/** Say something that goes by itself. */
export function notice(text, bad = false) {
  const line = make("p", { class: bad ? "notice bad" : "notice" }, text);
  find("notices").append(line);
  setTimeout(() => line.remove(), 6000);
}
