// What asks before a key is made, changed, rotated or revoked, and shows a new one, once.

import { ask } from "./api.js";
import { announce, button, copy, make } from "./elements.js";
import { say } from "./words.js";

const WINDOWS = ["total", "day", "week", "month"];
const GRACE = { graceNone: 0, graceHour: 3600, graceDay: 86400, graceWeek: 604800 };

/** Make a key, or change that one; whether it was done. */
export function askKey(key, teams) {
  const value = (name) => (key === null ? "" : key[name] ?? "");
  const list = (name) => (key?.[name] ?? []).join(", ");
  const options = (values, chosen) => values.map(([one, shown]) => make("option", { value: one, selected: one === chosen }, shown));
  const at = key?.expires_at ? new Date(key.expires_at * 1000 - new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 16) : "";
  const fields = make("div", { class: "fields" },
    field("name", make("input", { name: "name", required: true, maxlength: 100, value: value("name"), autofocus: true }), "wide"),
    field("models", make("input", { name: "models", value: list("models"), placeholder: say("modelsHint") }), "wide"),
    field("rpm", number("rpm", value("rpm"), 1)),
    field("tpm", number("tpm", value("tpm"), 1)),
    field("parallelLimit", number("parallel", value("parallel"), 1)),
    field("budgetUsd", number("budget_usd", value("budget_usd"), 0, "any")),
    field("window", make("select", { name: "budget_window" }, options(WINDOWS.map((one) => [one, say(one === "total" ? "totalWindow" : one)]), value("budget_window") || "total"))),
    field("team", make("select", { name: "team" }, options([["", say("none")], ...teams.map((team) => [team.id, team.name])], value("team")))),
    field("expires", make("input", { name: "expires_at", type: "datetime-local", value: at }), "wide"),
    field("origins", make("input", { name: "origins", value: list("origins"), placeholder: say("originsHint") }), "wide"));
  return dialog(key ? say("editKey", { name: key.name }) : say("create"), fields, key ? "save" : "createIt", async (form) => {
    const body = read(form, key !== null);
    const made = await ask(key ? `keys/${encodeURIComponent(key.id)}` : "keys", { method: key ? "PATCH" : "POST", body });
    if (key) announce(say("saved"), "good");
    else return () => showOnce(made);
  });
}

/** Another key in its place; whether that was done. */
export function askRotate(key) {
  const grace = make("select", { name: "grace" }, Object.entries(GRACE).map(([word, seconds]) => make("option", { value: seconds }, say(word))));
  const body = make("div", { class: "fields" }, make("p", { class: "wide" }, say("rotateAsk", { name: key.name })), field("grace", grace, "wide"));
  return dialog(say("rotate"), body, "rotateIt", async () => {
    const made = await ask(`keys/${encodeURIComponent(key.id)}/rotate`, { method: "POST", body: { grace_s: Number(grace.value) } });
    return () => showOnce(made);
  });
}

/** End it; whether that was done. */
export function askRevoke(key) {
  return dialog(say("revoke"), make("p", {}, say("revokeAsk", { name: key.name })), "revoke", async () => {
    await ask(`keys/${encodeURIComponent(key.id)}`, { method: "DELETE" });
  }, "danger");
}

function showOnce(made) {
  const shown = make("input", { class: "field key", readonly: true, value: made.key, "aria-label": say("prefix"), id: "made-key" });
  const taken = make("span", { role: "status", class: "small" });
  const take = button("copy", async () => {
    await copy(made.key);
    taken.textContent = say("copied");
  });
  return dialog(say("createdKey", { name: made.name }),
    make("div", {}, make("p", { class: "badge warn once" }, say("keyLost")), make("p", { class: "row" }, shown, take), taken), null, null);
}

function field(word, input, kind = "") {
  input.classList.add("field");
  return make("label", { class: kind }, make("span", {}, say(word)), input);
}

function number(name, value, min, step = 1) {
  return make("input", { name, type: "number", min, step, value, placeholder: say("unlimited") });
}

/** What the form says: what is empty is not limited, which a change has to say. */
function read(form, all) {
  const given = Object.fromEntries(new FormData(form));
  const lists = (text) => (text.trim() ? text.split(",").map((one) => one.trim()).filter(Boolean) : null);
  const numbers = (text) => (text === "" ? null : Number(text));
  const body = {
    name: given.name.trim(), models: lists(given.models), rpm: numbers(given.rpm), tpm: numbers(given.tpm),
    parallel: numbers(given.parallel), budget_usd: numbers(given.budget_usd), budget_window: given.budget_window,
    team: given.team || null, expires_at: given.expires_at ? new Date(given.expires_at).toISOString() : null, origins: lists(given.origins),
  };
  if (all) return body;
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null));
}

/** A dialog; `act` does it when it is confirmed, and may give what comes afterwards. */
function dialog(title, content, word, act, kind = "main") {
  const wrong = make("p", { class: "wrong", role: "alert", hidden: true });
  const heading = make("h2", { id: "dialog-title" }, title);
  const confirm = word && make("button", { class: `button ${kind}` }, say(word));
  const element = make("dialog", { "aria-labelledby": "dialog-title" });
  const leave = button(word ? "cancel" : "close", () => end());
  const form = make("form", {}, heading, content, wrong, make("p", { class: "row end" }, leave, confirm));
  let doing = null; // what was confirmed, on its way
  let resolve;
  const done = new Promise((one) => (resolve = one));

  /** Out of the page at once, a key that it shows too: the event `close` would come later. */
  async function end() {
    if (!element.isConnected) return;
    element.close(); // gives the focus back
    element.remove();
    try {
      // Who left before the answer sees the key that was made all the same.
      const next = await doing;
      await next?.();
      resolve(doing !== null);
    } catch {
      resolve(false);
    }
  }

  async function submit(event) {
    event.preventDefault();
    if (!act || confirm.disabled) return;
    confirm.disabled = true;
    wrong.hidden = true;
    for (const field of form.elements) field.removeAttribute("aria-invalid");
    try {
      doing = act(form);
      await doing;
      end();
    } catch (error) {
      doing = null;
      show(error);
    }
    confirm.disabled = false;
  }

  function show(error) {
    if (!element.isConnected) return announce(error.message, "bad");
    wrong.textContent = error.message;
    wrong.hidden = false;
    const field = error.param && form.elements.namedItem(error.param.split(/[.[]/)[0]);
    field?.setAttribute?.("aria-invalid", "true");
    field?.focus?.();
  }

  form.addEventListener("submit", submit);
  element.addEventListener("cancel", (event) => {
    event.preventDefault();
    end();
  });
  element.addEventListener("close", end); // what no `cancel` came before
  element.append(form);
  document.body.append(element);
  element.showModal();
  return done;
}
