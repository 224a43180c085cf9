import assert from "node:assert/strict";
import { test } from "node:test";
import { nameOf } from "../../../compsketch_milvus/web/static/keys.js";

test("keys have one name on every keyboard", () => {
  const pressed = (key, modifiers = {}) => nameOf({ key, ctrlKey: false, metaKey: false, shiftKey: false, ...modifiers });
  assert.equal(pressed("p"), "p");
  assert.equal(pressed("P"), "p", "caps lock");
  assert.equal(pressed("R", { shiftKey: true }), "Shift+r");
  assert.equal(pressed("Z", { ctrlKey: true, shiftKey: true }), "Mod+Shift+z");
  assert.equal(pressed("z", { metaKey: true }), "Mod+z");
  assert.equal(pressed("?", { shiftKey: true }), "?");
  assert.equal(pressed("+", { shiftKey: true }), "+");
  assert.equal(pressed("ArrowLeft", { shiftKey: true }), "Shift+ArrowLeft");
});
