/** What the results say about themselves: how many, how fast, and what went wrong. */

import { h, style } from "./dom.js";
import { scoreText } from "./results-card.js";

const PARTS = [
  ["network", "network"],
  ["encode", "encode"],
  ["search", "search"],
  ["rerank", "re-rank"],
];
const SPOKEN = 700; // ms of quiet before a screen reader is told: drawing must not be talked over

export class Status {
  #spoken = null;

  constructor() {
    this.count = h("h2.count", {}, "Photos");
    this.latency = h("div.latency", { hidden: true });
    this.notice = h("div.note", { hidden: true });
    this.said = h("p.unseen", { role: "status" });
    this.line = h("div.status", {}, this.latency);
  }

  /** @param {object} answer @param {number} took - ms from question to answer. */
  answered(answer, took) {
    const { hits } = answer;
    this.count.textContent = counted(hits.length);
    this.#timed(answer.seconds, took);
    const message = answer.message ?? (hits.length ? answer.short : "No photo passes the filters.");
    if (message) this.note(message);
    else this.clear();
    const best = hits.length ? ` Best: ${hits[0].name}, ${scoreText(hits[0])}.` : "";
    this.say(`${counted(hits.length)}.${best} ${message ?? ""}`);
  }

  empty() {
    this.count.textContent = "Photos";
    this.latency.hidden = true;
    this.clear();
    this.say("");
  }

  /** A line over the photos; `action` is [label, function]. */
  note(text, { kind = "", action = null } = {}) {
    this.notice.replaceChildren(h("p", {}, text));
    if (action) this.notice.append(h("button.button.outlined", { type: "button", onclick: action[1] }, action[0]));
    this.notice.className = `note ${kind}`.trim();
    this.notice.hidden = false;
  }

  /** The same, said aloud at once. */
  warn(text, options) {
    this.note(text, { kind: "bad", ...options });
    this.say(text, 0);
  }

  clear() {
    this.notice.hidden = true;
    this.notice.replaceChildren();
  }

  say(text, after = SPOKEN) {
    clearTimeout(this.#spoken);
    this.#spoken = setTimeout(() => (this.said.textContent = text), after);
  }

  #timed(seconds, took) {
    const parts = { ...seconds, network: Math.max(0, took / 1000 - seconds.total) };
    const shown = PARTS.filter(([name]) => parts[name] !== undefined && parts[name] !== null);
    const bar = h("span.bar-parts", { "aria-hidden": "true" });
    for (const [name] of shown) bar.append(style(h(`span.${name}`), { "flex-grow": 1 + 1e6 * parts[name] }));
    const legend = shown.map(([name, label]) =>
      h("span.legend-part", {}, h(`span.spot.${name}`), `${label} ${milliseconds(parts[name])}`),
    );
    this.latency.replaceChildren(
      h("strong", {}, `${milliseconds(took / 1000)} ms`),
      bar,
      h("span.legend", {}, ...legend),
    );
    this.latency.hidden = false;
  }
}

function counted(number) {
  return number === 1 ? "1 photo" : `${number} photos`;
}

function milliseconds(seconds) {
  const value = 1000 * seconds;
  return value < 9.95 ? value.toFixed(1).replace(/\.0$/, "") : String(Math.round(value));
}
