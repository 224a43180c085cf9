import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { address, ApiError, call } from "../../../compsketch_milvus/web/static/api.js";

globalThis.document = { baseURI: "http://photos.test/below/" };
const { fetch } = globalThis;
afterEach(() => (globalThis.fetch = fetch));

/** Answers in turn, and what was sent. */
function server(...answers) {
  const sent = [];
  globalThis.fetch = async (url, init) => {
    sent.push({ url, ...init });
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return sent;
}

const json = (body, init) => new Response(JSON.stringify(body), init);

test("addresses lie below the page's own, with parameters that say something", () => {
  assert.equal(
    address("api/fields", { collection: "a b", size: undefined }),
    "http://photos.test/below/api/fields?collection=a+b",
  );
});

test("a body is posted as JSON with the header that no form can send", async () => {
  const sent = server(json({ hits: [] }));
  assert.deepEqual(await call("api/search", { body: { limit: 3 } }), { hits: [] });
  assert.equal(sent[0].method, "POST");
  assert.equal(sent[0].headers["X-Compsketch"], "1");
  assert.equal(sent[0].body, '{"limit":3}');
});

test("a server that is busy is asked again after the pause that it names, and not for ever", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const busy = () => json({ error: "too many" }, { status: 429, headers: { "Retry-After": "2" } });
  const sent = server(busy(), json("done"), busy(), busy(), busy());
  const first = call("api/search", { body: {} });
  await passing(t, 2000);
  assert.equal(await first, "done");
  const second = assert.rejects(call("api/search", { body: {} }), { message: "too many", status: 429 });
  await passing(t, 2000);
  await passing(t, 2000);
  await second;
  assert.equal(sent.length, 5);
});

test("errors are the server's own line, or one that says what happened", async () => {
  server(
    json({ error: "no such photo" }, { status: 404 }),
    new Response("<html>", { status: 502 }),
    new TypeError("failed to fetch"),
    new Response("<html>"),
  );
  await assert.rejects(call("api/details/1"), { message: "no such photo", status: 404, unreachable: false });
  await assert.rejects(call("api/details/1"), { status: 502, unreachable: true });
  await assert.rejects(call("api/details/1"), { message: "The server cannot be reached.", unreachable: true });
  await assert.rejects(
    call("api/details/1"),
    (error) => error instanceof ApiError && error.message.includes("not JSON"),
  );
});

test("what was given up rejects with the reason", async () => {
  const gone = new AbortController();
  globalThis.fetch = (url, { signal }) =>
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const asked = call("api/search", { body: {}, signal: gone.signal });
  gone.abort();
  await assert.rejects(asked, { name: "AbortError" });
});

/** Let the promises that wait for the clock be made, then let time pass. */
async function passing(t, milliseconds) {
  for (let i = 0; i < 20; i++) await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  t.mock.timers.tick(milliseconds);
  await new Promise((resolve) => setImmediate(resolve));
}
