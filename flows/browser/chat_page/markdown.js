// Markdown as elements. Text is only ever set as textContent and links lead to the web or to mail: what a model writes
// is never HTML, loads nothing and runs nothing.

import { element } from "./dom.js";

const INLINE = [
  [/`{1,3}([^`]+?)`{1,3}/, (m) => element("code", "", m[1])],
  [/\*\*(?=\S)(.+?\S?)\*\*/, (m) => filled("strong", m[1])],
  [/(?<![\w*])\*(?=[^\s*])([^*]*[^\s*])\*(?![\w*])/, (m) => filled("em", m[1])],
  [/(?<!\w)__(?=\S)(.+?\S?)__(?!\w)/, (m) => filled("strong", m[1])],
  [/(?<!\w)_(?=[^\s_])([^_]*[^\s_])_(?!\w)/, (m) => filled("em", m[1])],
  [/~~(?=\S)(.+?\S?)~~/, (m) => filled("del", m[1])],
  [/!?\[([^\]]*)\]\(\s*<?((?:https?:|mailto:)[^\s)>]+)>?(?:\s+"[^"]*")?\s*\)/, (m) => link(m[1] || m[2], m[2])],
  [/<((?:https?:\/\/|mailto:)[^\s>]+)>/, (m) => link(m[1], m[1])],
  [/(?<!\w)https?:\/\/[^\s<>()]+[^\s<>().,;:!?'"]/, (m) => link(m[0], m[0])],
  [/\\([!-/:-@[-`{-~])/, (m) => document.createTextNode(m[1])],
  [/ {2,}\n|\n/, () => document.createElement("br")],
];

function filled(tag, text) {
  const found = element(tag);
  inline(found, text);
  return found;
}

function link(text, address) {
  const found = element("a", "", text);
  found.href = address;
  found.target = "_blank";
  found.rel = "noopener noreferrer nofollow";
  return found;
}

// Put the elements of a text without blocks into `parent`.
function inline(parent, text) {
  while (text) {
    let first = null, make = null;
    for (const [pattern, build] of INLINE) {
      const found = pattern.exec(text);
      if (found && (!first || found.index < first.index)) [first, make] = [found, build];
    }
    if (!first) break;
    parent.append(text.slice(0, first.index), make(first));
    text = text.slice(first.index + first[0].length);
  }
  parent.append(text);
}

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const DIVIDER = /^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const begins = (line) => [FENCE, ITEM, HEADING, RULE, QUOTE].some((pattern) => pattern.test(line));

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

function code(lines, [, indent, fence, language]) {
  const body = [];
  while (lines.length) {
    const line = lines.shift();
    if (line.trim().startsWith(fence) && !line.trim().replaceAll(fence[0], "")) break;
    body.push(line.startsWith(indent) ? line.slice(indent.length) : line);
  }
  const block = element("figure", "code");
  block.append(element("figcaption", "", language || "text"));
  const text = element("pre");
  text.tabIndex = 0; // it scrolls
  text.append(element("code", "", body.join("\n")));
  block.append(text);
  return block;
}

function list(lines) {
  const [, indent, mark] = ITEM.exec(lines[0]);
  const isOrdered = /\d/.test(mark);
  const found = element(isOrdered ? "ol" : "ul");
  if (isOrdered && parseInt(mark, 10) !== 1) found.start = parseInt(mark, 10);
  while (lines.length) {
    const item = ITEM.exec(lines[0]);
    if (!item || item[1].length > indent.length + 1 || item[1].length < indent.length || /\d/.test(item[2]) !== isOrdered) break;
    lines.shift();
    const body = [item[3]];
    const inner = indent.length + 2;
    while (lines.length) {
      const depth = lines[0].search(/\S/);
      if (depth < 0 ? lines.length > 1 && lines[1].search(/\S/) < inner : depth < inner && (begins(lines[0]) || body.at(-1) === "")) break;
      body.push(depth < 0 ? "" : lines[0].slice(Math.min(depth, item[0].length - item[3].length)));
      lines.shift();
    }
    const entry = element("li");
    blocks(entry, body, true);
    found.append(entry);
    while (lines.length > 1 && !lines[0].trim() && ITEM.exec(lines[1])?.[1].length === indent.length) lines.shift();
  }
  return found;
}

function table(lines) {
  const found = element("table"), head = cells(lines.shift());
  const sides = cells(lines.shift()).map((cell) => (/^:-+:$/.test(cell) ? "center" : /-:$/.test(cell) ? "right" : ""));
  const row = (texts, tag) => {
    const line = element("tr");
    head.forEach((_, place) => {
      const cell = filled(tag, texts[place] ?? "");
      if (sides[place]) cell.className = sides[place];
      line.append(cell);
    });
    return line;
  };
  found.append(row(head, "th"));
  while (lines.length && lines[0].includes("|") && lines[0].trim()) found.append(row(cells(lines.shift()), "td"));
  const frame = element("div", "wide");
  frame.tabIndex = 0; // it scrolls
  frame.append(found);
  return frame;
}

// Put the blocks of `lines` into `parent`; a paragraph of a tight list has no element of its own.
function blocks(parent, lines, isTight = false) {
  while (lines.length) {
    const line = lines[0], fence = FENCE.exec(line), heading = HEADING.exec(line);
    if (!line.trim()) lines.shift();
    else if (fence) { lines.shift(); parent.append(code(lines, fence)); }
    else if (heading) { lines.shift(); parent.append(filled(`h${Math.min(6, heading[1].length + 1)}`, heading[2])); }
    else if (RULE.test(line)) { lines.shift(); parent.append(element("hr")); }
    else if (QUOTE.test(line)) {
      const quoted = [], found = element("blockquote");
      while (lines.length && QUOTE.test(lines[0])) quoted.push(lines.shift().replace(QUOTE, ""));
      blocks(found, quoted);
      parent.append(found);
    } else if (ITEM.test(line)) parent.append(list(lines));
    else if (line.includes("|") && DIVIDER.test(lines[1] ?? "") && lines[1].includes("-")) parent.append(table(lines));
    else {
      const text = [lines.shift()];
      while (lines.length && lines[0].trim() && !begins(lines[0])) text.push(lines.shift());
      if (isTight) inline(parent, text.join("\n").trim());
      else parent.append(filled("p", text.join("\n").trim()));
    }
  }
}

// The elements of a Markdown text.
export function markdown(text) {
  const found = document.createDocumentFragment();
  blocks(found, text.replaceAll("\r\n", "\n").replaceAll("\t", "    ").split("\n"));
  return found;
}
