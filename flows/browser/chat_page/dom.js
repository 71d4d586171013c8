// Elements, made by hand: text is text.

export function element(tag, className = "", text = "") {
  const found = document.createElement(tag);
  if (className) found.className = className;
  if (text) found.textContent = text;
  return found;
}

export function button(label, act, { name = label, className = "" } = {}) {
  const found = element("button", className, label);
  found.type = "button";
  if (name !== label) found.setAttribute("aria-label", name);
  found.addEventListener("click", () => act(found));
  return found;
}
