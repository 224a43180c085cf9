// The objects as a row of buttons, in the order in which they cover each other, and one that begins the next.

import { inkOf, select, subscribe } from "./document.js";
import { h, style } from "./dom.js";
import { nameOf } from "./objects.js";
import { icon } from "./icons.js";

export function startChips(root) {
  const buttons = new Map(); // id -> button
  const next = h("button.chip.next", { type: "button", title: "New object (N)", onclick: () => select(null) }, icon("plus"), h("span", {}, "New object"));
  root.append(next);
  subscribe(({ document, selection }) => {
    const ids = new Set(document.objects.map(({ id }) => id));
    for (const [id, button] of buttons) {
      if (!ids.has(id)) {
        button.remove();
        buttons.delete(id);
      }
    }
    document.objects.forEach((object, index) => {
      const button = buttons.get(object.id) ?? make(object.id);
      buttons.set(object.id, button);
      show(button, object, index, object.id === selection?.id);
      if (root.children[index] !== button) root.insertBefore(button, root.children[index]);
    });
    root.hidden = document.objects.length === 0;
    next.setAttribute("aria-pressed", String(!selection));
  });
}

function make(id) {
  return h("button.chip", { type: "button", onclick: () => select(id) }, h("span.dot", { "aria-hidden": "true" }), h("span.chip-name"), h("span.chip-note"));
}

function show(button, object, index, isSelected) {
  const [dot, name, note] = button.children;
  style(dot, { "--ink": inkOf(object) });
  const weight = Math.abs(object.weight) === 1 ? "" : `×${Math.abs(object.weight)}`;
  const texts = [nameOf(object, index), [object.weight < 0 ? "not wanted" : "", weight, object.hidden ? "hidden" : ""].filter(Boolean).join(", ")];
  if (name.textContent !== texts[0]) name.textContent = texts[0];
  if (note.textContent !== texts[1]) note.textContent = texts[1];
  button.classList.toggle("unwanted", object.weight < 0);
  button.classList.toggle("is-hidden", object.hidden);
  button.classList.toggle("unnamed", !object.label.trim());
  if (isSelected && button.ariaPressed !== "true") button.scrollIntoView({ block: "nearest", inline: "nearest" });
  button.setAttribute("aria-pressed", String(isSelected));
}
