"use strict";
// Model text is only ever set as textContent. The conversation lives in this page alone.
const find = (id) => document.getElementById(id);
const talk = find("talk"), question = find("question"), send = find("send");
let messages = [], underway = null, name = null;

// The link that the server prints logs in: its fragment never leaves the browser.
const given = new URLSearchParams(location.hash.slice(1)).get("key");
if (given) {
  sessionStorage.setItem("key", given);
  history.replaceState(null, "", location.pathname);
}

const headers = () => {
  const key = sessionStorage.getItem("key");
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
};

function add(parent, tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

async function reason(response) {
  try { return (await response.json()).error.message; } catch { return `status ${response.status}`; }
}

async function meet() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (response.status === 401) { find("door").showModal(); return; }
  if (!response.ok) { find("model").textContent = await reason(response); return; }
  const [model] = (await response.json()).data;
  name = model.id;
  find("model").textContent = model.version ? `${model.id}, version ${model.version}` : model.id;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split("\n");
    held = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

async function answer() {
  const turn = add(talk, "div", "turn model");
  const folded = document.createElement("details");
  const title = add(folded, "summary", "", "Thinking…"), reasoning = add(folded, "div", "reasoning");
  const text = document.createElement("div"), by = document.createElement("div");
  text.className = "text";
  by.className = "by";
  turn.append(text, by);
  const message = { role: "assistant", content: "", reasoning_content: "" };
  const began = performance.now();
  underway = new AbortController();
  send.textContent = "Stop";
  try {
    const body = JSON.stringify({ model: name, messages, stream: true, stream_options: { include_usage: true } });
    const response = await fetch("/v1/chat/completions", { method: "POST", headers: headers(), body, signal: underway.signal });
    if (!response.ok) throw new Error(await reason(response));
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const delta = event.choices[0]?.delta ?? {};
      if (delta.reasoning_content) {
        if (!folded.parentNode) turn.prepend(folded);
        message.reasoning_content += delta.reasoning_content;
        reasoning.textContent = message.reasoning_content;
      }
      if (delta.content) {
        message.content += delta.content;
        text.textContent = message.content;
        title.textContent = "Reasoning";
      }
      const tokens = event.usage ? `, ${event.usage.completion_tokens} tokens` : "";
      by.textContent = `${event.model}${tokens}, ${((performance.now() - began) / 1000).toFixed(1)} s`;
      talk.scrollTop = talk.scrollHeight;
    }
    title.textContent = "Reasoning";
  } catch (error) {
    if (error.name !== "AbortError") add(turn, "div", "error", error.message);
  }
  messages.push(message);
  underway = null;
  send.textContent = "Send";
  meet();
}

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (underway) { underway.abort(); return; }
  const content = question.value.trim();
  if (!content || !name) return;
  question.value = "";
  messages.push({ role: "user", content });
  add(talk, "div", "turn user", content);
  answer();
});
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); find("ask").requestSubmit(); }
});
question.addEventListener("input", () => { question.style.height = "auto"; question.style.height = `${question.scrollHeight}px`; });
find("fresh").addEventListener("click", () => { underway?.abort(); messages = []; talk.replaceChildren(); question.focus(); });
find("door").addEventListener("close", () => { sessionStorage.setItem("key", find("key").value); meet(); });
meet();
