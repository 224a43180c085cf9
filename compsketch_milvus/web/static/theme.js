// Dark or light: the system's choice until somebody presses the button. Runs before the page is painted.

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");

function apply(theme) {
  if (theme) root.dataset.theme = theme;
}

try {
  apply(localStorage.getItem("compsketch-theme"));
} catch {
  // Storage may be shut off; the system's choice then stands.
}

addEventListener("DOMContentLoaded", () => {
  document.getElementById("theme").addEventListener("click", () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
    apply(isDark ? "light" : "dark");
    try {
      localStorage.setItem("compsketch-theme", root.dataset.theme);
    } catch {
      // As above: it holds until the page is closed.
    }
  });
});
