// Markdown within a line: emphasis, code, links. Text in, nodes out; tags stay text.
//
// Model output is hostile until proven otherwise: an address has to be absolute http, https or
// mailto, and no input takes more than about linear time or nests deeper than DEEPEST.

import { make } from "./elements.js";

const SAFE = new Set(["http:", "https:", "mailto:"]);
const DEEPEST = 50; // emphasis that is open at one place

const ESCAPE = /\\([!-/:-@[-`{-~])/y;
const BREAK = /(?: {2,}|\\)?\n */y;
const TICKS = /`+/y;
const ANGLES = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/iy;
const BARE = /https?:\/\/[^\s<>"`|，。；：！？、）】」』]{1,2000}/iy;
const MARKS = /\*+|_+|~+/y;
const TARGET = /\(\s*(?:<([^<>\n]{0,2000})>|([^\s()]{0,2000}(?:\([^\s()]{0,500}\)[^\s()]{0,500}){0,3}))(?:\s+(?:"[^"\n]{0,500}"|'[^'\n]{0,500}'))?\s*\)/y;
const ENTITY = /&(amp|lt|gt|quot|nbsp|#39);/y;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', nbsp: "\u00a0", "#39": "'" };
const FORMULA = /\\\([^\n]{1,1000}?\\\)|\\\[[^\n]{1,1000}?\\\]|\$\$[^$\n]{1,1000}\$\$|\$(?![\s$])(?=[^$\n]{0,500}[\\^_{])(?:[^$*\n]|\*(?!\*)){1,500}(?<!\s)\$(?!\w)/y;
const WORD = /[\p{L}\p{N}]/u;
const SPECIAL = /[\\\n `<h*_~![&$]/gi;

/** The address as the browser will read it, if it may be followed; else null. */
export function safeAddress(text) {
  try {
    const url = new URL(text);
    return SAFE.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** What that text says, as nodes and strings to append. */
export function inline(text, inLink = false) {
  const parts = [];
  let plain = "";
  let at = 0;
  let brackets = null;
  const closings = new Map(); // of code spans: a length that has no closing is looked for once

  const flush = () => {
    if (plain) parts.push(plain);
    plain = "";
  };
  const put = (part, end) => {
    flush();
    parts.push(part);
    at = end;
  };
  const here = (pattern) => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };

  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(at, next);
    at = next;
    if (at >= text.length) break;
    const character = text[at];
    let match;
    if ("\\$".includes(character) && (match = here(FORMULA))) {
      put(make("code", { class: "formula" }, match[0]), FORMULA.lastIndex);
    } else if (character === "\\" && (match = here(ESCAPE))) {
      plain += match[1];
      at = ESCAPE.lastIndex;
    } else if ("\n \\".includes(character) && (match = here(BREAK))) {
      put(make("br"), BREAK.lastIndex);
    } else if (character === "`") {
      match = here(TICKS);
      const end = closing(text, match[0], TICKS.lastIndex, closings);
      if (end < 0) {
        plain += match[0];
        at += match[0].length;
      } else {
        put(code(text.slice(at + match[0].length, end)), end + match[0].length);
      }
    } else if (character === "&" && (match = here(ENTITY))) {
      plain += ENTITIES[match[1]];
      at = ENTITY.lastIndex;
    } else if (!inLink && character === "<" && (match = here(ANGLES))) {
      const end = ANGLES.lastIndex;
      put(link(match[1], [match[1].replace(/^mailto:/i, "")]), end);
    } else if (!inLink && /h/i.test(character) && !WORD.test(text[at - 1] ?? " ") && (match = here(BARE))) {
      const address = trimmed(match[0]);
      put(link(address, [address]), at + address.length);
    } else if (character === "[" || (character === "!" && text[at + 1] === "[")) {
      const image = character === "!";
      brackets ??= pairs(text);
      const end = brackets.get(at + image) ?? -1;
      TARGET.lastIndex = end + 1;
      const target = end < 0 || inLink ? null : TARGET.exec(text);
      if (target) {
        const words = text.slice(at + image + 1, end);
        const address = target[1] ?? target[2];
        // A picture would be fetched from wherever the model says, which tells them who reads.
        const shown = words === "" ? [address] : image ? [words] : inline(words, true);
        put(link(address, shown), TARGET.lastIndex);
      } else {
        plain += text.slice(at, at + image + 1);
        at += image + 1;
      }
    } else if ((match = here(MARKS))) {
      const end = MARKS.lastIndex;
      put(run(match[0], text[at - 1] ?? " ", text[end] ?? " "), end);
    } else {
      plain += character;
      at += 1;
    }
  }
  flush();
  return emphasised(parts);
}

function code(text) {
  const flat = text.replaceAll("\n", " ");
  const padded = flat.length > 2 && flat.startsWith(" ") && flat.endsWith(" ") && flat.trim() !== "";
  return make("code", {}, padded ? flat.slice(1, -1) : flat);
}

function link(address, shown) {
  const href = safeAddress(address);
  if (href === null) return make("span", { class: "no-link", title: address }, ...shown);
  return make("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...shown);
}

/** A bare address without what belongs to the sentence around it. */
function trimmed(address) {
  let end = address.length;
  while (end > 8) {
    const last = address[end - 1];
    const open = last === ")" && !address.slice(0, end).includes("(");
    if (!open && !/[.,;:!?*_~'\]]/.test(last)) break;
    end -= 1;
  }
  return address.slice(0, end);
}

/** Where the run of ticks is that ends a code span; -1 where there is none. */
function closing(text, ticks, from, known) {
  if (known.get(ticks.length) === -1) return -1;
  let at = from;
  while ((at = text.indexOf(ticks, at)) >= 0) {
    let end = at + ticks.length;
    if (text[at - 1] !== "`" && text[end] !== "`") return at;
    while (text[end] === "`") end += 1;
    at = end;
  }
  known.set(ticks.length, -1);
  return -1;
}

/** For each "[" the "]" that belongs to it. */
function pairs(text) {
  const found = new Map();
  const open = [];
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "[") open.push(at);
    else if (text[at] === "]" && open.length) found.set(open.pop(), at);
  }
  return found;
}

/** A run of one mark. Where it stands says what it may do; Chinese has no spaces to go by. */
function run(marks, before, after) {
  const mark = marks[0];
  const within = mark === "_" && WORD.test(before) && WORD.test(after);
  const usable = mark === "~" ? marks.length === 2 : marks.length <= 3;
  return {
    mark,
    count: marks.length,
    opens: usable && !within && !/\s/.test(after),
    closes: usable && !within && !/\s/.test(before),
  };
}

/** The parts with their runs paired: *a* becomes <em>, **a** <strong>, ~~a~~ <del>. */
function emphasised(parts) {
  const out = [];
  const open = []; // places in `out`
  const written = (part) => (part.mark ? part.mark.repeat(part.count) : part);
  for (const part of parts) {
    if (!part.mark) {
      out.push(part);
      continue;
    }
    while (part.closes && part.count > 0) {
      const found = open.findLastIndex((place) => out[place].mark === part.mark);
      if (found < 0) break;
      const place = open[found];
      open.length = found + 1;
      const opener = out[place];
      const used = Math.min(2, opener.count, part.count);
      const tag = part.mark === "~" ? "del" : used === 2 ? "strong" : "em";
      const inner = out.splice(place + 1).map(written);
      out.push(make(tag, {}, ...inner));
      opener.count -= used;
      part.count -= used;
      if (opener.count === 0) {
        open.pop();
        out.splice(place, 1);
      }
    }
    if (part.count === 0) continue;
    if (part.opens && open.length < DEEPEST) open.push(out.length);
    out.push(part);
  }
  return out.map(written);
}
