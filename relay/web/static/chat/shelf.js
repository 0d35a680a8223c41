// Where conversations are kept: this browser's database, and nowhere else.
//
// Several tabs share it. What one has written joins what another writes (a conversation is a tree
// whose nodes are only added, but for those in `gone`), and each hears of what the others do.
//
// A browser that keeps nothing (some do so in private windows) gets a shelf that lasts as long as
// the page.

const STORE = "conversations";
const TABS = "relay-conversations";

export async function openShelf() {
  try {
    return new Shelf(await openDatabase());
  } catch {
    return new ShortShelf();
  }
}

class Shelf {
  constructor(database) {
    this.database = database;
    this.tabs = new BroadcastChannel(TABS);
  }

  /** `onChange(id)` hears of a conversation that another tab has kept or deleted. */
  listen(onChange) {
    this.tabs.addEventListener("message", ({ data }) => onChange(data));
  }

  /** Every conversation in short (id, title, changed, all its text), the latest first. */
  async list() {
    const short = [];
    await new Promise((resolve, reject) => {
      const request = this.#store("readonly").openCursor();
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor) return resolve();
        short.push(inShort(cursor.value));
        cursor.continue();
      };
    });
    return latestFirst(short);
  }

  get(id) {
    return done(this.#store("readonly").get(id));
  }

  /** Keep it; nodes that another tab has added meanwhile are put into it. */
  async put(conversation) {
    const store = this.#store("readwrite");
    const known = (await done(store.get(conversation.id)))?.nodes ?? {};
    for (const [id, node] of Object.entries(known)) {
      if (!conversation.gone?.includes(id)) conversation.nodes[id] ??= node;
    }
    await done(store.put(conversation));
    this.tabs.postMessage(conversation.id);
  }

  async delete(id) {
    await done(this.#store("readwrite").delete(id));
    this.tabs.postMessage(id);
  }

  #store(mode) {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }
}

class ShortShelf {
  kept = new Map();

  listen() {} // no other tab sees it

  async list() {
    return latestFirst([...this.kept.values()].map(inShort));
  }

  async get(id) {
    return this.kept.get(id);
  }

  async put(conversation) {
    this.kept.set(conversation.id, structuredClone(conversation));
  }

  async delete(id) {
    this.kept.delete(id);
  }
}

function openDatabase() {
  const request = indexedDB.open("relay", 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
  return done(request);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export const latestFirst = (short) => short.sort((one, other) => other.changed - one.changed);

export function inShort({ id, title, changed, nodes }) {
  const text = [title, ...Object.values(nodes).map((node) => node.text)].join("\n").toLowerCase();
  return { id, title, changed, text };
}
