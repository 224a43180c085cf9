import assert from "node:assert/strict";
import { test } from "node:test";
import { erased, makeObject, nextColour, objectAt } from "../../../compsketch_milvus/web/static/objects.js";
import { ASPECTS, aspectOf, blank, fromSketch, sizeOf, toSketch } from "../../../compsketch_milvus/web/static/strokes.js";

const square = (x, y, side) => [[x, x + side, x + side, x, x], [y, y, y + side, y + side, y]];
const holding = (...objects) => ({ ...blank("4:3"), objects: objects.map((fields, i) => makeObject({ id: `o${i}`, colour: i, ...fields })) });

test("what the encoders know comes through and back unchanged", () => {
  const sketch = {
    width: 640,
    height: 480,
    objects: [
      { label: "cat", strokes: [[[1, 2.5], [3, 4]], [[9], [9]]] },
      { label: "dog", bbox: [10, 20, 30, 40], weight: -1 },
      { bbox: [0, 0, 8, 8], photo: "/9j/4AAQ" },
      { bbox: [0, 0, 8, 8], weight: 2, strokes: [[[1, 7], [1, 7]]] },
    ],
  };
  assert.deepEqual(toSketch(fromSketch(sketch)), sketch);
});

test("hidden objects, boxes that wait for a word and what lies off the canvas are not asked for", () => {
  const document = holding(
    { strokes: [square(10, 10, 50)] },
    { strokes: [square(10, 10, 50)], hidden: true },
    { box: [0, 0, 50, 50], label: "  " },
    { strokes: [square(-90, 10, 50)] },
  );
  assert.equal(toSketch(document).objects.length, 1);
});

test("nothing drawn, or only what is not wanted, is no question", () => {
  assert.equal(toSketch(blank()), null);
  assert.equal(toSketch(holding({ strokes: [square(0, 0, 9)], weight: -1 })), null);
});

test("the page's own fields stay out of stroke JSON", () => {
  const [member] = toSketch(holding({ strokes: [[[0.123, 5], [1, 2], [0.4, 0.6]]] })).objects;
  assert.deepEqual(member, { strokes: [[[0.1, 5], [1, 2]]] });
});

test("what is no sketch is refused in one line", () => {
  const refused = [null, {}, { width: 0, height: 5, objects: [] }, { width: 5, height: 5, objects: [{}] }];
  refused.push({ width: 5, height: 5, objects: [{ strokes: [[[1, 2], [1]]] }] });
  refused.push({ width: 5, height: 5, objects: [{ strokes: [[["1"], [1]]] }] });
  refused.push({ width: 5, height: 5, objects: [{ label: "cat", bbox: [1, 2, 3] }] });
  refused.push({ width: 5, height: 5, objects: [null] });
  for (const sketch of refused) assert.throws(() => fromSketch(sketch), Error);
});

test("each aspect is known by its size", () => {
  for (const aspect of ASPECTS) assert.equal(aspectOf(sizeOf(aspect)), aspect);
  assert.equal(aspectOf({ width: 1000, height: 100 }), null);
});

test("colours: the first that is free, then the least used", () => {
  assert.equal(nextColour([]), 0);
  assert.equal(nextColour([{ colour: 0 }, { colour: 2 }]), 1);
  assert.equal(nextColour(Array.from({ length: 12 }, (_, colour) => ({ colour }))), 0);
});

test("a press picks ink before the box around it, the topmost ink first, and nothing hidden", () => {
  const { objects } = holding({ strokes: [square(0, 0, 100)] }, { strokes: [square(40, 40, 20)] }, { strokes: [square(0, 0, 100)], hidden: true });
  assert.equal(objectAt(objects, 100, 50, 4).id, "o0");
  assert.equal(objectAt(objects, 60, 50, 4).id, "o1");
  assert.equal(objectAt(objects, 50, 50, 4).id, "o1");
  assert.equal(objectAt(objects, 20, 20, 4).id, "o0");
  assert.equal(objectAt(objects, 200, 200, 4), null);
});

test("an eraser takes whole strokes, and the object with its last one", () => {
  const object = makeObject({ strokes: [square(0, 0, 10), square(100, 0, 10)] });
  const once = erased(object, [5, -5, 5, 5], 2);
  assert.deepEqual(once.strokes, [square(100, 0, 10)]);
  assert.equal(erased(once, [100, 0, 110, 10], 2), null);
  assert.equal(erased(object, [50, 0, 50, 10], 2), object);
});

test("a box goes when its rim is touched, not when something in it is erased", () => {
  const box = makeObject({ label: "dog", box: [0, 0, 100, 100] });
  assert.equal(erased(box, [40, 50, 60, 50], 2), box);
  assert.equal(erased(box, [90, 50, 110, 50], 2), null);
});
