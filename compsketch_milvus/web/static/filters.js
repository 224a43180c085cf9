/** What to search in, how, and which photos may come back. */

import { call } from "./api.js";
import { h } from "./dom.js";
import { FilterBuilder } from "./filter-builder.js";
import { session } from "./session.js";

const COUNTS = [12, 24, 48, 96];
const USUAL = 24;
const ALIKE = 0.98; // cosine from which photos are near-duplicates

/** Dispatches "change" when the next question is another one, "failed" (detail: the error) when fields cannot be had. */
export class Filters extends EventTarget {
  #session;
  #byHand = false; // the expression was typed, not built

  constructor(session) {
    super();
    this.#session = session;
    this.collection = session.collection;
    this.builder = new FilterBuilder(() => this.#built());
    this.#controls();
    this.element = h("form.filters", { id: "filters", hidden: true, onsubmit: (event) => event.preventDefault() });
    this.element.setAttribute("aria-label", "Search settings");
    this.element.append(
      h("div.choices", {}, this.collections, this.count.label, this.threshold.label),
      h("div.ticks", {}, ...[this.rerank, this.words, this.duplicates].filter(Boolean).map(({ label }) => label)),
      h("fieldset", {}, h("legend", {}, "Only photos where"), this.builder.element, this.expression.label),
      this.index,
    );
    this.opener = this.#opener();
    this.#facts();
  }

  /** What any search is asked with. */
  get terms() {
    return {
      collection: this.collection,
      limit: Number(this.count.input.value),
      filter: this.expression.input.value.trim() || undefined,
      threshold: this.#session.encoder.calibrated ? undefined : this.#share,
      rerank: this.rerank.input.checked ? undefined : 0,
      hide_duplicates: this.duplicates.input.checked ? ALIKE : undefined,
    };
  }

  /** What the search with a drawing is asked with besides. */
  get drawn() {
    const { calibrated } = this.#session.encoder;
    return { words: this.words?.input.checked, min_confidence: calibrated ? this.#share : undefined };
  }

  get #share() {
    return Number(this.threshold.input.value) / 100 || undefined;
  }

  /** Ask for the collection's fields, and for its facts where another one was chosen. */
  async load() {
    const { collection } = this;
    try {
      const fields = await call("api/fields", { parameters: { collection } });
      const facts = collection === this.#session.collection ? this.#session : await session(collection);
      if (collection !== this.collection) return;
      this.builder.fields = fields;
      this.session = facts;
    } catch (error) {
      this.dispatchEvent(new CustomEvent("failed", { detail: error }));
    }
  }

  /** All photos again. */
  dropFilter() {
    this.expression.input.value = "";
    this.builder.clear();
    this.#byHand = false;
    this.#changed();
  }

  /** What the server says of the collection by now. */
  set session(facts) {
    this.#session = facts;
    this.#facts();
  }

  #controls() {
    const { calibrated, words } = this.#session.encoder;
    const largest = this.#session.limits?.limit ?? COUNTS.at(-1);
    const changed = () => this.#changed();
    const counts = COUNTS.filter((count) => count <= largest);
    const options = (counts.length ? counts : [largest]).map((count) =>
      h("option", { value: count, defaultSelected: count === USUAL }, count),
    );
    this.count = labelled("How many", h("select", { onchange: changed }, ...options));
    this.threshold = labelled(
      calibrated ? "At least this likely" : "At least this score",
      h("input", {
        id: "threshold",
        type: "range",
        min: 0,
        max: 99,
        step: 1,
        defaultValue: 0,
        oninput: () => (this.#thresholdSaid(), this.#changed()),
      }),
      h("output"),
    );
    this.rerank = switched("Exact re-rank", true, changed);
    this.words = words ? switched("Use the labels' words", false, changed) : null;
    this.duplicates = switched("Hide near-duplicates", false, changed);
    this.expression = labelled(
      "Expression",
      h("input.expression", {
        spellcheck: false,
        autocomplete: "off",
        placeholder: "such as width > 640",
        onchange: () => this.#typed(),
      }),
    );
    this.collections = this.#collectionChoice();
    this.index = h("p.index");
    this.#thresholdSaid();
  }

  #collectionChoice() {
    const names = this.#session.collections ?? [];
    if (names.length < 2) return null;
    const { label, input } = labelled(
      "Collection",
      h(
        "select",
        {},
        ...names.map((name) => h("option", { value: name, defaultSelected: name === this.collection }, name)),
      ),
    );
    input.addEventListener("change", () => this.#switch(input.value));
    return label;
  }

  #switch(collection) {
    this.collection = collection;
    this.expression.input.value = "";
    this.builder.fields = [];
    this.load();
    this.#changed();
  }

  #opener() {
    const open = () => {
      this.element.hidden = !this.element.hidden;
      this.opener.setAttribute("aria-expanded", String(!this.element.hidden));
    };
    return h(
      "button.button.outlined",
      { type: "button", "aria-expanded": "false", "aria-controls": "filters", onclick: open },
      "Settings",
    );
  }

  #built() {
    if (this.#byHand && !this.builder.expression) return;
    this.#byHand = false;
    this.expression.input.value = this.builder.expression;
    this.#changed();
  }

  #typed() {
    this.#byHand = true;
    this.builder.clear();
    this.#changed();
  }

  #thresholdSaid() {
    const [input, output] = [this.threshold.input, this.threshold.output];
    const share = this.#session.encoder.calibrated ? `${input.value} %` : (Number(input.value) / 100).toFixed(2);
    output.value = Number(input.value) ? share : "any";
  }

  #facts() {
    const { collection, count, index, encoder } = this.#session;
    const photos = `${(count ?? 0).toLocaleString("en")} photos in “${collection}”`;
    this.index.textContent = [
      photos,
      index && `index ${index.type}${index.reason ? `: ${index.reason}` : ""}`,
      `encoder ${encoder.name}`,
    ]
      .filter(Boolean)
      .join(" · ");
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function labelled(text, input, output = null) {
  return {
    input,
    output,
    label: h("label.choice", { htmlFor: input.id || undefined }, h("span", {}, text, output), input),
  };
}

function switched(text, on, onchange) {
  const input = h("input", { type: "checkbox", defaultChecked: on, onchange });
  return { input, label: h("label.tick", {}, input, text) };
}
