// The list of conversations: opened, searched, renamed, deleted, kept in a file and brought back.

import { find, iconButton, make } from "./elements.js";
import { renew } from "../renew.js";
import { say } from "./words.js";

const DRAWN = 100; // conversations at first, and again each time the list is scrolled to its end
const NEAR_PX = 300; // from there
const NARROW = matchMedia("(max-width: 56rem)");

export class Sidebar {
  /** `onOpen(id)`, `onNew()`, `onRename(id)`, `onDelete(id)`, `onExport()`, `onImport(file)`. */
  constructor(handlers) {
    this.handlers = handlers;
    this.element = find("sidebar");
    this.search = find("search");
    this.short = [];
    this.found = []; // those that are searched for
    this.current = null;
    this.most = DRAWN;
    this.search.addEventListener("input", () => {
      this.most = DRAWN;
      find("conversations").scrollTop = 0;
      this.#draw();
    });
    this.search.addEventListener("keydown", (event) => this.#walk(event));
    find("conversations").addEventListener("keydown", (event) => this.#walk(event));
    find("conversations").addEventListener("scroll", () => this.#scrolled(), { passive: true });
    for (const id of ["new", "new-top"]) find(id).addEventListener("click", () => this.#done(handlers.onNew()));
    find("export").addEventListener("click", handlers.onExport);
    find("import").addEventListener("click", () => find("imported").click());
    find("imported").addEventListener("change", async () => {
      await handlers.onImport(find("imported").files[0]);
      find("imported").value = "";
    });
    for (const id of ["sidebar-toggle", "sidebar-close", "shade"]) {
      find(id).addEventListener("click", () => this.toggle());
    }
    NARROW.addEventListener("change", () => this.open(!NARROW.matches));
    document.addEventListener("languagechange", () => this.#draw());
    this.open(!NARROW.matches);
  }

  /** Show these conversations, `current` among them. */
  show(short, current) {
    this.short = short;
    this.current = current;
    this.#draw();
  }

  open(open) {
    this.element.hidden = !open;
    find("shade").hidden = !(open && NARROW.matches);
    find("sidebar-toggle").setAttribute("aria-expanded", String(open));
  }

  toggle() {
    this.open(this.element.hidden);
    if (!this.element.hidden && NARROW.matches) find("new").focus();
    else if (this.element.hidden) find("sidebar-toggle").focus();
  }

  /** Go where one searches. */
  seek() {
    this.open(true);
    this.search.focus();
    this.search.select();
  }

  /** Close what lies over the conversation; whether there was anything. */
  leave() {
    if (!NARROW.matches || this.element.hidden) return false;
    this.toggle();
    return true;
  }

  #done() {
    if (NARROW.matches) this.open(false);
  }

  #draw() {
    const wanted = this.search.value.trim().toLowerCase();
    this.found = this.short.filter(({ text }) => text.includes(wanted));
    this.most = Math.max(this.most, this.found.findIndex(({ id }) => id === this.current) + 1);
    const items = this.found.slice(0, this.most).map((one) => this.#item(one));
    if (wanted && !items.length) items.push(make("li", { class: "none" }, say("none")));
    renew(find("conversations"), items, () => this.search);
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = find("conversations");
    if (scrollHeight - scrollTop - clientHeight > NEAR_PX || this.most >= this.found.length) return;
    find("conversations").append(...this.found.slice(this.most, this.most + DRAWN).map((one) => this.#item(one)));
    this.most += DRAWN;
  }

  #item({ id, title }) {
    const open = make("button", {
      type: "button",
      class: "open",
      "data-act": "open",
      "aria-current": id === this.current ? "true" : null,
      title,
      onclick: () => this.#done(this.handlers.onOpen(id)),
    }, title || say("untitled"));
    return make("li", { "data-conversation": id }, open,
      iconButton("edit", "rename", () => this.handlers.onRename(id)),
      iconButton("trash", "delete", () => this.handlers.onDelete(id)));
  }

  /** Arrows go from one conversation to the next. */
  #walk(event) {
    if (event.key === "Enter" && event.target === this.search) this.#opens()[0]?.click();
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const all = [this.search, ...this.#opens()];
    const here = event.target.closest("li")?.querySelector(".open") ?? event.target;
    all[all.indexOf(here) + step]?.focus();
    event.preventDefault();
  }

  #opens() {
    return [...find("conversations").querySelectorAll(".open")];
  }
}
