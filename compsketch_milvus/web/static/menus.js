// Menus are popovers: the browser opens and closes them; here they find their place beside their button.

const GAP = 6;

export function startMenus() {
  for (const menu of document.querySelectorAll(".menu[popover]")) {
    const opener = document.querySelector(`[popovertarget="${menu.id}"]`);
    menu.addEventListener("toggle", ({ newState }) => newState === "open" && place(menu, opener));
    menu.addEventListener("click", (event) => event.target.closest(".item") && menu.hidePopover());
  }
}

function place(menu, opener) {
  const from = opener.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const left = Math.min(from.left, innerWidth - width - GAP);
  const below = from.bottom + GAP;
  const top = below + height <= innerHeight ? below : from.top - GAP - height;
  menu.style.left = `${Math.max(GAP, left)}px`;
  menu.style.top = `${Math.max(GAP, Math.min(top, innerHeight - height - GAP))}px`;
}
