/** Whether the server is there: told of a loss, it asks until somebody answers, and says so. */

import { address } from "./api.js";

const FIRST = 500; // ms until the first look; doubled after each, up to
const LONGEST = 8000;

/** Dispatches "lost" and "back". */
export class Connection extends EventTarget {
  #timer = null;
  #wait = FIRST;

  constructor() {
    super();
    window.addEventListener("online", () => this.#timer !== null && this.retry());
  }

  get up() {
    return this.#timer === null;
  }

  /** A request found nobody. */
  lost() {
    if (!this.up) return;
    this.#wait = FIRST;
    this.#later();
    this.dispatchEvent(new Event("lost"));
  }

  /** Look now, not when the pause is over. */
  retry() {
    clearTimeout(this.#timer);
    return this.#look();
  }

  #later() {
    this.#timer = setTimeout(() => this.#look(), this.#wait);
    this.#wait = Math.min(2 * this.#wait, LONGEST);
  }

  async #look() {
    const answered = await fetch(address("healthz"), { cache: "no-store" }).then(
      (response) => response.ok,
      () => false,
    );
    if (this.up) return;
    if (!answered) return this.#later();
    this.#timer = null;
    this.dispatchEvent(new Event("back"));
  }
}
