// The list of messages: who says what, what can be done with it, what it took.
//
// Items are kept by their node; one that grows is drawn once a frame. The list follows what is
// written as long as the reader is at its end, and lets go as soon as he scrolls up.

import { grow, sends } from "./composer.js";
import { copy, find, iconButton, make } from "./elements.js";
import { Markdown } from "./markdown.js";
import { path, versions } from "./tree.js";
import { renew } from "../renew.js";
import { inLanguage, say, translate } from "./words.js";

const NEAR_PX = 32; // from the end, that is at the end

export class Messages {
  /** `onRetry(node)`, `onEdit(node, text)`, `onLook(node)`. */
  constructor(list, scroller, handlers) {
    this.list = list;
    this.scroller = scroller;
    this.handlers = handlers;
    this.items = new Map();
    this.conversation = null;
    this.following = true;
    this.grown = new Set();
    this.top = 0;
    scroller.addEventListener("scroll", () => this.#scrolled());
    new ResizeObserver(() => this.#follow()).observe(list);
    new ResizeObserver(() => this.#follow()).observe(scroller);
    find("jump").addEventListener("click", () => this.toEnd());
    document.addEventListener("languagechange", () => this.conversation && this.show(this.conversation));
  }

  /** Show a conversation as it is now. */
  show(conversation) {
    if (this.conversation?.id !== conversation.id) {
      this.items.clear();
      this.following = true;
    }
    this.conversation = conversation;
    const nodes = path(conversation);
    const elements = nodes.map((node) => this.#item(node).element);
    for (const element of [...this.list.children]) if (!elements.includes(element)) element.remove();
    elements.forEach((element, index) => {
      if (this.list.children[index] !== element) this.list.insertBefore(element, this.list.children[index] ?? null);
    });
    for (const node of nodes) this.#draw(node);
    find("empty").hidden = nodes.length > 0;
    this.#follow();
  }

  /** A node has grown: it is drawn with the next frame. */
  grow(node) {
    if (this.grown.size === 0) {
      requestAnimationFrame(() => {
        for (const one of this.grown) this.#write(one);
        this.grown.clear();
      });
    }
    this.grown.add(node);
  }

  toEnd() {
    this.following = true;
    this.#follow();
  }

  editLast() {
    const last = path(this.conversation).findLast((node) => node.role === "user");
    if (last) this.#edit(last);
  }

  #item(node) {
    let item = this.items.get(node.id);
    if (!item) this.items.set(node.id, (item = makeItem(node)));
    return item;
  }

  #draw(node) {
    const item = this.#item(node);
    const { element, sender, foot } = item;
    const running = node.state === "running";
    element.setAttribute("aria-busy", String(running));
    element.classList.toggle("running", running);
    const name = node.role === "user" ? say("you") : node.model || "relay";
    sender.textContent = name;
    sender.title = name;
    if (item.reasoning) item.reasoning.firstChild.textContent = say("reasoning");
    if (item.editing) return;
    this.#write(node);
    item.problem?.remove();
    item.problem = node.error ? problem(node) : null;
    if (item.problem) foot.before(item.problem);
    renew(foot, [...this.#versions(node), ...(running ? [] : this.#actions(node)), details(node)]);
  }

  #write(node) {
    const item = this.items.get(node.id);
    if (!item || item.editing) return;
    if (node.role === "user") item.body.firstChild.textContent = node.text;
    else item.markdown.show(node.text);
    if (node.reasoning && !item.reasoning) {
      item.reasoning = make("details", { class: "reasoning" }, make("summary", {}, say("reasoning")), make("p"));
      item.body.before(item.reasoning);
    }
    if (item.reasoning) item.reasoning.lastChild.textContent = node.reasoning;
  }

  #actions(node) {
    const copying = iconButton("copy", "copy", () => copy(node.text, copying));
    if (node.role === "user") return [iconButton("edit", "edit", () => this.#edit(node)), copying];
    const again = iconButton("retry", "retry", () => this.handlers.onRetry(node));
    return node.text ? [again, copying] : [again];
  }

  #versions(node) {
    const all = versions(this.conversation, node);
    if (all.length < 2) return [];
    const at = all.indexOf(node);
    const step = (name, word, other) =>
      iconButton(name, word, () => {
        this.handlers.onLook(other);
        this.items.get(other.id)?.foot.querySelector(`[data-say-label="${word}"]:enabled, button:enabled`)?.focus();
      }, { disabled: !other });
    const where = make("span", { class: "which" }, `${at + 1}/${all.length}`);
    where.append(make("span", { class: "unseen" }, say("version", { number: at + 1, count: all.length })));
    return [step("left", "previous", all[at - 1]), where, step("right", "next", all[at + 1])];
  }

  #edit(node) {
    const item = this.items.get(node.id);
    if (!item || item.editing) return;
    const field = make("textarea", { class: "field", rows: "1", "data-say-label": "editing" });
    const end = (text) => {
      item.editing = false;
      form.replaceWith(item.body);
      item.foot.hidden = false;
      if (text) this.handlers.onEdit(node, text);
      else item.foot.querySelector("button")?.focus();
    };
    const form = make(
      "form",
      { class: "editing", onsubmit: (event) => (event.preventDefault(), end(field.value.trim())) },
      field,
      make("p", { class: "row end" },
        make("button", { type: "button", class: "button", "data-say": "cancel", onclick: () => end("") }),
        make("button", { class: "button main", "data-say": "send" })),
    );
    translate(form);
    field.value = node.text;
    field.addEventListener("input", () => grow(field));
    field.addEventListener("keydown", (event) => {
      if (sends(event)) {
        event.preventDefault();
        form.requestSubmit();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        end("");
      }
    });
    item.editing = true;
    item.foot.hidden = true;
    item.body.replaceWith(form);
    grow(field);
    field.focus();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    if (scrollHeight - scrollTop - clientHeight < NEAR_PX) this.following = true;
    else if (scrollTop < this.top) this.following = false;
    this.top = scrollTop;
    find("jump").hidden = this.following;
  }

  #follow() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#scrolled();
  }
}

function makeItem(node) {
  const sender = make("h2", { class: "sender" });
  const body = make("div", { class: "body" });
  const foot = make("div", { class: "foot" });
  if (node.role === "user") {
    body.append(make("p", { class: "text" }));
    if (node.images.length) {
      const images = node.images.map((src, at) => make("img", { src, alt: `${say("picture")} ${at + 1}` }));
      body.append(make("div", { class: "images" }, ...images));
    }
  }
  const element = make("li", { class: node.role }, sender, make("div", { class: "said" }, body, foot));
  const markdown = node.role === "user" ? null : new Markdown(body);
  return { element, sender, body, foot, markdown, editing: false, problem: null, reasoning: null };
}

function problem({ error, state, requestId }) {
  const known = state === "cut" ? say("cut") : error.code === "unreachable" ? say("unreachable") : error.message;
  const lines = [make("p", {}, make("strong", {}, `${say("error")}: `), known)];
  if (error.waitS) lines.push(make("p", {}, say("wait", { count: error.waitS })));
  if (requestId) lines.push(make("p", { class: "id" }, say("details", { id: requestId })));
  return make("div", { class: "problem" }, ...lines);
}

/** What an answer took, as far as it is known. */
function details(node) {
  const told = make("span", { class: "took" });
  if (node.role === "user" || node.state === "running") return told;
  const number = (value, digits) => value.toLocaleString(inLanguage(), { maximumFractionDigits: digits });
  const parts = [];
  if (node.state === "stopped") parts.push(say("stopped"));
  if (node.usage) {
    const { prompt_tokens: prompt, completion_tokens: completion } = node.usage;
    parts.push(say("tokens", { prompt: number(prompt, 0), completion: number(completion, 0) }));
    told.title = say("tokensHint");
  }
  if (node.ms) parts.push(say("seconds", { count: number(node.ms / 1000, node.ms < 100 ? 2 : 1) }));
  if (node.costUsd === 0) parts.push(say("free"));
  else if (node.costUsd) parts.push(`$${node.costUsd.toLocaleString(inLanguage(), { maximumSignificantDigits: 2 })}`);
  if (node.upstream) parts.push(node.upstream === "local" ? say("local") : node.upstream);
  told.textContent = parts.join(" · ");
  return told;
}
