/** A known object of a photo, dragged into the drawing: by mouse, pen or finger. */

import { address } from "./api.js";
import { h, style } from "./dom.js";

const START = 6; // px before a press is a drag
const SIDE = 256; // px of the longer side of a cut-out

/**
 * Let a drag begin at an element.
 *
 * @param {HTMLElement} handle - its press may become a drag; a plain press stays a click.
 * @param {(event: PointerEvent) => object|null} pick - the thing under the pointer: {label, box, id, collection, image}.
 * @param {{board: SVGSVGElement, drop(thing, at: [number, number]): void, began?(): void, ended?(): void}} target - `at`: the
 *   pointer's place in the drawing, in its pixels.
 */
export function dragsFrom(handle, pick, target) {
  handle.addEventListener("pointerdown", (press) => {
    const thing = press.button === 0 ? pick(press) : null;
    if (thing) follow(handle, press, thing, target);
  });
}

function follow(handle, press, thing, target) {
  let ghost = null;
  const over = new AbortController();
  const options = { signal: over.signal };
  const end = () => {
    over.abort();
    ghost?.remove();
    target.board.classList.remove("drop");
    if (ghost) target.ended?.();
  };
  const move = (event) => {
    if (event.pointerId !== press.pointerId) return;
    if (!ghost && Math.hypot(event.clientX - press.clientX, event.clientY - press.clientY) < START) return;
    if (!ghost) {
      ghost = ghostOf(thing);
      document.body.append(ghost);
      handle.addEventListener("click", swallow, { capture: true, once: true });
      target.began?.();
    }
    style(ghost, { translate: `${event.clientX}px ${event.clientY}px` });
    target.board.classList.toggle("drop", inside(target.board, event) !== null);
  };
  const drop = (event) => {
    if (event.pointerId !== press.pointerId) return;
    const at = ghost && inside(target.board, event);
    end();
    setTimeout(() => handle.removeEventListener("click", swallow, { capture: true })); // a drop elsewhere makes no click
    if (at) target.drop(thing, at);
  };
  window.addEventListener("pointermove", move, options);
  window.addEventListener("pointerup", drop, options);
  window.addEventListener("pointercancel", end, options);
  window.addEventListener("keydown", (event) => event.key === "Escape" && end(), options);
}

function swallow(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
}

function ghostOf({ label, box: [x0, y0, x1, y1], image }) {
  const ghost = h("div.ghost", { "aria-hidden": "true" }, h("span", {}, label ?? "object"));
  const { width, height } = image.getBoundingClientRect();
  style(ghost, {
    width: `${(x1 - x0) * width}px`,
    height: `${(y1 - y0) * height}px`,
    "background-image": `url("${image.currentSrc}")`,
  });
  return style(ghost, {
    "background-size": `${width}px ${height}px`,
    "background-position": `${-x0 * width}px ${-y0 * height}px`,
  });
}

function inside(board, { clientX, clientY }) {
  const { left, top, right, bottom } = board.getBoundingClientRect();
  if (clientX < left || clientX > right || clientY < top || clientY > bottom) return null;
  const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(board.getScreenCTM().inverse());
  return [x, y];
}

/**
 * The object as one of a drawing: its box about a place of the canvas, moved inside, and the photo's pixels cut out.
 *
 * @param {object} thing - what was dragged.
 * @param {[number, number]|null} at - the box's centre, in the canvas' pixels; null for where it is in the photo.
 * @param {{width: number, height: number}} canvas - in the pixels of stroke JSON.
 * @returns {Promise<{label?: string, bbox: number[], photo: string}>} photo: base64 of a JPEG.
 */
export async function asObject({ label, box: [x0, y0, x1, y1], id, collection }, at, canvas) {
  const [width, height] = [(x1 - x0) * canvas.width, (y1 - y0) * canvas.height];
  const left = at ? within(at[0] - width / 2, canvas.width - width) : x0 * canvas.width;
  const top = at ? within(at[1] - height / 2, canvas.height - height) : y0 * canvas.height;
  const photo = await cut(address(`api/photo/${encodeURIComponent(id)}`, { collection }), [x0, y0, x1, y1]);
  return { label: label ?? undefined, bbox: [left, top, left + width, top + height], photo };
}

function within(value, most) {
  return Math.min(Math.max(0, value), most);
}

async function cut(url, [x0, y0, x1, y1]) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const [across, down] = [image.naturalWidth, image.naturalHeight];
  const [wide, high] = [Math.max(1, (x1 - x0) * across), Math.max(1, (y1 - y0) * down)];
  const scale = Math.min(1, SIDE / Math.max(wide, high));
  const canvas = h("canvas", {
    width: Math.max(1, Math.round(wide * scale)),
    height: Math.max(1, Math.round(high * scale)),
  });
  canvas.getContext("2d").drawImage(image, x0 * across, y0 * down, wide, high, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.9).split(",")[1];
}
