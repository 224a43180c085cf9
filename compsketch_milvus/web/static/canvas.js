// The sketch's half of the page, put together.

import { call } from "./api.js";
import { startAutosave } from "./autosave.js";
import { Board } from "./board.js";
import { startChips } from "./chips.js";
import * as store from "./document.js";
import { h } from "./dom.js";
import { startExamples } from "./examples.js";
import { save, share, startFiles } from "./files.js";
import { contain, middle, moving } from "./geometry.js";
import { startInspector } from "./inspector.js";
import { Keys } from "./keys.js";
import { startMenus } from "./menus.js";
import { startNotices } from "./notices.js";
import { boxOf, mapObject } from "./objects.js";
import { Pointers } from "./pointers.js";
import { fromFragment } from "./share.js";
import { endSteps, shortcuts } from "./shortcuts.js";
import { ASPECTS, aspectOf, sizeOf } from "./strokes.js";
import * as tools from "./tools.js";
import { bakeTurn, cutOut } from "./underlay.js";

const get = (id) => document.getElementById(id);

/** Start the canvas; resolves once the drawing of the last visit, or of the link, is there. */
export async function startCanvas() {
  startNotices(get("notices"));
  startMenus();
  const board = new Board(get("board"));
  const { askWord } = startInspector(get("inspector"));
  const pressure = get("pressure");
  const hands = {
    pen: tools.pen(board, { pressure: () => pressure.checked }),
    eraser: tools.eraser(board),
    select: tools.selecting(board, { bakeTurn }),
    box: tools.word(board, { askWord }),
    cut: tools.cut(board, { cutOut }),
  };
  const tool = startTools(board);
  const pointers = new Pointers(board, (event) => hands[event.button === 5 ? "eraser" : tool.inHand](event));
  const say = (text) => (get("announcer").textContent = text);
  const help = () => get("help").showModal();
  new Keys(shortcuts({ board, use: tool.use, say, askWord, pointers, help, save }), get("help"));
  addEventListener("keyup", (event) => {
    endSteps(event);
    if (event.key === " ") pointers.holdPan(false);
  });
  startChips(get("chips"));
  startCanvasMenu();
  startButtons(board, help);
  startFiles({ board: board.root, sketchInput: get("file"), photoInput: get("photo-file") });
  store.subscribe((state) => {
    board.render(state);
    get("undo").disabled = !store.canUndo();
    get("redo").disabled = !store.canRedo();
    tool.allowCut(state.document.underlay !== null);
  });
  // On the root: an SVG group that listens to focus would take focus itself.
  board.root.addEventListener("focusin", ({ target }) => target.dataset.id && store.select(target.dataset.id));
  addEventListener("compsketch:highlight", ({ detail: { index } }) => board.highlight(index));
  loadWords();
  startExamples(get("lead"), get("examples"));
  await begin();
  return board.root;
}

/** What was drawn on the last visit; a link's sketch comes on top of it, so that undo brings the other back. */
async function begin() {
  store.restore((await startAutosave()) ?? store.current());
  try {
    const linked = await fromFragment(location.hash);
    if (linked) store.open(linked);
  } catch (error) {
    store.notice(error.message, "error");
  }
  if (location.hash.startsWith("#s")) history.replaceState(null, "", location.pathname + location.search);
}

function startTools(board) {
  const buttons = [...document.querySelectorAll("[data-tool]")];
  const tool = {
    inHand: "pen",
    use(name) {
      if (buttons.find(({ dataset }) => dataset.tool === name).hidden) return;
      tool.inHand = name;
      board.root.dataset.tool = name;
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    },
    allowCut(isAllowed) {
      buttons.find(({ dataset }) => dataset.tool === "cut").hidden = !isAllowed;
      if (!isAllowed && tool.inHand === "cut") tool.use("pen");
    },
  };
  for (const button of buttons) button.addEventListener("click", () => tool.use(button.dataset.tool));
  tool.use("pen");
  return tool;
}

function startButtons(board, help) {
  const clicks = {
    undo: store.undo,
    redo: store.redo,
    share,
    "help-open": help,
    "open-file": () => get("file").click(),
    "zoom-in": () => board.zoomBy(1.25),
    "zoom-in-item": () => board.zoomBy(1.5),
    "zoom-out": () => board.zoomBy(0.8),
    "zoom-reset": () => board.showAll(),
    clear: () => store.update((document) => (document.objects.length || document.underlay ? { ...document, objects: [], underlay: null } : document)),
  };
  for (const [id, run] of Object.entries(clicks)) get(id).addEventListener("click", run);
  for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => save(button.dataset.save));
  board.root.addEventListener("look", () => {
    get("zoom-reset").textContent = `${Math.round(board.zoom * 100)} %`;
    get("zoom").classList.toggle("zoomed", board.zoom !== 1);
  });
}

/** The menu of the canvas' shape and the photo underneath. */
function startCanvasMenu() {
  const radios = ASPECTS.map((aspect) => h("input", { type: "radio", name: "aspect", value: aspect, onchange: () => reshape(aspect) }));
  get("aspects").append(...radios.map((radio) => h("label.aspect", {}, radio, h("span", {}, radio.value))));
  get("underlay-open").addEventListener("click", () => get("photo-file").click());
  get("underlay-remove").addEventListener("click", () => store.update((document) => ({ ...document, underlay: null })));
  const opacity = get("underlay-opacity");
  let gesture = null;
  opacity.addEventListener("input", () => {
    gesture ??= store.newGesture();
    store.update((document) => ({ ...document, underlay: { ...document.underlay, opacity: opacity.valueAsNumber } }), gesture);
  });
  opacity.addEventListener("change", () => {
    if (gesture) store.endGesture(gesture, { cancelled: false });
    gesture = null;
  });
  store.subscribe(({ document }) => {
    const aspect = aspectOf(document);
    for (const radio of radios) radio.checked = radio.value === aspect;
    get("underlay").hidden = !document.underlay;
    if (document.underlay) opacity.value = document.underlay.opacity;
  });
}

/** Give the canvas another shape: objects keep theirs, their middles their place in the frame. */
function reshape(aspect) {
  store.update((document) => {
    const size = sizeOf(aspect);
    const objects = document.objects.map((object) => {
      const [x, y] = middle(boxOf(object));
      return mapObject(object, moving(x * (size.width / document.width - 1), y * (size.height / document.height - 1)));
    });
    return { ...document, ...size, objects, underlay: document.underlay && refit(document.underlay, size) };
  });
}

function refit(underlay, { width, height }) {
  const [x0, y0, x1, y1] = underlay.box;
  return { ...underlay, box: contain(x1 - x0, y1 - y0, width, height) };
}

/** The words that the encoder knows, to complete what is typed; any other is as welcome. */
async function loadWords() {
  try {
    const words = await call("api/words");
    get("words").replaceChildren(...words.map((word) => h("option", { value: word })));
  } catch {
    // Without them there is nothing to complete; the results' half says what is wrong with the server.
  }
}
