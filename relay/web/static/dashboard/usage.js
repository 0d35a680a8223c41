// The first view: what was used, over time and by whom.

import { ask } from "./api.js";
import { chart } from "./chart.js";
import { badge, cells, find, make, nothing, table } from "./elements.js";
import { count, duration, exact, moment, share, usd, usdAxis } from "./format.js";
import { renew } from "../renew.js";
import { say } from "./words.js";

const HOUR = 3600;
const DAY = 86400;
const RANGES = { 1: "hour", 7: "hour", 30: "day", 90: "day" };
const MOST_SERIES = 5;
const PAGE = 12;

const asked = { days: 1, by: "model", split: "", filters: {} };
let shown = PAGE;
let turn = 0;

/** What a line of a report says in the place of that group. */
const called = (line, by) => line[`${by}_name`] || line[by] || say(by === "key" ? "nobody" : "none");

export function startUsage() {
  find("range").addEventListener("change", (event) => {
    asked.days = Number(event.target.value);
    showUsage();
  });
  find("split").addEventListener("change", (event) => {
    asked.split = event.target.value;
    showUsage();
  });
  find("by").addEventListener("change", (event) => {
    asked.by = event.target.value;
    shown = PAGE;
    showUsage();
  });
}

/** Whether it shows the last day, which is worth asking for each minute. */
export const isToday = () => asked.days === 1;

/** Ask anew, and show the answer unless somebody has asked again meanwhile. */
export async function showUsage() {
  const mine = ++turn;
  const unit = RANGES[asked.days];
  const span = unit === "hour" ? HOUR : DAY;
  const now = Math.floor(Date.now() / 1000) + 1;
  const times = Array.from({ length: (asked.days * DAY) / span }, (_, place, last = Math.floor(now / span) * span) =>
    last - span * ((asked.days * DAY) / span - 1 - place));
  const query = { from: times[0], to: now, percentiles: true, ...asked.filters };
  const [whole, groups] = await Promise.all([
    ask("usage", { query: { ...query, group_by: unit } }),
    ask("usage", { query: { ...query, group_by: asked.by } }),
  ]);
  const parts = asked.split ? await partsOf(query, unit, asked.split === asked.by ? groups : null) : null;
  if (mine !== turn) return;
  const view = { times, unit, whole: placed(whole, times, unit), parts: parts?.map((one) => ({ ...one, lines: placed(one.report, times, unit) })) };
  find("updated").textContent = say("updated", { time: moment(now - 1) });
  find("tiles").replaceChildren(...tiles(whole.total));
  renew(find("filters"), Object.entries(asked.filters).map(([by, value]) => chip(by, value)), () => find("split"));
  const empty = whole.total.requests === 0;
  find("charts").replaceChildren(...(empty ? [nothing(say("noData"), say("noDataHint"))] : charts(view)));
  find("breakdown").hidden = empty;
  if (!empty) showGroups(groups);
}

/** The largest groups one by one; what is left to the whole are the others. */
async function partsOf(query, unit, groups) {
  const by = asked.split;
  const all = groups ?? (await ask("usage", { query: { ...query, group_by: by } }));
  const largest = [...all.data].sort((one, other) => other.requests - one.requests).slice(0, MOST_SERIES);
  return Promise.all(largest.map(async (line) => ({
    name: called(line, by),
    report: await ask("usage", { query: { ...query, group_by: unit, [by]: line[by] } }),
  })));
}

/** The lines of a report at their times; null where there is none. */
function placed(report, times, unit) {
  const lines = new Map(report.data.map((line) => [Date.parse(line[unit]) / 1000, line]));
  return times.map((at) => lines.get(at) ?? null);
}

function charts({ times, unit, whole, parts }) {
  const series = (lines, name, colour, value, missing = 0) => ({
    name, colour, values: lines.map((line) => (line === null ? missing : value(line))),
  });
  const amounts = (value, usual) => {
    if (!parts) return usual.map(([name, colour, of]) => series(whole, say(name), colour, of));
    const drawn = parts.map((one, place) => series(one.lines, one.name, `s${place + 1}`, value));
    const others = whole.map((line, place) =>
      Math.max(0, (line ? value(line) : 0) - drawn.reduce((sum, one) => sum + one.values[place], 0)));
    // What floating-point sums leave over is nobody's.
    const real = others.map((amount, place) => (amount > 1e-9 * (whole[place] ? value(whole[place]) : 0) ? amount : 0));
    return real.some((amount) => amount > 0) ? [...drawn, { name: say("others"), colour: "s6", values: real }] : drawn;
  };
  const times_ = (name) => parts
    ? parts.map((one, place) => series(one.lines, one.name, `s${place + 1}`, (line) => line[name].p95, null))
    : [["p50", "s3"], ["p95", "s1"], ["p99", "s2"]].map(([p, colour]) => series(whole, p, colour, (line) => line[name][p], null));
  const usual = { times, unit };
  const counted = { whole: true, format: exact, axis: count };
  const per = say("by", { name: say(unit) }) + (unit === "day" ? " (UTC)" : "");
  return [
    chart({ ...usual, id: "requests", title: say("requests"), note: per, ...counted,
      series: amounts((line) => line.requests, [["answered", "s1", (line) => line.requests - line.errors], ["failed", "bad", (line) => line.errors]]) }),
    chart({ ...usual, id: "errors", title: say("errors"), note: per, ...counted,
      series: amounts((line) => line.errors, [["failed", "bad", (line) => line.errors]]) }),
    chart({ ...usual, id: "tokens", title: say("tokens"), note: per, ...counted,
      series: amounts((line) => line.prompt_tokens + line.completion_tokens,
        [["prompt", "s4", (line) => line.prompt_tokens], ["completion", "s3", (line) => line.completion_tokens]]) }),
    chart({ ...usual, id: "cost", title: say("cost"), note: `${say("costUnit")} ${per}`, format: usd, axis: usdAxis,
      series: amounts((line) => line.cost_usd, [["cost", "s5", (line) => line.cost_usd]]) }),
    chart({ ...usual, id: "latency", lines: true, title: say("latencyTitle"), note: `${parts ? "p95 " : ""}${per}`, format: duration, series: times_("latency_s") }),
    chart({ ...usual, id: "first-token", lines: true, title: say("firstTokenTitle"), note: `${parts ? "p95 " : ""}${per}`, format: duration, series: times_("first_token_s") }),
  ];
}

function tiles(total) {
  const tokens = total.prompt_tokens + total.completion_tokens;
  const unpriced = total.unpriced_requests ? say("unpriced", { count: count(total.unpriced_requests) }) : "";
  return [
    tile("requests", count(total.requests), ""),
    tile("errors", count(total.errors), say("errorRate", { share: share(total.errors, total.requests) }), total.errors ? "bad" : ""),
    tile("tokens", count(tokens), `${count(total.prompt_tokens)} ${say("in")} · ${count(total.completion_tokens)} ${say("out")}`),
    tile("cost", usd(total.cost_usd), unpriced, unpriced ? "warn" : ""),
    tile("latency", duration(total.latency_s.p95), `p95 · p50 ${duration(total.latency_s.p50)}`),
    tile("firstToken", duration(total.first_token_s.p95), `p95 · p50 ${duration(total.first_token_s.p50)}`),
  ];
}

function tile(word, value, note, kind = "") {
  return make("div", { class: "card tile", "data-tile": word }, make("dt", {}, say(word)),
    make("dd", {}, make("strong", {}, value), make("span", { class: kind }, note)));
}

function chip(by, value) {
  const name = names.get(`${by}:${value}`) ?? value;
  const remove = () => {
    delete asked.filters[by];
    showUsage();
  };
  return make("button", { type: "button", class: "button chip", onclick: remove, "aria-label": `${say("close")}: ${say(by)} ${name}` },
    `${say(by)}: ${name} ✕`);
}

const names = new Map();
const HEADS = [["name", ""], ["requests", "number"], ["errors", "number"], ["tokens", "number"], ["cost", "number"],
  ["latencyPair", "number"], ["firstTokenPair", "number"]];

function showGroups(report) {
  const by = asked.by;
  const lines = [...report.data].sort((one, other) => other.requests - one.requests);
  const rows = lines.slice(0, shown).map((line) => {
    const name = called(line, by);
    names.set(`${by}:${line[by]}`, name);
    const filter = () => {
      asked.filters[by] = line[by];
      showUsage();
    };
    const only = line[by] ? make("button", { type: "button", class: "link", onclick: filter, title: say("filter", { what: name }) }, name) : name;
    return make("tr", {}, cells(HEADS, [
      only, exact(line.requests), line.errors ? badge(`${count(line.errors)} · ${share(line.errors, line.requests)}`, "bad") : "0",
      count(line.prompt_tokens + line.completion_tokens), usd(line.cost_usd), pair(line.latency_s), pair(line.first_token_s),
    ]));
  });
  const more = () => {
    shown += 50;
    showGroups(report);
  };
  renew(find("groups"), [
    table(say("breakdown"), HEADS, rows),
    ...(lines.length > shown
      ? [make("button", { type: "button", class: "button", onclick: more, "data-act": "more" }, `${say("more")} (${lines.length - shown})`)]
      : []),
  ], () => find("by"));
}

const pair = (times) => `${duration(times.p50)} / ${duration(times.p95)}`;

/** The models and upstreams that were used of late, for who looks for requests of one. */
export async function known(by) {
  const report = await ask("usage", { query: { group_by: by } });
  return report.data.map((line) => ({ id: line[by], name: called(line, by) })).filter((one) => one.id);
}
