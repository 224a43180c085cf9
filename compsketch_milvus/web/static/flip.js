/** Rearranging smoothly: what stays glides from where it was, what is new fades in. */

const GLIDE = { duration: 220, easing: "cubic-bezier(0.2, 0.7, 0.2, 1)" };
const FADE = { duration: 160, easing: "ease-out" };
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Change a list's children, and show the way from before to after.
 *
 * @param {HTMLElement} list
 * @param {() => void} change
 */
export function rearrange(list, change) {
  if (calm.matches || document.hidden) return change();
  const before = new Map([...list.children].map((child) => [child, child.getBoundingClientRect()]));
  change();
  const moves = [...list.children].map((child) => [child, before.get(child), child.getBoundingClientRect()]);
  for (const [child, from, to] of moves) {
    if (!seen(to) && !(from && seen(from))) continue;
    if (!from) child.animate([{ opacity: 0 }, { opacity: 1 }], FADE);
    else if (moved(from, to))
      child.animate(
        [
          { transform: back(from, to), transformOrigin: "0 0" },
          { transform: "none", transformOrigin: "0 0" },
        ],
        GLIDE,
      );
  }
}

function back(from, to) {
  const scale = `${from.width / to.width}, ${from.height / to.height}`;
  return `translate(${from.left - to.left}px, ${from.top - to.top}px) scale(${scale})`;
}

function moved(from, to) {
  return [from.left - to.left, from.top - to.top, from.width - to.width].some((by) => Math.abs(by) > 0.5);
}

function seen({ top, bottom }) {
  return bottom > 0 && top < window.innerHeight;
}
