// Where conversations are kept: this browser's database, and nowhere else.
//
// A browser that keeps nothing (some do so in private windows) gets a shelf that lasts as long as
// the page.

const STORE = "conversations";

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

  put(conversation) {
    return done(this.#store("readwrite").put(conversation));
  }

  delete(id) {
    return done(this.#store("readwrite").delete(id));
  }

  #store(mode) {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }
}

class ShortShelf {
  kept = new Map();

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

const latestFirst = (short) => short.sort((one, other) => other.changed - one.changed);

export function inShort({ id, title, changed, nodes }) {
  const text = [title, ...Object.values(nodes).map((node) => node.text)].join("\n").toLowerCase();
  return { id, title, changed, text };
}
