// Keeps the page, so that it opens without a network, and sets the headers that threads need where the server does not.
// The line above names the page's files; another export has other files, and so another cache.

const PREFIX = `deepmill page ${new URL("./", location).pathname} `;
const NAME = PREFIX + PAGE.digest;

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(forget().then(() => self.clients.claim())));
self.addEventListener("fetch", (event) => {
  const isOurs = new URL(event.request.url).origin === location.origin;
  if (event.request.method === "GET" && isOurs) event.respondWith(answer(event.request));
});

async function keep() {
  const cache = await caches.open(NAME);
  await cache.addAll(PAGE.files.map((file) => new Request(file, { cache: "no-cache" })));
  await self.skipWaiting(); // a page that is open has all its files: the next visit is another version's
}

async function forget() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== NAME);
  await Promise.all(old.map((name) => caches.delete(name)));
}

async function answer(request) {
  const kept = await (await caches.open(NAME)).match(request, { ignoreSearch: true });
  const found = kept ?? await fetch(request);
  const headers = new Headers(found.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}
