// The chat page: which chat is open, what is asked, and what the keys do.

import { answer, model, useKey } from "./api.js";
import { offerSources } from "./sources.js";
import { chats, forget, fresh, keep, onChange } from "./store.js";
import { answerTurn, chatList, edit, userTurn } from "./view.js";

const find = (id) => document.getElementById(id);
const talk = find("talk"), question = find("question"), send = find("send"), side = find("side");
let chat = fresh(), underway = null, name = null;

async function meet() {
  try {
    const card = await model();
    if (!card) { if (!find("door").open) find("door").showModal(); return; }
    name = card.id;
    if (offerSources(card) && !underway) draw();
    find("model").textContent = card.version ? `${card.id}, version ${card.version}` : card.id;
  } catch (error) { find("model").textContent = error.message; }
}

const seconds = (milliseconds) => milliseconds < 100 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

const isAtEnd = () => talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60;
const toEnd = () => { talk.scrollTop = talk.scrollHeight; };

function draw() {
  talk.replaceChildren();
  chat.messages.forEach((message, place) => {
    if (message.role === "user") talk.append(userTurn(message, { edited: (text) => askAgain(place, text) }));
    else {
      const shown = answerTurn(message, { again: () => askAgain(place - 1) });
      shown.end();
      talk.append(shown.turn);
    }
  });
  if (!chat.messages.length) talk.append(Object.assign(document.createElement("p"), { className: "empty", textContent: "Ask something. Chats stay in this browser." }));
  find("instruct").classList.toggle("set", Boolean(chat.system));
  list();
  toEnd();
}

const list = () => chatList(find("chats"), chats(), chat, { open, remove });

function open(other) {
  underway?.abort();
  chat = other;
  draw();
  showSide(false);
  question.focus();
}

function remove(other) {
  if (!confirm(`Delete the chat “${other.title || "New chat"}”?`)) return;
  forget(other.id);
  if (other.id === chat.id) open(fresh());
  else list();
}

// Start over from the message of that place, with another text if one is given.
function askAgain(place, text) {
  underway?.abort();
  if (text !== undefined) chat.messages[place] = { role: "user", content: text };
  chat.messages.length = place + 1;
  draw();
  reply();
}

function ask(content) {
  chat.title ||= content.replaceAll(/\s+/g, " ").slice(0, 60);
  chat.messages.push({ role: "user", content });
  keep(chat);
  draw();
  reply();
}

function sent() {
  const system = chat.system ? [{ role: "system", content: chat.system }] : [];
  const told = chat.messages.filter((message) => !message.error || message.content);
  return [...system, ...told.map(({ role, content, reasoning_content }) => ({ role, content, ...(reasoning_content ? { reasoning_content } : {}) }))];
}

async function reply() {
  const asked = chat, place = asked.messages.length - 1, stop = new AbortController(), began = performance.now();
  const messages = sent(), message = { role: "assistant", content: "", reasoning_content: "" };
  const shown = answerTurn(message, { again: () => askAgain(place) });
  let drawing = 0, tokens = "";
  underway = stop;
  asked.messages.push(message);
  talk.append(shown.turn);
  talk.setAttribute("aria-busy", "true");
  send.textContent = "Stop";
  toEnd();
  try {
    for await (const piece of answer(name, messages, stop.signal)) {
      message.reasoning_content += piece.reasoning;
      message.content += piece.content;
      if (piece.tokens) tokens = `, ${piece.tokens} tokens${piece.speed ? ` (${piece.speed.toFixed(1)} a second)` : ""}`;
      message.cut ||= piece.cut;
      message.by = `${piece.by}${tokens}, ${seconds(performance.now() - began)}${message.cut ? ", cut at its longest" : ""}`;
      drawing ||= requestAnimationFrame(() => {
        const follow = isAtEnd();
        drawing = 0;
        shown.show(true);
        if (follow) toEnd();
      });
    }
  } catch (error) {
    if (error.name === "AbortError") message.by = `${message.by ?? name}, stopped`;
    else message.error = error.message;
  }
  cancelAnimationFrame(drawing);
  const follow = isAtEnd();
  shown.end();
  if (follow) toEnd();
  keep(asked);
  if (underway === stop) {
    underway = null;
    send.textContent = "Send";
    talk.removeAttribute("aria-busy");
    find("said").textContent = message.error ? `Failed: ${message.error}` : "The answer is complete.";
  }
  list();
  meet();
}

function showSide(isShown) {
  document.body.classList.toggle("side", isShown);
  find("menu").setAttribute("aria-expanded", String(isShown));
}

function editLast() {
  const place = chat.messages.findLastIndex((message) => message.role === "user");
  const turn = [...talk.querySelectorAll(".turn.user")].at(-1);
  if (turn) edit(turn, chat.messages[place], (text) => askAgain(place, text));
}

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (underway) { underway.abort(); return; }
  const content = question.value.trim();
  if (!content || !name) return;
  question.value = "";
  fit();
  ask(content);
});
const fit = () => { question.style.height = "auto"; question.style.height = `${question.scrollHeight + 2}px`; };
question.addEventListener("input", fit);
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); find("ask").requestSubmit(); }
  if (event.key === "ArrowUp" && !question.value && !underway) { event.preventDefault(); editLast(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("side")) { showSide(false); find("menu").focus(); }
  else underway?.abort();
});
find("fresh").addEventListener("click", () => open(fresh()));
find("menu").addEventListener("click", () => {
  showSide(!document.body.classList.contains("side"));
  if (document.body.classList.contains("side")) find("fresh").focus();
});
talk.addEventListener("click", () => showSide(false));
find("door").addEventListener("close", () => {
  const given = find("key").value;
  find("refused").hidden = !given; // seen only if the door opens again
  find("key").value = "";
  useKey(given);
  meet();
});
find("instruct").addEventListener("click", () => { find("system-text").value = chat.system; find("system").showModal(); });
find("system").addEventListener("close", () => {
  if (find("system").returnValue !== "save") return;
  chat.system = find("system-text").value.trim();
  if (chat.messages.length) keep(chat);
  find("instruct").classList.toggle("set", Boolean(chat.system));
});
onChange(list);
draw();
meet();
