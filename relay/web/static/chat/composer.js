// Where one writes. Enter sends, Shift+Enter begins a line; an input method's Enter does neither.

import { find } from "./elements.js";
import { Pictures } from "./pictures.js";

export class Composer {
  /** `onSend(text, images)`, `onStop()`, `onEditLast()`. */
  constructor({ onSend, onStop, onEditLast }) {
    this.field = find("query");
    this.pictures = new Pictures(find("pictures"));
    this.busy = false;
    this.onSend = onSend;
    find("chat").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    find("stop").addEventListener("click", onStop);
    this.field.addEventListener("input", () => grow(this.field));
    this.field.addEventListener("keydown", (event) => {
      if (sends(event)) {
        event.preventDefault();
        this.#send();
      } else if (event.key === "ArrowUp" && this.field.value === "") {
        event.preventDefault();
        onEditLast();
      }
    });
    this.#takeFiles();
  }

  /** Whether an answer is on its way here: it can be stopped then. */
  show(busy) {
    this.busy = busy;
    const focused = document.activeElement;
    find("send").hidden = busy;
    find("stop").hidden = !busy;
    if (focused === find("send") || focused === find("stop")) this.field.focus();
  }

  write(text) {
    this.field.value = text;
    grow(this.field);
    this.field.focus();
  }

  #send() {
    const text = this.field.value.trim();
    if (this.busy || (text === "" && this.pictures.urls.length === 0)) return;
    this.onSend(text, this.pictures.take());
    this.field.value = "";
    grow(this.field);
  }

  #takeFiles() {
    const files = (transfer) => [...(transfer?.files ?? [])];
    const take = (event, transfer) => {
      if (!files(transfer).length) return;
      event.preventDefault();
      this.pictures.add(files(transfer));
    };
    this.field.addEventListener("paste", (event) => take(event, event.clipboardData));
    document.addEventListener("dragover", (event) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    });
    document.addEventListener("drop", (event) => take(event, event.dataTransfer));
    find("attach").addEventListener("click", () => find("file").click());
    find("file").addEventListener("change", async () => {
      await this.pictures.add([...find("file").files]);
      find("file").value = "";
      this.field.focus();
    });
  }
}

/** Whether that key sends what is written. */
export const sends = (event) =>
  event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;

/** As high as its text. */
export function grow(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}
