/** When to ask: while drawing after a short rest, at the end of a stroke at once; never an older answer over a newer. */

const REST = 120; // ms without a change
const LONGEST = 400; // ms of drawing without a rest

/**
 * One question at a time, the latest one next.
 *
 * While a line grows, a question under way is let finish: its answer is newer than what is shown. What a finished line
 * asks replaces it.
 */
export class LiveSearch {
  #timer = null;
  #since = null; // of the first change that has not been asked yet
  #flight = null; // the AbortController of the question under way
  #again = false; // something changed since it left

  /**
   * @param {() => any} question - what to ask now, null where there is nothing to ask.
   * @param {(question: any, signal: AbortSignal) => Promise<any>} ask
   * @param {{nothing(): void, asking(): void, answer(answer, question, took): void, failed(error): void}} show -
   *   took: ms from question to answer.
   */
  constructor(question, ask, show) {
    this.question = question;
    this.ask = ask;
    this.show = show;
  }

  /** Something changes, and may go on changing. */
  soon() {
    this.#since ??= performance.now();
    clearTimeout(this.#timer);
    const left = this.#since + LONGEST - performance.now();
    this.#timer = setTimeout(
      () => (this.#flight ? (this.#again = true) : this.now()),
      Math.max(0, Math.min(REST, left)),
    );
  }

  /** Ask now; what is under way is given up. */
  async now() {
    clearTimeout(this.#timer);
    this.#since = null;
    this.#again = false;
    this.#flight?.abort();
    this.#flight = null;
    const question = this.question();
    if (question === null) return this.show.nothing();
    const flight = (this.#flight = new AbortController());
    this.show.asking();
    const begun = performance.now();
    try {
      const answer = await this.ask(question, flight.signal);
      if (flight === this.#flight) this.show.answer(answer, question, performance.now() - begun);
    } catch (error) {
      if (flight === this.#flight) this.show.failed(error);
    }
    if (flight !== this.#flight) return;
    this.#flight = null;
    if (this.#again) this.now();
  }
}
