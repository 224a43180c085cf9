/** The photos: whole, in rows of equal height, best first; one Tab stop, arrow keys within. */

import { h } from "./dom.js";
import { rearrange } from "./flip.js";
import { Card } from "./results-card.js";

export class Grid {
  #cards = new Map(); // "collection/id" -> Card
  #current = null; // the card that Tab reaches

  /** @param {(card: Card) => void} open - what a click or Enter does. */
  constructor(open) {
    this.open = open;
    this.element = h("ul.grid", {
      onkeydown: (event) => this.#key(event),
      onfocusin: ({ target }) => this.#focused(target),
    });
    this.element.setAttribute("aria-label", "Photos found, best first");
  }

  get cards() {
    return [...this.#cards.values()];
  }

  /** Show an answer's hits; photos that stay keep their elements. */
  show(hits, collection, boxes, colours) {
    const before = this.#cards;
    this.#cards = new Map();
    hits.forEach((hit, index) => {
      const key = `${collection}/${hit.id}`;
      const card = before.get(key) ?? new Card(hit, collection, this.open);
      card.update(hit, index + 1, boxes, colours);
      this.#cards.set(key, card);
    });
    const focused = this.cards.find((card) => card.button === document.activeElement);
    rearrange(this.element, () => this.#place());
    if (focused && document.activeElement !== focused.button) focused.button.focus({ preventScroll: true });
    if (!this.cards.includes(this.#current)) this.#current = this.cards[0] ?? null;
    for (const card of this.cards) card.button.tabIndex = card === this.#current ? 0 : -1;
  }

  /** The photo beside one: 1 after it, -1 before it; undefined past the ends. */
  beside(card, step) {
    const cards = this.cards;
    return cards[cards.indexOf(card) + step];
  }

  /** Children into the cards' order, touching only those out of place. */
  #place() {
    const wanted = this.cards.map((card) => card.element);
    const kept = new Set(wanted);
    for (const child of [...this.element.children]) if (!kept.has(child)) child.remove();
    wanted.forEach((element, index) => {
      const there = this.element.children[index];
      if (there !== element) this.element.insertBefore(element, there ?? null);
    });
  }

  #focused(target) {
    const card = this.cards.find(({ button }) => button === target);
    if (!card) return;
    if (this.#current) this.#current.button.tabIndex = -1;
    this.#current = card;
    card.button.tabIndex = 0;
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const cards = this.cards;
    const at = cards.indexOf(this.#current);
    const to = {
      ArrowLeft: () => cards[at - 1],
      ArrowRight: () => cards[at + 1],
      ArrowUp: () => this.#inRow(at, -1),
      ArrowDown: () => this.#inRow(at, 1),
      Home: () => cards[0],
      End: () => cards.at(-1),
    }[event.key];
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    to()?.button.focus();
  }

  /** The nearest card of the row above or below: rows are as the photos' shapes make them. */
  #inRow(at, step) {
    const cards = this.cards;
    const middle = ({ element }) => element.offsetLeft + element.offsetWidth / 2;
    const here = cards[at];
    let next = at + step;
    while (cards[next] && cards[next].element.offsetTop === here.element.offsetTop) next += step;
    const row = cards[next]?.element.offsetTop;
    const others = cards.filter(({ element }) => element.offsetTop === row);
    return others.sort((one, two) => Math.abs(middle(one) - middle(here)) - Math.abs(middle(two) - middle(here)))[0];
  }
}
