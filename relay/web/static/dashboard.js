// The dashboard: which view is open, and how often it is asked for anew.

import { Refused, askForKey, forgetKey, hasKey } from "./dashboard/api.js";
import { announce, find, nothing } from "./dashboard/elements.js";
import { showKeys, startKeys } from "./dashboard/keys.js";
import { showAudit, showTeams } from "./dashboard/lists.js";
import { showRequests, startRequests } from "./dashboard/requests.js";
import { showLive, startMode } from "./dashboard/upstreams.js";
import { isToday, showUsage, startUsage } from "./dashboard/usage.js";
import { say, switchLanguage, translate } from "./dashboard/words.js";

const LIVE_MS = 3000;
const USAGE_MS = 60000;
const VIEWS = {
  overview: showUsage,
  keys: showKeys,
  requests: () => showRequests({ choices: true }),
  teams: showTeams,
  audit: showAudit,
};

let ledger = true; // whether the relay keeps one

const view = () => (location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "overview");

/** Do something that asks the relay, and say what went wrong. */
async function tried(act, { quiet = false } = {}) {
  try {
    await act();
    find("trouble").hidden = true;
  } catch (error) {
    if (error instanceof Refused && error.status === 401) forgetKey();
    else if (!quiet || error instanceof TypeError) {
      find("trouble").textContent = error instanceof Refused ? error.message : say("notReached", { why: error.message });
      find("trouble").hidden = false;
    }
  }
}

function showNoDatabase() {
  find("overview").classList.add("without");
  const told = () => nothing(say("noDatabase"), say("noDatabaseHint"));
  for (const id of ["charts", "keys-list", "requests-list", "teams-list", "audit-list"]) find(id).replaceChildren(told());
  for (const bar of document.querySelectorAll(".needs-database")) bar.hidden = true;
}

function show() {
  const open = view();
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== open;
  for (const link of document.querySelectorAll("#views a")) {
    if (link.hash === `#${open}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `relay · ${say(open === "overview" ? "dashboard" : open)}`;
  return tried(ledger ? VIEWS[open] : showNoDatabase);
}

async function look() {
  ({ ledger } = await showLive());
}

function every(ms, act) {
  setTimeout(async () => {
    if (!document.hidden) await tried(act, { quiet: true });
    every(ms, act);
  }, ms);
}

function start() {
  translate();
  startMode();
  startUsage();
  startKeys();
  startRequests();
  find("language").addEventListener("click", () => {
    switchLanguage();
    translate();
    startMode();
    if (!find("dashboard").hidden) tried(look).then(show);
  });
  find("forget").addEventListener("click", forgetKey);
  find("refresh").addEventListener("click", () => Promise.all([tried(look), show()]));
  addEventListener("hashchange", show);
  addEventListener("unhandledrejection", (event) => {
    if (!(event.reason instanceof Refused) && !(event.reason instanceof TypeError)) return;
    event.preventDefault();
    announce(event.reason.message, "bad");
  });
}

start();
if (!hasKey()) await askForKey();
find("entrance").hidden = true;
find("dashboard").hidden = false;
await tried(look); // which says what can be shown
await show();
document.documentElement.dataset.ready = "";
every(LIVE_MS, look);
// Not under the hands of somebody who reads a chart by the arrow keys.
every(USAGE_MS, () => (ledger && view() === "overview" && isToday() && !document.querySelector("#charts :focus") ? showUsage() : null));
