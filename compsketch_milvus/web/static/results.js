/**
 * The results: what the drawing asks, and everything that can come of it.
 *
 *   drawing, settings -> LiveSearch -> api/search or api/similar -> Grid, Status
 *   a server that is gone -> Connection: the photos stay, and the question is asked again once it is back
 */

import { call } from "./api.js";
import { Connection } from "./connection.js";
import { Details } from "./details.js";
import * as drawing from "./document.js";
import { h } from "./dom.js";
import { asObject, dragsFrom } from "./drag.js";
import { Filters } from "./filters.js";
import { LiveSearch } from "./live-search.js";
import { Grid } from "./results-grid.js";
import { Status } from "./results-status.js";
import { loginForm, logout, session } from "./session.js";

/**
 * Start the results.
 *
 * @param {{root: HTMLElement, canvas: SVGSVGElement}} page - root: the section to fill; canvas: what a dragged object may
 *   be dropped on, in the drawing's pixels.
 */
export async function startResults({ root, canvas }) {
  const connection = new Connection();
  const status = new Status();
  const panel = h("div.panel");
  root.append(panel, status.said);
  await enter();

  async function enter() {
    try {
      const facts = await session();
      if (facts.login && !facts.user) panel.replaceChildren(loginForm(enter));
      else new Results({ canvas, connection, status, panel, facts });
    } catch (error) {
      panel.replaceChildren(status.notice);
      status.warn(`${error.message} Trying again …`, { action: ["Try now", () => connection.retry()] });
      connection.addEventListener("back", enter, { once: true });
      connection.lost();
    }
  }
}

class Results {
  #like = null; // {id, collection} of the photo whose layout is asked for, in place of the drawing

  /** @param {object} page - {canvas, connection, status, panel, facts}: facts of the session. */
  constructor(page) {
    Object.assign(this, page);
    this.filters = new Filters(this.facts);
    this.details = new Details({
      board: this.canvas,
      beside: (card, step) => this.grid.beside(card, step),
      why: (card) => this.#why(card),
      similar: (hit, collection) => this.#similar(hit, collection),
      add: (thing, at) => this.#add(thing, at),
    });
    this.grid = new Grid((card) => this.details.show(card));
    this.search = new LiveSearch(
      () => this.#question(),
      ({ path, body }, signal) => call(path, { body, signal }),
      {
        nothing: () => this.#empty(),
        asking: () => this.#state("asking"),
        answer: (answer, question, took) => this.#answered(answer, question, took),
        failed: (error) => this.#failed(error),
      },
    );
    this.#build();
    this.#listen();
    this.filters.load();
    this.search.now();
  }

  #build() {
    const leave = this.facts.login
      ? h("button.button.outlined", { type: "button", onclick: () => this.#leave() }, "Log out")
      : null;
    this.like = h("div.like", { hidden: true });
    this.blank =
      this.facts.count === 0
        ? blank("No photos yet", `“${this.facts.collection}” is empty. Fill it with: compsketch ingest FOLDER`)
        : blank(
            "Photos gather here",
            "Draw one object or several where you want them. The photos that hold them there come while you draw.",
          );
    this.waiting = h("div.waiting", { "aria-hidden": "true" }, ...Array.from({ length: 8 }, () => h("span.tile")));
    this.panel.replaceChildren(
      h(
        "header.results-head",
        {},
        this.status.count,
        this.status.line,
        h("div.results-tools", {}, this.filters.opener, leave),
      ),
      this.filters.element,
      this.like,
      this.status.notice,
      h("span.progress", { "aria-hidden": "true" }),
      this.grid.element,
      this.waiting,
      this.blank,
    );
  }

  #listen() {
    drawing.subscribe(
      ({ changed, draft }) => changed && this.#drawn(() => (draft ? this.search.soon() : this.search.now())),
    );
    this.filters.addEventListener("change", () => this.search.soon());
    this.filters.addEventListener("failed", ({ detail }) => this.#failed(detail));
    this.connection.addEventListener("back", () => this.#back());
    dragsFrom(this.grid.element, (press) => this.#grabbed(press), {
      board: this.canvas,
      drop: (thing, at) => this.#add(thing, at),
    });
  }

  /** The drawing takes over from a photo's layout. */
  #drawn(ask) {
    this.#like = null;
    this.like.hidden = true;
    ask();
  }

  #question() {
    const { terms, drawn } = this.filters;
    if (this.#like) return { path: "api/similar", body: { ...terms, ...this.#like }, colours: [] };
    const sketch = drawing.sketch();
    return sketch && { path: "api/search", body: { ...terms, ...drawn, sketch }, colours: drawing.colours() };
  }

  #answered(answer, question, took) {
    this.asked = question;
    this.grid.show(answer.hits, question.body.collection, this.#like ? [] : answer.boxes, question.colours);
    this.status.answered(answer, took);
    this.#state(answer.hits.length ? "shown" : "none");
  }

  #empty() {
    this.asked = null;
    this.grid.show([], this.filters.collection, [], []);
    this.status.empty();
    this.#state("empty");
  }

  #failed(error) {
    this.#state(this.grid.cards.length ? "shown" : "failed");
    if (error.needsLogin) return this.#locked();
    if (!error.unreachable)
      return this.status.warn(
        error.message,
        this.filters.terms.filter ? { action: ["Drop the filter", () => this.filters.dropFilter()] } : {},
      );
    this.connection.lost();
    const kept = this.grid.cards.length ? " These photos are those of before." : "";
    this.status.warn(`${error.message}${kept} Trying again …`, { action: ["Try now", () => this.connection.retry()] });
  }

  async #back() {
    this.status.clear();
    this.status.say("The server is back.", 0);
    try {
      this.filters.session = await session(this.filters.collection);
    } catch (error) {
      return this.#failed(error);
    }
    this.search.now();
  }

  #similar(hit, collection) {
    this.#like = { id: hit.id, collection };
    this.like.replaceChildren(
      h("p", {}, "Photos laid out like ", h("strong", {}, hit.name)),
      h(
        "button.button.outlined",
        { type: "button", onclick: () => this.#drawn(() => this.search.now()) },
        "Back to the drawing",
      ),
    );
    this.like.hidden = false;
    this.search.now();
    this.panel.scrollIntoView({ block: "nearest" });
  }

  #why(card) {
    if (!this.facts.encoder.explains || !this.asked?.body.sketch) return null;
    const { sketch, words } = this.asked.body;
    return { sketch, words, id: card.hit.id, collection: card.collection };
  }

  /** The known object of a photo in the grid that the pointer presses; a finger scrolls there. */
  #grabbed(press) {
    const card =
      press.pointerType === "touch" ? null : this.grid.cards.find(({ element }) => element.contains(press.target));
    if (!card?.hit.objects?.length) return null;
    const { left, top, width, height } = card.frame;
    const [x, y] = [(press.clientX - left) / width, (press.clientY - top) / height];
    const over = card.hit.objects.filter(({ box: [x0, y0, x1, y1] }) => x0 <= x && x <= x1 && y0 <= y && y <= y1);
    const area = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
    const smallest = over.sort((one, two) => area(one) - area(two))[0];
    return smallest
      ? { ...smallest, id: card.hit.id, collection: card.collection, image: card.element.querySelector("img") }
      : null;
  }

  async #add(thing, at) {
    try {
      drawing.addObject(await asObject(thing, at, drawing.current()));
      this.status.say(`${thing.label ?? "The object"} is in the drawing.`, 0);
    } catch {
      this.status.warn(`The photo of “${thing.label ?? "the object"}” cannot be read.`);
    }
  }

  #locked() {
    this.status.warn("This session has ended: log in again.", { action: ["Log in", () => this.#leave()] });
  }

  async #leave() {
    await logout().catch(() => null); // without a session there is none to leave
    location.reload();
  }

  #state(name) {
    this.panel.dataset.state = name;
    this.panel.dataset.full = String(this.grid.cards.length > 0);
    this.panel.setAttribute("aria-busy", String(name === "asking"));
  }
}

function blank(title, text) {
  return h("div.blank", {}, h("p.blank-title", {}, title), h("p", {}, text));
}
