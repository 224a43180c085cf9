import assert from "node:assert/strict";
import { test } from "node:test";
import * as geometry from "../../../compsketch_milvus/web/static/geometry.js";

const near = (actual, expected) => actual.flat(3).forEach((value, i) => assert.ok(Math.abs(value - expected.flat(3)[i]) < 1e-9, `${actual} is not ${expected}`));

test("the bounds of strokes, of a dot and of nothing", () => {
  assert.deepEqual(geometry.bounds([[[1, 5], [2, 3]], [[0], [9]]]), [0, 2, 5, 9]);
  assert.deepEqual(geometry.bounds([[[4], [7]]]), [4, 7, 4, 7]);
  assert.equal(geometry.bounds([]), null);
});

test("simplifying keeps the ends and corners, and stays within its tolerance", () => {
  const xs = Array.from({ length: 500 }, (_, i) => i);
  const ys = xs.map((x) => 40 * Math.sin(x / 50));
  const [keptX, keptY] = geometry.simplify([xs, ys], 0.5);
  assert.ok(keptX.length < 60, `${keptX.length} points are left of 500`);
  assert.deepEqual([keptX[0], keptX.at(-1)], [0, 499]);
  for (let i = 0; i < xs.length; i++) assert.ok(geometry.touches([keptX, keptY], [xs[i], ys[i], xs[i], ys[i]], 0.5 + 1e-9));
});

test("a straight line is its two ends, a corner is kept, and so is the pressure beside it", () => {
  assert.deepEqual(geometry.simplify([[0, 1, 2, 3], [0, 0, 0, 0]], 0.1), [[0, 3], [0, 0]]);
  assert.deepEqual(geometry.simplify([[0, 5, 5], [0, 0, 5]], 0.1), [[0, 5, 5], [0, 0, 5]]);
  assert.deepEqual(geometry.simplify([[0, 1, 2], [0, 0, 0], [0.1, 0.5, 0.9]], 0.1), [[0, 2], [0, 0], [0.1, 0.9]]);
});

test("a stroke that comes back to its start is more than a point", () => {
  const [xs] = geometry.simplify([[0, 10, 10, 0, 0], [0, 0, 10, 10, 0]], 0.5);
  assert.equal(xs.length, 5);
});

test("an eraser touches what it crosses, even between two of the stroke's points", () => {
  const line = [[0, 100], [0, 0]];
  assert.ok(geometry.touches(line, [50, -20, 50, 20], 1));
  assert.ok(geometry.touches(line, [50, 3, 60, 3], 3));
  assert.ok(!geometry.touches(line, [50, 5, 60, 5], 3));
  assert.ok(geometry.touches([[7], [7]], [0, 0, 10, 10], 0.1), "a dot");
});

test("a quarter turn clockwise on the screen takes right to down", () => {
  near(geometry.turning(0, 0, Math.PI / 2)(1, 0), [0, 1]);
  near(geometry.mapStroke([[1, 2], [1, 1]], geometry.turning(1, 1, Math.PI / 2)), [[1, 1], [1, 2]]);
});

test("stretching maps one box onto another; a line without height just moves", () => {
  assert.deepEqual(geometry.mapBox([0, 0, 10, 20], geometry.stretching([0, 0, 10, 20], [5, 5, 25, 15])), [5, 5, 25, 15]);
  assert.deepEqual(geometry.mapBox([0, 3, 10, 3], geometry.stretching([0, 3, 10, 3], [0, 8, 20, 9])), [0, 8, 20, 8]);
});

test("a photo lies whole and centred on a canvas of another shape", () => {
  assert.deepEqual(geometry.contain(200, 100, 100, 100), [0, 25, 100, 75]);
});
