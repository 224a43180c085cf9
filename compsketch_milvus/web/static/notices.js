// One line for people at the foot of the page, for a while; errors stay longer.

import { h } from "./dom.js";

const SHOWN = { info: 4000, error: 9000 };
const MOST = 3;

export function startNotices(root) {
  addEventListener("compsketch:notice", ({ detail: { text, kind = "info" } }) => {
    const line = h(`div.notice.${kind}`, kind === "error" ? { role: "alert" } : {}, text);
    root.append(line);
    while (root.children.length > MOST) root.firstChild.remove();
    setTimeout(() => line.remove(), SHOWN[kind] ?? SHOWN.info);
  });
}
