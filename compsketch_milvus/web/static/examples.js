// The empty canvas: what to do, and three sketches to begin with.

import { call } from "./api.js";
import { inkOf, notice, replace, subscribe } from "./document.js";
import { h, style } from "./dom.js";
import { fromSketch } from "./strokes.js";
import { pathOf } from "./svg.js";

export function startExamples(lead, list) {
  subscribe(({ document }) => {
    const isEmpty = document.objects.length === 0;
    lead.hidden = !isEmpty || document.underlay !== null;
    list.hidden = !isEmpty;
  });
  load(list);
}

async function load(list) {
  try {
    const examples = await call("api/examples");
    list.replaceChildren(...examples.slice(0, 3).map(card));
  } catch {
    // They are a courtesy; the results' half says what is wrong with the server.
  }
}

function card({ title, sketch }) {
  const { width, height, objects } = fromSketch(sketch);
  const strokes = objects.flatMap((object) =>
    object.strokes.map((stroke) => style(h("path.ink", { d: pathOf(stroke) }), { "--ink": inkOf(object) })),
  );
  const begin = () => {
    replace(sketch);
    notice(`“${title}” is on the canvas: move its objects, or draw one more.`);
  };
  return h("button.example", { type: "button", onclick: begin }, h("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...strokes), h("span", {}, title));
}
