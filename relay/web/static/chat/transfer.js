// Conversations as a file and back. A file is as foreign as a model's answer: what comes in is read
// field by field, and nothing of it is believed.

import { make } from "./elements.js";
import { isPicture } from "./pictures.js";
import { FIELDS } from "./settings.js";
import { ROOT, newId } from "./tree.js";

const FORMAT = "relay-conversations";
const STATES = new Set(["done", "stopped", "cut", "failed"]);

/** Hand the reader a file with those conversations. */
export function save(conversations) {
  const text = JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const day = new Date().toISOString().slice(0, 10);
  make("a", { href: url, download: `relay-${day}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** The conversations of such a file. Throws an Error that says what is wrong with it. */
export async function load(file) {
  let told;
  try {
    told = JSON.parse(await file.text());
  } catch {
    throw new Error("JSON");
  }
  if (told?.format !== FORMAT || !Array.isArray(told.conversations)) throw new Error(`format ≠ ${FORMAT}`);
  return told.conversations.map(readConversation);
}

function readConversation(told) {
  const nodes = {};
  for (const one of Object.values(object(told?.nodes))) {
    const node = readNode(object(one));
    nodes[node.id] = node;
  }
  for (const node of Object.values(nodes)) {
    if (!reaches(nodes, node)) throw new Error("parent");
  }
  const shown = Object.entries(object(told.shown)).filter(([parent, id]) => nodes[id]?.parent === parent);
  const settings = Object.entries(object(told.settings)).filter(([name]) => ["model", ...FIELDS].includes(name));
  return {
    id: identifier(told.id),
    title: text(told.title),
    named: told.named === true,
    created: number(told.created) ?? Date.now(),
    changed: number(told.changed) ?? Date.now(),
    settings: Object.fromEntries(settings.map(([name, value]) => [name, text(String(value))])),
    nodes,
    shown: Object.fromEntries(shown),
  };
}

function readNode(told) {
  const images = Array.isArray(told.images) ? told.images : [];
  const node = {
    id: identifier(told.id),
    parent: told.parent === ROOT ? ROOT : identifier(told.parent),
    role: told.role === "user" ? "user" : "assistant",
    at: number(told.at) ?? 0,
    text: text(told.text),
    images: images.filter((url) => typeof url === "string" && isPicture(url)),
  };
  if (node.role === "user") return node;
  const error = object(told.error);
  const usage = object(told.usage);
  return {
    ...node,
    state: STATES.has(told.state) ? told.state : "done",
    model: text(told.model),
    reasoning: text(told.reasoning),
    upstream: text(told.upstream),
    requestId: text(told.requestId),
    ms: number(told.ms),
    costUsd: number(told.costUsd),
    usage: told.usage ? { prompt_tokens: number(usage.prompt_tokens) ?? 0, completion_tokens: number(usage.completion_tokens) ?? 0 } : null,
    error: told.error ? { message: text(error.message), code: text(error.code), waitS: null } : null,
  };
}

/** Whether a node hangs on the root, and on nothing that hangs on itself. */
function reaches(nodes, node) {
  const seen = new Set();
  for (let at = node; at !== undefined && !seen.has(at.id); at = nodes[at.parent]) {
    if (at.parent === ROOT) return true;
    seen.add(at.id);
  }
  return false;
}

const object = (value) => (value !== null && typeof value === "object" ? value : {});
const text = (value) => (typeof value === "string" ? value : "");
const number = (value) => (Number.isFinite(value) ? value : null);
const identifier = (value) => (/^n[0-9a-f]{20}$/.test(value) ? value : newId());
