// The button "Model card": what the model is, and how it runs here.

import { button, element } from "./dom.js";
import { facts, state } from "./engine.js";
import { markdown } from "./markdown.js";

const dialog = element("dialog"), title = element("h2", "", "Model card"), here = element("p", "by"), body = element("div", "text"), close = element("form", "buttons");
title.id = "card-title";
title.tabIndex = -1;
title.autofocus = true; // not the button below, which would scroll to the end
dialog.setAttribute("aria-labelledby", title.id);
close.method = "dialog";
close.append(element("button", "main", "Close"));
dialog.append(title, here, body, close);
document.body.append(dialog);

const megabytes = (file) => (file.parts.reduce((sum, part) => sum + part.bytes, 0) / 1e6).toFixed(1);

function running() {
  const threads = state.threads > 1 ? `${state.threads} threads` : "one thread";
  const unkept = isSecureContext ? "Not kept in this browser." : "Not kept, for this address has no TLS: open the page by https, or on this machine.";
  const kept = state.isKept ? "Kept in this browser: it works without a network." : unkept;
  return `${facts.label}, ${megabytes(facts.files.model)} MB, on this device with ${threads} (${facts.engine}). ${kept} Nothing that you write leaves it.`;
}

document.getElementById("side").append(button("Model card", () => {
  here.textContent = running();
  body.replaceChildren(markdown(facts.card || "This model has no card."));
  dialog.showModal();
}));
