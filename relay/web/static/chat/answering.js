// One answer, from its request to its last word, written into its node as it comes.

import { requestFields } from "./settings.js";
import { Failure, ask } from "./stream.js";
import { messages, path } from "./tree.js";

/**
 * Fill a node (the last that is looked at) with the answer to what is before it.
 *
 * `onGrow()` is called whenever there is more. Never throws: what went wrong is in `node.error`.
 */
export async function answer(conversation, node, { key, signal, onGrow }) {
  const began = performance.now();
  const { settings } = conversation;
  const before = path(conversation).slice(0, -1);
  const request = { model: node.model, messages: messages(before, settings.system), ...requestFields(settings) };
  try {
    const told = await key.using((value) => ask(request, { key: value, signal }));
    node.upstream = told.upstream;
    node.requestId = told.requestId;
    for await (const chunk of told.chunks) {
      take(node, chunk);
      onGrow();
    }
    node.state = "done";
  } catch (error) {
    fail(node, error);
  }
  node.ms = Math.round(performance.now() - began);
}

function take(node, chunk) {
  const choice = chunk.choices?.[0];
  node.text += choice?.delta?.content ?? "";
  node.reasoning += choice?.delta?.reasoning_content ?? choice?.delta?.reasoning ?? "";
  if (chunk.usage) node.usage = chunk.usage;
}

function fail(node, error) {
  if (error.name === "AbortError") {
    node.state = "stopped";
    return;
  }
  const { message, code, requestId, waitS } = error instanceof Failure ? error : new Failure(String(error));
  node.state = code === "cut" ? "cut" : "failed";
  node.error = { message, code, waitS };
  node.requestId = requestId ?? node.requestId;
}

/** What an answer cost, as the relay's ledger has it; null where nobody knows the price. */
export async function cost(key, { model, upstream, usage }) {
  if (!upstream || !usage) return null;
  try {
    const response = await key.call("/v1/relay/cost", { body: { model, upstream, usage } });
    return (await response.json()).cost_usd;
  } catch {
    return null; // the answer is what matters
  }
}
