// A document as SVG, in the form that the encoders' reader knows: one <g> an object, its label, box and weight as data.

import { asked } from "./strokes.js";

export const PALETTE = [
  "#d1332a", "#1f62c8", "#1c7f2e", "#b85c00", "#8240be", "#007d88", "#c4268f", "#7f5030", "#3d4a5c", "#7a6a00",
  "#a83a60", "#4a5fd9",
];

const escape = (text) => text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
const short = (value) => String(Math.round(value * 1000) / 1000);

/** The `d` of one stroke; a single point closes on itself and so is a dot under a round cap. */
export function pathOf([xs, ys]) {
  const points = xs.map((x, i) => `${short(x)} ${short(ys[i])}`);
  return `M${points.join("L")}${points.length === 1 ? "Z" : ""}`;
}

function word(label, [x0, y0, x1, y1], colour) {
  const size = Math.max(1, Math.min((y1 - y0) / 3, (1.5 * (x1 - x0)) / label.length));
  return [
    `<rect x="${short(x0)}" y="${short(y0)}" width="${short(x1 - x0)}" height="${short(y1 - y0)}"/>`,
    `<text x="${short((x0 + x1) / 2)}" y="${short((y0 + y1) / 2)}" font-size="${short(size)}" text-anchor="middle" ` +
      `stroke="none" fill="${colour}" xml:space="preserve">${escape(label)}</text>`,
  ];
}

function group({ label, strokes, box, weight, colour }, line) {
  const hex = PALETTE[colour % PALETTE.length];
  const name = label.trim();
  let data = name && strokes.length ? ` data-label="${escape(name)}"` : "";
  if (weight !== 1) data += ` data-weight="${weight}"`;
  if (weight < 0) data += ` stroke-dasharray="${2 * line} ${2 * line}"`;
  if (strokes.length && box) data += ` data-bbox="${box.map(short).join(" ")}"`;
  const inside = strokes.length ? strokes.map((stroke) => `<path d="${pathOf(stroke)}"/>`) : word(name, box, hex);
  return [`<g${data} stroke="${hex}">`, ...inside, "</g>"];
}

/** What an SVG of the document cannot hold, as words for people; "" where it holds all. */
export const lostInSvg = (document) =>
  asked(document).some((object) => object.photo && !object.label.trim()) ? "cut-outs of photos without a word" : "";

/** The SVG's text. A cut-out of a photo is there as its word over its box. */
export function toSvg(document) {
  const { width, height } = document;
  const line = Math.max(1, Math.max(width, height) / 160);
  const kept = asked(document).filter((object) => !object.photo || object.label.trim());
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
      `fill="none" stroke-width="${short(line)}" stroke-linecap="round" stroke-linejoin="round">`,
    ...kept.flatMap((object) => group(object, line)),
    "</svg>",
    "",
  ].join("\n");
}
