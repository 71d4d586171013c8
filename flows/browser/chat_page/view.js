// What a conversation looks like: its turns with their buttons, and the list of chats.

import { button, element } from "./dom.js";
import { markdown } from "./markdown.js";

// More buttons under an answer, for other modules: {label, shown(message), act(message, turn)}, as "Where from?".
export const answerActions = [];

async function copy(text, pressed) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no clipboard for pages without TLS: select it by hand
    const area = element("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const label = pressed.textContent;
  pressed.textContent = "Copied";
  setTimeout(() => { pressed.textContent = label; }, 1200);
}

function withCopies(body) {
  for (const block of body.querySelectorAll("figure.code")) {
    const text = block.querySelector("code").textContent;
    block.querySelector("figcaption").append(button("Copy", (pressed) => copy(text, pressed), { name: "Copy the code" }));
  }
}

export function userTurn(message, acts) {
  const turn = element("article", "turn user");
  turn.setAttribute("aria-label", "You");
  turn.append(element("div", "text", message.content));
  const bar = element("div", "bar");
  bar.append(
    button("Edit", () => edit(turn, message, acts.edited), { name: "Edit this message" }),
    button("Copy", (pressed) => copy(message.content, pressed), { name: "Copy this message" }),
  );
  turn.append(bar);
  return turn;
}

// Change a message in its place; `done` gets the new text.
export function edit(turn, message, done) {
  const form = element("form", "edit"), area = element("textarea"), before = [...turn.childNodes];
  area.value = message.content;
  area.setAttribute("aria-label", "Edit your message");
  area.rows = Math.min(10, message.content.split("\n").length + 1);
  const close = () => { turn.replaceChildren(...before); document.getElementById("question").focus(); };
  const save = element("button", "main", "Send");
  form.append(area, button("Cancel", close), save);
  form.addEventListener("submit", (event) => { event.preventDefault(); if (area.value.trim()) done(area.value.trim()); });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); close(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  turn.replaceChildren(form);
  area.focus();
}

// An answer that may still grow: `show` draws the message as it is, `end` adds its buttons.
export function answerTurn(message, acts) {
  const turn = element("article", "turn model"), folded = element("details"), title = element("summary");
  const reasoning = element("div", "reasoning"), text = element("div", "text"), by = element("div", "by"), bar = element("div", "bar");
  turn.setAttribute("aria-label", "Answer");
  folded.append(title, reasoning);
  turn.append(text, by, bar);
  const show = (isGrowing) => {
    if (message.reasoning_content) {
      if (!folded.parentNode) turn.prepend(folded);
      reasoning.textContent = message.reasoning_content;
      title.textContent = isGrowing && !message.content ? "Thinking…" : "Reasoning";
    }
    text.replaceChildren(markdown(message.content));
    by.textContent = message.by ?? "";
  };
  const end = () => {
    show(false);
    withCopies(text);
    if (message.error) turn.insertBefore(element("div", "error", message.error), by);
    bar.replaceChildren(button("Copy", (pressed) => copy(message.content, pressed), { name: "Copy the answer" }));
    bar.append(button("Again", () => acts.again(), { name: "Ask for another answer" }));
    for (const more of answerActions) {
      if (more.shown(message)) bar.append(button(more.label, () => more.act(message, turn), { name: more.name ?? more.label }));
    }
  };
  return { turn, show, end };
}

export function chatList(place, chats, current, acts) {
  place.replaceChildren(...chats.map((chat) => {
    const entry = element("li"), title = chat.title || "New chat";
    const open = button(title, () => acts.open(chat), { className: "open" });
    if (chat.id === current.id) open.setAttribute("aria-current", "true");
    entry.append(open, button("×", () => acts.remove(chat), { name: `Delete the chat ${title}`, className: "remove" }));
    return entry;
  }));
}
