// The picker of models, from GET /v1/models; a name that is in no list can be typed.

import { prompt } from "./dialogs.js";
import { make } from "./elements.js";
import { say } from "./words.js";

const OTHER = "\u0000other";

export class Models {
  /** `onPick` hears of a model that the reader chose. */
  constructor(select, key, onPick) {
    this.select = select;
    this.key = key;
    this.onPick = onPick;
    this.names = [];
    this.wanted = "";
    this.loading = null; // who asks too early waits for it
    select.addEventListener("change", () => this.#change());
    document.addEventListener("languagechange", () => this.#show());
  }

  /** The model that is asked. */
  get name() {
    return this.wanted || this.names[0] || "";
  }

  want(name) {
    this.wanted = name ?? "";
    this.#show();
  }

  /** Ask for the list; returns what went wrong, or null. */
  load() {
    this.loading = this.#load();
    return this.loading;
  }

  async #load() {
    try {
      const list = await (await this.key.call("/v1/models")).json();
      this.names = (list.data ?? []).map((model) => model.id).filter((id) => typeof id === "string");
      return null;
    } catch (error) {
      return error;
    } finally {
      this.#show();
    }
  }

  #show() {
    const known = this.wanted && !this.names.includes(this.wanted) ? [this.wanted, ...this.names] : this.names;
    const options = known.map((name) => make("option", { value: name, selected: name === this.name }, name));
    if (!known.length) options.push(make("option", { value: "" }, say("modelsNone")));
    options.push(make("option", { value: OTHER }, say("modelOther")));
    this.select.replaceChildren(...options);
    this.select.value = this.name;
    this.select.title = this.name; // long names are cut
  }

  async #change() {
    const picked = this.select.value === OTHER ? await prompt(say("modelName"), this.wanted) : this.select.value;
    if (picked) {
      this.want(picked);
      this.onPick(picked);
    } else {
      this.#show();
    }
  }
}
