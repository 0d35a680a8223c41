// The chat page: its parts, and what they tell one another.

import { answer, cost } from "./chat/answering.js";
import { Composer } from "./chat/composer.js";
import { confirm, notice, prompt } from "./chat/dialogs.js";
import { announce, find } from "./chat/elements.js";
import { Key } from "./chat/key.js";
import { listen } from "./chat/keyboard.js";
import { Messages } from "./chat/messages.js";
import { Models } from "./chat/models.js";
import { Serving } from "./chat/serving.js";
import { Settings, usualSettings } from "./chat/settings.js";
import { inShort, latestFirst, openShelf } from "./chat/shelf.js";
import { Sidebar } from "./chat/sidebar.js";
import { load, save } from "./chat/transfer.js";
import { ROOT, add, look, newConversation, path, remove, titleOf } from "./chat/tree.js";
import { say, speak, switchLanguage } from "./chat/words.js";

const MODEL = "relay-model"; // the one that was picked last
const KEEP_MS = 1000; // between two times that an answer is kept while it grows
const ANNOUNCED = 300; // characters of an answer that are read out

class Chat {
  constructor(shelf) {
    this.shelf = shelf;
    this.short = [];
    this.keeps = true; // whether the shelf takes what it is given
    this.answering = new Map(); // by conversation: {conversation, controller}
    this.key = new Key();
    this.messages = new Messages(find("messages"), find("scroller"), {
      onRetry: (node) => this.retry(node),
      onEdit: (node, text) => this.branch(node, text),
      onLook: (node) => this.look(node),
    });
    this.composer = new Composer({
      onSend: (text, images) => this.send(text, images),
      onStop: () => this.stop(),
      onEditLast: () => this.messages.editLast(),
    });
    this.models = new Models(find("model"), this.key, (name) => {
      localStorage.setItem(MODEL, name);
      this.set({ ...this.conversation.settings, model: name });
    });
    this.settings = new Settings(this.key, {
      onChange: (settings) => this.set(settings),
      onForget: () => this.models.load(),
    });
    this.sidebar = new Sidebar({
      onOpen: (id) => this.open(id),
      onNew: () => this.create(),
      onRename: (id) => this.rename(id),
      onDelete: (id) => this.delete(id),
      onExport: () => this.export(),
      onImport: (file) => this.import(file),
    });
    new Serving(find("serving"), () => this.models.load());
    shelf.listen((id) => this.elsewhere(id));
    this.#listen();
  }

  async begin() {
    this.short = await this.shelf.list();
    const loading = this.models.load();
    await this.open(location.hash.slice(1));
    find("chat").removeAttribute("aria-busy"); // from here on Enter sends
    const error = await loading;
    if (error && error.status !== 401) notice(error.message || say("unreachable"), true);
  }

  /** Look at a conversation; at a new one where there is none of that id. */
  async open(id) {
    const found = this.answering.get(id)?.conversation ?? (await this.shelf.get(id));
    if (!found) return this.create();
    this.conversation = found;
    for (const node of Object.values(found.nodes)) {
      // Nobody writes on at what another visit began.
      if (node.state === "running" && !this.answering.has(id)) {
        node.state = "cut";
        node.error = { message: "", code: "cut", waitS: null };
      }
    }
    history.replaceState(null, "", `#${id}`);
    this.#show();
  }

  create() {
    this.conversation = newConversation(usualSettings(localStorage.getItem(MODEL)));
    history.replaceState(null, "", location.pathname);
    this.#show();
    this.composer.field.focus();
  }

  send(text, images) {
    const last = path(this.conversation).at(-1);
    this.#ask({ parent: last?.id ?? ROOT, role: "user", text, images });
  }

  /** Ask the same again; an answer that never came is no version of it. */
  retry(node) {
    if (this.answering.has(this.conversation.id)) return;
    if (node.text === "" && path(this.conversation).at(-1) === node) remove(this.conversation, node);
    this.#answer(node.parent);
  }

  /** Ask something else in the place of a question. */
  branch(node, text) {
    if (this.answering.has(this.conversation.id)) return;
    this.#ask({ parent: node.parent, role: "user", text, images: node.images });
  }

  look(node) {
    look(this.conversation, node);
    this.messages.show(this.conversation);
    this.keep(this.conversation);
  }

  stop() {
    this.answering.get(this.conversation.id)?.controller.abort();
  }

  set(settings) {
    this.conversation.settings = settings;
    this.settings.shown = settings;
    if (path(this.conversation).length) this.keep(this.conversation);
  }

  async keep(conversation) {
    const short = inShort(conversation);
    this.short = latestFirst([short, ...this.short.filter(({ id }) => id !== short.id)]);
    try {
      await this.shelf.put(conversation);
      this.keeps = true;
    } catch (error) {
      if (this.keeps) notice(say("keptNot", { why: error.message }), true);
      this.keeps = false; // which is said once
    }
  }

  /** Another tab has kept or deleted one. */
  async elsewhere(id) {
    const found = await this.shelf.get(id);
    const rest = this.short.filter((one) => one.id !== id);
    this.short = latestFirst(found ? [...rest, inShort(found)] : rest);
    if (found && id === this.conversation.id && !this.answering.has(id)) {
      this.conversation = found;
      this.#show();
    } else {
      this.#list();
    }
  }

  async rename(id) {
    const conversation = await this.#get(id);
    const title = await prompt(say("renameAsked"), conversation.title);
    if (title === null) return;
    Object.assign(conversation, { title, named: true });
    await this.keep(conversation);
    this.#list();
  }

  async delete(id) {
    const { title } = await this.#get(id);
    if (!(await confirm(say("deleteAsked", { title }), "delete"))) return;
    this.answering.get(id)?.controller.abort();
    this.answering.delete(id);
    await this.shelf.delete(id);
    this.short = this.short.filter((one) => one.id !== id);
    if (id === this.conversation.id) this.create();
    else this.#list();
  }

  async export() {
    const all = [];
    for (const { id } of this.short) all.push(await this.#get(id));
    save(all);
    announce(say("exported"));
  }

  async import(file) {
    try {
      const brought = await load(file);
      const known = new Set(this.short.map(({ id, changed }) => `${id} ${changed}`));
      for (const conversation of brought.filter(({ id, changed }) => !known.has(`${id} ${changed}`))) {
        // What has the same id is another state of it: both stay.
        if (await this.shelf.get(conversation.id)) conversation.id = newConversation({}).id;
        await this.keep(conversation);
      }
      this.#list();
      notice(say("imported", { count: brought.length }));
    } catch (error) {
      notice(say("failedImport", { why: error.message }), true);
    }
  }

  #ask(question) {
    const { conversation } = this;
    const node = add(conversation, question);
    if (!conversation.named && node.parent === ROOT) {
      conversation.title = titleOf(node.text) || say("picture");
    }
    return this.#answer(node.id);
  }

  async #answer(parent) {
    const { conversation } = this;
    const node = add(conversation, { parent, role: "assistant", state: "running", model: this.models.name, reasoning: "" });
    const controller = new AbortController();
    this.answering.set(conversation.id, { conversation, controller });
    conversation.changed = Date.now();
    history.replaceState(null, "", `#${conversation.id}`);
    announce(say("answering"));
    this.messages.following = true;
    const written = [this.#write(conversation, node, controller.signal), this.#changed(conversation)];
    // The button that asked for it, or the field, is gone.
    if (document.activeElement === document.body) this.messages.scroller.focus({ preventScroll: true });
    await Promise.all(written);
  }

  async #write(conversation, node, signal) {
    let kept = performance.now();
    const onGrow = () => {
      if (conversation === this.conversation) this.messages.grow(node);
      if (performance.now() - kept < KEEP_MS) return;
      kept = performance.now();
      this.keep(conversation);
    };
    if (!node.model) await this.models.loading;
    node.model ||= this.models.name;
    await answer(conversation, node, { key: this.key, signal, onGrow });
    if (!this.answering.has(conversation.id)) return; // it was deleted meanwhile
    await this.keep(conversation); // what is shown as whole outlives a reload
    if (!this.answering.delete(conversation.id)) return;
    if (conversation === this.conversation) {
      announce(node.state === "done" ? `${say("answered")} ${node.text.slice(0, ANNOUNCED)}` : say(node.error ? "error" : "stopped"));
    }
    this.#redraw(conversation);
    const costUsd = await cost(this.key, node);
    const latest = costUsd === null ? null : await this.#get(conversation.id);
    if (!latest?.nodes[node.id]) return; // nobody knows it, or the conversation is gone
    latest.nodes[node.id].costUsd = costUsd;
    await this.#changed(latest);
  }

  #changed(conversation) {
    const kept = this.keep(conversation);
    this.#redraw(conversation);
    return kept;
  }

  #redraw(conversation) {
    if (conversation === this.conversation) this.#show();
    else this.#list();
  }

  #show() {
    const { conversation } = this;
    this.models.want(conversation.settings.model);
    this.settings.show(conversation.settings);
    this.messages.show(conversation);
    this.composer.show(this.answering.has(conversation.id));
    this.#list();
  }

  #list() {
    find("title").textContent = this.conversation.title;
    document.title = this.conversation.title ? `${this.conversation.title} · relay` : "relay";
    this.sidebar.show(this.short, this.conversation.id);
  }

  async #get(id) {
    if (id === this.conversation.id) return this.conversation;
    return this.answering.get(id)?.conversation ?? this.shelf.get(id);
  }

  #listen() {
    find("settings-open").addEventListener("click", () => this.settings.toggle());
    find("language").addEventListener("click", switchLanguage);
    for (const idea of find("ideas").querySelectorAll("button")) {
      idea.addEventListener("click", () => this.composer.write(idea.textContent));
    }
    listen({
      search: () => this.sidebar.seek(),
      create: () => this.create(),
      settings: () => this.settings.toggle(),
      stop: () => this.sidebar.leave() || this.stop(),
    });
  }
}

speak();
new Chat(await openShelf()).begin();
