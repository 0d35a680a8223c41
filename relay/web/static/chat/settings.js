// The drawer: how a conversation's questions are asked. What is empty is not sent at all.

import { closeByClickBeside, notice, toggle } from "./dialogs.js";
import { find } from "./elements.js";
import { say } from "./words.js";

const KEPT = "relay-settings";
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty"];
export const FIELDS = ["system", "stop", ...NUMBERS];

export class Settings {
  /** `onChange(settings)` hears of every change, `onForget()` of the key to be forgotten. */
  constructor(key, { onChange, onForget }) {
    this.dialog = find("settings");
    this.form = find("settings-form");
    this.key = key;
    this.shown = {};
    closeByClickBeside(this.dialog);
    this.form.addEventListener("input", () => {
      this.shown = { ...this.shown, ...this.#read() };
      onChange(this.shown);
    });
    find("settings-reset").addEventListener("click", () => {
      this.show({ model: this.shown.model });
      onChange(this.shown);
    });
    find("settings-usual").addEventListener("click", () => {
      localStorage.setItem(KEPT, JSON.stringify(this.shown));
      notice(say("settingsUsualDone"));
    });
    find("forget").addEventListener("click", () => {
      key.forget();
      this.dialog.close();
      onForget();
    });
  }

  toggle() {
    find("forget").hidden = this.key.value === null;
    toggle(this.dialog);
  }

  /** Those of the conversation that is looked at. */
  show(settings) {
    this.shown = settings;
    for (const name of FIELDS) this.form.elements[name].value = settings[name] ?? "";
  }

  #read() {
    const read = {};
    for (const name of FIELDS) {
      const { value, validity } = this.form.elements[name];
      read[name] = validity.valid ? value : "";
    }
    return read;
  }
}

/** What a new conversation begins with; `model` is the one that was picked last. */
export function usualSettings(model) {
  try {
    return { ...JSON.parse(localStorage.getItem(KEPT)), ...(model ? { model } : {}) };
  } catch {
    return { model };
  }
}

/** The fields of a request that the settings ask for, beside its messages. */
export function requestFields(settings) {
  const fields = {};
  for (const name of NUMBERS) {
    const number = Number.parseFloat(settings[name]);
    if (Number.isFinite(number)) fields[name] = number;
  }
  const stop = (settings.stop ?? "").split("\n").filter((line) => line !== "");
  if (stop.length) fields.stop = stop;
  return fields;
}
