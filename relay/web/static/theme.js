// Dark or light, before anything is painted: a plain script in <head>, no module.
//
// The system decides until somebody clicks a [data-switch-theme]; a choice that is what the system
// says anyway is forgotten.

(() => {
  const KEPT = "relay-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = localStorage.getItem(KEPT);
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-switch-theme]")) return;
    const systems = system.matches ? "dark" : "light";
    const next = (root.dataset.theme ?? systems) === "dark" ? "light" : "dark";
    if (next === systems) {
      delete root.dataset.theme;
      localStorage.removeItem(KEPT);
    } else {
      root.dataset.theme = next;
      localStorage.setItem(KEPT, next);
    }
  });
})();
