// What the page asks of the server: the model's name, and answers as they stream in.

// The link that the server prints logs in: its fragment never leaves the browser.
const given = new URLSearchParams(location.hash.slice(1)).get("key");
if (given) {
  sessionStorage.setItem("key", given);
  history.replaceState(null, "", location.pathname);
}

export const useKey = (key) => sessionStorage.setItem("key", key);

export const headers = () => {
  const key = sessionStorage.getItem("key");
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
};

async function reason(response) {
  try { return (await response.json()).error.message; } catch { return `The server answered ${response.status}.`; }
}

// The card of the served model; null where a key is wanted.
export async function model() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (response.status === 401) return null;
  if (!response.ok) throw new Error(await reason(response));
  return (await response.json()).data[0];
}

// Spans of a text that stand in the training text, of the version that is served.
export async function trace(text) {
  const card = await model();
  const response = await fetch("/v1/trace", { method: "POST", headers: headers(), body: JSON.stringify({ model: card.id, text }) });
  if (!response.ok) throw new Error(await reason(response));
  return (await response.json()).spans;
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

// Pieces of an answer: {reasoning, content, by, tokens, cut}.
export async function* answer(name, messages, signal) {
  const body = JSON.stringify({ model: name, messages, stream: true, stream_options: { include_usage: true } });
  const response = await fetch("/v1/chat/completions", { method: "POST", headers: headers(), body, signal });
  if (!response.ok) throw new Error(await reason(response));
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const choice = event.choices[0];
    yield {
      reasoning: choice?.delta.reasoning_content ?? "",
      content: choice?.delta.content ?? "",
      cut: choice?.finish_reason === "length",
      by: event.model,
      tokens: event.usage?.completion_tokens,
    };
  }
}
