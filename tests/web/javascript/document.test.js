import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import * as store from "../../../compsketch_milvus/web/static/document.js";
import { makeObject } from "../../../compsketch_milvus/web/static/objects.js";
import { blank } from "../../../compsketch_milvus/web/static/strokes.js";

const ink = (x = 0) => makeObject({ strokes: [[[x, x + 9], [0, 9]]] });
const labels = () => store.current().objects.map(({ label }) => label);

beforeEach(() => store.restore(blank()));

test("an added object is on top, selected, of a colour of its own, and undone in one step", () => {
  store.insert(ink());
  const id = store.addObject({ label: "cat", bbox: [1, 2, 3, 4] });
  assert.equal(store.selection().id, id);
  assert.deepEqual(store.current().objects.map(({ colour }) => colour), [0, 1]);
  store.undo();
  assert.equal(store.selection(), null);
  assert.equal(store.current().objects.length, 1);
});

test("listeners hear of changes, of drafts of one drag, and of the selection; until they leave", () => {
  const heard = [];
  const leave = store.subscribe(({ changed, draft }) => heard.push([changed, draft]));
  const id = store.insert(ink());
  const drag = store.newGesture();
  store.updateObject(id, (object) => ({ ...object, label: "a" }), drag);
  store.endGesture(drag, { cancelled: false });
  store.select(null);
  leave();
  store.select(id);
  assert.deepEqual(heard, [[true, false], [true, true], [true, false], [false, false]]);
});

test("a cancelled drag leaves no trace, a finished one is one step", () => {
  const id = store.insert(ink());
  const before = store.current();
  for (const cancelled of [true, false]) {
    const drag = store.newGesture();
    store.updateObject(id, (object) => ({ ...object, label: "a" }), drag);
    store.updateObject(id, (object) => ({ ...object, label: "ab" }), drag);
    store.endGesture(drag, { cancelled });
    if (cancelled) assert.equal(store.current(), before);
  }
  assert.deepEqual(labels(), ["ab"]);
  store.undo();
  assert.equal(store.current(), before);
});

test("objects move up and down among each other, and not past the ends", () => {
  const ids = ["a", "b", "c"].map((label) => store.insert({ ...ink(), label }));
  store.reorder(ids[0], 1);
  assert.deepEqual(labels(), ["b", "a", "c"]);
  store.reorder(ids[2], 1);
  assert.deepEqual(labels(), ["b", "a", "c"]);
  store.reorder(ids[2], -1);
  assert.deepEqual(labels(), ["b", "c", "a"]);
});

test("a duplicate lies beside its original and has another id and colour", () => {
  const first = store.insert({ ...ink(100), label: "cat" });
  const second = store.duplicate(first);
  const [one, two] = store.current().objects;
  assert.equal(two.id, second);
  assert.notEqual(two.colour, one.colour);
  assert.deepEqual([two.label, two.strokes[0][0]], ["cat", [132, 141]]);
});

test("a canvas holds 32 objects, and says so", () => {
  const said = [];
  globalThis.dispatchEvent = ({ detail }) => said.push(detail.text);
  for (let i = 0; i < 33; i++) store.insert(ink(i));
  delete globalThis.dispatchEvent;
  assert.equal(store.current().objects.length, 32);
  assert.match(said[0], /32 objects/);
});

test("a sketch put in place of another is undone to the other; what is none changes nothing", () => {
  store.insert(ink());
  const before = store.current();
  assert.throws(() => store.replace({ width: 5 }), /sketch is/);
  assert.equal(store.current(), before);
  store.replace({ width: 300, height: 200, objects: [{ label: "dog", strokes: [[[1, 2], [3, 4]]] }] });
  assert.deepEqual(labels(), ["dog"]);
  store.undo();
  assert.equal(store.current(), before);
});

test("ids stay unique over undo, replace and duplicate", () => {
  const seen = new Set();
  const add = (id) => assert.ok(!seen.has(id) && seen.add(id));
  add(store.insert(ink()));
  store.undo();
  add(store.insert(ink()));
  store.replace({ width: 9, height: 9, objects: [{ strokes: [[[1, 2], [3, 4]]] }] });
  add(store.current().objects[0].id);
  add(store.duplicate(store.current().objects[0].id));
});

test("colours go with the sketch: one each of what is asked for", () => {
  store.insert({ ...ink(), hidden: true });
  store.insert(ink());
  assert.deepEqual(store.colours(), ["var(--ink-2)"]);
  assert.equal(store.sketch().objects.length, 1);
});
