// Chats, kept in this browser for this address. Where it keeps nothing, they live as long as the page.

const PREFIX = "deepmill.chat.";
const kept = new Map();

function storage() {
  try { return window.localStorage; } catch { return null; }
}

function read(name) {
  try {
    const chat = JSON.parse(storage().getItem(name));
    return chat && Array.isArray(chat.messages) ? chat : null;
  } catch { return null; }
}

// All chats, the latest first.
export function chats() {
  const found = new Map(kept);
  const place = storage();
  for (let number = 0; place && number < place.length; number += 1) {
    const name = place.key(number);
    const chat = name.startsWith(PREFIX) ? read(name) : null;
    if (chat) found.set(chat.id, chat);
  }
  return [...found.values()].sort((one, other) => other.changed - one.changed);
}

export const fresh = () => ({ id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "", system: "", messages: [], changed: Date.now() });

// Keep a chat; where there is no room, the oldest others go.
export function keep(chat) {
  chat.changed = Date.now();
  const others = chats().filter((other) => other.id !== chat.id);
  for (;;) {
    try {
      storage().setItem(PREFIX + chat.id, JSON.stringify(chat));
      kept.delete(chat.id);
      return;
    } catch {
      const oldest = others.pop();
      if (!oldest) { kept.set(chat.id, chat); return; }
      forget(oldest.id);
    }
  }
}

export function forget(id) {
  kept.delete(id);
  storage()?.removeItem(PREFIX + id);
}

// Another tab has changed something.
export const onChange = (act) => window.addEventListener("storage", (event) => { if (!event.key || event.key.startsWith(PREFIX)) act(); });
