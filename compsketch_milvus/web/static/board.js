// The canvas on the screen: an SVG whose viewBox is the part of the canvas that is seen. What it shows is always drawn
// from the document; only objects that changed are touched.

import { inkOf } from "./document.js";
import { h } from "./dom.js";
import { Frame } from "./frame.js";
import { boxOf, isComplete, nameOf } from "./objects.js";
import { asked } from "./strokes.js";
import { pathOf } from "./svg.js";

const [LEAST, MOST] = [0.5, 8]; // zoom

export class Board {
  #size = { width: 1, height: 1 };
  #view = { x: 0, y: 0, zoom: 1 };
  #density = 1;
  #rect = null; // of the SVG on the screen, until something may have moved it
  #drawn = new Map(); // id -> {object, element}

  constructor(root) {
    this.root = root;
    this.paper = h("rect.paper");
    this.underlay = h("g.underlay-photo");
    this.objects = h("g.objects");
    this.live = h("g.live");
    this.frame = new Frame(this);
    root.append(this.paper, this.underlay, this.objects, this.live, this.frame.element);
    const forget = () => (this.#rect = null);
    new ResizeObserver(() => this.#look()).observe(root);
    addEventListener("scroll", forget, { capture: true, passive: true });
    addEventListener("resize", forget);
  }

  get zoom() {
    return this.#view.zoom;
  }

  /** Canvas pixels in one pixel of the screen. */
  get scale() {
    const { width } = this.rect;
    return width ? this.#size.width / this.#view.zoom / width : 1;
  }

  /** Canvas pixels in a sixteenth of the page's type size: what handles and reaches are measured in. */
  get unit() {
    return this.scale * this.#density;
  }

  get rect() {
    this.#rect ??= this.root.getBoundingClientRect();
    return this.#rect;
  }

  /** Where an event is, in canvas pixels. */
  point({ clientX, clientY }) {
    const { left, top } = this.rect;
    return [this.#view.x + (clientX - left) * this.scale, this.#view.y + (clientY - top) * this.scale];
  }

  /** Zoom by a factor about a point of the canvas, which stays where it is on the screen. */
  zoomBy(factor, [x, y] = this.centre) {
    const zoom = Math.max(LEAST, Math.min(MOST, this.zoom * factor));
    const part = this.zoom / zoom;
    this.#view = { zoom, x: x - (x - this.#view.x) * part, y: y - (y - this.#view.y) * part };
    this.#look();
  }

  panBy(dx, dy) {
    const { x, y, zoom } = this.#view;
    this.#view = { zoom, x: x - dx, y: y - dy };
    this.#look();
  }

  showAll() {
    this.#view = { x: 0, y: 0, zoom: 1 };
    this.#look();
  }

  get centre() {
    const { x, y, zoom } = this.#view;
    return [x + this.#size.width / zoom / 2, y + this.#size.height / zoom / 2];
  }

  render({ document, selection }) {
    const before = this.shown;
    this.shown = document;
    this.#resize(document);
    this.#renderUnderlay(document.underlay, before?.underlay);
    const focused = globalThis.document.activeElement;
    const ids = new Set(document.objects.map(({ id }) => id));
    for (const [id, { element }] of this.#drawn) {
      if (!ids.has(id)) {
        if (element === focused) this.root.focus({ preventScroll: true });
        element.remove();
        this.#drawn.delete(id);
      }
    }
    document.objects.forEach((object, index) => {
      const element = this.#renderObject(object, index);
      element.setAttribute("aria-pressed", object.id === selection?.id);
      if (this.objects.children[index] !== element) {
        this.objects.insertBefore(element, this.objects.children[index] ?? null);
        if (element === focused) element.focus({ preventScroll: true });
      }
    });
    this.frame.show(selection && !selection.hidden ? selection : null);
  }

  /** Point out one of the objects that are searched for, by its place among them; null for none. */
  highlight(index) {
    for (const { element } of this.#drawn.values()) element.classList.remove("pointed-out");
    const shown = index === null ? null : asked(this.shown)[index];
    if (shown) this.elementOf(shown.id).classList.add("pointed-out");
    this.objects.classList.toggle("pointing", Boolean(shown));
  }

  elementOf(id) {
    return this.#drawn.get(id)?.element;
  }

  #resize({ width, height }) {
    if (width === this.#size.width && height === this.#size.height) return;
    this.#size = { width, height };
    this.paper.setAttribute("width", width);
    this.paper.setAttribute("height", height);
    this.root.parentElement.style.setProperty("--aspect", width / height);
    this.showAll();
  }

  #look() {
    this.#rect = null;
    this.#density = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    const { x, y, zoom } = this.#view;
    this.root.setAttribute("viewBox", `${x} ${y} ${this.#size.width / zoom} ${this.#size.height / zoom}`);
    this.root.style.setProperty("--unit", this.unit);
    this.frame.place();
    this.root.dispatchEvent(new CustomEvent("look"));
  }

  #renderUnderlay(underlay, before) {
    if (underlay?.photo !== before?.photo) {
      const [x0, y0, x1, y1] = underlay?.box ?? [0, 0, 0, 0];
      const place = { x: x0, y: y0, width: x1 - x0, height: y1 - y0, href: underlay?.photo };
      this.underlay.replaceChildren(...(underlay ? [h("image", { ...place, preserveAspectRatio: "none" })] : []));
    }
    this.underlay.style.opacity = underlay?.opacity ?? 1;
  }

  #renderObject(object, index) {
    const known = this.#drawn.get(object.id);
    const element = known?.element ?? h("g.object", { tabindex: 0, role: "button", "data-id": object.id });
    if (known?.object !== object) {
      fill(element, object, known?.object);
      this.#drawn.set(object.id, { object, element });
    }
    element.setAttribute("aria-label", spoken(object, index));
    return element;
  }
}

function spoken(object, index) {
  const kind = object.photo ? "photo" : object.strokes.length ? "drawn" : "box";
  return `${nameOf(object, index)}, ${kind}${object.weight < 0 ? ", not wanted" : ""}`;
}

/** Draw an object into its element; ink whose strokes are those of before is left as it is. */
function fill(element, object, before) {
  element.style.setProperty("--ink", inkOf(object));
  element.classList.toggle("unwanted", object.weight < 0);
  element.classList.toggle("waiting", !isComplete(object));
  element.toggleAttribute("hidden", object.hidden);
  const same = before && before.strokes === object.strokes && before.box === object.box && before.photo === object.photo;
  if (same && before.label === object.label) return;
  const [x0, y0, x1, y1] = boxOf(object);
  const place = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
  const name = object.label.trim();
  const children = [];
  if (object.photo) {
    children.push(h("image", { ...place, href: object.photo, preserveAspectRatio: "none" }), h("rect.cut", place));
  } else if (object.strokes.length) {
    children.push(...object.strokes.flatMap(drawn));
  } else {
    const size = Math.max(8, Math.min((y1 - y0) / 3, (1.5 * (x1 - x0)) / Math.max(1, name.length), 72));
    const text = h("text.word", { x: (x0 + x1) / 2, y: (y0 + y1) / 2, "font-size": size }, name || "?");
    children.push(h("rect.box", place), text);
  }
  if (name && (object.photo || object.strokes.length)) children.push(h("text.tag", { x: x0, y: y0 }, name));
  element.replaceChildren(...children);
}

/** A stroke's paths: one, or where the pen's pressure shows one for each run of the same width. */
function drawn(stroke) {
  const [xs, ys, pressures] = stroke;
  if (!pressures) return [h("path.ink", { d: pathOf(stroke) })];
  const level = (pressure) => Math.max(1, Math.round(pressure * 6));
  const paths = [];
  for (let from = 0; from < Math.max(1, xs.length - 1); ) {
    let to = from + 1;
    while (to < xs.length - 1 && level(pressures[to]) === level(pressures[from])) to++;
    const path = h("path.ink", { d: pathOf([xs.slice(from, to + 1), ys.slice(from, to + 1)]) });
    path.style.setProperty("--pressure", level(pressures[from]) / 3);
    paths.push(path);
    from = to;
  }
  return paths;
}
