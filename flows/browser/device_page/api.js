// What the page asks, answered in the page itself: the same three questions that the served page asks its server.

import { engine, facts } from "./engine.js";
import { Splitter } from "./reasoning.js";

const status = document.getElementById("model");
const control = facts.control.length ? new RegExp(facts.control.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|"), "g") : null;

export const useKey = () => {};

// The card of the model, once it is loaded.
export async function model() {
  await engine((text) => { status.textContent = text; });
  return { id: facts.name, version: facts.version };
}

export async function trace() { throw new Error("The training text is not in this folder."); }

// What people write is text: a control token that they name is broken, for llama.cpp would read it as one.
export const plain = (text) => control ? text.replace(control, (name) => `${name[0]} ${name.slice(1)}`) : text;

const asked = ({ role, content, reasoning_content }) => ({ role, content: plain(content), ...(reasoning_content ? { reasoning_content: plain(reasoning_content) } : {}) });

// Pieces of an answer: {reasoning, content, by, tokens, speed, cut}.
export async function* answer(name, messages, signal) {
  const wllama = await engine(() => {});
  const splitter = new Splitter();
  splitter.feed(facts.begun);
  const chunks = await wllama.createChatCompletion({
    messages: messages.map(asked), stream: true, temperature: facts.temperature, top_p: facts.top_p, top_k: 0, min_p: 0,
    max_tokens: facts.context, timings_per_token: true, abortSignal: signal,
  });
  const by = { by: facts.label };
  for await (const chunk of chunks) {
    const choice = chunk.choices[0], timings = chunk.timings;
    yield {
      ...by, ...splitter.feed(choice?.delta.content ?? ""), cut: choice?.finish_reason === "length",
      tokens: timings?.predicted_n, speed: timings?.predicted_per_second,
    };
  }
  yield { ...by, ...splitter.end() };
}
