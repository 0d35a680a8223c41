// The latest requests, one by one, and what each went through.

import { ask } from "./api.js";
import { badge, button, cells, find, make, nothing, table } from "./elements.js";
import { duration, exact, moment, usd } from "./format.js";
import { renew } from "../renew.js";
import { known } from "./usage.js";
import { say } from "./words.js";

const PAGE = 50;
const HEADS = [["moment", ""], ["caller", ""], ["served", ""], ["upstream", ""], ["status", ""], ["attempts", "number"],
  ["tokens", "number"], ["cost", "number"], ["firstToken", "number"], ["latency", "number"]];

let rows = [];
let before = null;
let turn = 0;

export function startRequests() {
  for (const id of ["requests-key", "requests-model", "requests-status"]) {
    find(id).addEventListener("change", () => showRequests());
  }
}

/** The first page anew, with the choices there are now. */
export async function showRequests({ choices = false } = {}) {
  rows = [];
  before = null;
  if (choices) {
    await Promise.all([offer("requests-key", "anyKey", "key"), offer("requests-model", "anyModel", "model")]);
  }
  await more();
}

async function offer(id, word, by) {
  const select = find(id);
  const chosen = select.value;
  const found = await known(by);
  select.replaceChildren(
    make("option", { value: "" }, say(word)),
    ...found.map((one) => make("option", { value: one.id, selected: one.id === chosen }, one.name)),
  );
}

async function more() {
  const mine = ++turn;
  const value = (id) => find(id).value || null;
  const page = await ask("requests", {
    query: { limit: PAGE, before, key: value("requests-key"), model: value("requests-model"), status: value("requests-status") },
  });
  if (mine !== turn) return;
  rows.push(...page.data);
  before = page.next_before;
  show();
}

function show() {
  const list = rows.length ? table(say("requests"), HEADS, rows.flatMap(lines)) : nothing(say("requestsNone"));
  const far = before !== null && rows.at(-1)?.at !== before;
  renew(find("requests-list"), [
    list,
    make("p", { class: "row pages" },
      before === null ? (rows.length ? make("span", { class: "faint" }, say("ended")) : null) : button("more", more),
      far ? make("span", { class: "faint", role: "status" }, say("searchedTo", { time: moment(before) })) : null),
  ], () => [...find("requests-list").querySelectorAll("[data-request] button")].at(-1));
}

function lines(one) {
  const detail = make("tr", { class: "detail", hidden: true }, make("td", { colspan: HEADS.length }, details(one)));
  const toggle = make("button", {
    type: "button", class: "link", "aria-expanded": "false",
    onclick: () => {
      detail.hidden = !detail.hidden;
      toggle.setAttribute("aria-expanded", String(!detail.hidden));
    },
  }, moment(one.at));
  const tokens = (one.prompt_tokens ?? 0) + (one.completion_tokens ?? 0);
  const bad = one.status >= 400 || one.error;
  return [
    make("tr", { "data-request": one.request_id }, cells(HEADS, [
      toggle, one.caller || say("nobody"), one.model_served || one.model_asked || "–", one.upstream || "–",
      badge(one.error && one.status < 400 ? `${one.status} !` : String(one.status), bad ? "bad" : "good"),
      one.attempts > 1 ? badge(String(one.attempts), "warn") : String(one.attempts),
      one.prompt_tokens === null && one.completion_tokens === null ? "–" : exact(tokens),
      one.cost_usd === null ? "–" : usd(one.cost_usd), duration(one.first_token_s), duration(one.duration_s),
    ])),
    detail,
  ];
}

function details(one) {
  const lost = one.lost_attempts ? `, ${say("attemptsLost", { count: one.lost_attempts })}` : "";
  const parts = [
    ["request", one.request_id], ["path", one.path], ["asked", one.model_asked || "–"], ["served", one.model_served || "–"],
    ["attempts", `${say("attemptsTold", { count: one.attempts })}${lost}${one.upstream ? ` → ${one.upstream}` : ""}`],
    ["error", one.error || say("none")], ["stream", say(one.stream ? "yes" : "no")],
    ["tokens", `${say("prompt")} ${one.prompt_tokens ?? "–"}, ${say("completion")} ${one.completion_tokens ?? "–"}, ${say("cached")} ${one.cached_tokens ?? 0}${one.estimated ? ` (${say("estimated")})` : ""}`],
    ["prefix", one.key_id || "–"], ["team", one.team_id || "–"],
  ];
  return make("dl", {}, parts.map(([word, text]) => make("div", {}, make("dt", {}, say(word)), make("dd", {}, text))));
}
