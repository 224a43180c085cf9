// Everything that keys do on the sketch's side of the page.

import * as store from "./document.js";
import { middle, moving, stretching } from "./geometry.js";
import { remove, toggleHidden, toggleWanted } from "./inspector.js";
import { boxOf, makeObject, mapObject, nameOf } from "./objects.js";
import { turnObject } from "./tools.js";
import { bakeTurn } from "./underlay.js";

const STEP = { fine: 1 / 200, coarse: 1 / 25 }; // of the canvas' longer side
const TURN = Math.PI / 12;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ARROW_KEYS = Object.keys(ARROWS);

let gesture = null; // of an arrow that is held, or pressed again and again

/** The table for `Keys`. */
export function shortcuts({ board, use, say, askWord, pointers, help, save }) {
  const onSelected = (run) => (event) => (store.selection() ? run(store.selection(), event) : false);
  const step = (event) => Math.max(store.current().width, store.current().height) * (event.ctrlKey || event.metaKey ? STEP.coarse : STEP.fine);
  const mapped = (mapOf) =>
    onSelected((object, event) => {
      const [dx, dy] = ARROWS[event.key].map((sign) => sign * step(event));
      gesture ??= store.newGesture();
      store.updateObject(object.id, (now) => mapObject(now, mapOf(boxOf(now), dx, dy)), gesture);
      say(placeOf(store.selection()));
    });
  const move = mapped((_, dx, dy) => moving(dx, dy));
  const resize = mapped((box, dx, dy) => stretching(box, [box[0], box[1], Math.max(box[2] + dx, box[0] + 8), Math.max(box[3] + dy, box[1] + 8)]));
  const turned = (sign) => onSelected((object) => (board.frame.turns ? turnObject(object, sign * TURN, bakeTurn) : say("A word's box stays upright.")));
  const addWord = () => {
    const { width, height } = store.current();
    const [x, y] = board.centre;
    if (store.insert(makeObject({ box: [x - width / 8, y - height / 8, x + width / 8, y + height / 8] }))) askWord();
  };
  const listed = (section, entries) => entries.map(([keys, does, run, more]) => ({ section, keys, does, run, ...more }));
  return [
    ...listed("Tools", [
      [["p"], "Pen", () => use("pen")],
      [["e"], "Eraser, takes whole strokes", () => use("eraser")],
      [["v"], "Select", () => use("select")],
      [["b"], "Box with a word", () => use("box")],
      [["c"], "Cut from the photo underneath", () => use("cut")],
      [["n"], "New object", () => store.select(null)],
      [["a"], "Add a box with a word in the middle", addWord],
    ]),
    ...listed("The selected object", [
      [["Tab"], "Next object, on the canvas", () => false],
      [[...ARROW_KEYS, ...ARROW_KEYS.map((key) => `Mod+${key}`)], "Move, with Ctrl further", move, { shown: ["Arrows"], onBoard: true }],
      [[...ARROW_KEYS.map((key) => `Shift+${key}`), ...ARROW_KEYS.map((key) => `Mod+Shift+${key}`)], "Resize, with Ctrl further", resize, { shown: ["Shift+Arrows"], onBoard: true }],
      [["r"], "Turn clockwise", turned(1)],
      [["Shift+r"], "Turn back", turned(-1)],
      [["Enter", "l"], "Say what it is", onSelected(() => askWord()), { onBoard: true, shown: ["Enter"] }],
      [["x"], "Wanted, or not wanted", onSelected(toggleWanted)],
      [["h"], "Hide, or show", onSelected(toggleHidden)],
      [["d", "Mod+d"], "Duplicate", onSelected(({ id }) => void store.duplicate(id))],
      [["]"], "Bring forward", onSelected(({ id }) => store.reorder(id, 1))],
      [["["], "Send back", onSelected(({ id }) => store.reorder(id, -1))],
      [["Delete", "Backspace"], "Delete", onSelected(remove)],
    ]),
    ...listed("The canvas", [
      [["Mod+z"], "Undo", store.undo],
      [["Mod+Shift+z", "Mod+y"], "Redo", store.redo],
      [["+", "="], "Zoom in", () => board.zoomBy(1.25)],
      [["-"], "Zoom out", () => board.zoomBy(0.8)],
      [["0"], "The whole canvas", () => board.showAll()],
      [[" "], "Hold and drag: move the view", () => pointers.holdPan(true), { onBoard: true }],
      [["Mod+s"], "Save as stroke JSON", () => void save("json")],
      [["Escape"], "Give a drag up; select nothing", () => (pointers.busy ? pointers.abort() : store.select(null)), { onBoard: true }],
      [["?"], "This sheet", help],
    ]),
  ];
}

/** The end of a held arrow is the end of one step of undo. */
export function endSteps({ key }) {
  if (!gesture || !ARROWS[key]) return;
  store.endGesture(gesture, { cancelled: false });
  gesture = null;
}

/** Where an object is, as words. */
function placeOf(object) {
  const { width, height, objects } = store.current();
  const [x, y] = middle(boxOf(object));
  const percent = (part) => `${Math.round(part * 100)} percent`;
  return `${nameOf(object, objects.indexOf(object))}: ${percent(x / width)} across, ${percent(y / height)} down`;
}
