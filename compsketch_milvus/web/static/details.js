/** One photo, large: what is known of it, why it is here, and where to go from it. */

import { address, call } from "./api.js";
import { boxLayer } from "./boxes.js";
import { h, style } from "./dom.js";
import { dragsFrom } from "./drag.js";
import { explanation } from "./explain.js";
import { icon } from "./icons.js";
import { scoreText } from "./results-card.js";

export class Details {
  #shown = null; // the card
  #closed = null; // AbortController: what was asked for this photo is not wanted any more

  /**
   * @param {object} page
   * @param {(card, step: number) => Card|undefined} page.beside - the photo after or before one.
   * @param {(card) => object|null} page.why - the question for an explanation, null where there is none.
   * @param {(hit, collection: string) => void} page.similar - "more like this layout".
   * @param {(thing: object, at: number[]|null) => void} page.add - a known object into the drawing.
   * @param {Element} page.board - where a dragged object is dropped.
   */
  constructor(page) {
    this.page = page;
    this.body = h("div.details-body");
    this.dialog = h("dialog.details", {
      onclose: () => this.#left(),
      onclick: (event) => this.#outside(event),
      onkeydown: (event) => this.#key(event),
    });
    this.dialog.setAttribute("aria-labelledby", "details-title");
    this.dialog.append(this.body);
    document.body.append(this.dialog);
  }

  show(card) {
    this.#closed?.abort();
    this.#closed = new AbortController();
    this.#shown = card;
    const { hit } = card;
    const frame = this.#photo(card);
    this.body.replaceChildren(this.#head(card), h("div.stage", {}, frame), this.#facts(card, frame));
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
    this.body.querySelector(".close").focus();
    return hit;
  }

  close() {
    this.dialog.close();
  }

  #head(card) {
    const step = (by, name, sign) => {
      const other = this.page.beside(card, by);
      return h(
        "button.button.icon",
        { type: "button", disabled: !other, "aria-label": name, title: name, onclick: () => this.show(other) },
        sign,
      );
    };
    return h(
      "header.details-head",
      {},
      h("h2", { id: "details-title" }, card.hit.name),
      step(-1, "Photo before", "‹"),
      step(1, "Photo after", "›"),
      h(
        "button.button.icon.close",
        { type: "button", "aria-label": "Close", title: "Close", onclick: () => this.close() },
        icon("close"),
      ),
    );
  }

  #photo({ hit, collection, query }) {
    const source = address(`api/photo/${encodeURIComponent(hit.id)}`, { collection });
    const image = h("img", {
      src: source,
      alt: hit.name,
      draggable: false,
      onerror: () => frame.classList.add("unread"),
    });
    const frame = h("div.shot.large", {}, image, boxLayer(query.boxes, query.colours));
    if (hit.width && hit.height)
      style(frame, { "--ratio": (hit.width / hit.height).toFixed(4), "--width": `${hit.width}px` });
    else
      image.addEventListener("load", () =>
        style(frame, { "--ratio": (image.naturalWidth / image.naturalHeight).toFixed(4) }),
      );
    return frame;
  }

  #facts(card, frame) {
    const { hit, collection } = card;
    const boxes = h("input", {
      type: "checkbox",
      defaultChecked: true,
      onchange: ({ target }) => frame.classList.toggle("bare", !target.checked),
    });
    const question = this.page.why(card);
    const why = question && explanation({ question, colours: card.query.colours, frame, signal: this.#closed.signal });
    const table = h("table.fields");
    table.append(h("caption.unseen", {}, "What the collection knows of this photo"));
    this.#fill(table, card);
    return h(
      "div.facts",
      {},
      h(
        "p.measure",
        {},
        h("strong", {}, scoreText(hit)),
        hit.confidence === null || hit.confidence === undefined ? " score" : ` likely · score ${hit.score.toFixed(3)}`,
      ),
      h(
        "div.photo-actions",
        {},
        h(
          "button.button.primary",
          { type: "button", onclick: () => this.#similar(hit, collection) },
          "More like this layout",
        ),
        h(
          "a.button.outlined",
          {
            href: address(`api/photo/${encodeURIComponent(hit.id)}`, { collection }),
            target: "_blank",
            rel: "noopener",
          },
          "Full size",
        ),
      ),
      card.query.boxes.length ? h("label.tick", {}, boxes, "The drawing's boxes") : null,
      why,
      this.#known(card, frame),
      h("section", {}, h("h3", {}, "Details"), table),
    );
  }

  /** Objects known to be in the photo: a press adds one where it is, a drag where it is dropped. */
  #known({ hit, collection }, frame) {
    if (!hit.objects?.length) return null;
    const image = frame.querySelector("img");
    const chips = hit.objects.map(({ label, box }) => {
      const thing = { label, box, id: hit.id, collection, image };
      const place = () => frame.querySelector(".boxes").append(...boxLayer([], [], [{ label, box }]).childNodes);
      const away = () => frame.querySelectorAll(".known").forEach((known) => known.remove());
      const chip = h(
        "button.known-object",
        {
          type: "button",
          onclick: () => this.#add(thing, null),
          onpointerenter: place,
          onpointerleave: away,
          onfocus: place,
          onblur: away,
        },
        label ?? "object",
      );
      dragsFrom(chip, () => thing, {
        board: this.page.board,
        drop: (dragged, at) => this.#add(dragged, at),
        began: () => this.dialog.classList.add("away"),
        ended: () => this.dialog.classList.remove("away"),
      });
      return chip;
    });
    return h(
      "section",
      {},
      h("h3", {}, "Known objects"),
      h("p.hint", {}, "Press one to add it to the drawing, or drag it there."),
      h("div.known-objects", {}, ...chips),
    );
  }

  async #fill(table, card) {
    const { hit, collection } = card;
    const { signal } = this.#closed;
    try {
      const { source, fields, width, height } = await call(`api/details/${encodeURIComponent(hit.id)}`, {
        parameters: { collection },
        signal,
      });
      const rows = { ...(source && { source }), size: width && `${width} × ${height}`, ...fields, id: hit.id };
      for (const [name, value] of Object.entries(rows))
        table.append(h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, plain(value))));
    } catch (error) {
      if (!signal.aborted) table.append(h("tr", {}, h("td", {}, error.message)));
    }
  }

  #add(thing, at) {
    this.close();
    this.page.add(thing, at);
  }

  #similar(hit, collection) {
    this.close();
    this.page.similar(hit, collection);
  }

  #outside(event) {
    if (event.target === this.dialog) this.close();
  }

  #key(event) {
    if (event.target.matches("input") || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const other = this.page.beside(this.#shown, event.key === "ArrowLeft" ? -1 : 1);
    if (other) this.show(other);
    event.preventDefault();
  }

  #left() {
    this.#closed?.abort();
    this.#shown?.button.focus({ preventScroll: true });
    this.body.replaceChildren();
  }
}

function plain(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
