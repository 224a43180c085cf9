// A document as PNG, one plain colour an object and no antialiasing, with the legend of colours and labels that the
// encoders' reader looks for. A PNG holds ink: no weights, no words over boxes, no photos.

import { bounds } from "./geometry.js";
import { asked } from "./strokes.js";
import { MAX_OBJECTS } from "./objects.js";
import { PALETTE } from "./svg.js";

const LEGEND = "compsketch-legend";
const RADIUS = 1.5; // of the pen: the reader expects lines three pixels wide

/** One colour an object, whatever colours they share on the canvas: the page's own first, then around the circle. */
export const COLOURS = Array.from({ length: MAX_OBJECTS }, (_, i) => PALETTE[i] ?? around(i));

function around(i) {
  const part = (shift) => Math.round(110 + 100 * Math.cos(i * 2.4 + shift)).toString(16).padStart(2, "0");
  return `#${part(0)}${part(2.1)}${part(4.2)}`;
}

const isHeld = (object) => object.strokes.length > 0;

/** What a PNG of the document cannot hold, as words for people; "" where it holds all. */
export function lostInPng(document) {
  const objects = asked(document);
  const lost = [];
  if (objects.some((object) => !isHeld(object) && !object.photo)) lost.push("words over boxes");
  if (objects.some((object) => object.photo)) lost.push("cut-outs of photos");
  if (objects.some((object) => isHeld(object) && object.weight !== 1)) lost.push("weights");
  return lost.join(", ");
}

/** Indices into the palette, 0 the paper, one byte a pixel. */
function raster(width, height, objects) {
  const pixels = new Uint8Array(width * height);
  const dot = (x, y, value) => {
    for (let py = Math.max(0, Math.ceil(y - RADIUS)); py <= Math.min(height - 1, y + RADIUS); py++) {
      for (let px = Math.max(0, Math.ceil(x - RADIUS)); px <= Math.min(width - 1, x + RADIUS); px++) {
        if ((px - x) ** 2 + (py - y) ** 2 <= RADIUS ** 2) pixels[py * width + px] = value;
      }
    }
  };
  objects.forEach(({ strokes }, index) => {
    for (const [xs, ys] of strokes) {
      for (let i = 0; i < xs.length; i++) {
        const from = Math.max(0, i - 1);
        const steps = Math.max(1, Math.ceil(2 * Math.hypot(xs[i] - xs[from], ys[i] - ys[from])));
        for (let step = 1; step <= steps; step++) {
          const part = step / steps;
          dot(xs[from] + (xs[i] - xs[from]) * part - 0.5, ys[from] + (ys[i] - ys[from]) * part - 0.5, index + 1);
        }
      }
    }
  });
  return pixels;
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function chunk(type, data) {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  let crc = 0xffffffff;
  for (const byte of bytes.subarray(4, -4)) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(bytes.length - 4, ~crc >>> 0);
  return bytes;
}

async function deflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The PNG's bytes, or null where the document has no ink on the canvas. */
export async function toPng(document) {
  const { width, height } = document;
  const objects = asked(document).filter(isHeld);
  if (!bounds(objects.flatMap(({ strokes }) => strokes))) return null;
  const pixels = raster(width, height, objects);
  const rows = new Uint8Array((width + 1) * height); // each after a zero: no filter
  for (let y = 0; y < height; y++) rows.set(pixels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const header = new Uint8Array([...new Uint8Array(8), 8, 3, 0, 0, 0]); // 8 bits, palette
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  const inks = objects.map((_, index) => COLOURS[index]);
  const palette = ["#ffffff", ...inks].flatMap((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const legend = JSON.stringify(objects.map(({ label }, index) => [inks[index], label.trim() || null]));
  const parts = [
    new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk("IHDR", header),
    chunk("PLTE", new Uint8Array(palette)),
    chunk("iTXt", new TextEncoder().encode(`${LEGEND}\0\0\0\0\0${legend}`)),
    chunk("IDAT", await deflate(rows)),
    chunk("IEND", new Uint8Array(0)),
  ];
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
