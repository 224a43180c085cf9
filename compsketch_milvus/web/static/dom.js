/** Elements, in one call each. */

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "rect", "text", "g", "path", "line", "circle", "image", "use"]);

/**
 * Make an element.
 *
 * @param {string} tag - "button", or with classes "button.quiet".
 * @param {object} [properties] - "onclick" and the like add a listener; a property of the element is set as such, all
 *   else as an attribute, left out where it is false; undefined and null are no properties.
 * @param {...(Node|string|null)} children
 */
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const svg = SVG_TAGS.has(name);
  const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  if (classes.length) element.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (!svg && key in element && key !== "list" && key !== "form") element[key] = value;
    else if (value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Styles by script, which a strict content policy allows; names as in CSS. */
export function style(element, styles) {
  for (const [name, value] of Object.entries(styles)) element.style.setProperty(name, value);
  return element;
}
