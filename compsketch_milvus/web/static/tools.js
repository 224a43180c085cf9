// What a press on the board does, a tool each: begin(event) -> {move(events, event), end(event), cancel()}, or null.

import { current, endGesture, inkOf, insert, newGesture, select, selection, update, updateObject } from "./document.js";
import { h } from "./dom.js";
import { boxBetween, middle, moving, simplify, stretching, turning } from "./geometry.js";
import { boxOf, erased, makeObject, mapObject, nextColour, objectAt, withStroke } from "./objects.js";
import { pathOf } from "./svg.js";

const TOLERANCE = 0.45; // screen pixels by which a simplified stroke may differ from the drawn one
const PIECE = 200; // points of a path that is being drawn; the next begins another, so that no frame redraws them all
const ERASER = { mouse: 7, pen: 7, touch: 14 }; // reach, in screen pixels
const LEAST = 6; // screen pixels that a dragged box must have, else it was a tap
const FINGER = { mouse: 5, pen: 8, touch: 16 }; // how far beside its ink a press still selects an object
const SNAP = Math.PI / 12; // a turn with shift held

/** Draw into the selected object, or a new one. */
export function pen(board, { pressure }) {
  return (event) => {
    const rows = [[], []];
    const pressed = pressure() && event.pointerType === "pen" && event.pressure > 0 ? [] : null;
    const target = selection();
    const into = target && !target.photo && !target.hidden ? target.id : null;
    let path = null;
    const add = (events) => {
      for (const each of events) {
        const [x, y] = board.point(each);
        const last = rows[0].length - 1;
        if (last >= 0 && Math.hypot(x - rows[0][last], y - rows[1][last]) < board.unit / 2) continue;
        rows[0].push(x);
        rows[1].push(y);
        pressed?.push(each.pressure);
      }
    };
    const paint = () => {
      const from = Math.floor(Math.max(0, rows[0].length - 2) / PIECE) * PIECE;
      if (!path || path.from !== from) {
        path = { from, element: h("path.ink") };
        board.live.append(path.element);
      }
      path.element.setAttribute("d", pathOf(rows.map((row) => row.slice(from, from + PIECE + 1))));
    };
    board.live.style.setProperty("--ink", inkOf({ colour: target && into ? target.colour : nextColour(current().objects) }));
    add([event]);
    paint();
    return {
      move: (events) => {
        add(events);
        paint();
      },
      end: () => {
        board.live.replaceChildren();
        const stroke = simplify(pressed ? [...rows, pressed] : rows, TOLERANCE * board.unit);
        if (into) updateObject(into, (object) => withStroke(object, stroke));
        else insert(makeObject({ strokes: [stroke] }));
      },
      cancel: () => board.live.replaceChildren(),
    };
  };
}

/** Take away whole strokes that it passes over. */
export function eraser(board) {
  return (event) => {
    const merge = newGesture();
    const reach = (ERASER[event.pointerType] ?? ERASER.mouse) * board.unit;
    let last = board.point(event);
    const sweep = (events) => {
      for (const each of events) {
        const next = board.point(each);
        const segment = [...last, ...next];
        update((document) => {
          const objects = document.objects.map((object) => (object.hidden ? object : erased(object, segment, reach)));
          const isSame = objects.every((object, i) => object === document.objects[i]);
          return isSame ? document : { ...document, objects: objects.filter(Boolean) };
        }, merge);
        last = next;
      }
    };
    sweep([event]);
    return { move: sweep, end: () => endGesture(merge, { cancelled: false }), cancel: () => endGesture(merge, { cancelled: true }) };
  };
}

/** Select, move, resize, turn. */
export function selecting(board, { bakeTurn }) {
  return (event) => {
    const [x, y] = board.point(event);
    const grip = board.frame.at(x, y, event.pointerType);
    if (grip) return grip.turn ? turn(board, [x, y], bakeTurn) : resize(board, grip.corner);
    const reach = (FINGER[event.pointerType] ?? FINGER.mouse) * board.unit;
    const hit = objectAt(current().objects, x, y, reach) ?? (board.frame.holds(x, y) ? selection() : null);
    select(hit?.id ?? null);
    if (!hit) return null;
    board.elementOf(hit.id).focus({ preventScroll: true });
    return dragging(board, hit, (px, py) => moving(px - x, py - y));
  };
}

/** A gesture that maps an object by what `mapTo(x, y, event)` gives for the pointer's place. */
function dragging(board, object, mapTo) {
  const merge = newGesture();
  return {
    move: (_, event) => {
      const map = mapTo(...board.point(event), event);
      updateObject(object.id, () => mapObject(object, map), merge);
    },
    end: () => endGesture(merge, { cancelled: false }),
    cancel: () => endGesture(merge, { cancelled: true }),
  };
}

function resize(board, [px, py]) {
  const object = selection();
  const from = boxOf(object);
  const frame = board.frame.box;
  const least = LEAST * board.unit;
  return dragging(board, object, (x, y, event) => {
    const [marginX, marginY] = [from[0] - frame[0], from[1] - frame[1]];
    const to = [...from];
    if (px === 0) to[0] = Math.min(x + marginX, from[2] - least);
    if (px === 1) to[2] = Math.max(x - marginX, from[0] + least);
    if (py === 0) to[1] = Math.min(y + marginY, from[3] - least);
    if (py === 1) to[3] = Math.max(y - marginY, from[1] + least);
    if (event.shiftKey && px !== 0.5 && py !== 0.5) keepShape(from, to, px, py);
    return stretching(from, to);
  });
}

/** Make a corner's drag keep the sides' ratio: the larger of both scales counts. */
function keepShape(from, to, px, py) {
  const [width, height] = [from[2] - from[0], from[3] - from[1]];
  const scale = Math.max(width ? (to[2] - to[0]) / width : 0, height ? (to[3] - to[1]) / height : 0);
  if (px === 0) to[0] = from[2] - width * scale;
  else to[2] = from[0] + width * scale;
  if (py === 0) to[1] = from[3] - height * scale;
  else to[3] = from[1] + height * scale;
}

function turn(board, [startX, startY], bakeTurn) {
  const object = selection();
  const [cx, cy] = middle(boxOf(object));
  const before = Math.atan2(startY - cy, startX - cx);
  const merge = newGesture();
  const element = board.elementOf(object.id);
  let angle = 0;
  const upright = () => {
    board.frame.turn(0);
    element.removeAttribute("transform");
  };
  return {
    // While it turns, the element alone does; its strokes, or a photo's pixels, follow at the end.
    move: (_, event) => {
      const [x, y] = board.point(event);
      angle = Math.atan2(y - cy, x - cx) - before;
      if (event.shiftKey) angle = Math.round(angle / SNAP) * SNAP;
      element.setAttribute("transform", `rotate(${(angle * 180) / Math.PI} ${cx} ${cy})`);
      board.frame.turn(angle);
    },
    end: () => {
      upright();
      turnObject(object, angle, bakeTurn, merge);
    },
    cancel: upright,
  };
}

/** Turn an object about its middle: ink by its points, a photo by its pixels, which takes a moment. */
export function turnObject(object, angle, bakeTurn, merge = null) {
  if (!angle) return;
  if (object.photo) bakeTurn(object, angle);
  else updateObject(object.id, (now) => mapObject(now, turning(...middle(boxOf(now)), angle)), merge);
}

/** Drag a box; `done(box)` gets it, or `tapped(x, y)` a press that was none. */
function boxing(board, name, done, tapped) {
  return (event) => {
    const [x, y] = board.point(event);
    const rectangle = h(`rect.${name}`);
    let box = null;
    board.live.append(rectangle);
    const clear = () => board.live.replaceChildren();
    return {
      move: (_, moved) => {
        box = boxBetween(x, y, ...board.point(moved));
        const [x0, y0, x1, y1] = box;
        const place = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
        for (const [key, value] of Object.entries(place)) rectangle.setAttribute(key, value);
      },
      end: () => {
        clear();
        const least = LEAST * board.unit;
        if (box && box[2] - box[0] > least && box[3] - box[1] > least) done(box);
        else tapped(x, y);
      },
      cancel: clear,
    };
  };
}

/** A box that waits for its word. */
export function word(board, { askWord }) {
  const add = (box) => insert(makeObject({ box })) && askWord();
  return boxing(board, "drawn-box", add, (x, y) => {
    const hit = objectAt(current().objects, x, y, 0);
    if (hit) return select(hit.id);
    const { width, height } = current();
    return add([x - width / 8, y - height / 8, x + width / 8, y + height / 8]);
  });
}

/** An object cut out of the photo underneath. */
export function cut(board, { cutOut }) {
  return boxing(board, "drawn-cut", cutOut, () => {});
}
