// What the selected object is: its word, its colour, how much it counts; and what can be done with it.

import { duplicate, endGesture, inkOf, newGesture, reorder, selection, subscribe, updateObject } from "./document.js";
import { h, style } from "./dom.js";
import { icon } from "./icons.js";
import { COLOURS, nameOf } from "./objects.js";

const COLOUR_NAMES = [
  "red", "blue", "green", "orange", "violet", "teal", "magenta", "brown", "slate", "olive", "rose", "periwinkle",
];
const WEIGHTS = [0.25, 0.5, 1, 1.5, 2, 3, 4];

const change = (fields, merge) => updateObject(selection().id, (object) => ({ ...object, ...fields }), merge);

export const toggleHidden = () => change({ hidden: !selection().hidden });
export const toggleWanted = () => change({ weight: -selection().weight });
export const remove = () => updateObject(selection().id, () => null);

export function startInspector(root) {
  const parts = { ...labelPart(), ...colourPart(), ...weightPart(), ...actionPart() };
  const form = h(
    "div.inspector-form", {},
    h("div.inspector-row", {}, parts.labelField, parts.wanted),
    parts.swatches,
    h("div.inspector-row", {}, parts.weightField, parts.actions),
  );
  const hint = h("p.inspector-hint", {}, "The next stroke begins a new object, in a colour of its own.");
  root.append(form, hint);
  subscribe(({ document, selection: object }) => {
    root.hidden = document.objects.length === 0;
    form.hidden = !object;
    hint.hidden = Boolean(object);
    if (object) show(parts, object, document.objects);
  });
  return { askWord: () => parts.label.focus(), label: parts.label };
}

function labelPart() {
  let gesture = null;
  const label = h("input", {
    type: "text", id: "label", maxLength: 200, autocomplete: "off", autocapitalize: "off", spellcheck: true,
    enterKeyHint: "done", placeholder: "a word for it, such as dog",
    oninput: () => {
      gesture ??= newGesture();
      change({ label: label.value }, gesture);
    },
    onblur: end,
    onkeydown: (event) => {
      if (event.key === "Enter" || event.key === "Escape") document.getElementById("board").focus({ preventScroll: true });
    },
  });
  label.setAttribute("list", "words");
  function end() {
    if (gesture) endGesture(gesture, { cancelled: false });
    gesture = null;
  }
  return { label, labelField: h("label.field", {}, h("span", {}, "Word"), label) };
}

function colourPart() {
  const radios = Array.from({ length: COLOURS }, (_, colour) => {
    const input = h("input", { type: "radio", name: "colour", "aria-label": COLOUR_NAMES[colour], onchange: () => change({ colour }) });
    return style(h("label.swatch", { title: COLOUR_NAMES[colour] }, input), { "--ink": inkOf({ colour }) });
  });
  return { radios, swatches: h("div.swatches", { role: "radiogroup", "aria-label": "Colour" }, ...radios) };
}

function weightPart() {
  const wanted = h("label.switch", { title: "Not wanted there (X)" }, h("input", { type: "checkbox", role: "switch", onchange: toggleWanted }), h("span", {}, "Not wanted"));
  const shown = h("output", { "aria-hidden": "true" });
  const gesture = { key: null };
  const weight = h("input", {
    type: "range", min: 0, max: WEIGHTS.length - 1, step: 1, "aria-label": "How much it counts",
    oninput: () => {
      gesture.key ??= newGesture();
      change({ weight: Math.sign(selection().weight) * WEIGHTS[weight.valueAsNumber] }, gesture.key);
    },
    onchange: () => {
      if (gesture.key) endGesture(gesture.key, { cancelled: false });
      gesture.key = null;
    },
  });
  return { wanted, weight, shown, weightField: h("label.field.weight", {}, h("span", {}, "Weight"), weight, shown) };
}

function actionPart() {
  const action = (name, title, run) => h("button.button.icon", { type: "button", "aria-label": title.replace(/ \(.*/, ""), title, onclick: run }, icon(name));
  const hide = action("eye", "Hide (H)", toggleHidden);
  const up = action("up", "Bring forward (])", () => reorder(selection().id, 1));
  const down = action("down", "Send back ([)", () => reorder(selection().id, -1));
  const actions = h(
    "div.actions", { role: "group", "aria-label": "This object" },
    up, down, action("copy", "Duplicate (D)", () => duplicate(selection().id)), hide, action("bin", "Delete (Delete)", remove),
  );
  return { actions, hide, up, down };
}

function show(parts, object, objects) {
  const index = objects.indexOf(object);
  if (parts.label.value !== object.label) parts.label.value = object.label;
  parts.label.classList.toggle("missing", !object.strokes.length && !object.photo && !object.label.trim());
  parts.actions.setAttribute("aria-label", nameOf(object, index));
  parts.radios.forEach((radio, colour) => (radio.firstChild.checked = colour === object.colour % COLOURS));
  parts.wanted.firstChild.checked = object.weight < 0;
  const size = Math.abs(object.weight);
  const nearest = WEIGHTS.reduce((best, value, i) => (Math.abs(value - size) < Math.abs(WEIGHTS[best] - size) ? i : best), 0);
  parts.weight.value = nearest;
  parts.weight.setAttribute("aria-valuetext", `${size} times`);
  parts.shown.textContent = `×${size}`;
  parts.hide.replaceChildren(icon(object.hidden ? "hidden" : "eye"));
  parts.hide.setAttribute("aria-pressed", String(object.hidden));
  parts.up.disabled = index === objects.length - 1;
  parts.down.disabled = index === 0;
}
