// The store: the one document of the page, its history and what is selected. Everything that shows it subscribes.
//
// Besides it, the two halves of the page meet in two events on `window`:
//   "compsketch:highlight", detail {index}: the object of `sketch()` that a result points at, null for none;
//   "compsketch:notice", detail {text, kind?}: one line for people, kind "error" for one that went wrong.

import * as histories from "./history.js";
import { moving } from "./geometry.js";
import { COLOURS, MAX_OBJECTS, boxOf, mapObject, nextColour } from "./objects.js";
import { asked, blank, fromMember, fromSketch, toSketch } from "./strokes.js";

const listeners = new Set();
let history = histories.start(blank());
let selected = null;
let last = 0; // the number of the newest id

/**
 * Call `listener({document, selection, changed, draft})` after every change of the document or the selection; a draft
 * is one of many changes of one drag or slider.
 */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const current = () => history.present;
export const selection = () => current().objects.find((object) => object.id === selected) ?? null;
export const canUndo = () => history.past.length > 0;
export const canRedo = () => history.future.length > 0;

/** Plain stroke JSON of the visible objects; null where there is nothing to search for. */
export const sketch = () => toSketch(current());

/** The CSS colours of `sketch().objects`, in their order. */
export const colours = () => asked(current()).map(inkOf);

export const inkOf = ({ colour }) => `var(--ink-${(colour % COLOURS) + 1})`;

function publish(changed) {
  const draft = changed && history.merge !== null;
  for (const listener of [...listeners]) listener({ document: current(), selection: selection(), changed, draft });
}

function move(to) {
  const changed = to.present !== history.present;
  history = to;
  if (changed) publish(true);
}

export const undo = () => move(histories.undo(history));
export const redo = () => move(histories.redo(history));

/** Select an object by its id, or nothing with null: the next stroke then begins a new object. */
export function select(id) {
  if (id === selected) return;
  selected = id;
  publish(false);
}

/** Make the document what `change` returns for it; changes with one `merge` key are one step of undo. */
export function update(change, merge = null) {
  move(histories.commit(history, change(current()), merge));
}

/** Change one object; `change` returns the new one, or null to delete it. */
export function updateObject(id, change, merge = null) {
  update((document) => {
    const objects = document.objects.map((object) => (object.id === id ? change(object) : object));
    const isSame = objects.every((object, i) => object === document.objects[i]);
    return isSame ? document : { ...document, objects: objects.filter(Boolean) };
  }, merge);
}

function newId() {
  return `o${++last}`;
}

/** A key that makes all changes of one drag one step of undo. */
export const newGesture = () => Symbol("gesture");

/** End a drag: `cancelled`, its changes are taken back as if it had not been, else they stand. */
export function endGesture(merge, { cancelled }) {
  if (history.merge !== merge) return;
  if (cancelled) move({ ...histories.undo(history), future: [] });
  else {
    history = { ...history, merge: null };
    publish(true);
  }
}

/** Add an object of the document's own form on top, and select it. Returns its id, null where the canvas is full. */
export function insert(object, merge = null) {
  const { objects } = current();
  if (objects.length >= MAX_OBJECTS) {
    notice(`A sketch holds ${MAX_OBJECTS} objects; delete one first.`, "error");
    return null;
  }
  const id = newId();
  selected = id;
  update((document) => {
    const colour = object.colour ?? nextColour(objects);
    return { ...document, objects: [...document.objects, { ...object, id, colour }] };
  }, merge);
  return id;
}

/** Add a member of stroke JSON's objects ({label?, bbox?, weight?, strokes?, photo?}, canvas pixels). */
export const addObject = (member) => insert(fromMember(member));

export function duplicate(id) {
  const object = current().objects.find((candidate) => candidate.id === id);
  if (!object) return null;
  const step = Math.max(current().width, current().height) / 32;
  const [x0, y0] = boxOf(object);
  const room = x0 + 2 * step < current().width && y0 + 2 * step < current().height;
  return insert({ ...mapObject(object, room ? moving(step, step) : moving(-step, -step)), colour: undefined });
}

/** Move an object up (1) or down (-1) in the order in which objects cover each other. */
export function reorder(id, by) {
  update((document) => {
    const from = document.objects.findIndex((object) => object.id === id);
    const to = from + by;
    if (from < 0 || to < 0 || to >= document.objects.length) return document;
    const objects = [...document.objects];
    objects.splice(to, 0, ...objects.splice(from, 1));
    return { ...document, objects };
  });
}

/** Put a whole sketch (stroke JSON) in place of what is drawn; undo brings that back. Throws what `fromSketch` throws. */
export const replace = (json) => open(fromSketch(json));

/** The same with a document. */
export function open(document) {
  selected = null;
  update(() => withNewIds(document));
}

/** Begin with a document of an earlier visit or of a link: there is nothing to undo. */
export function restore(document) {
  history = histories.start(withNewIds(document));
  selected = null;
  publish(true);
}

function withNewIds(document) {
  return { ...document, objects: document.objects.map((object) => ({ ...object, id: newId() })) };
}

/** Tell people something in one line. */
export function notice(text, kind = "info") {
  globalThis.dispatchEvent?.(new CustomEvent("compsketch:notice", { detail: { text, kind } }));
}
