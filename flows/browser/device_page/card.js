// The button "Model card": what the model is, and how it runs here.

import { button, element } from "./dom.js";
import { facts, state } from "./engine.js";
import { markdown } from "./markdown.js";

const dialog = element("dialog", "card"), body = element("div", "text"), close = element("form"), here = element("p", "by");
dialog.setAttribute("aria-label", "Model card");
body.tabIndex = 0;
body.setAttribute("role", "region");
body.setAttribute("aria-label", "The card");
close.method = "dialog";
close.className = "buttons";
close.append(element("button", "main", "Close"));
dialog.append(here, body, close);
document.body.append(dialog);

const megabytes = (file) => (file.parts.reduce((sum, part) => sum + part.bytes, 0) / 1e6).toFixed(1);

function running() {
  const threads = state.threads > 1 ? `${state.threads} threads` : "one thread";
  const kept = state.kept ? "Kept in this browser: it works without a network." : state.isSecure ? "Not kept in this browser." : "Not kept, for this address has no TLS: open the page by https, or on this machine.";
  return `${facts.label}, ${megabytes(facts.files.model)} MB, on this device with ${threads} (${facts.engine}). ${kept} Nothing that you write leaves it.`;
}

document.getElementById("instruct").before(button("Model card", () => {
  here.textContent = running();
  body.replaceChildren(markdown(facts.card || "This model has no card."));
  dialog.showModal();
}));
