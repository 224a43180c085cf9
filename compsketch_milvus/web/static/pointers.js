// Mouse, pen and fingers on the board: one gesture of a tool at a time, two fingers to pinch, no palms.

const PALM = 700; // ms after the pen left in which touches are a hand that rests
const WHEEL = 0.0015; // zoom per unit of the wheel

export class Pointers {
  #gesture = null; // {id, type, move, end, cancel}
  #fingers = new Map(); // id -> its last event
  #penDown = false;
  #penLeft = -Infinity;
  #panKey = false;

  /** `begin(event)` starts the gesture of the tool in hand: {move(events), end(event), cancel()}, or null. */
  constructor(board, begin) {
    this.board = board;
    this.begin = begin;
    const { root } = board;
    root.addEventListener("pointerdown", (event) => this.#down(event));
    root.addEventListener("pointermove", (event) => this.#move(event));
    root.addEventListener("pointerup", (event) => this.#up(event));
    root.addEventListener("pointercancel", (event) => this.#cancel(event));
    root.addEventListener("pointerleave", (event) => event.pointerType === "pen" && this.#penIsGone());
    root.addEventListener("mousedown", (event) => event.preventDefault()); // no selection, and focus is set below
    root.addEventListener("contextmenu", (event) => event.preventDefault());
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    addEventListener("blur", () => this.holdPan(false));
    addEventListener("keydown", () => root.classList.remove("by-pointer"));
  }

  get busy() {
    return this.#gesture !== null;
  }

  /** While held (the space bar), dragging moves the view. */
  holdPan(held) {
    this.#panKey = held;
    this.board.root.classList.toggle("panning", held);
  }

  /** Give the gesture up, as if it had not begun. */
  abort() {
    this.#gesture?.cancel();
    this.#gesture = null;
  }

  #isPalm(event) {
    return event.pointerType === "touch" && (this.#penDown || event.timeStamp - this.#penLeft < PALM);
  }

  #penIsGone() {
    this.#penDown = false;
    this.#penLeft = performance.now();
  }

  #down(event) {
    if (event.pointerType === "pen") {
      this.#penDown = true;
      if (this.#gesture?.type === "touch") this.abort();
      this.#fingers.clear();
    }
    if (this.#isPalm(event)) return;
    this.board.root.classList.add("by-pointer"); // no ring around what a press has focused
    this.board.root.focus({ preventScroll: true });
    capture(this.board.root, event);
    if (event.pointerType === "touch") {
      this.#fingers.set(event.pointerId, event);
      if (this.#fingers.size === 2) return this.#start(event, this.#pinch());
    }
    if (this.#gesture) return;
    if (event.button === 1 || (this.#panKey && event.button === 0)) this.#start(event, this.#pan(event));
    else if (event.button === 0 || event.button === 5) this.#start(event, this.begin(event)); // 5: a pen's eraser end
  }

  #start(event, gesture) {
    if (this.#gesture) this.abort();
    if (gesture) this.#gesture = { id: event.pointerId, type: event.pointerType, ...gesture };
  }

  #move(event) {
    if (this.#fingers.has(event.pointerId)) this.#fingers.set(event.pointerId, event);
    if (!this.#gesture || (event.pointerId !== this.#gesture.id && !this.#gesture.pinch)) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.#gesture.move(events.length ? events : [event], event);
  }

  #up(event) {
    const isOwn = event.pointerId === this.#gesture?.id || (this.#gesture?.pinch && this.#fingers.has(event.pointerId));
    this.#fingers.delete(event.pointerId);
    if (event.pointerType === "pen") this.#penIsGone();
    if (!isOwn) return;
    const gesture = this.#gesture;
    this.#gesture = null;
    gesture.end(event);
  }

  #cancel(event) {
    this.#fingers.delete(event.pointerId);
    if (event.pointerType === "pen") this.#penIsGone();
    if (event.pointerId === this.#gesture?.id) this.abort();
  }

  #pan(start) {
    let last = start;
    return {
      move: (_, event) => {
        const { scale } = this.board;
        this.board.panBy((event.clientX - last.clientX) * scale, (event.clientY - last.clientY) * scale);
        last = event;
      },
      end: () => {},
      cancel: () => {},
    };
  }

  #pinch() {
    const spread = () => {
      const [a, b] = [...this.#fingers.values()];
      return {
        middle: { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 },
        distance: Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)),
      };
    };
    let last = spread();
    return {
      pinch: true,
      move: () => {
        const now = spread();
        const { scale } = this.board;
        this.board.panBy((now.middle.clientX - last.middle.clientX) * scale, (now.middle.clientY - last.middle.clientY) * scale);
        this.board.zoomBy(now.distance / last.distance, this.board.point(now.middle));
        last = now;
      },
      end: () => {},
      cancel: () => {},
    };
  }

  #wheel(event) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.board.zoomBy(Math.exp(-event.deltaY * WHEEL * (event.deltaMode ? 16 : 1)), this.board.point(event));
    } else if (this.board.zoom > 1) {
      event.preventDefault();
      this.board.panBy(-event.deltaX * this.board.scale, -event.deltaY * this.board.scale);
    }
  }
}

/** Keep getting a pointer's events outside the board; one that is no real pointer, as in tests, cannot be captured. */
function capture(element, { pointerId }) {
  try {
    element.setPointerCapture(pointerId);
  } catch (error) {
    if (error.name !== "NotFoundError") throw error;
  }
}
