// The large files of the folder: from this browser's cache, else from the server and then kept. Each is compared with the
// digests of its chunks, wherever it comes from.

const place = async () => globalThis.caches && caches.open(`deepmill files ${new URL("..", import.meta.url).pathname}`).catch(() => null);

const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// Pages without TLS (but for this machine's own) have no digests: there the size has to do.
async function isWhole(blob, part, chunk) {
  if (blob.size !== part.bytes) return false;
  if (!globalThis.crypto?.subtle) return true;
  for (const [number, digest] of part.digests.entries()) {
    const bytes = await blob.slice(number * chunk, (number + 1) * chunk).arrayBuffer();
    if (hex(await crypto.subtle.digest("SHA-256", bytes)) !== digest) return false;
  }
  return true;
}

async function download(part, tell) {
  const response = await fetch(part.path, { cache: "no-cache" });
  if (!response.ok) throw new Error(`${part.path}: the server answered ${response.status}`);
  const counted = new TransformStream({ transform: (bytes, onward) => { tell(bytes.length); onward.enqueue(bytes); } });
  return new Response(response.body.pipeThrough(counted)).blob();
}

async function part(wanted, chunk, kept, tell) {
  const found = await (await kept?.match(wanted.path))?.blob();
  if (found && await isWhole(found, wanted, chunk)) { tell(wanted.bytes); return found; }
  const blob = await download(wanted, tell);
  if (!await isWhole(blob, wanted, chunk)) throw new Error(`${wanted.path}: not the file that was exported; copy the folder again`);
  try {
    await kept?.put(wanted.path, new Response(blob));
  } catch { return blob; } // no room: it is fetched again next time
  return blob;
}

// The files of those names, as blobs; `tell` gets the bytes that have come and all of them.
export async function files(facts, names, tell) {
  const kept = await place(), wanted = names.map((name) => facts.files[name]);
  const all = wanted.flatMap((file) => file.parts).reduce((sum, each) => sum + each.bytes, 0);
  let come = 0;
  const count = (bytes) => tell(come += bytes, all);
  const blobs = [];
  for (const file of wanted) {
    const parts = [];
    for (const each of file.parts) parts.push(await part(each, facts.chunk, kept, count));
    blobs.push(new Blob(parts, { type: file.type }));
  }
  await forget(facts, kept);
  return blobs;
}

// Whether the files of those names are kept.
export async function areKept(facts, names) {
  const kept = await place();
  if (!kept) return false;
  const found = await Promise.all(names.flatMap((name) => facts.files[name].parts).map((each) => kept.match(each.path)));
  return found.every(Boolean);
}

// What an earlier export left here goes.
async function forget(facts, kept) {
  const wanted = new Set(Object.values(facts.files).flatMap((file) => file.parts).map((each) => new URL(each.path, document.baseURI).href));
  for (const request of await kept?.keys() ?? []) if (!wanted.has(request.url)) await kept.delete(request);
}
