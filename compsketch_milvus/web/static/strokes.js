// Documents to stroke JSON, which the search, the files and the encoders read, and back.
// A document: {width, height, objects, underlay}, the underlay {photo, box, opacity} or null.

import { boxBetween, overlaps } from "./geometry.js";
import { boxOf, isComplete, makeObject, nextColour } from "./objects.js";

const SIDE = 1024; // of a new canvas, the longer one
const DIGITS = 10; // coordinates keep one tenth of a pixel
export const ASPECTS = ["1:1", "4:3", "3:2", "16:9", "3:4", "2:3", "9:16"];
const MAX_LABEL = 200;

export function sizeOf(aspect) {
  const [width, height] = aspect.split(":").map(Number);
  const scale = SIDE / Math.max(width, height);
  return { width: Math.round(width * scale), height: Math.round(height * scale) };
}

export const blank = (aspect = "4:3") => ({ ...sizeOf(aspect), objects: [], underlay: null });

/** The aspect that a canvas has, one of ASPECTS, or null for another. */
export function aspectOf({ width, height }) {
  return ASPECTS.find((aspect) => {
    const size = sizeOf(aspect);
    return Math.abs(size.width / size.height - width / height) < 0.005;
  }) ?? null;
}

const round = (value) => Math.round(value * DIGITS) / DIGITS;

/** The objects that a search is about: shown, complete, and at least partly on the canvas. */
export const asked = ({ width, height, objects }) =>
  objects.filter((object) => !object.hidden && isComplete(object) && overlaps(boxOf(object), [0, 0, width, height]));

function toMember(object) {
  const member = {};
  const label = object.label.trim();
  if (label) member.label = label.slice(0, MAX_LABEL);
  if (object.box) member.bbox = object.box.map(round);
  if (object.weight !== 1) member.weight = object.weight;
  if (object.photo) member.photo = object.photo.slice(object.photo.indexOf(",") + 1);
  else if (object.strokes.length) member.strokes = object.strokes.map(([xs, ys]) => [xs.map(round), ys.map(round)]);
  return member;
}

/** Stroke JSON of what is asked for; null where nothing is, or only what is not wanted. */
export function toSketch(document) {
  const objects = asked(document);
  if (!objects.some((object) => object.weight > 0)) return null;
  return { width: document.width, height: document.height, objects: objects.map(toMember) };
}

const isRow = (row) => Array.isArray(row) && row.every(Number.isFinite);

function toStroke(stroke) {
  if (!Array.isArray(stroke) || !isRow(stroke[0]) || !isRow(stroke[1]) || stroke[0].length !== stroke[1].length) {
    throw new Error("a stroke has to be [[x…], [y…]], two rows of numbers of one length");
  }
  return [stroke[0], stroke[1]];
}

function mimeOf(base64) {
  return base64.startsWith("iVBOR") ? "image/png" : "image/jpeg";
}

/** One member of stroke JSON's objects as an object of the document, without id and colour. */
export function fromMember({ label, bbox, weight, strokes, photo }) {
  const drawn = (strokes ?? []).map(toStroke).filter(([xs]) => xs.length);
  if (bbox !== undefined && (!isRow(bbox) || bbox.length !== 4)) throw new Error("a bbox has to be four numbers");
  if (!drawn.length && !(bbox && (label || photo))) throw new Error("an object has neither ink nor a word and a bbox");
  return makeObject({
    label: typeof label === "string" ? label : "",
    box: bbox ? boxBetween(...bbox) : null,
    weight: Number.isFinite(weight) && weight !== 0 ? Math.max(-4, Math.min(4, weight)) : 1,
    strokes: drawn,
    photo: photo ? `data:${mimeOf(photo)};base64,${photo}` : null,
  });
}

/** A document of stroke JSON. Throws an Error with one line for people where it is none. */
export function fromSketch(sketch) {
  const isSize = (value) => Number.isFinite(value) && value >= 1;
  if (!isSize(sketch?.width) || !isSize(sketch?.height) || !Array.isArray(sketch.objects)) {
    throw new Error('a sketch is {"width", "height", "objects": […]}');
  }
  const objects = [];
  for (const [index, member] of sketch.objects.entries()) {
    objects.push({ ...fromMember(member), id: `o${index + 1}`, colour: nextColour(objects) });
  }
  return { width: sketch.width, height: sketch.height, objects, underlay: null };
}
