// An object of the document: {id, colour, label, strokes, box, photo, turned, weight, hidden}. It is ink (strokes), a
// word over a box (label and box), or a cut-out of a photo (a JPEG's data URL, and box). Never changed in place.

import { area, bounds, isInside, mapBox, mapStroke, outline, overlaps, touches } from "./geometry.js";

export const COLOURS = 12; // as many as css/tokens.css has inks
export const MAX_OBJECTS = 32;

const BLANK = { label: "", strokes: [], box: null, photo: null, weight: 1, hidden: false };

export const makeObject = (fields) => ({ ...BLANK, ...fields });

/** The box it occupies: its own, else its ink's. */
export const boxOf = (object) => object.box ?? bounds(object.strokes);

/** Whether it says something to search for; a box waits for its word. */
export const isComplete = (object) =>
  object.strokes.length > 0 || (object.box !== null && (object.photo !== null || object.label.trim() !== ""));

/** What people call it. */
export const nameOf = (object, index) => object.label.trim() || `object ${index + 1}`;

/** The same object under a map of the plane. Boxes stay upright. */
export const mapObject = (object, map) => ({
  ...object,
  strokes: object.strokes.map((stroke) => mapStroke(stroke, map)),
  box: object.box && mapBox(object.box, map),
});

/** With one more stroke; from then on its ink says where it is. */
export const withStroke = (object, stroke) => ({ ...object, strokes: [...object.strokes, stroke], box: null });

/** Without what an eraser touches on its way along a segment; null where nothing is left. */
export function erased(object, segment, reach) {
  const swept = bounds([[[segment[0], segment[2]], [segment[1], segment[3]]]]);
  if (!overlaps(boxOf(object), swept, reach)) return object;
  if (!object.strokes.length) return touches(outline(object.box), segment, reach) ? null : object;
  const strokes = object.strokes.filter((stroke) => !touches(stroke, segment, reach));
  if (strokes.length === object.strokes.length) return object;
  return strokes.length ? { ...object, strokes, box: null } : null;
}

/** The object under a point: the topmost whose ink is within `reach`, else the smallest whose box holds the point. */
export function objectAt(objects, x, y, reach) {
  const shown = objects.filter((object) => !object.hidden);
  const point = [x, y, x, y];
  const hit = shown.findLast(
    (object) =>
      isInside(boxOf(object), x, y, reach) &&
      (object.strokes.length ? object.strokes.some((stroke) => touches(stroke, point, reach)) : object.photo !== null),
  );
  if (hit) return hit;
  const around = shown.filter((object) => isInside(boxOf(object), x, y, reach));
  return around.reduce((best, object) => (!best || area(boxOf(object)) <= area(boxOf(best)) ? object : best), null);
}

/** The first colour that no object has, or the least used. */
export function nextColour(objects) {
  const uses = new Array(COLOURS).fill(0);
  for (const { colour } of objects) uses[colour % COLOURS]++;
  return uses.indexOf(Math.min(...uses));
}
