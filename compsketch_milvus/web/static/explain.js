/** Why a photo is here: the score's parts over the photo, of one object or of all. */

import { call } from "./api.js";
import { h, style } from "./dom.js";

const AGAINST = [12, 14, 18]; // the tint of cells that speak against the photo
const OPACITY = 0.8; // of the loudest cell
const ALL = -1;

/**
 * The panel of one photo.
 *
 * @param {object} of
 * @param {{sketch: object, words?: boolean, id: string, collection: string}} of.question
 * @param {string[]} of.colours - of the sketch's objects.
 * @param {HTMLElement} of.frame - the photo's; the heat map is laid into it.
 * @param {AbortSignal} of.signal - the dialog has closed.
 */
export function explanation({ question, colours, frame, signal }) {
  const list = h("div.parts", { role: "radiogroup", "aria-label": "Heat map of" });
  const hint = h("p.hint", {}, "…");
  const panel = h("section.why", {}, h("h3", {}, "Why it is here"), list, hint);
  call("api/explain", { body: question, signal }).then(
    (parts) => show(parts, { list, hint, colours, frame }),
    (error) => signal.aborted || (hint.textContent = error.message),
  );
  return panel;
}

function show(parts, { list, hint, colours, frame }) {
  const heat = h("canvas.heat", { "aria-hidden": "true" });
  const choose = (which) => {
    const shown = which === ALL ? parts.objects.map((_, index) => index) : [which];
    paint(
      heat,
      shown.map((index) => parts.objects[index].cells),
      shown.map((index) => rgb(objects[index].querySelector(".spot"))),
      parts.loudest,
    );
    if (!heat.isConnected) frame.append(heat);
    highlight(which === ALL ? null : which);
    frame.classList.add("explained");
  };
  const none = () => {
    heat.remove();
    highlight(null);
    frame.classList.remove("explained");
  };
  const objects = parts.objects.map((object, index) =>
    option(object.label || `object ${index + 1}`, signed(object.total), colours[index], () => choose(index)),
  );
  const off = option("no heat map", "", null, none);
  off.firstChild.checked = true;
  list.append(off, ...objects);
  if (objects.length > 1) list.append(option("all objects", signed(sum(parts)), null, () => choose(ALL)));
  hint.textContent = `The score of ${parts.score.toFixed(3)} is what the objects add, and what the empty canvas does. Tinted cells speak for the photo, dark ones against it.`;
}

/** Point at an object of the drawing. */
function highlight(index) {
  window.dispatchEvent(new CustomEvent("compsketch:highlight", { detail: { index } }));
}

function option(label, amount, colour, chosen) {
  const dot = colour ? style(h("span.spot"), { background: colour }) : null;
  const input = h("input", { type: "radio", name: "heat", onchange: chosen });
  return h("label.part", {}, input, dot, h("span", {}, label), h("span.amount", {}, amount));
}

function sum({ objects }) {
  return objects.reduce((total, object) => total + object.total, 0);
}

function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

/** A pixel a cell; the browser smooths it to the photo's size. */
function paint(heat, maps, colours, loudest) {
  const side = maps[0].length;
  heat.width = heat.height = side;
  const pixels = new ImageData(side, side);
  for (let cell = 0; cell < side * side; cell++) {
    const values = maps.map((map) => map[Math.floor(cell / side)][cell % side]);
    const volume = values.reduce((total, value) => total + Math.abs(value), 0);
    const mixed = [0, 1, 2].map((band) =>
      values.reduce(
        (total, value, index) =>
          total + (Math.abs(value) / (volume || 1)) * (value < 0 ? AGAINST : colours[index])[band],
        0,
      ),
    );
    pixels.data.set([...mixed, 255 * OPACITY * Math.min(1, volume / (loudest || 1))], 4 * cell);
  }
  heat.getContext("2d").putImageData(pixels, 0, 0);
}

/** The colour of an option's dot, whatever way CSS has it, as numbers. */
function rgb(dot) {
  const pen = h("canvas", { width: 1, height: 1 }).getContext("2d");
  pen.fillStyle = getComputedStyle(dot).backgroundColor;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}
