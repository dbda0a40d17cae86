/* The head explorer: what one sees of the model that bert.js computes, and what one can do to it.

   state.js holds what the reader asks for, model.js has it computed, answer.js reads numbers off what was
   computed, and grid.js, panels.js and effect.js show them. Here they are put together. */
"use strict";

{
  const { make, button, announce } = dom;
  const { Answer, Effect, Grid, Model, Panels, State } = explorer;
  const PAUSE = 400; // milliseconds after the last letter

  const place = document.getElementById("explorer");
  const { megabytes, first, best, layers, heads } = place.dataset;
  const state = new State(first, Number(layers), Number(heads));
  const stories = explorer.stories(first, best.split(" ").map(Number));
  let model = null;
  let answer = null; // the last; what is asked for may be something else
  const fresh = () => answer !== null && answer.fits(state);

  /* What is shown ---------------------------------------------------------------------------------------- */

  const field = make("input", {
    type: "text",
    id: "explorer-text",
    autocomplete: "off",
    spellcheck: "false",
  });
  const go = make("button", { type: "submit" }, `Load the model (${megabytes} MB)`);
  const label = make("label", { for: field.id }, "Your sentence");
  const form = make("form", { class: "ask" }, label, field, go);
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Loading the model", hidden: true });
  const status = make("p", { class: "status", role: "status" });
  const titles = Object.keys(stories).map((title) => button(title, () => tell(title)));
  const story = make("p", { class: "story", role: "status" });

  const grid = new Grid(state, pick, toggle);
  const effect = new Effect(state, switched);
  const panels = new Panels(state, draw);
  const results = make(
    "div",
    { class: "results", hidden: true },
    make("h2", {}, "All heads"),
    make(
      "p",
      { class: "hint" },
      "A row a layer, a column a head. In each small square a row is a word that looks, a column a word " +
        "that is looked at; the stronger the colour, the more. Click one, or walk with the arrow keys; " +
        "Delete switches a head off or on.",
    ),
    grid.element,
    ...effect.elements,
    make(
      "div",
      { class: "choices" },
      choice("Show", "measure", State.MEASURES),
      choice("As", "view", State.VIEWS),
    ),
    ...panels.elements,
    make("h2", {}, "Nearest sentences"),
    effect.nearest,
  );
  const told = make("div", { class: "stories", role: "group", "aria-label": "Stories" }, ...titles);
  place.replaceChildren(form, bar, status, told, story, results);

  function choice(legend, name, options) {
    const change = (value) => {
      state[name] = value;
      draw();
    };
    return make(
      "fieldset",
      { class: "choice" },
      make("legend", {}, legend),
      ...dom.radios(name, options, change),
    );
  }

  // What is asked for shows at once. What was computed for something else is dimmed, and its story gone.
  function drawWish() {
    field.value = state.text;
    for (const input of place.querySelectorAll("[type=radio]"))
      input.checked = state[input.name] === input.value;
    for (const title of titles) title.setAttribute("aria-pressed", title.textContent === state.story);
    if (fresh()) results.removeAttribute("aria-busy");
    else results.setAttribute("aria-busy", "true");
    if (!fresh() || !state.story) announce(story, "");
    if (model?.vectors && answer?.text !== state.text) announce(status, "Computing …");
  }

  function draw() {
    drawWish();
    history.replaceState(null, "", `#${state.write()}`);
    if (answer?.text !== state.text) return; // it will be drawn when it has been computed
    const kinds = model.about.kinds.flat();
    explorer.mixColour();
    grid.draw(answer, kinds);
    panels.draw(answer, kinds);
    effect.draw(answer, model);
    if (!state.story || !fresh()) return;
    const at = (from, to, measure) => answer.look(state.selected, from, to, measure);
    announce(story, stories[state.story].say(at, answer.cosine));
  }

  /* What the reader does --------------------------------------------------------------------------------- */

  function pick(i) {
    state.pick(i);
    draw();
  }

  function toggle(i) {
    state.toggle([i]);
    switched();
  }

  function switched() {
    draw();
    compute();
  }

  function tell(title) {
    const { text, head, word = null, keep, measure = "weights" } = stories[title].set;
    Object.assign(state, { text, measure, view: "lines", layer: head[0], head: head[1] });
    state.word = word && 1 + text.toLowerCase().replace(/\W+$/, "").split(" ").indexOf(word);
    if (keep) state.keep(keep);
    else state.switchOff([]);
    state.story = title;
    start();
  }

  let busy = false;
  // The newest wish only, however fast they come.
  async function compute() {
    if (!model?.vectors || busy) return;
    busy = true;
    while (!fresh()) {
      const { text } = state;
      try {
        answer = await Answer.ask(model, text, new Set(state.off), answer);
      } catch (error) {
        if (state.text !== text) continue;
        announce(status, error.message);
        break;
      }
    }
    busy = false;
    if (!fresh()) return;
    if (state.word >= answer.n) state.word = null;
    results.hidden = false;
    announce(status, answer.notes(state.every.length));
    draw();
  }

  async function start() {
    draw();
    if (model?.vectors) return compute();
    if (!bar.hidden) return; // it is on its way
    model ??= place.model = new Model();
    bar.hidden = false;
    go.setAttribute("aria-disabled", "true"); // truly disabled, it would lose the keyboard
    announce(status, "Loading the model …");
    try {
      await model.load((share) => (bar.value = share));
      go.textContent = "Look";
      await compute();
    } catch (error) {
      announce(status, error.message);
    }
    bar.hidden = true;
    go.removeAttribute("aria-disabled");
  }

  let typing;
  field.addEventListener("input", () => {
    Object.assign(state, { text: field.value, story: "", word: null });
    drawWish();
    clearTimeout(typing);
    if (model?.vectors) typing = setTimeout(look, PAUSE);
  });
  function look() {
    history.replaceState(null, "", `#${state.write()}`);
    compute();
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    start();
  });
  window.addEventListener("hashchange", () => read() && switched());
  const recolour = new MutationObserver(() => answer && draw());
  recolour.observe(document.documentElement, { attributeFilter: ["data-theme"] });

  function read() {
    return state.read(location.hash.slice(1));
  }
  const shared = read();
  drawWish();
  if (shared) status.textContent = "This address holds a view. Load the model to see it.";
}
