// Sketches and photos in and out: files opened, dropped and pasted; files saved; the link that holds a sketch.

import { ApiError, call } from "./api.js";
import { current, notice, replace } from "./document.js";
import { h } from "./dom.js";
import { lostInPng, toPng } from "./png.js";
import { toFragment } from "./share.js";
import { asked, toSketch } from "./strokes.js";
import { lostInSvg, toSvg } from "./svg.js";
import { layUnder } from "./underlay.js";

const LONGEST_LINK = 30_000; // letters; longer ones get cut off on their way

/** Open a sketch's file in place of what is drawn, which undo brings back. */
export async function openSketch(file) {
  try {
    const text = await file.slice(0, 4096).text();
    if (text.trimStart().startsWith("{")) replace(parse(await file.text()));
    else {
      const form = new FormData();
      form.append("file", file);
      replace(await call("api/convert", { body: form }));
    }
    notice(`“${file.name}” is on the canvas; undo brings back what was there.`);
  } catch (error) {
    const way = error instanceof ApiError && error.unreachable ? " Only stroke JSON opens without the server." : "";
    notice(`“${file.name}” cannot be opened: ${error.message}${way}`, "error");
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("it is no JSON");
  }
}

/** Save the sketch as "json", "svg" or "png"; what the format cannot hold is said. */
export async function save(format) {
  const document = current();
  const writers = {
    json: () => [JSON.stringify(toSketch(document)), "application/json", ""],
    svg: () => [toSvg(document), "image/svg+xml", lostInSvg(document)],
    png: async () => [await toPng(document), "image/png", lostInPng(document)],
  };
  if (!toSketch(document)) return notice("There is nothing to save: draw an object that is wanted.", "error");
  const [content, type, lost] = await writers[format]();
  if (!content) return notice(`Nothing of this sketch fits a ${format.toUpperCase()}; save it as stroke JSON.`, "error");
  const url = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: url, download: `${fileName(document)}.${format}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  if (lost) notice(`Saved without ${lost}; stroke JSON keeps everything.`);
}

/** "dog-and-bicycle", or "sketch". */
function fileName(document) {
  const words = asked(document).map(({ label }) => label.trim().replace(/[^\p{L}\p{N}]+/gu, "-"));
  return words.filter(Boolean).slice(0, 4).join("-and-").slice(0, 60) || "sketch";
}

/** Copy a link that opens the sketch. */
export async function share() {
  const document = current();
  if (!toSketch(document)) return notice("There is nothing to share: draw an object that is wanted.", "error");
  const url = new URL(location.href);
  url.hash = await toFragment(document);
  if (url.href.length > LONGEST_LINK) {
    return notice("This sketch is too large for a link; save it as stroke JSON and send the file.", "error");
  }
  const lost = document.objects.some((object) => object.photo) ? " Cut-outs of photos are not in it." : "";
  try {
    await navigator.clipboard.writeText(url.href);
    notice(`The link is copied: whoever opens it sees this sketch.${lost}`);
  } catch {
    history.replaceState(null, "", url.hash);
    notice(`The link is in the address bar: copy it from there.${lost}`);
  }
}

/** Files that are chosen, dropped on the board or pasted. */
export function startFiles({ board, sketchInput, photoInput }) {
  for (const [input, open] of [[sketchInput, openSketch], [photoInput, layUnder]]) {
    input.addEventListener("change", () => {
      if (input.files[0]) open(input.files[0]);
      input.value = ""; // the same file may be chosen again
    });
  }
  const isSketch = ({ name, type }) => /\.(json|svg|png)$/i.test(name) || /json|svg/.test(type);
  board.addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
  board.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) (isSketch(file) ? openSketch : layUnder)(file);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) (file.type.includes("svg") ? openSketch : layUnder)(file);
  });
}
