// How the upstreams do, and which side serves: live.

import { ask } from "./api.js";
import { announce, badge, find, make, nothing } from "./elements.js";
import { duration, exact, share } from "./format.js";
import { say } from "./words.js";

const MODES = ["auto", "remote", "local"];
let last = "";

export function startMode() {
  find("modes").replaceChildren(...MODES.map((mode) =>
    make("button", { type: "button", class: "button", "data-mode": mode, onclick: () => setMode(mode) }, say(mode))));
}

/** Ask for both, and show what has changed; the mode is given back. */
export async function showLive() {
  const [mode, upstreams] = await Promise.all([ask("mode"), ask("upstreams")]);
  showMode(mode);
  const now = JSON.stringify([upstreams, document.documentElement.lang]);
  if (now === last) return mode; // what does not change keeps its focus and is not read out again
  last = now;
  find("upstreams").replaceChildren(...(upstreams.length
    ? upstreams.map(card)
    : [nothing(say("noUpstreams"))]));
  return mode;
}

async function setMode(mode) {
  const state = await ask("mode", { method: "PUT", body: { mode } });
  showMode(state);
  announce(say(state.kept === false ? "modeNotKept" : "modeKept", { mode: say(mode) }), state.kept === false ? "warn" : "good");
}

function showMode({ mode, serving }) {
  for (const one of find("modes").children) one.setAttribute("aria-pressed", String(one.dataset.mode === mode));
  const side = find("serving");
  side.textContent = say("serving", { side: say(serving) });
  side.className = `badge ${serving === "local" ? "warn" : "good"}`;
}

function card(one) {
  const states = {
    closed: ["breakerClosed", "good"], "half-open": ["breakerHalf", "warn"], open: ["breakerOpen", "bad"],
  };
  const [word, kind] = states[one.state];
  const bad = one.keys.filter((key) => key.state !== "ok").length;
  return make(
    "li",
    { class: `card upstream ${kind}`, "data-upstream": one.name },
    make("h3", {}, one.name),
    badge(say(word, { time: duration(one.opens_in_s) }), kind),
    one.reach === "unreachable" ? badge(say("unreachable"), "bad") : null,
    bad ? badge(say("retired", { count: bad, all: one.keys.length }), "warn") : null,
    make("p", { class: "faint" }, where(one)),
    make("dl", {},
      ...figure("inFlight", one.waiting ? say("waiting", { count: exact(one.in_flight), waiting: exact(one.waiting) }) : exact(one.in_flight)),
      ...figure("latency", one.latency_ms ? duration(one.latency_ms / 1000) : "–"),
      ...figure("calls", exact(one.calls)),
      ...figure("failures", one.failures ? `${exact(one.failures)} (${share(one.failures, one.calls)})` : "0")),
    one.last_error ? make("p", { class: "faint" }, `${say("lastError")}: ${one.last_error}`) : null,
  );
}

/** The URL, and whether it is within reach where that is known; of the local target its models. */
function where(one) {
  if (one.models) return Object.entries(one.models).map(([name, state]) => `${name}: ${state}`).join(" · ");
  return one.reach === "reachable" ? `${one.base_url} · ${say("reachable")}` : one.base_url;
}

function figure(word, value) {
  return [make("div", {}, make("dt", {}, say(word)), make("dd", {}, value))];
}
