// Light or dark: as the system has it, until the reader chooses; the choice is kept where the browser allows it.
(() => {
  const root = document.documentElement;
  const kept = (change) => { try { return change(localStorage); } catch { return null; } };
  const chosen = kept((store) => store.getItem("theme"));
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const say = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
    button.hidden = false;
    say();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      kept((store) => store.setItem("theme", root.dataset.theme));
      say();
    });
  });
})();
