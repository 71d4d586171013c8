// llama.cpp as WebAssembly, on the visitor's own processor: the model is loaded once, and answers are asked for in turn.

import { Wllama } from "../engine/wllama.js";
import { areKept, files } from "./files.js";

const RELOADED = "deepmill.reloaded";
const MOST_THREADS = 8, BYTES_PER_THREAD = 8e6;

export const facts = await (await fetch("model.json")).json();
// How the engine runs here, once it is loaded.
export const state = { threads: 1, isKept: false };

// The page's service worker: with it the page opens without a network, and has the headers that threads need.
async function offline() {
  try {
    const registration = await navigator.serviceWorker.register("sw.js");
    await settled(registration.installing ?? registration.waiting ?? registration.active);
    if (crossOriginIsolated || !registration.active || sessionStorage.getItem(RELOADED)) return;
    sessionStorage.setItem(RELOADED, "once");
  } catch { return; } // no TLS, say, or a private window
  location.reload();
  await new Promise(() => {});
}

const settled = (worker) => new Promise((done) => {
  const look = () => { if (["activated", "redundant"].includes(worker.state)) done(); };
  worker.addEventListener("statechange", look);
  look();
});

// What JSPI and 64-bit memory want; other browsers get the compatible build.
function isModern() {
  try {
    new WebAssembly.Memory({ address: "i64", initial: 1n });
    return "Suspending" in WebAssembly;
  } catch { return false; }
}
const isFirefox = /Firefox\//.test(navigator.userAgent);

const quiet = { debug() {}, log() {}, warn() {}, error: console.error };

async function start(model, wasm, worker, threads) {
  const unused = {}; // wllama's own cache: files.js keeps and compares instead
  const address = URL.createObjectURL(wasm);
  const wllama = new Wllama({ default: address }, { logger: quiet, suppressNativeLog: true, cacheManager: unused, modelManager: unused });
  wllama.setCompat(worker ? { wasm: address, worker: { code: await worker.text() } } : null, "firefox_safari");
  try {
    await wllama.loadModel([model], { n_ctx: facts.context, n_parallel: 1, n_threads: threads, n_gpu_layers: 0, jinja: true, reasoning_format: "none", skip_chat_parsing: true });
  } catch (error) {
    await wllama.exit();
    throw error;
  }
  return wllama;
}

// Half of the processors, but for a model so small that threads would wait for each other more than they compute;
// ?threads=N in the address says otherwise.
function wantedThreads(bytes) {
  const asked = Number(new URLSearchParams(location.search).get("threads"));
  const worthwhile = Math.min(MOST_THREADS, Math.ceil(navigator.hardwareConcurrency / 2), Math.ceil(bytes / BYTES_PER_THREAD));
  return asked >= 1 ? Math.min(asked, navigator.hardwareConcurrency) : Math.max(1, worthwhile);
}

async function load(tell) {
  await offline();
  const names = isModern() || isFirefox ? ["model", "wasm"] : ["model", "compat_wasm", "compat_worker"];
  const [model, wasm, worker] = await files(facts, names, (come, all) => tell(`Loading, ${Math.floor(100 * come / all)} %`));
  tell("Starting…");
  const most = crossOriginIsolated ? wantedThreads(model.size) : 1;
  let wllama;
  try {
    wllama = await start(model, wasm, worker, most);
  } catch (error) {
    if (most === 1) throw error;
    wllama = await start(model, wasm, worker, 1); // some phones have no memory for threads
  }
  state.threads = wllama.getNumThreads();
  await navigator.storage?.persist?.().catch(() => {});
  state.isKept = Boolean(navigator.serviceWorker?.controller) && await areKept(facts, names);
  return wllama;
}

let loading = null;

// The loaded engine; the first who asks loads it. `tell` says how far it is.
export const engine = (tell) => loading ??= load(tell).catch((error) => { loading = null; throw error; });
