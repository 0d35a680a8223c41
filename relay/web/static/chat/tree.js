// A conversation is a tree: a question asked anew, or an answer tried again, is another branch.
//
//     conversation  { id, title, named, created, changed, settings, nodes: {id: node}, shown }
//     node          { id, parent, role, text, images, at }, and of an answer
//                   { model, state, reasoning, error, usage, costUsd, ms, upstream, requestId }
//     shown         which child of a node is looked at, by the node's id; "" is the root
//     state         running, done, stopped, cut, failed

export const ROOT = "";

export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(10));
  return "n" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation(settings) {
  const now = Date.now();
  return { id: newId(), title: "", named: false, created: now, changed: now, settings: { ...settings }, nodes: {}, shown: {} };
}

const children = (conversation, parent) =>
  Object.values(conversation.nodes).filter((node) => node.parent === parent);

/** What is being looked at, from the first question on. */
export function path(conversation) {
  const nodes = [];
  for (let parent = ROOT; ; ) {
    const all = children(conversation, parent);
    const next = all.find((node) => node.id === conversation.shown[parent]) ?? all.at(-1);
    if (!next) return nodes;
    nodes.push(next);
    parent = next.id;
  }
}

/** The versions of a node, itself among them, the oldest first. */
export const versions = (conversation, node) => children(conversation, node.parent);

/** Put a node under its parent, and look at it. */
export function add(conversation, fields) {
  const node = { id: newId(), at: Date.now(), text: "", images: [], ...fields };
  conversation.nodes[node.id] = node;
  look(conversation, node);
  return node;
}

export function look(conversation, node) {
  conversation.shown[node.parent] = node.id;
}

/** Take out a node that nothing follows. */
export function remove(conversation, node) {
  delete conversation.nodes[node.id];
  conversation.gone = [...(conversation.gone ?? []), node.id];
  delete conversation.shown[node.parent];
}

/** The messages of a request that asks for what comes after those nodes. */
export function messages(nodes, system) {
  const told = nodes.filter((node) => node.role === "user" || node.text !== "").map((node) => ({
    role: node.role,
    content: node.images.length ? parts(node) : node.text,
  }));
  return system ? [{ role: "system", content: system }, ...told] : told;
}

function parts(node) {
  const images = node.images.map((url) => ({ type: "image_url", image_url: { url } }));
  return node.text === "" ? images : [{ type: "text", text: node.text }, ...images];
}

/** A title by the first question. */
export function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}
