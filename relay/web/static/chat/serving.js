// The badge: which side the relay serves from. It looks while somebody sees the page.

import { say } from "./words.js";

const LOOK_MS = 2000;

export class Serving {
  /** `onMove` hears of another side than the one before. */
  constructor(badge, onMove) {
    this.badge = badge;
    this.onMove = onMove;
    this.side = null;
    document.addEventListener("visibilitychange", () => this.look());
    document.addEventListener("languagechange", () => this.#show());
    setInterval(() => this.look(), LOOK_MS);
    this.look();
  }

  async look() {
    if (document.hidden) return;
    let side = null; // nobody is there to say
    try {
      ({ serving: side } = await (await fetch("/readyz")).json()); // also when it is not ready
    } catch {
      // the badge goes, that is all
    }
    if (side === this.side) return;
    const moved = this.side !== null && side !== null;
    this.side = side;
    this.#show();
    if (moved) this.onMove();
  }

  #show() {
    this.badge.hidden = this.side === null;
    if (this.side === null) return;
    this.badge.className = `badge ${this.side === "local" ? "warn" : "good"}`;
    this.badge.textContent = say(this.side);
    this.badge.title = say("badgeHint");
  }
}
