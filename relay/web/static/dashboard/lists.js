// The teams, and what was done by the admin API.

import { ask } from "./api.js";
import { button, find, make, nothing, table } from "./elements.js";
import { exact, moment } from "./format.js";
import { limits } from "./keys.js";
import { renew } from "../renew.js";
import { say } from "./words.js";

const TEAMS = [["name", ""], ["keysIn", "number"], ["models", ""], ["limits", ""], ["moment", ""]];
const ACTS = [["moment", ""], ["act", ""], ["subject", ""], ["source", ""], ["detail", ""]];
const PAGE = 50;

export async function showTeams() {
  const teams = await ask("teams");
  const rows = teams.data.map((team) => [
    team.name,
    team.keys === null ? "–" : exact(team.keys),
    team.models ? team.models.join(", ") : say("all"),
    limits(team),
    moment(team.created_at),
  ]);
  find("teams-list").replaceChildren(rows.length ? table(say("teams"), TEAMS, rows) : nothing(say("teamsNone")));
}

export async function showAudit() {
  const acts = [];
  let before = null;
  const more = async () => {
    const page = await ask("audit", { query: { limit: PAGE, before } });
    acts.push(...page.data);
    before = page.next_before;
    renew(find("audit-list"), [
      acts.length ? table(say("audit"), ACTS, acts.map(cellsOf)) : nothing(say("auditNone")),
      make("p", { class: "row pages" }, before === null ? (acts.length ? make("span", { class: "faint" }, say("ended")) : null) : button("more", more)),
    ], () => find("audit-list").querySelector(".scroll"));
  };
  await more();
}

function cellsOf(act) {
  const told = Object.entries(act.detail).filter(([name]) => name !== "request_id" && name !== "by");
  const text = told.map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");
  return [moment(act.at), make("code", {}, act.act), act.subject || "–", act.source || "–", text || "–"];
}
