import assert from "node:assert/strict";
import { test } from "node:test";
import { makeObject } from "../../../compsketch_milvus/web/static/objects.js";
import { fromFragment, toFragment } from "../../../compsketch_milvus/web/static/share.js";

const circle = (cx, cy, r) => Array.from({ length: 200 }, (_, i) => (i * Math.PI) / 100).reduce(([xs, ys], a) => [[...xs, cx + r * Math.cos(a)], [...ys, cy + r * Math.sin(a)]], [[], []]);
const drawing = {
  width: 1024,
  height: 768,
  underlay: null,
  objects: [
    makeObject({ id: "o1", colour: 3, label: "Katze & “Hündin”", strokes: [circle(200, 300, 100), [[7], [9]]], weight: -2 }),
    makeObject({ id: "o2", colour: 0, label: "dog", box: [10, 20, 300, 400], hidden: true }),
  ],
};

test("a link brings the sketch back, to the pixel", async () => {
  const shared = await fromFragment(await toFragment(drawing));
  const whole = drawing.objects.map((object) => ({ ...object, strokes: object.strokes.map((rows) => rows.map((row) => row.map(Math.round))) }));
  assert.deepEqual(shared, { ...drawing, objects: whole });
});

test("a link is short and made of letters that survive everywhere", async () => {
  const fragment = await toFragment(drawing);
  assert.match(fragment, /^#s1\.[A-Za-z0-9_-]+$/);
  assert.ok(fragment.length < 600, `${fragment.length} letters`);
});

test("photos stay out of a link", async () => {
  const cut = makeObject({ id: "o3", colour: 1, box: [0, 0, 9, 9], photo: "data:image/jpeg;base64,AAAA" });
  const shared = await fromFragment(await toFragment({ ...drawing, underlay: { photo: "data:," }, objects: [...drawing.objects, cut] }));
  assert.equal(shared.objects.length, 2);
  assert.equal(shared.underlay, null);
});

test("another fragment is no sketch, and a broken one says so", async () => {
  assert.equal(await fromFragment(""), null);
  assert.equal(await fromFragment("#results"), null);
  const whole = await toFragment(drawing);
  for (const broken of ["#s1.", "#s1.!!!", whole.slice(0, -30), "#s1.AAAA"]) await assert.rejects(fromFragment(broken), /damaged/);
});

test("a link that unfolds without end is refused", async () => {
  const bomb = new Blob(["[".repeat(50_000_000)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = Buffer.from(await new Response(bomb).arrayBuffer());
  await assert.rejects(fromFragment(`#s1.${bytes.toString("base64url")}`), /damaged/);
});

test("values that no canvas has are refused or put right", async () => {
  const pack = async (packed) => `#s1.${Buffer.from(await new Response(new Blob([JSON.stringify(packed)]).stream().pipeThrough(new CompressionStream("deflate-raw"))).arrayBuffer()).toString("base64url")}`;
  const ink = [[[0, 5], [0, 5]]];
  await assert.rejects(fromFragment(await pack([1e9, 5, []])), /damaged/);
  await assert.rejects(fromFragment(await pack([10, 5, [[0, "", 1, 0, null, [[["a"], [1]]]]]])), /damaged/);
  await assert.rejects(fromFragment(await pack([10, 5, [[0, "", 1, 0, null, []]]])), /damaged/);
  const { objects } = await fromFragment(await pack([10, 5, [["x", 7, 99, 0, null, ink]]]));
  assert.deepEqual([objects[0].colour, objects[0].label, objects[0].weight], [0, "7", 4]);
});
