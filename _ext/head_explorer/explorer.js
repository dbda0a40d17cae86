/* The head explorer: what one sees of the model that bert.js computes, and what one can do to it. */
"use strict";

{
  const place = document.getElementById("explorer");
  const home = new URL("data/", document.currentScript.src);
  const ASK = place.dataset; // how many megabytes there are to load, the first sentence, the best heads

  /* Loading: each piece of the model is a script that calls explorerPiece with its data ------------------------ */

  const arrived = {};
  const asked = {};
  window.explorerPiece = (name, data) => {
    arrived[name] = data;
  };

  function piece(name) {
    // asks again if it failed before
    asked[name] ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = new URL(`${name}.js`, home);
      script.onload = () => {
        done(arrived[name]);
        delete arrived[name];
        script.remove();
      };
      script.onerror = () => {
        delete asked[name];
        script.remove();
        failed(
          new Error(
            "A piece of the model did not arrive. Check the connection, then press the button again.",
          ),
        );
      };
      document.head.append(script);
    });
    return asked[name];
  }

  /* The worker that computes. It is made from the text of bert.js, which also works from the disk. --------------- */

  class Model {
    #waiting = new Map();
    #questions = 0;
    #given = new Map(); // pieces that the worker has, or is about to get

    constructor() {
      const source = URL.createObjectURL(new Blob([`(${bert})()`], { type: "text/javascript" }));
      this.worker = new Worker(source);
      this.worker.onmessage = ({ data: { number, answer, error } }) => {
        const { done, failed } = this.#waiting.get(number);
        this.#waiting.delete(number);
        if (error) failed(new Error(error));
        else done(answer);
      };
    }

    ask(ask, about) {
      return new Promise((done, failed) => {
        const number = this.#questions++;
        this.#waiting.set(number, { done, failed });
        this.worker.postMessage({ number, ask, about });
      });
    }

    give(name, as = "weights") {
      if (!this.#given.has(name)) {
        const given = piece(name).then((data) => this.ask(as, data).then(() => data));
        given.catch(() => this.#given.delete(name));
        this.#given.set(name, given);
      }
      return this.#given.get(name);
    }

    async load(progress) {
      this.about = await this.give("about", "about");
      const sizes = Object.entries(this.about.pieces);
      const all = sizes.reduce((sum, [, size]) => sum + size, 0);
      let loaded = 0;
      await this.give("vocabulary", "vocabulary");
      await Promise.all(
        sizes.map(([name, size]) => this.give(name).then(() => progress((loaded += size) / all))),
      );
      this.vectors ??= await this.ask("read", this.about.vectors);
    }

    // The tokens of a text: at most as many as the page can show, always with [SEP] at the end.
    async tokens(text) {
      const all = await this.ask("tokens", text);
      const most = this.about.maxTokens;
      const kept = all.length > most ? [...all.slice(0, most - 1), all.at(-1)] : all;
      return { words: kept.map(([word]) => word), ids: kept.map(([, id]) => id), total: all.length };
    }

    async forward(tokenIds, off = new Set()) {
      const { layers, heads, shard } = this.about;
      await Promise.all(
        [...new Set(tokenIds.map((id) => Math.floor(id / shard)))].map((i) => this.give(`words-${i}`)),
      );
      const gates = Array.from({ length: layers * heads }, (_, i) => (off.has(i) ? 0 : 1));
      return this.ask("forward", { tokenIds, gates });
    }
  }

  /* Stories: each sets a view; what is said about it is read off the numbers. */

  const FIRST = ASK.first;
  const BEST = ASK.best.split(" ").map(Number);
  const PICTURE = "The picture of the dogs was hanging on the wall.";
  const STORIES = {
    "One word back": {
      set: { text: FIRST, head: [0, 2], word: "happy" },
      say: (at) =>
        `A head that does one thing: each word looks at the word before it. Here “happy” gives ${at("happy", "looked")} of its weight to “looked”.`,
    },
    "Nothing to say": {
      set: { text: FIRST, head: [2, 7], word: null, measure: "weights" },
      say: (at) =>
        `Words that need nothing from a head look at [CLS], the mark at the start: here “cat” gives it ${at("cat", "[CLS]")}. But little arrives from there: choose “contributions”, and its share is ${at("cat", "[CLS]", "contributions")}.`,
    },
    "The beautiful head": {
      set: { text: FIRST, head: [5, 11], word: "sitting" },
      say: (at) =>
        `“sitting” gives ${at("sitting", "cat")} to “cat”, its subject. Has the model a head that finds subjects? Try the next story before you believe it.`,
    },
    "… on another sentence": {
      set: { text: PICTURE, head: [5, 11], word: "was" },
      say: (at) =>
        `The same head. “was” gives ${at("was", "dogs")} to “dogs” and ${at("was", "picture")} to “picture”, its subject. A head that was found on one sentence must be tested on others.`,
    },
    "One head a layer": {
      set: { text: FIRST, head: [5, BEST[5]], word: null, keep: BEST },
      say: (_, cosine) =>
        `Of twelve heads in each layer one is left, the first in chapter 8’s ranking by gradient. The cosine to the intact model falls to ${cosine}.`,
    },
    "No attention": {
      set: { text: FIRST, head: [5, 11], word: null, keep: [] },
      say: (_, cosine) =>
        `All heads are off: no word knows of another. The cosine is still ${cosine}, for the words themselves say much. A number for few heads means something only beside this one.`,
    },
  };

  const KINDS = {
    // of manyheads.sweeps_bert.kinds
    sink: "a sink, most weight on [CLS] and [SEP]",
    previous: "previous, looks at the word before",
    next: "next, looks at the word after",
    punctuation: "punctuation, looks at commas and full stops",
    same: "same, looks at the same word",
    broad: "broad, looks at everything a little",
    mixed: "mixed, no single habit",
  };

  /* What is shown, and its address ------------------------------------------------------------------------------ */

  const AT_ONCE = 16; // rows of a table
  const MEASURES = ["weights", "contributions"];
  const HOW = {
    // to read each view
    lines:
      "Choose a word at the left, by a click or with the arrow keys: its lines stay, with their numbers. A second click, or Enter, lets go.",
    matrix:
      "A row is a word that looks, a column a word that is looked at. Point at a cell, or walk with the arrow keys, to read it; a click, or Enter, chooses its row.",
    table: "A row is a word that looks, a column a word that is looked at.",
  };
  const VIEWS = Object.keys(HOW);
  const LAYERS = 6;
  const HEADS = 12; // of MiniLM; the worker is told by the pieces
  const state = {
    text: FIRST,
    layer: 5,
    head: 11,
    word: null,
    measure: "weights",
    view: "lines",
    off: new Set(),
    story: "",
  };
  const spot = { word: 0, key: 0 }; // where the keyboard is in a panel, whether the word is chosen or not
  const choose = (value, choices) => (choices.includes(value) ? value : choices[0]);
  const number = (value, top) => Math.min(Math.max(Math.floor(Number(value)) || 0, 0), top);

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    if (!given.has("text")) return false;
    const [layer, head] = (given.get("head") ?? "").split(".");
    state.text = given.get("text");
    state.layer = number(layer, LAYERS - 1);
    state.head = number(head, HEADS - 1);
    state.word = given.has("word") ? number(given.get("word"), 511) : null;
    state.measure = choose(given.get("measure"), MEASURES);
    state.view = choose(given.get("view"), VIEWS);
    state.off = new Set();
    (given.get("off") ?? "")
      .split("-")
      .slice(0, LAYERS)
      .forEach((bits, l) => {
        for (let h = 0; h < HEADS; h++) if (parseInt(bits, 16) & (1 << h)) state.off.add(l * HEADS + h);
      });
    state.story = "";
    return true;
  }

  function writeAddress() {
    const given = new URLSearchParams({
      text: state.text.slice(0, 1000),
      head: `${state.layer}.${state.head}`,
    });
    if (state.word !== null) given.set("word", state.word);
    if (state.measure !== MEASURES[0]) given.set("measure", state.measure);
    if (state.view !== VIEWS[0]) given.set("view", state.view);
    if (state.off.size) {
      // three hexadecimal digits a layer, a bit a head
      const bits = (layer) =>
        Array.from({ length: HEADS }, (_, h) => state.off.has(layer * HEADS + h) << h).reduce(
          (a, b) => a + b,
        );
      given.set(
        "off",
        Array.from({ length: LAYERS }, (_, layer) => bits(layer).toString(16).padStart(3, "0")).join("-"),
      );
    }
    history.replaceState(null, "", `#${given}`);
  }

  /* Elements ------------------------------------------------------------------------------------------------------ */

  const { make, button, announce, arrows } = dom;

  function radios(legend, name, options) {
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

  const field = make("input", {
    type: "text",
    id: "explorer-text",
    autocomplete: "off",
    spellcheck: "false",
  });
  const go = make("button", { type: "submit" }, `Load the model (${ASK.megabytes} MB)`);
  const form = make("form", { class: "ask" }, make("label", { for: field.id }, "Your sentence"), field, go);
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Loading the model", hidden: "" });
  const status = make("p", { class: "status", role: "status" });
  const stories = make("div", { class: "stories", role: "group", "aria-label": "Stories" });
  const story = make("p", { class: "story", role: "status" });
  const grid = make("div", { class: "heads", role: "grid", "aria-label": "Heads, a row a layer" });
  const measures = radios("Show", "measure", { weights: "Weights", contributions: "Contributions" });
  const views = radios("As", "view", { lines: "Lines", matrix: "Matrix", table: "Table" });
  const panels = [make("section", { class: "panel" }), make("section", { class: "panel" })];
  const summary = make("p", { class: "summary", role: "status" });
  const switches = make("div", { class: "switches", role: "group", "aria-label": "Switch heads off and on" });
  const effect = make("p", { role: "status" });
  const how = make("p", { class: "hint" });
  const nearest = make("div", { class: "nearest" });
  const results = make(
    "div",
    { class: "results", hidden: "" },
    make("h2", {}, "All heads"),
    make(
      "p",
      { class: "hint" },
      "A row a layer, a column a head. In each small square a row is a word that looks, a column a word that is looked at; the stronger the colour, the more. Click one, or walk with the arrow keys; Delete switches a head off or on.",
    ),
    grid,
    make("div", { class: "effect" }, effect),
    switches,
    make("div", { class: "choices" }, measures, views),
    how,
    make("div", { class: "panels" }, ...panels),
    summary,
    make("h2", {}, "Nearest sentences"),
    nearest,
  );
  place.replaceChildren(form, bar, status, stories, story, results);

  /* Numbers of the sentence ----------------------------------------------------------------------------------------- */

  let model = null;
  let shown = null; // shown: { words, n, weights, contributions, means, … } of the last answer
  const name = (i = state.layer * HEADS + state.head) => `L${Math.floor(i / HEADS)}H${i % HEADS}`;
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  const selected = () => state.layer * HEADS + state.head;
  const kind = (i) => model.about.kinds[Math.floor(i / HEADS)][i % HEADS];

  // A contribution is the length of weight · v W_O; of each row we show the shares, so that it can be held against weights.
  function shares(map, n) {
    const out = new Float32Array(map.length);
    for (let q = 0; q < n; q++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += map[q * n + k];
      for (let k = 0; k < n; k++) out[q * n + k] = sum && map[q * n + k] / sum;
    }
    return out;
  }

  function measured({ maps, lengths }, n, off) {
    const size = n * n;
    const count = lengths.length / n;
    const on = Array.from({ length: count }, (_, i) => !off.has(i));
    const weights = Array.from(on, (_, i) => maps.subarray(i * size, (i + 1) * size));
    const arriving = weights.map((map, i) => map.map((weight, at) => weight * lengths[i * n + (at % n)]));
    const sum = (every) => {
      const all = new Float32Array(size);
      every.forEach((map, i) => {
        if (on[i])
          map.forEach((value, at) => {
            all[at] += value;
          });
      });
      return shares(all, n); // rows of weights sum to 1, so their shares are their mean
    };
    return {
      weights: { heads: weights, mean: sum(weights) },
      contributions: { heads: arriving.map((map) => shares(map, n)), mean: sum(arriving) },
    };
  }

  // Is what is shown what is asked for?
  const fresh = () =>
    shown?.text === state.text &&
    shown.off.size === state.off.size &&
    [...shown.off].every((i) => state.off.has(i));

  let busy = false;
  async function compute() {
    // the newest wish only, however fast they come
    if (!model?.vectors || busy) return;
    busy = true;
    while (!fresh()) {
      const text = state.text;
      const off = new Set(state.off);
      try {
        const { words, ids, total } = await model.tokens(text);
        const answer = await model.forward(ids, off);
        const n = ids.length;
        const known = shown?.text === text ? shown.intact : off.size ? null : answer.vector;
        const intact = known ?? (await model.forward(ids)).vector;
        shown = { text, words, n, total, off, intact, vector: answer.vector, ...measured(answer, n, off) };
      } catch (error) {
        if (state.text !== text) continue;
        announce(status, error.message);
        break;
      }
    }
    busy = false;
    if (!fresh()) return;
    if (state.word >= shown.n) state.word = null;
    results.hidden = false;
    announce(status, notes());
    draw();
  }

  function notes() {
    const { words, total, n } = shown;
    const unknown = words.filter((word) => word === "[UNK]").length;
    return [
      n === 2
        ? "There is no word to read: the model sees only its marks for start and end."
        : `Ready: ${n} tokens, seen by ${LAYERS * HEADS} heads.`,
      total > n
        ? `The text has ${total.toLocaleString("en")} tokens; the first ${n - 1} and the mark at the end are read.`
        : "",
      unknown
        ? `${unknown === 1 ? "One part of the text isn’t" : `${unknown} parts of the text aren’t`} in the vocabulary: [UNK], unknown.`
        : "",
    ]
      .filter(Boolean)
      .join(" ");
  }

  /* Drawing ----------------------------------------------------------------------------------------------------------- */

  let colour; // the theme's blue, its bytes in the order of a canvas
  function mixColour() {
    const [red, green, blue] = getComputedStyle(place)
      .getPropertyValue("--mh-blue")
      .match(/\w\w/g)
      .map((hex) => parseInt(hex, 16));
    colour = (blue << 16) | (green << 8) | red;
  }

  function paint(canvas, map, n) {
    // clear is 0, solid is 1, as in all maps of the book
    const picture = new ImageData(n, n);
    const pixels = new Uint32Array(picture.data.buffer);
    map.forEach((share, i) => {
      pixels[i] = (Math.round(255 * share) << 24) | colour;
    });
    canvas.width = canvas.height = n;
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  function makeGrid() {
    const columns = Array.from({ length: HEADS }, (_, head) =>
      make("span", { role: "columnheader", "aria-label": `Head ${head}` }, `${head}`),
    );
    grid.replaceChildren(
      make(
        "div",
        { role: "row" },
        make("span", { role: "columnheader" }, make("span", { class: "unseen" }, "Layer")),
        ...columns,
      ),
    );
    for (let layer = 0; layer < LAYERS; layer++) {
      const cells = Array.from({ length: HEADS }, (_, head) =>
        make(
          "div",
          { role: "gridcell", "data-head": layer * HEADS + head },
          make("canvas", { "aria-hidden": "true" }),
        ),
      );
      grid.append(
        make(
          "div",
          { role: "row" },
          make("span", { role: "rowheader", "aria-label": `Layer ${layer}` }, `${layer}`),
          ...cells,
        ),
      );
    }
  }
  const cells = () => grid.querySelectorAll("[data-head]");

  function pick(i, focus) {
    [state.layer, state.head] = [Math.floor(i / HEADS), i % HEADS];
    state.story = "";
    draw();
    if (focus) cells()[i].focus();
  }
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-head]");
    if (cell) pick(Number(cell.dataset.head), true);
  });
  grid.addEventListener("keydown", (event) => {
    const at = Number(event.target.closest("[data-head]")?.dataset.head ?? selected());
    const to = arrows(event, at, HEADS, LAYERS * HEADS);
    if (to !== at) pick(to, true);
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      switchOff(toggled([at]));
    }
  });

  function drawGrid() {
    cells().forEach((cell, i) => {
      const off = state.off.has(i);
      const chosen = i === selected();
      paint(cell.firstChild, shown[state.measure].heads[i], shown.n);
      cell.setAttribute("aria-selected", chosen);
      cell.setAttribute("aria-label", [name(i), kind(i), off ? "off" : ""].filter(Boolean).join(", "));
      cell.title = cell.getAttribute("aria-label");
      cell.tabIndex = chosen ? 0 : -1;
      cell.classList.toggle("off", off);
    });
  }

  function chooseWord(word) {
    state.word = word;
    draw();
  }
  function toggleWord(word) {
    spot.word = word;
    chooseWord(word === state.word ? null : word);
  }

  // Left the words that look, right those that are looked at; a word that is chosen shows its numbers at the right.
  function lines(map, label) {
    const { words, n } = shown;
    const height = 26;
    const title = (text) => make("span", { class: "title" }, text);
    const left = make("ul", { role: "listbox", "aria-label": `Word that looks, ${label}` });
    words.forEach((word, q) =>
      left.append(
        make(
          "li",
          {
            role: "option",
            "aria-selected": String(q === state.word),
            tabindex: q === spot.word ? 0 : -1,
            onclick: () => toggleWord(q),
            onkeydown: (event) => {
              const to = arrows(event, q, 1, n);
              const press = event.key === "Enter" || event.key === " ";
              if (press) event.preventDefault();
              if (press) toggleWord(q);
              else if (to !== q) chooseWord(to);
            },
          },
          word,
        ),
      ),
    );
    const right = make("ul", { class: "keys", "aria-label": `Words looked at, ${label}` });
    words.forEach((word, k) => {
      const share = state.word === null ? null : map[state.word * n + k];
      const item = make(
        "li",
        {},
        make("span", {}, word),
        share === null ? null : make("b", {}, percent(share)),
      );
      if (share !== null) item.style.setProperty("--share", share);
      right.append(item);
    });
    const strokes = [];
    map.forEach((share, i) => {
      const q = Math.floor(i / n);
      const k = i % n;
      if (share < 0.02 || (state.word !== null && q !== state.word)) return;
      strokes.push(
        `<path d="M0 ${(q + 0.5) * height}L100 ${(k + 0.5) * height}" stroke-opacity="${share.toFixed(3)}" stroke-width="${(1 + 3 * share).toFixed(2)}"/>`,
      );
    });
    const between = make("div", { class: "strokes", "aria-hidden": "true" });
    between.innerHTML = `<svg viewBox="0 0 100 ${n * height}" preserveAspectRatio="none">${strokes.join("")}</svg>`;
    return make("div", { class: "lines" }, title("looks"), title("is looked at"), left, between, right);
  }

  function matrix(map, label) {
    const { words, n } = shown;
    const told = make("p", { class: "told", role: "status" }, "\u00a0");
    const cell = make("div", { class: "cell" });
    const over = make("div", { class: "over" }, cell);
    const box = (mark, q, k, width) => {
      mark.style.cssText = `top: ${(100 * q) / n}%; left: ${(100 * k) / n}%; width: ${(100 * width) / n}%; height: ${100 / n}%`;
    };
    const read = (q, k) => {
      [spot.word, spot.key] = [q, k];
      box(cell, q, k, 1);
      announce(told, `“${words[q]}” looks at “${words[k]}”: ${percent(map[q * n + k])}`);
    };
    const under = (event) => {
      // the pointer
      const { top, left, width, height } = canvas.getBoundingClientRect();
      read(
        number(((event.clientY - top) / height) * n, n - 1),
        number(((event.clientX - left) / width) * n, n - 1),
      );
    };
    const canvas = make("canvas", {
      role: "application",
      tabindex: 0,
      "aria-label": `${label}: a matrix of ${n} × ${n}. Arrow keys read its cells, Enter chooses a row.`,
      onpointermove: under,
      onclick: (event) => {
        under(event);
        toggleWord(spot.word);
      },
      onfocus: () => read(spot.word, spot.key),
      onkeydown: (event) => {
        const at = spot.word * n + spot.key;
        const to = arrows(event, at, n, n * n);
        if (to !== at) read(Math.floor(to / n), to % n);
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          toggleWord(spot.word);
        }
      },
    });
    paint(canvas, map, n);
    if (state.word !== null) {
      const row = make("div", { class: "row" });
      box(row, state.word, 0, n);
      over.prepend(row);
    }
    const names = (way) =>
      make(
        "div",
        { class: way, "aria-hidden": "true" },
        ...words.map((word, i) =>
          make("span", { class: i === state.word && way === "rows" ? "chosen" : "" }, word),
        ),
      );
    return make(
      "div",
      {},
      make(
        "div",
        { class: `matrix${n > 26 ? " large" : ""}` },
        names("columns"),
        names("rows"),
        canvas,
        over,
      ),
      told,
    );
  }

  function table(map, label) {
    const { words, n } = shown;
    const head = make(
      "tr",
      {},
      make("th", { scope: "col" }, "looks ↓ at →"),
      ...words.map((word) => make("th", { scope: "col" }, word)),
    );
    const row = (word, q) =>
      make(
        "tr",
        { class: q === state.word ? "chosen" : "" },
        make("th", { scope: "row" }, word),
        ...words.map((_, k) => make("td", {}, (100 * map[q * n + k]).toFixed(0))),
      );
    const body = make("tbody", {}, ...words.slice(0, AT_ONCE).map(row));
    const more = (from) => {
      // a long table grows from picture to picture, so that none takes long
      if (from < n)
        requestAnimationFrame(() =>
          setTimeout(() => {
            if (!body.isConnected) return;
            body.append(...words.slice(from, from + AT_ONCE).map((word, i) => row(word, from + i)));
            more(from + AT_ONCE);
          }),
        );
    };
    more(AT_ONCE);
    return make(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table, ${label}` },
      make(
        "table",
        { style: `--columns: ${n}` },
        make(
          "caption",
          {},
          `${state.measure === "weights" ? "Weights" : "Contributions"} in per cent, ${label}`,
        ),
        make("thead", {}, head),
        body,
      ),
    );
  }

  let second;
  function drawPanels() {
    const draws = { lines, matrix, table }[state.view];
    const { heads, mean } = shown[state.measure];
    spot.word = Math.min(state.word ?? spot.word, shown.n - 1);
    spot.key = Math.min(spot.key, shown.n - 1);
    how.textContent = HOW[state.view];
    const on = LAYERS * HEADS - state.off.size;
    const all = `Average of ${on === LAYERS * HEADS ? "all" : "the"} ${on} heads`;
    const off = state.off.has(selected());
    const parts = [
      [
        `Layer ${state.layer}, head ${state.head}`,
        `Measured in chapter 5: ${KINDS[kind(selected())]}${off ? ". Switched off: this is what it would see" : ""}`,
        heads[selected()],
        name(),
      ],
      [all, "All looks in a single view", mean, "average"],
    ];
    const drawPanel = (i) => {
      const [title, under, map, label] = parts[i];
      const held = panels[i].contains(document.activeElement);
      panels[i].replaceChildren(
        make("h3", {}, title),
        make("p", { class: "under" }, under),
        i && !on ? make("p", {}, "No head is on.") : draws(map, label),
      );
      if (held) panels[i].querySelector("[tabindex='0']")?.focus();
    };
    drawPanel(0);
    clearTimeout(second);
    second = setTimeout(drawPanel, 0, 1); // two short tasks rather than a long one
    const said = [sentenceAbout(heads[selected()], name()), on ? sentenceAbout(mean, "the average") : ""];
    announce(summary, shown.n > 2 ? said.join(" ") : ""); // without a word there is nothing to say
  }

  function sentenceAbout(map, who) {
    // the same in words
    const { words, n } = shown;
    const rows = state.word === null ? [...words.keys()] : [state.word];
    const sums = new Map();
    words.forEach((word, k) =>
      sums.set(word, (sums.get(word) ?? 0) + rows.reduce((sum, q) => sum + map[q * n + k], 0) / rows.length),
    );
    const top = [...sums]
      .sort(([, a], [, b]) => b - a)
      .slice(0, 3)
      .map(([word, share]) => `${word} ${percent(share)}`)
      .join(", ");
    return `In ${who}, ${state.word === null ? "all words together look" : `“${words[state.word]}” looks`} most at ${top}.`;
  }

  /* Heads off ----------------------------------------------------------------------------------------------------------- */

  const every = Array.from({ length: LAYERS * HEADS }, (_, i) => i);
  function switchOff(heads) {
    state.off = new Set(heads);
    state.story = "";
    draw();
    compute();
  }
  const allOff = (heads) => heads.every((i) => state.off.has(i));
  const toggled = (heads) =>
    allOff(heads) ? [...state.off].filter((i) => !heads.includes(i)) : [...state.off, ...heads];
  const ofLayer = () => every.filter((i) => Math.floor(i / HEADS) === state.layer);
  const switchButtons = {
    head: button("", () => switchOff(toggled([selected()]))),
    layer: button("", () => switchOff(toggled(ofLayer()))),
    rest: button("", () => switchOff(every.filter((i) => i !== selected()))),
    all: button("All heads on", () => switchOff([])),
  };
  switches.append(...Object.values(switchButtons));

  function drawEffect() {
    const turn = (heads) => (allOff(heads) ? "on" : "off");
    switchButtons.head.textContent = `Switch ${name()} ${turn([selected()])}`;
    switchButtons.layer.textContent = `Switch layer ${state.layer} ${turn(ofLayer())}`;
    switchButtons.rest.textContent = `Keep only ${name()}`;
    const { intact, vector, off: without } = shown;
    const { sentences, width } = model.about;
    const dot = (one, other, at = 0) => one.reduce((sum, value, i) => sum + value * other[at + i], 0);
    const product = dot(intact, vector);
    const cosine = product.toFixed(product > 0.995 ? 4 : 3); // more is lost with the rounding
    const on = every.length - without.size;
    // The angle of two vectors of length 1 from their distance: the cosine hardly tells small angles apart.
    const angle =
      (360 / Math.PI) *
      Math.asin(Math.min(Math.hypot(...intact.map((value, i) => value - vector[i])) / 2, 1));
    announce(
      effect,
      `${on === every.length ? "All" : `${on} of`} ${every.length} heads ${on === 1 ? "is" : "are"} on. The sentence’s vector is turned by `,
      make("b", {}, `${angle.toFixed(angle && angle < 1 ? 2 : 1)}°`),
      ` from the intact model’s (cosine\u00a0${cosine}).`,
    );
    const near = sentences.map((text, i) => ({
      text,
      before: dot(intact, model.vectors, i * width),
      now: dot(vector, model.vectors, i * width),
    }));
    const rank = (key) => [...near].sort((a, b) => b[key] - a[key]);
    const before = rank("before");
    const rows = rank("now")
      .slice(0, 6)
      .map(({ text, now, before: was }, i) => {
        const rankBefore = before.findIndex((one) => one.text === text) + 1;
        const moved = rankBefore === i + 1 ? "" : ` (was ${rankBefore})`;
        return make(
          "tr",
          {},
          make("td", {}, `${i + 1}${moved}`),
          make("th", { scope: "row" }, text),
          make("td", {}, now.toFixed(2)),
          make("td", {}, was.toFixed(2)),
        );
      });
    const head = ["place", "sentence", "cosine now", "all heads on"].map((title) =>
      make("th", { scope: "col" }, title),
    );
    nearest.replaceChildren(
      make(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Nearest sentences" },
        make(
          "table",
          {},
          make("caption", {}, "Nearest of twelve sentences, whose vectors are those of the intact model"),
          make("thead", {}, make("tr", {}, ...head)),
          make("tbody", {}, ...rows),
        ),
      ),
    );
    return cosine;
  }

  function drawStory(cosine) {
    if (!state.story || !fresh()) return;
    const { words, n } = shown;
    const at = (from, to, measure = "weights") =>
      percent(shown[measure].heads[selected()][words.indexOf(from) * n + words.indexOf(to)]);
    announce(story, STORIES[state.story].say(at, cosine));
  }

  // What is asked for shows at once. What was computed for something else is dimmed, and its story gone.
  function drawWish() {
    field.value = state.text;
    for (const input of place.querySelectorAll("[type=radio]"))
      input.checked = state[input.name] === input.value;
    for (const press of stories.children)
      press.setAttribute("aria-pressed", press.textContent === state.story);
    if (fresh()) results.removeAttribute("aria-busy");
    else results.setAttribute("aria-busy", "true");
    if (!fresh() || !state.story) announce(story, "");
    if (model?.vectors && shown?.text !== state.text) announce(status, "Computing …");
  }

  function draw() {
    drawWish();
    writeAddress();
    if (shown?.text !== state.text) return; // it will be drawn when it has been computed
    mixColour();
    drawGrid();
    drawPanels();
    drawStory(drawEffect());
  }

  /* Beginning --------------------------------------------------------------------------------------------------------- */

  for (const title in STORIES) {
    stories.append(
      button(title, () => {
        const { text, head, word, keep, measure = "weights" } = STORIES[title].set;
        Object.assign(state, { text, measure, layer: head[0], head: head[1], story: title, view: "lines" });
        state.word =
          word === null ? null : 1 + text.toLowerCase().replace(/\W+$/, "").split(" ").indexOf(word);
        state.off = new Set(keep ? every.filter((i) => keep[Math.floor(i / HEADS)] !== i % HEADS) : []);
        start();
      }),
    );
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
      await model.load((share) => {
        bar.value = share;
      });
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
    if (model?.vectors)
      typing = setTimeout(() => {
        writeAddress();
        compute();
      }, 400);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    start();
  });
  window.addEventListener("hashchange", () => {
    if (readAddress()) {
      draw();
      compute();
    }
  });
  new MutationObserver(() => shown && draw()).observe(document.documentElement, {
    attributeFilter: ["data-theme"],
  });

  makeGrid();
  const shared = readAddress();
  drawWish();
  if (shared) status.textContent = "This address holds a view. Load the model to see it.";
}
