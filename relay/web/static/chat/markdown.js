// Markdown as nodes, a block at a time.
//
//     const answer = new Markdown(element);
//     answer.show("The **first** words");           as often as there is more;
//     answer.show("The **first** words of many");   only the block that grows is made anew
//
// What is left out is left out on purpose: HTML (shown as text), pictures (shown as links), code by
// indentation and underlined headings (models mean something else by both). Formulas are shown as they
// are written, with nothing in them taken for Markdown.

import { codeBlock, fill } from "./code.js";
import { make } from "./elements.js";
import { inline } from "./inline.js";

const DEEPEST = 12; // lists and quotes in one another; what is deeper is text

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)/;
const COLUMNS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const FORMULA = /^ {0,3}(\$\$|\\\[)/;
const LONGEST_FORMULA = 60; // lines
const TASK = /^\[([ xX])\] /;

/** Shows text that grows in an element. */
export class Markdown {
  constructor(element) {
    this.element = element;
    this.clear();
  }

  clear() {
    this.element.replaceChildren();
    this.text = "";
    this.settled = 0; // where the first block begins that may change
    this.open = []; // from that one on: {element, source, grow}
  }

  show(raw) {
    const text = raw.replace(/\r\n?/g, "\n").replaceAll("\t", "    ");
    if (!text.startsWith(this.text)) this.clear();
    this.text = text;
    const rest = text.slice(this.settled);
    const blocks = read(rest.split("\n"), 0);
    blocks.forEach((block, index) => {
      const source = rest.slice(block.start, blocks[index + 1]?.start);
      const known = this.open[index];
      if (known?.source === source) return;
      if (known?.grow?.(block)) known.source = source;
      else this.#put(index, source, block);
    });
    for (const { element } of this.open.splice(blocks.length)) element.remove();
    // A line that has only begun may turn out to belong to the block before it: "*" to "*word*".
    const firm = blocks.length - (blocks.at(-1)?.start > rest.lastIndexOf("\n") ? 2 : 1);
    if (firm > 0) {
      this.settled += blocks[firm].start;
      this.open.splice(0, firm);
    }
  }

  #put(index, source, block) {
    const element = block.build();
    if (this.open[index]) this.open[index].element.replaceWith(element);
    else this.element.append(element);
    this.open[index] = { element, source, grow: growing(block, element) };
  }
}

/**
 * How a block grows in its place; null when it is made anew: `grow(next)` tells whether it could.
 *
 * Code grows by its text alone, so that a selection and the place scrolled to stay; lists and tables
 * by their parts, or the last of a thousand lines would cost as much as all of them.
 */
function growing(block, element) {
  if (block.kind === "code") {
    return (next) => {
      if (next.kind !== "code" || next.language !== block.language) return false;
      fill(element.querySelector("code"), next.text, next.language, next.closed);
      return true;
    };
  }
  let { parts } = block;
  if (!parts) return null;
  const holder = element.querySelector(":scope > table > tbody") ?? element;
  return (next) => {
    if (next.kind !== block.kind) return false;
    let same = 0;
    while (same < parts.length && parts[same] === next.parts[same]) same += 1;
    while (holder.children.length > same) holder.lastElementChild.remove();
    holder.append(...next.parts.slice(same).map((_, index) => next.buildPart(same + index)));
    parts = next.parts;
    return true;
  };
}

/** The blocks of those lines: what they are, where they start (in characters), how to build them. */
function read(lines, depth) {
  const blocks = [];
  let start = 0;
  for (let at = 0; at < lines.length; ) {
    if (lines[at].trim() === "") {
      start += lines[at].length + 1;
      at += 1;
      continue;
    }
    const block = readBlock(lines, at, depth);
    blocks.push({ ...block, start });
    for (; at < block.end; at += 1) start += lines[at].length + 1;
  }
  return blocks;
}

const build = (lines, depth) => read(lines, depth).map((block) => block.build());

function readBlock(lines, at, depth) {
  const line = lines[at];
  let match;
  if ((match = FENCE.exec(line))) return readCode(lines, at, match);
  if ((match = HEADING.exec(line))) {
    const text = line.slice(match[0].length).trim().replace(/(?:^|\s)#+$/, "");
    // The page has its own h1, and each message an h2.
    const tag = `h${Math.min(match[1].length + 2, 6)}`;
    return { end: at + 1, build: () => make(tag, {}, ...inline(text)) };
  }
  if (RULE.test(line)) return { end: at + 1, build: () => make("hr") };
  if (depth < DEEPEST && QUOTE.test(line)) return readQuote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return readList(lines, at, depth);
  if (isTable(lines, at)) return readTable(lines, at);
  let end = endOfFormula(lines, at);
  if (end) {
    const text = lines.slice(at, end).join("\n").trim();
    return { end, build: () => make("pre", { class: "formula", tabindex: "0" }, make("code", {}, text)) };
  }
  end = at + 1;
  while (end < lines.length && !interrupts(lines, end)) end += 1;
  const text = lines.slice(at, end).map((one) => one.trimStart()).join("\n").trimEnd();
  return { end, build: () => make("p", {}, ...inline(text)) };
}

function interrupts(lines, at) {
  const line = lines[at];
  return line.trim() === "" || [FENCE, HEADING, RULE, QUOTE, ITEM].some((one) => one.test(line)) || isTable(lines, at) || endOfFormula(lines, at) > 0;
}

/** Behind the last line of a formula that begins here; 0 where none does, or a blank line is in it. */
function endOfFormula(lines, at) {
  const match = FORMULA.exec(lines[at]);
  if (!match) return 0;
  const close = match[1] === "$$" ? "$$" : "\\]";
  const first = lines[at].slice(match[0].length);
  const last = Math.min(lines.length, at + LONGEST_FORMULA);
  for (let end = at; end < last; end += 1) {
    const line = (end === at ? first : lines[end]).trimEnd().replace(/[.,;]$/, "");
    if (line.endsWith(close)) return line.indexOf(close) === line.length - close.length ? end + 1 : 0;
    if (end > at && line.trim() === "" && end + 1 < lines.length) return 0;
  }
  // One that is being written has no end yet.
  return last === lines.length && first.trim() === "" ? last : 0;
}

function readCode(lines, at, [, fence, info]) {
  let end = at + 1;
  const closes = (line) => line.trim().startsWith(fence) && line.trim() === fence[0].repeat(line.trim().length);
  while (end < lines.length && !closes(lines[end])) end += 1;
  const indent = lines[at].length - lines[at].trimStart().length;
  const strip = (line) => line.slice(Math.min(indent, line.length - line.trimStart().length));
  const text = lines.slice(at + 1, end).map(strip).join("\n");
  const language = info.trim().split(/\s/)[0].slice(0, 40);
  const closed = end < lines.length;
  return { kind: "code", language, text, closed, end: closed ? end + 1 : end, build: () => codeBlock(text, language, closed) };
}

function readQuote(lines, at, depth) {
  let end = at;
  while (end < lines.length && (QUOTE.test(lines[end]) || (end > at && !interrupts(lines, end)))) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { end, build: () => make("blockquote", {}, ...build(inner, depth + 1)) };
}

function readList(lines, at, depth) {
  const [, , first] = ITEM.exec(lines[at]);
  const kind = (marker) => (/\d/.test(marker) ? "ol" : "ul");
  const items = [];
  let content = 0; // the column where the item's text begins
  let end = at;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    const indent = line.length - line.trimStart().length;
    const match = ITEM.exec(line);
    if (line.trim() === "") {
      items.at(-1).push("");
    } else if (items.length && indent >= Math.min(content, items.column + 2) && indent > items.column) {
      items.at(-1).push(line.slice(Math.min(indent, content)));
    } else if (match && !RULE.test(line) && kind(match[2]) === kind(first)) {
      items.column = indent;
      content = Math.min(match[0].length, indent + match[2].length + 4);
      items.push([line.slice(content)]);
    } else if (items.at(-1).at(-1) !== "" && !interrupts(lines, end)) {
      items.at(-1).push(line);
    } else {
      break;
    }
  }
  while (end > at && lines[end - 1].trim() === "") end -= 1;
  const start = kind(first) === "ol" && Number.parseInt(first, 10) !== 1 ? Number.parseInt(first, 10) : null;
  const buildPart = (index) => buildItem(items[index], depth);
  return {
    kind: `${kind(first)} ${start}`,
    parts: items.map((item) => item.join("\n")),
    buildPart,
    end,
    build: () => make(kind(first), { start }, ...items.map((_, index) => buildPart(index))),
  };
}

function buildItem(lines, depth) {
  const task = TASK.exec(lines[0]);
  const rest = task ? [lines[0].slice(task[0].length), ...lines.slice(1)] : lines;
  const item = make("li", { class: task ? "task" : null }, ...build(rest, depth + 1));
  if (task) (item.firstElementChild ?? item).prepend(task[1] === " " ? "☐ " : "☑ ");
  return item;
}

const isTable = (lines, at) =>
  lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") &&
  COLUMNS.test(lines[at + 1]) && cells(lines[at]).length === cells(lines[at + 1]).length;

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function readTable(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const sides = cells(lines[at + 1]).map((cell) => {
    if (!cell.endsWith(":")) return null;
    return cell.startsWith(":") ? "centre" : "right";
  });
  const row = (line, tag) => {
    const texts = cells(line);
    return make("tr", {}, ...sides.map((side, column) => make(tag, { class: side }, ...inline(texts[column] ?? ""))));
  };
  const parts = lines.slice(at + 2, end);
  const buildPart = (index) => row(parts[index], "td");
  const body = () => make("tbody", {}, ...parts.map((_, index) => buildPart(index)));
  const table = () => make("table", {}, make("thead", {}, row(lines[at], "th")), body());
  return {
    kind: `table ${lines[at]}\n${lines[at + 1]}`,
    parts,
    buildPart,
    end,
    build: () => make("div", { class: "table", tabindex: "0" }, table()),
  };
}
