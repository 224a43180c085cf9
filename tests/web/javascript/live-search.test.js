import assert from "node:assert/strict";
import { test } from "node:test";
import { LiveSearch } from "../../../compsketch_milvus/web/static/live-search.js";

/** A search whose answers come when the test says so; `seen` is what the page was told. */
function search(t) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const asked = [];
  const seen = [];
  let drawing = null;
  const ask = (question, signal) => {
    const answer = Promise.withResolvers ? Promise.withResolvers() : withResolvers();
    signal.addEventListener("abort", () => answer.reject(signal.reason));
    asked.push({ question, signal, ...answer });
    return answer.promise;
  };
  const live = new LiveSearch(() => drawing, ask, {
    nothing: () => seen.push("nothing"),
    asking: () => {},
    answer: (answer) => seen.push(answer),
    failed: (error) => seen.push(error.message),
  });
  return { live, asked, seen, draw: (what) => (drawing = what), tick: (ms) => t.mock.timers.tick(ms) };
}

function withResolvers() {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

test("changes are asked for once, after a short rest", (t) => {
  const { live, asked, draw, tick } = search(t);
  draw("line");
  for (let i = 0; i < 3; i++) {
    live.soon();
    tick(100);
  }
  assert.equal(asked.length, 0);
  tick(20);
  assert.deepEqual(
    asked.map(({ question }) => question),
    ["line"],
  );
});

test("a finished line is asked for at once, and what was under way is given up", async (t) => {
  const { live, asked, seen, draw } = search(t);
  draw("half");
  live.now();
  draw("whole");
  live.now();
  assert.equal(asked[0].signal.aborted, true);
  asked[1].resolve("photos of whole");
  asked[0].resolve("photos of half");
  await settle();
  assert.deepEqual(seen, ["photos of whole"]);
});

test("while a line grows the question under way is let finish, then the newest is asked", async (t) => {
  const { live, asked, seen, draw, tick } = search(t);
  draw("one");
  live.now();
  draw("two");
  live.soon();
  tick(120);
  assert.equal(asked.length, 1);
  asked[0].resolve("photos of one");
  await settle();
  assert.deepEqual(
    asked.map(({ question }) => question),
    ["one", "two"],
  );
  assert.deepEqual(seen, ["photos of one"]);
});

test("an empty drawing asks for nothing, and an answer that comes late is not shown", async (t) => {
  const { live, asked, seen, draw } = search(t);
  draw("line");
  live.now();
  draw(null);
  live.now();
  asked[0].resolve("photos");
  await settle();
  assert.deepEqual(seen, ["nothing"]);
});

test("a failure is told", async (t) => {
  const { live, asked, seen, draw } = search(t);
  draw("line");
  live.now();
  asked[0].reject(new Error("gone"));
  await settle();
  assert.deepEqual(seen, ["gone"]);
});
