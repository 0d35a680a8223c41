// The client's key: asked for when the relay says 401, kept in session storage, gone with the tab.

import { find } from "./elements.js";
import { Failure, call } from "./stream.js";
import { say } from "./words.js";

const KEPT = "relay-key";

export class Key {
  constructor() {
    this.asking = null;
    this.open = false; // whether the relay has said that it needs no key
    find("keys").addEventListener("submit", () => {
      const value = find("key").value.trim();
      if (value) sessionStorage.setItem(KEPT, value);
    });
  }

  get value() {
    return sessionStorage.getItem(KEPT);
  }

  forget() {
    sessionStorage.removeItem(KEPT);
  }

  /** Do it with the key; when that is missing or wrong, ask for one and do it again. */
  async using(act) {
    for (;;) {
      const tried = this.value;
      try {
        // Trying without one would be an error in the browser's console.
        if (tried === null && (await this.#needed())) throw new Failure(say("keyAsked"), { status: 401 });
        return await act(tried);
      } catch (error) {
        if (!(error instanceof Failure) || error.status !== 401) throw error;
        // Somebody else may have asked meanwhile.
        if (this.value === tried && !(await this.#ask(tried !== null))) throw error;
      }
    }
  }

  /** One request of the API. */
  call(path, options = {}) {
    return this.using((key) => call(path, { ...options, key }));
  }

  async #needed() {
    try {
      this.open ||= !(await (await fetch("/readyz")).json()).needs_key;
    } catch {
      return false; // nobody is there: what is asked for will find that out
    }
    return !this.open;
  }

  /** Whether there is a new one. Two who ask at once are given the same answer. */
  #ask(wrong) {
    this.asking ??= new Promise((resolve) => {
      const dialog = find("keys-dialog");
      this.forget();
      find("key").value = "";
      find("key-wrong").hidden = !wrong;
      dialog.showModal();
      const close = () => {
        this.asking = null;
        find("key").value = "";
        resolve(this.value !== null);
      };
      dialog.addEventListener("close", close, { once: true });
    });
    return this.asking;
  }
}
