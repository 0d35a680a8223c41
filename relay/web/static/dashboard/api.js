// The admin API. The key is asked for once, kept in session storage, and gone with the tab.

import { find } from "./elements.js";

const KEPT = "relay-admin-key";

/** What the relay refused: `status`, `param`, and its own words. */
export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.param = error?.param ?? null;
  }
}

export const hasKey = () => sessionStorage.getItem(KEPT) !== null;

export function forgetKey() {
  sessionStorage.removeItem(KEPT);
  location.reload();
}

/** Ask for the key until one is taken. */
export function askForKey() {
  const form = find("entrance");
  form.hidden = false;
  find("dashboard").hidden = true;
  find("admin-key").focus();
  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEPT, find("admin-key").value.trim());
      try {
        await ask("mode");
      } catch (error) {
        sessionStorage.removeItem(KEPT);
        const wrong = find("key-wrong");
        wrong.hidden = false;
        if (!(error instanceof Refused) || error.status !== 401) wrong.textContent = error.message;
        find("admin-key").select();
        return;
      }
      find("admin-key").value = "";
      form.hidden = true;
      find("dashboard").hidden = false;
      resolve();
    };
  });
}

/** One call: `ask("usage", { query: {…} })`, `ask("keys", { method: "POST", body: {…} })`. */
export async function ask(path, { method = "GET", query = {}, body } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const asked = given.length ? `?${new URLSearchParams(given)}` : "";
  const response = await fetch(`/admin/${path}${asked}`, {
    method,
    headers: { authorization: `Bearer ${sessionStorage.getItem(KEPT) ?? ""}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    cache: "no-store",
  });
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw new Refused(response.status, answer?.error);
}
