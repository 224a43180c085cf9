// The keyboard: one table for what keys do and for the sheet that says so.

import { h } from "./dom.js";

const STORED = "compsketch-letters";
const TYPING = "input:not([type=radio], [type=checkbox], [type=range]), textarea, select, [contenteditable]";
const SHOWN = { Mod: "Ctrl", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", " ": "Space", Delete: "Del", Escape: "Esc" };
SHOWN.Arrows = "← ↑ ↓ →";

/** A key with its modifiers, such as "Mod+Shift+z": Mod for ctrl or cmd; shift counts with letters and named keys. */
export function nameOf({ key, ctrlKey, metaKey, shiftKey }) {
  const isNamed = key.length > 1 || key === " " || key.toLowerCase() !== key.toUpperCase();
  const name = key.length === 1 ? key.toLowerCase() : key;
  return `${ctrlKey || metaKey ? "Mod+" : ""}${shiftKey && isNamed ? "Shift+" : ""}${name}`;
}

/**
 * Let keys do what a table says: entries of {section, keys, does, run}.
 *
 * `keys` are names as `nameOf` gives them; `shown` what the sheet prints in their place; `does` is for people; `run` gets
 * the event, and returns false to leave the key to the browser; `onBoard` keys count on the canvas alone.
 */
export class Keys {
  #entries = new Map();
  #letters = localStorage.getItem(STORED) !== "off";

  constructor(table, dialog) {
    for (const entry of table) for (const key of entry.keys) this.#entries.set(key, entry);
    dialog.replaceChildren(...this.#sheet(table, dialog));
    addEventListener("keydown", (event) => this.#press(event));
  }

  #press(event) {
    const name = nameOf(event);
    const entry = this.#entries.get(name);
    if (!entry || event.defaultPrevented || event.isComposing || event.altKey) return;
    if (event.target.closest(TYPING) || document.querySelector("dialog[open], :popover-open")) return;
    if (event.key.length === 1 && event.key !== " " && !name.startsWith("Mod+") && !this.#letters) return;
    if (entry.onBoard && !event.target.closest("#board")) return;
    if (entry.run(event) !== false) event.preventDefault();
  }

  #sheet(table, dialog) {
    const sections = [...new Set(table.map(({ section }) => section))].map((section) => {
      const rows = table.filter((entry) => entry.section === section).flatMap(row);
      return h("section", {}, h("h3", {}, section), h("dl", {}, ...rows));
    });
    // Speech input types letters: whoever uses it can switch them off.
    const letters = h("input", { type: "checkbox", checked: this.#letters, onchange: () => this.#keepLetters(letters.checked) });
    return [
      h("header", {}, h("h2", { id: "help-title" }, "Keyboard"), h("button.button.outlined", { type: "button", onclick: () => dialog.close() }, "Close")),
      h("div.help-sections", {}, ...sections),
      h("label.check", {}, letters, " Single letters and signs are shortcuts"),
    ];
  }

  #keepLetters(on) {
    this.#letters = on;
    localStorage.setItem(STORED, on ? "on" : "off");
  }
}

function row({ keys, shown = keys.slice(0, 1), does }) {
  const pressed = shown.map((name) => {
    const caps = name.split(/(?<=.)\+(?=.)/).map((key) => h("kbd", {}, SHOWN[key] ?? (key.length === 1 ? key.toUpperCase() : key)));
    return h("span", {}, ...caps);
  });
  return [h("dt", {}, ...pressed), h("dd", {}, does)];
}
