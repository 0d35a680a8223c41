// Code in colour: comments, strings, numbers, words of the language. Text in, nodes and strings out.
//
// One pass of one pattern, of which each part ends or has a bound, so no input takes long. A guess is
// enough here: what is coloured wrongly still says what it says.

import { make } from "./elements.js";

const LONGEST = 20_000; // characters; what is longer stays plain

const HASH = "(?<![^\\s;(])#[^\\n]*";
const SLASHES = "//[^\\n]*|/\\*[^]*?(?:\\*/|$)";
const TEXT = `"(?:[^"\\\\\\n]|\\\\[^]){0,2000}"|'(?:[^'\\\\\\n]|\\\\[^]){0,2000}'`;
const LONG_TEXT = `"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)`;
const TICKS = "`(?:[^`\\\\]|\\\\[^]){0,2000}`";

const words = (text) => new Set(text.split(" "));
const VALUES = "true false null";

const LIKE_C = {
  comment: SLASHES,
  text: `${TICKS}|"(?:[^"\\\\\\n]|\\\\[^]){0,2000}"|'(?:[^'\\\\\\n]|\\\\[^]){1,2000}?'`,
  words: words(`${VALUES} abstract as async await bool boolean break case catch char class const continue default defer delete do double else enum export extends extern final finally float fn for foreach from func function go goto if impl implements import in instanceof int interface internal is let long loop match mod module mut namespace new nil of operator override package private protected pub public return self short signed sizeof static string struct super switch template this throw throws trait try type typedef typeof undefined union unsafe unsigned use using val var virtual void volatile when where while with yield`),
};
const LANGUAGES = {
  c: LIKE_C,
  json: { comment: SLASHES, text: TEXT, words: words(VALUES) },
  yaml: { comment: HASH, text: TEXT, words: words(`${VALUES} yes no on off`) },
  python: {
    comment: HASH,
    text: `${LONG_TEXT}|${TEXT}`,
    words: words("False None True and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return self try while with yield begin end do module require then unless until nil true false"),
  },
  shell: {
    comment: HASH,
    text: `"(?:[^"\\\\]|\\\\[^]){0,2000}"|'[^']{0,2000}'`,
    words: words("if then else elif fi for while until do done case esac in function return export local set source select echo cd sudo exit"),
  },
  sql: {
    comment: `--[^\\n]*|${SLASHES}`,
    text: TEXT,
    words: words("select from where and or not in is null as on join left right inner outer full cross group by order having limit offset insert into values update set delete create table view index drop alter add primary key foreign references unique default check constraint distinct union all exists between like case when then else end with returning begin commit rollback asc desc true false"),
    anyCase: true,
  },
  html: { comment: "<!--[^]*?(?:-->|$)", text: TEXT, mark: "</?[A-Za-z][\\w:-]*|/?>|<!doctype" , words: words("") },
};
const NAMES = {
  c: "c h cpp c++ cc cs csharp css dart go golang groovy java javascript js jsx kotlin kt less mjs objc php rs rust scala scss swift ts tsx typescript zig",
  json: "json json5 jsonc jsonl",
  yaml: "yaml yml toml ini conf dockerfile docker makefile make nginx properties hcl terraform",
  python: "python py python3 pycon rb ruby r elixir perl julia gdscript",
  shell: "bash sh shell zsh console shell-session fish",
  sql: "sql postgresql postgres mysql sqlite",
  html: "html xml svg vue xhtml",
};
const BY_NAME = new Map(Object.entries(NAMES).flatMap(([kind, names]) => names.split(" ").map((name) => [name, kind])));

for (const language of Object.values(LANGUAGES)) {
  const parts = [`(?<comment>${language.comment})`, `(?<text>${language.text})`];
  if (language.mark) parts.push(`(?<mark>${language.mark})`);
  parts.push("(?<number>\\b\\d[\\w.]*)", "(?<word>[A-Za-z_$][\\w$]*)");
  language.pattern = new RegExp(parts.join("|"), "g");
}

/** That code as strings and coloured spans; null where its language is not known. */
export function coloured(text, name) {
  const language = LANGUAGES[BY_NAME.get(name.toLowerCase())];
  if (!language || text.length > LONGEST) return null;
  const out = [];
  let at = 0;
  for (const match of text.matchAll(language.pattern)) {
    const kind = kindOf(match, language);
    if (!kind) continue;
    if (match.index > at) out.push(text.slice(at, match.index));
    out.push(make("span", { class: `c-${kind}` }, match[0]));
    at = match.index + match[0].length;
  }
  out.push(text.slice(at));
  return out;
}

function kindOf({ groups }, language) {
  if (groups.comment !== undefined) return "comment";
  if (groups.text !== undefined) return "text";
  if (groups.number !== undefined) return "number";
  if (groups.mark !== undefined) return "word";
  const word = language.anyCase ? groups.word.toLowerCase() : groups.word;
  return language.words.has(word) ? "word" : null;
}
