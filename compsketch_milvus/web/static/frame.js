// The frame around the selected object, with its handles; all of one size on the screen, whatever the zoom.

import { h } from "./dom.js";
import { isInside, middle } from "./geometry.js";
import { boxOf } from "./objects.js";

const CORNERS = [[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1], [0.5, 1], [0, 1], [0, 0.5]]; // parts of the box
const MARGIN = 8; // screen pixels between ink and frame
const KNOB = 26; // from the frame to the knob that turns
const REACH = { mouse: 9, pen: 14, touch: 22 };

export class Frame {
  #object = null;

  constructor(board) {
    this.board = board;
    this.outline = h("rect.outline");
    this.stem = h("line.stem");
    this.knob = h("circle.knob");
    this.handles = CORNERS.map(() => h("rect.handle"));
    this.element = h("g.frame", { "aria-hidden": "true" }, this.outline, this.stem, this.knob, ...this.handles);
    this.show(null);
  }

  show(object) {
    this.#object = object;
    this.element.style.display = object ? "" : "none";
    this.place();
  }

  /** The frame's box: the object's and a margin. */
  get box() {
    const margin = MARGIN * this.board.unit;
    const [x0, y0, x1, y1] = boxOf(this.#object);
    return [x0 - margin, y0 - margin, x1 + margin, y1 + margin];
  }

  get turns() {
    return this.#object.strokes.length > 0 || this.#object.photo !== null; // a word's box stays upright
  }

  place() {
    if (!this.#object) return;
    const { unit } = this.board;
    const [x0, y0, x1, y1] = this.box;
    set(this.outline, { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: 4 * unit });
    this.handles.forEach((handle, i) => {
      const [x, y] = this.#corner(CORNERS[i]);
      set(handle, { x: x - 5 * unit, y: y - 5 * unit, width: 10 * unit, height: 10 * unit, rx: 2.5 * unit });
    });
    const [x, y] = this.#knob();
    set(this.knob, { cx: x, cy: y, r: 6 * unit });
    set(this.stem, { x1: x, x2: x, y1: y < y0 ? y0 : y1, y2: y });
    this.knob.style.display = this.stem.style.display = this.turns ? "" : "none";
  }

  /** Turn the frame alone while its object is being turned; 0 for upright. */
  turn(angle) {
    const [x, y] = middle(this.box);
    if (angle) set(this.element, { transform: `rotate(${(angle * 180) / Math.PI} ${x} ${y})` });
    else this.element.removeAttribute("transform");
  }

  /** What of the frame is at a point: {turn: true}, {corner: [0…1, 0…1]}, or null. */
  at(x, y, pointerType) {
    if (!this.#object) return null;
    const reach = (REACH[pointerType] ?? REACH.mouse) * this.board.unit;
    const near = ([hx, hy]) => Math.hypot(x - hx, y - hy) <= reach;
    if (this.turns && near(this.#knob())) return { turn: true };
    const corner = CORNERS.find((part) => near(this.#corner(part)));
    return corner ? { corner } : null;
  }

  holds(x, y) {
    return this.#object !== null && isInside(this.box, x, y);
  }

  #corner([px, py]) {
    const [x0, y0, x1, y1] = this.box;
    return [x0 + px * (x1 - x0), y0 + py * (y1 - y0)];
  }

  /** Above the frame, or below it where above would be off the view. */
  #knob() {
    const [x0, y0, x1, y1] = this.box;
    const away = KNOB * this.board.unit;
    const top = this.board.root.viewBox.baseVal.y;
    return [(x0 + x1) / 2, y0 - away - 8 * this.board.unit > top ? y0 - away : y1 + away];
  }
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}
