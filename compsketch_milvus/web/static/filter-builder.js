/** Conditions on the collection's fields, a row each, as one expression in Milvus' own language. */

import { h } from "./dom.js";
import { icon } from "./icons.js";

const COMPARISONS = {
  text: [
    ["==", "is"],
    ["!=", "is not"],
    ["like", "starts with"],
  ],
  number: [
    ["==", "="],
    ["!=", "≠"],
    [">=", "≥"],
    ["<=", "≤"],
  ],
  boolean: [["==", "is"]],
};

let lists = 0; // datalists need ids

export class FilterBuilder {
  #fields = [];
  #rows;

  /** @param {() => void} changed - a condition is another one now. */
  constructor(changed) {
    this.changed = changed;
    this.#rows = h("ul.conditions");
    this.#rows.setAttribute("aria-label", "Conditions");
    this.add = h("button.button.outlined", { type: "button", onclick: () => this.#add() }, "Add a condition");
    this.element = h("div.builder", {}, this.#rows, this.add);
  }

  /** @param {{name: string, type: string, examples: any[]}[]} fields - of the collection shown; conditions start anew. */
  set fields(fields) {
    this.#fields = fields;
    this.element.hidden = fields.length === 0;
    this.clear();
  }

  clear() {
    this.#rows.replaceChildren();
  }

  /** All conditions joined; "" without any. A row without a value is none yet. */
  get expression() {
    return [...this.#rows.children]
      .map((row) => row.condition())
      .filter(Boolean)
      .join(" and ");
  }

  #add() {
    const field = h(
      "select",
      { "aria-label": "Field" },
      ...this.#fields.map(({ name }) => h("option", { value: name }, name)),
    );
    const row = h("li.condition", {}, field);
    const fill = () => {
      const { type, examples } = this.#fields.find(({ name }) => name === field.value);
      const operator = h(
        "select",
        { "aria-label": "Comparison" },
        ...COMPARISONS[type].map(([value, label]) => h("option", { value }, label)),
      );
      const value = valueInput(type, examples);
      row.replaceChildren(field, operator, ...value.nodes, this.#removal(row));
      row.condition = () => condition(field.value, operator.value, value.read(), type);
      row.oninput = () => this.changed();
    };
    field.addEventListener("change", fill);
    fill();
    this.#rows.append(row);
    field.focus();
  }

  #removal(row) {
    const remove = () => {
      row.remove();
      this.add.focus();
      this.changed();
    };
    return h(
      "button.button.icon",
      { type: "button", "aria-label": "Remove the condition", onclick: remove },
      icon("close"),
    );
  }
}

function valueInput(type, examples) {
  if (type === "boolean") {
    const select = h(
      "select",
      { "aria-label": "Value" },
      h("option", { value: "true" }, "yes"),
      h("option", { value: "false" }, "no"),
    );
    return { nodes: [select], read: () => select.value };
  }
  const id = `examples-${(lists += 1)}`;
  const input = h("input", {
    "aria-label": "Value",
    autocomplete: "off",
    placeholder: examples.length ? `such as ${examples[0]}` : "",
  });
  if (type === "number") Object.assign(input, { type: "number", step: "any" });
  input.setAttribute("list", id);
  return {
    nodes: [input, h("datalist", { id }, ...examples.map((value) => h("option", { value })))],
    read: () => input.value.trim(),
  };
}

function condition(name, operator, value, type) {
  if (value === "") return "";
  if (type !== "text") return `${name} ${operator} ${value}`;
  return `${name} ${operator} ${JSON.stringify(operator === "like" ? `${value}%` : value)}`;
}
