// The drawing is kept in this browser, in IndexedDB, after every change, and is there again on the next visit.

import { current, notice, subscribe } from "./document.js";

const [DATABASE, STORE, KEY] = ["compsketch", "documents", "current"];

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function open() {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  return settled(request);
}

/** The drawing of the last visit, or null; and from now on every change is kept. */
export async function startAutosave() {
  let database;
  let kept = null;
  try {
    database = await open();
    kept = (await settled(database.transaction(STORE).objectStore(STORE).get(KEY))) ?? null;
  } catch {
    notice("This browser keeps nothing for this page: save the drawing to a file before you leave.", "error");
    return null;
  }
  let [saving, waits] = [false, false];
  const save = async () => {
    if (saving) return void (waits = true);
    saving = true;
    do {
      waits = false;
      const store = database.transaction(STORE, "readwrite", { durability: "relaxed" }).objectStore(STORE);
      await settled(store.put(current(), KEY)).catch(() => notice("The drawing could not be kept in this browser.", "error"));
    } while (waits);
    saving = false;
  };
  subscribe(({ changed, draft }) => changed && !draft && save());
  addEventListener("pagehide", () => save());
  return kept;
}
