// What keys do wherever one is, and the list that says so.

import { closeByClickBeside, toggle } from "./dialogs.js";
import { find, make } from "./elements.js";
import { say } from "./words.js";

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const CONTROL = MAC ? "⌘" : "Ctrl";

const SHORTCUTS = [
  ["Enter", "keysSend"],
  ["Shift Enter", "keysLine"],
  ["Esc", "keysStop"],
  ["↑", "keysLast"],
  ["/", "keysWrite"],
  [`${CONTROL} K`, "keysSearch"],
  [`${CONTROL} Shift O`, "keysNew"],
  [`${CONTROL} .`, "keysSettings"],
  [`${CONTROL} /`, "keysHelp"],
];

/** Listen. `acts`: search, create, settings, stop (whether there was something to stop). */
export function listen(acts) {
  const help = find("shortcuts");
  closeByClickBeside(help);
  find("shortcuts-open").addEventListener("click", () => toggle(help));
  document.addEventListener("languagechange", list);
  list();

  const withControl = {
    k: acts.search,
    o: (event) => event.shiftKey && acts.create(),
    ".": acts.settings,
    "/": () => toggle(help),
  };
  document.addEventListener("keydown", (event) => {
    const inDialog = event.target.closest?.("dialog") !== null;
    const control = MAC ? event.metaKey : event.ctrlKey;
    const act = control && !event.altKey ? withControl[event.key.toLowerCase()] : null;
    if (act && !(event.key.toLowerCase() === "o" && !event.shiftKey)) {
      event.preventDefault();
      if (!inDialog || event.key === "." || event.key === "/") act(event);
    } else if (event.key === "Escape" && !inDialog) {
      acts.stop();
    } else if (event.key === "/" && !inDialog && !control && !writes(event.target)) {
      event.preventDefault();
      find("query").focus();
    }
  });
}

const writes = (element) => element.matches?.("input, textarea, select");

function list() {
  const rows = SHORTCUTS.flatMap(([keys, word]) => [
    make("dt", {}, ...keys.split(" ").map((key) => make("kbd", {}, key))),
    make("dd", {}, say(word)),
  ]);
  find("shortcuts-list").replaceChildren(...rows);
}
