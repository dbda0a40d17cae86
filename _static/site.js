/* What a page does beyond being read. Without this script everything is still there to read. */
"use strict";

{
  // The reader's theme: the system's, until the button says otherwise.
  const root = document.documentElement;
  const themeButton = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");

  function showTheme(theme) {
    root.dataset.theme = theme;
    themeButton.setAttribute("aria-pressed", theme === "dark");
  }
  showTheme(root.dataset.theme);
  system.addEventListener("change", () => {
    if (!localStorage.getItem("theme")) showTheme(system.matches ? "dark" : "light");
  });
  themeButton.addEventListener("click", () => {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    showTheme(theme);
    localStorage.setItem("theme", theme);
  });

  // On narrow screens the contents hide behind a button.
  const menuButton = document.getElementById("menu");
  menuButton.addEventListener("click", () => {
    const open = menuButton.getAttribute("aria-expanded") !== "true";
    menuButton.setAttribute("aria-expanded", open);
  });
  document.querySelector("nav.chapters").addEventListener("click", (event) => {
    if (event.target.closest("a")) menuButton.setAttribute("aria-expanded", false);
  });

  // A key leads to the search, as in other books of this kind; who has a keyboard is told which one.
  const search = document.querySelector("input[type=search]");
  search.setAttribute("aria-keyshortcuts", "Control+K Meta+K");
  const apple = /Mac|iPhone|iPad/.test(navigator.platform);
  if (matchMedia("(hover: hover)").matches) search.placeholder += apple ? " (⌘ K)" : " (Ctrl K)";
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "k" || event.ctrlKey === event.metaKey || event.altKey || event.shiftKey)
      return;
    event.preventDefault();
    if (search.closest("#contents")) menuButton.setAttribute("aria-expanded", true);
    search.focus();
    search.select();
  });

  // A box that scrolls must be reachable by keyboard; one that doesn't must not be a stop.
  const boxes = document.querySelectorAll("pre, .scroll, .figure, .math-block");
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  boxes.forEach((box) => watch.observe(box));

  // What a page says to those who hear it.
  const heard = document.createElement("p");
  heard.className = "heard";
  heard.setAttribute("aria-live", "polite");
  document.querySelector("main").append(heard);

  async function copy(text, control, done) {
    await navigator.clipboard.writeText(text);
    const name = control.textContent;
    control.textContent = heard.textContent = done;
    setTimeout(() => {
      control.textContent = name;
      heard.textContent = "";
    }, 1500);
  }

  // Copy buttons, where the browser lets a page write to the clipboard.
  if (navigator.clipboard) {
    for (const code of document.querySelectorAll(
      ".cell_input pre, .cell_output div[class^=highlight-python] pre, section > div[class^=highlight-] pre",
    )) {
      const button = document.createElement("button");
      button.className = "copy";
      button.type = "button";
      button.textContent = "Copy";
      button.addEventListener("click", () => copy(code.textContent, button, "Copied"));
      code.parentElement.append(button);
    }
  }

  // The link below a figure leads to it; over the web it also copies its address.
  document.querySelector("main").addEventListener("click", (event) => {
    const link = event.target.closest(".figure-link");
    if (link && navigator.clipboard && location.protocol !== "file:") copy(link.href, link, "Link copied");
  });

  // The contents show which section is being read.
  const links = new Map();
  for (const link of document.querySelectorAll("nav.chapters .current a[href^='#']")) {
    const section = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (section) links.set(section, link);
  }
  const reading = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries)
        links.get(target).classList.toggle("reading", isIntersecting);
    },
    { rootMargin: "-20% 0px -75%" },
  );
  links.forEach((_, section) => reading.observe(section));
}
