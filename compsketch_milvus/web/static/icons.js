import { h } from "./dom.js";

/** An icon of the page's sprite. */
export const icon = (name) => h("svg", { "aria-hidden": "true" }, h("use", { href: `#icon-${name}` }));
