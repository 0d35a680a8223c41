// The client's key: asked for when the relay says 401, kept in session storage, gone with the tab.

import { find } from "./elements.js";
import { Failure, call } from "./stream.js";

const KEPT = "relay-key";

export class Key {
  constructor() {
    this.asking = null;
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
