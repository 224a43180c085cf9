/** One photo of the grid: it stays the same element while its place and score change. */

import { address } from "./api.js";
import { boxLayer } from "./boxes.js";
import { h, style } from "./dom.js";

const WIDEST = 3.5; // a panorama's or a strip's tile is no longer than this

export class Card {
  #image;
  #caption;
  #score;
  #frame;
  #layer = null;

  /** @param {object} hit @param {string} collection @param {(card: Card) => void} open */
  constructor(hit, collection, open) {
    this.collection = collection;
    this.#image = h("img", {
      src: address(`api/thumbnail/${encodeURIComponent(hit.id)}`, { collection, size: 256 }),
      alt: "",
      decoding: "async",
      draggable: false,
      onerror: () => this.element.classList.add("unread"),
      onload: ({ target }) => hit.width || this.#shape(target.naturalWidth / target.naturalHeight),
    });
    this.#caption = h("span.name");
    this.#score = h("span.score");
    this.#frame = h("span.shot", {}, this.#image);
    this.button = h(
      "button.photo",
      { type: "button", onclick: () => open(this), onpointerenter: () => this.#lay(), onfocus: () => this.#lay() },
      this.#frame,
      h("span.caption", {}, this.#caption, this.#score),
    );
    this.element = h("li.card", {}, this.button);
    this.#shape(hit.width && hit.height ? hit.width / hit.height : 4 / 3);
  }

  /** Take a new answer's word on this photo. */
  update(hit, rank, boxes, colours) {
    this.hit = hit;
    this.query = { boxes, colours };
    this.#caption.textContent = hit.name;
    this.#score.textContent = scoreText(hit);
    this.button.setAttribute("aria-label", `${rank}: ${hit.name}, ${spokenScore(hit)}`);
    if (this.#layer) this.#lay(true);
  }

  /** The photo's rectangle on the screen. */
  get frame() {
    return this.#frame.getBoundingClientRect();
  }

  #lay(anew = false) {
    if (this.#layer && !anew) return;
    const layer = boxLayer(this.query.boxes, this.query.colours, this.hit.objects ?? []);
    if (this.#layer) this.#layer.replaceWith(layer);
    else this.#frame.append(layer);
    this.#layer = layer;
  }

  #shape(ratio) {
    style(this.element, { "--ratio": Math.min(WIDEST, Math.max(1 / WIDEST, ratio || 1)).toFixed(4) });
  }
}

/** "93 %" where the encoder knows what its scores mean, else the cosine. */
export function scoreText({ confidence, score }) {
  return confidence === null || confidence === undefined ? score.toFixed(3) : `${Math.round(100 * confidence)} %`;
}

function spokenScore({ confidence, score }) {
  return confidence === null || confidence === undefined
    ? `score ${score.toFixed(2)}`
    : `${Math.round(100 * confidence)} percent likely`;
}
