// llama.cpp as WebAssembly, on the visitor's own processor: the model is loaded once, and answers are asked for in turn.

import { Wllama } from "../engine/wllama.js";
import { areKept, files } from "./files.js";

const RELOADED = "deepmill.reloaded";
const MOST_THREADS = 8;

export const facts = await (await fetch("model.json")).json();
export const state = { threads: 1, kept: false, isSecure: isSecureContext };

// From the second visit on the page comes from its service worker, which also sets the headers that threads need.
async function offline() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
  } catch { return; } // a private window, say
  if (crossOriginIsolated || sessionStorage.getItem(RELOADED)) return;
  sessionStorage.setItem(RELOADED, "once");
  location.reload();
  await new Promise(() => {});
}

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

async function load(tell) {
  await offline();
  const names = isModern() || isFirefox ? ["model", "wasm"] : ["model", "compat_wasm", "compat_worker"];
  const [model, wasm, worker] = await files(facts, names, (come, all) => tell(`Loading, ${Math.floor(100 * come / all)} %`));
  tell("Starting…");
  const most = crossOriginIsolated ? Math.min(MOST_THREADS, Math.max(1, Math.ceil(navigator.hardwareConcurrency / 2))) : 1;
  let wllama;
  try {
    wllama = await start(model, wasm, worker, most);
  } catch (error) {
    if (most === 1) throw error;
    wllama = await start(model, wasm, worker, 1); // some phones have no memory for threads
  }
  state.threads = wllama.getNumThreads();
  await navigator.storage?.persist?.().catch(() => {});
  state.kept = Boolean(navigator.serviceWorker?.controller) && await areKept(facts, names);
  return wllama;
}

let loading = null;

// The loaded engine; the first who asks loads it. `tell` says how far it is.
export const engine = (tell) => loading ??= load(tell).catch((error) => { loading = null; throw error; });
