// The keys: found among hundreds, made, changed, rotated, revoked.

import { ask } from "./api.js";
import { badge, button, cells, find, make, nothing, table } from "./elements.js";
import { count, exact, moment, usd } from "./format.js";
import { askKey, askRevoke, askRotate } from "./key_dialogs.js";
import { renew } from "../renew.js";
import { say } from "./words.js";

const PAGE = 20;
const HEADS = [["name", ""], ["prefix", ""], ["state", ""], ["team", ""], ["models", ""], ["limits", ""], ["lastUsed", ""], ["actions", ""]];
const KINDS = { active: "good", expired: "warn", revoked: "" };

let keys = [];
let teams = [];
let first = 0;

export function startKeys() {
  find("keys-search").addEventListener("input", again);
  find("keys-state").addEventListener("change", again);
  find("keys-new").addEventListener("click", async () => {
    const groups = await ask("teams"); // the list may not be there yet, nor know the newest
    if (await askKey(null, groups.data)) await showKeys();
  });
}

/** Ask for all of them: a name is looked for here. */
export async function showKeys() {
  const [all, groups] = await Promise.all([ask("keys", { query: { revoked: true } }), ask("teams")]);
  keys = all.data.sort((one, other) => other.created_at - one.created_at);
  teams = groups.data;
  showPage();
}

function again() {
  first = 0;
  showPage();
}

const teamOf = (key) => teams.find((team) => team.id === key.team)?.name ?? key.team ?? "";

function showPage() {
  const text = find("keys-search").value.trim().toLowerCase();
  const state = find("keys-state").value;
  const found = keys.filter((key) =>
    (state === "all" || (state === "usable" ? key.status !== "revoked" : key.status === state))
    && [key.name, key.prefix, key.id, teamOf(key)].some((one) => one.toLowerCase().includes(text)));
  if (first >= found.length) first = 0;
  const some = found.slice(first, first + PAGE);
  if (!some.length) {
    renew(find("keys-list"), [nothing(say(keys.length ? "keysNoneFound" : "keysNone"))], () => find("keys-search"));
    return;
  }
  const values = { from: first + 1, to: first + some.length, count: found.length };
  const move = (by) => () => {
    first += by;
    showPage();
  };
  // After the last page forwards is the way back; after a key that is gone, the search.
  const next = (had) => (had.closest(".pages") && find("keys-list").querySelector(".pages button:enabled")) || find("keys-search");
  renew(find("keys-list"), [
    table(say("keys"), HEADS, some.map(row)),
    make("p", { class: "row pages" },
      button("previous", move(-PAGE), { disabled: first === 0 }),
      make("span", { role: "status" }, say("page", values)),
      button("next", move(PAGE), { disabled: first + PAGE >= found.length })),
  ], next);
}

function row(key) {
  const usable = key.status !== "revoked";
  const act = (word, dialog, kind = "") => button(word, async () => (await dialog(key, teams)) && showKeys(), {
    class: `button bare small ${kind}`, "aria-label": `${say(word)}: ${key.name}`, "data-act": word,
  });
  const state = key.previous_until && key.previous_until * 1000 > Date.now() && usable
    ? make("span", { class: "faint small" }, say("previousUntil", { time: moment(key.previous_until) })) : null;
  return make("tr", { "data-key": key.id }, cells(HEADS, [
    make("span", {}, key.name, state ? make("br") : null, state),
    make("code", {}, `${key.prefix}…`),
    badge(say(key.status), KINDS[key.status]),
    teamOf(key) || "–",
    key.models ? key.models.join(", ") : say("all"),
    limits(key),
    moment(key.last_used_at),
    make("span", { class: "acts" }, usable
      ? [act("change", askKey), act("rotate", askRotate), act("revoke", askRevoke, "danger")] : "–"),
  ]));
}

/** What holds a key or team, in a line. */
export function limits(one) {
  const said = [
    one.rpm && `${count(one.rpm)} ${say("rpm")}`,
    one.tpm && `${count(one.tpm)} ${say("tpm")}`,
    one.parallel && `${exact(one.parallel)} ${say("parallel")}`,
    one.budget_usd !== null && `${budget(one)} / ${say(one.budget_window === "total" ? "totalWindow" : one.budget_window)}`,
  ].filter(Boolean);
  return said.join(" · ") || say("unlimited");
}

/** A budget, and what is spent of it as far as the ledger can tell just now. */
function budget(one) {
  const most = usd(one.budget_usd);
  return one.spent_usd === null ? most : say("spentOf", { spent: usd(one.spent_usd), budget: most });
}
