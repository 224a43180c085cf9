/** Boxes over a photo: where the query's objects lie, and what is known to be there. */

import { h, style } from "./dom.js";

/**
 * A layer to lay over a photo; sketch and photo share one frame, whatever their aspects.
 *
 * @param {number[][]} boxes - [x0, y0, x1, y1] in 0..1, of the query's objects.
 * @param {string[]} colours - of these.
 * @param {{label: string, box: number[]}[]} [known] - objects that the collection knows in the photo.
 */
export function boxLayer(boxes, colours, known = []) {
  const layer = h("svg.boxes", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const { box } of known) layer.append(rectangle(box, "known"));
  boxes.forEach((box, index) => {
    layer.append(rectangle(box, "halo"), style(rectangle(box, "asked"), { stroke: colours[index] ?? "currentColor" }));
  });
  return layer;
}

function rectangle([x0, y0, x1, y1], name) {
  return h(`rect.${name}`, { x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0) });
}
