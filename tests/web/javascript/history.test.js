import assert from "node:assert/strict";
import { test } from "node:test";
import { commit, redo, start, undo } from "../../../compsketch_milvus/web/static/history.js";

test("undo and redo walk through what was committed", () => {
  let history = commit(commit(start("a"), "b"), "c");
  history = undo(history);
  assert.equal(history.present, "b");
  history = undo(history);
  assert.equal(history.present, "a");
  assert.equal(redo(redo(history)).present, "c");
});

test("nothing lies before the first state or after the last", () => {
  const history = start("a");
  assert.equal(undo(history).present, "a");
  assert.equal(redo(history).present, "a");
});

test("a change after an undo forgets what was undone", () => {
  const history = commit(undo(commit(start("a"), "b")), "c");
  assert.equal(redo(history).present, "c");
  assert.equal(undo(history).present, "a");
});

test("the frames of one drag are one step, those of two drags two", () => {
  const [first, second] = [Symbol("first"), Symbol("second")];
  let history = start(0);
  for (const [present, drag] of [[1, first], [2, first], [3, second], [4, second]]) history = commit(history, present, drag);
  assert.deepEqual(history.past, [0, 2]);
});

test("a drag that goes on after an undo is a step of its own", () => {
  const drag = Symbol("drag");
  const history = commit(undo(commit(start(0), 1, drag)), 2, drag);
  assert.equal(undo(history).present, 0);
});

test("the same state again is no step", () => {
  const history = start("a");
  assert.equal(commit(history, "a"), history);
});

test("the past is bounded", () => {
  let history = start(0);
  for (let i = 1; i <= 1000; i++) history = commit(history, i);
  assert.equal(history.past.length, 500);
  assert.equal(history.past[0], 500);
});
