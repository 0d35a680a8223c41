// The keys: found among thousands, made, changed, rotated, revoked.

import { ask } from "./api.js";
import { badge, button, cells, find, make, nothing, table } from "./elements.js";
import { count, exact, moment, usd } from "./format.js";
import { askKey, askRevoke, askRotate } from "./key_dialogs.js";
import { renew } from "../renew.js";
import { say } from "./words.js";

const PAGE = 20;
const HEADS = [["name", ""], ["prefix", ""], ["state", ""], ["team", ""], ["models", ""], ["limits", ""], ["lastUsed", ""], ["actions", ""]];
const KINDS = { active: "good", expired: "warn", revoked: "" };

const TYPING_MS = 200; // after the last letter the relay is asked

let teams = [];
let begins = [null]; // behind which key each page begins, up to the one that is shown
let turn = 0;
let typing = 0;

export function startKeys() {
  find("keys-search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(again, TYPING_MS);
  });
  find("keys-state").addEventListener("change", again);
  find("keys-new").addEventListener("click", async () => {
    const groups = await ask("teams"); // the list may not be there yet, nor know the newest
    if (await askKey(null, groups.data)) await again();
  });
}

/** Ask for the page anew: the relay looks for what was typed, and sends twenty of however many there are. */
export async function showKeys() {
  const mine = ++turn;
  const text = find("keys-search").value.trim();
  const state = find("keys-state").value;
  const only = { usable: {}, all: { revoked: true } }[state] ?? { status: state };
  const query = { limit: PAGE, order: "desc", after: begins.at(-1), q: text || null, ...only };
  const [page, groups] = await Promise.all([ask("keys", { query }), ask("teams")]);
  if (mine !== turn) return undefined;
  if (!page.data.length && begins.length > 1) { // its last key is gone
    begins = begins.slice(0, -1);
    return showKeys();
  }
  teams = groups.data;
  return showPage(page, text || state !== "usable");
}

function again() {
  begins = [null];
  return showKeys();
}

const teamOf = (key) => teams.find((team) => team.id === key.team)?.name ?? key.team ?? "";

function showPage(page, sought) {
  const here = begins; // pressed twice in a hurry, a button leads where it led
  const first = (here.length - 1) * PAGE;
  if (!page.data.length) {
    renew(find("keys-list"), [nothing(say(sought ? "keysNoneFound" : "keysNone"))], () => find("keys-search"));
    return;
  }
  const last = first + page.data.length;
  const turnTo = (place) => () => {
    begins = place;
    return showKeys();
  };
  // After the last page forwards is the way back; after a key that is gone, the search.
  const next = (had) => (had.closest(".pages") && find("keys-list").querySelector(".pages button:enabled")) || find("keys-search");
  renew(find("keys-list"), [
    table(say("keys"), HEADS, page.data.map(row)),
    make("p", { class: "row pages" },
      button("previous", turnTo(here.slice(0, -1)), { disabled: first === 0 }),
      make("span", { role: "status" }, say(page.has_more ? "pagePart" : "page", { from: first + 1, to: last, count: last })),
      button("next", turnTo([...here, page.last_id]), { disabled: !page.has_more })),
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
