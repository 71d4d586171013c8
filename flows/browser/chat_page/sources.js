// "Where from?" under an answer: the training documents that its longest spans stand in, word for word.

import { trace } from "./api.js";
import { element } from "./dom.js";
import { answerActions } from "./view.js";

let isOffered = false;

// Whether the served version has an index at hand; true if that has changed, so that buttons come or go.
export function offerSources(card) {
  const before = isOffered;
  isOffered = Boolean(card.sources);
  return isOffered !== before;
}

answerActions.push({ label: "Where from?", name: "Where does this come from?", shown: (message) => isOffered && Boolean(message.content), act: showSources });

async function showSources(message, turn) {
  const open = turn.querySelector(".sources");
  if (open) { open.remove(); return; }
  const place = element("section", "sources", "Searching the training text…");
  place.setAttribute("role", "status");
  place.setAttribute("aria-label", "Where this comes from");
  turn.append(place);
  try {
    const spans = await trace(message.content);
    spans.sort((one, other) => other.words - one.words);
    place.replaceChildren(...spans.map(drawn));
    if (!spans.length) place.textContent = "No five words in a row of this stand in the training text.";
  } catch (error) { place.textContent = error.message; }
}

function drawn(span) {
  const found = element("div"), list = element("ul");
  found.append(element("blockquote", "", span.text));
  found.append(element("p", "by", `${span.words} words, in ${span.places} ${span.places === 1 ? "place" : "places"}`));
  list.append(...span.documents.map(entry));
  found.append(list);
  return found;
}

function entry(named) {
  const found = element("li", "", `${named.source}: ${named.id} `);
  found.append(element("span", "licence", named.licence ? `(${named.licence}) ` : ""));
  if (!named.url) return found;
  if (!/^https?:\/\//.test(named.url)) { found.append(element("span", "by", named.url)); return found; }
  const link = element("a", "", named.url);
  link.href = named.url;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  found.append(link);
  return found;
}
