// A document as a link's fragment, and back: whole pixels as differences, deflated, in the letters that URLs keep.
// The fragment never leaves the browser. Photos, the underlay and cut-outs, are too large for a link.

import { boxBetween } from "./geometry.js";
import { isComplete, makeObject } from "./objects.js";

const PREFIX = "#s1.";
const MAX_TEXT = 4_000_000; // characters that a link may unfold to

async function pipe(bytes, stream, most = Infinity) {
  const parts = [];
  let total = 0;
  for (const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    total += value.length;
    if (total > most) throw new Error("this link holds more than a sketch");
    parts.push(value);
  }
}

function differences(row) {
  const whole = row.map(Math.round);
  return whole.map((value, i) => (i ? value - whole[i - 1] : value));
}

function sums(row) {
  let total = 0;
  return row.map((step) => (total += step));
}

const pack = ({ colour, label, strokes, box, weight, hidden }) => [
  colour, label, weight, hidden ? 1 : 0, box && box.map(Math.round),
  strokes.map(([xs, ys]) => [differences(xs), differences(ys)]),
];

function unpack([colour, label, weight, hidden, box, strokes], index) {
  return makeObject({
    id: `o${index + 1}`, colour: Math.abs(Math.trunc(colour)) || 0, label: String(label).slice(0, 200),
    weight: Math.max(-4, Math.min(4, Number(weight))) || 1, hidden: hidden === 1,
    box: box && boxBetween(...box.map(Number)),
    strokes: strokes.map(([xs, ys]) => [sums(xs.map(Number)), sums(ys.map(Number))]),
  });
}

/** The fragment, "#" included, of a document without its photos. */
export async function toFragment({ width, height, objects }) {
  const packed = [width, height, objects.filter((object) => !object.photo && isComplete(object)).map(pack)];
  const bytes = await pipe(new TextEncoder().encode(JSON.stringify(packed)), new CompressionStream("deflate-raw"));
  let letters = "";
  for (const byte of bytes) letters += String.fromCharCode(byte);
  return PREFIX + btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** The document of a fragment; null where the fragment is no sketch. Throws an Error where it is a broken one. */
export async function fromFragment(fragment) {
  if (!fragment.startsWith(PREFIX)) return null;
  try {
    const letters = atob(fragment.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
    const text = new TextDecoder().decode(await pipe(bytes, new DecompressionStream("deflate-raw"), MAX_TEXT));
    const [width, height, objects] = JSON.parse(text);
    if (!(width >= 1 && height >= 1 && width <= 65536 && height <= 65536)) throw new Error("no canvas");
    const unpacked = objects.slice(0, 32).map(unpack);
    if (!unpacked.every(isComplete)) throw new Error("an empty object");
    if (!unpacked.every(({ strokes }) => strokes.flat(2).every(Number.isFinite))) throw new Error("no coordinates");
    return { width, height, objects: unpacked, underlay: null };
  } catch {
    throw new Error("This link's sketch is damaged; ask for the link again.");
  }
}
