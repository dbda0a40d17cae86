/* How one map of weights is drawn: as lines, as a matrix, as a table.

   Each function takes { map, label, answer, state, spot, choose, toggle } and makes an element. `spot` is
   where the keyboard is, whether its word is chosen or not; `choose` and `toggle` take a word's number. */
"use strict";

{
  const { make, announce, arrows } = dom;
  const { paint, percent } = explorer;
  const ROW_HEIGHT = 26; // of the lines, as in explorer.css
  const FAINTEST = 0.02; // a share below it has no line
  const MOST_LARGE_WORDS = 26; // a matrix of more has smaller ones
  const AT_ONCE = 16; // rows of a table

  const isPress = ({ key }) => key === "Enter" || key === " ";

  /* Lines: left the words that look, right those that are looked at -------------------------------------- */

  function lines(panel) {
    const title = (text) => make("span", { class: "title" }, text);
    const parts = [title("looks"), title("is looked at"), asking(panel), strokes(panel), asked(panel)];
    return make("div", { class: "lines" }, ...parts);
  }

  function asking({ label, answer: { words, n }, state, spot, choose, toggle }) {
    const type = (event, q) => {
      const to = arrows(event, q, 1, n);
      if (isPress(event)) {
        event.preventDefault();
        toggle(q);
      } else if (to !== q) choose(to);
    };
    const items = words.map((word, q) => {
      const attributes = {
        role: "option",
        "aria-selected": String(q === state.word),
        tabindex: q === spot.word ? 0 : -1,
      };
      return make(
        "li",
        { ...attributes, onclick: () => toggle(q), onkeydown: (event) => type(event, q) },
        word,
      );
    });
    return make("ul", { role: "listbox", "aria-label": `Word that looks, ${label}` }, ...items);
  }

  // A word that is chosen shows its numbers.
  function asked({ map, label, answer: { words, n }, state }) {
    const items = words.map((word, k) => {
      if (state.word === null) return make("li", {}, make("span", {}, word));
      const share = map[state.word * n + k];
      return make(
        "li",
        { style: `--share: ${share}` },
        make("span", {}, word),
        make("b", {}, percent(share)),
      );
    });
    return make("ul", { class: "keys", "aria-label": `Words looked at, ${label}` }, ...items);
  }

  // Written, not made: there are thousands.
  function strokes({ map, answer: { n }, state }) {
    const middle = (row) => (row + 0.5) * ROW_HEIGHT;
    const paths = Array.from(map, (share, i) => {
      const [q, k] = [Math.floor(i / n), i % n];
      if (share < FAINTEST || (state.word !== null && q !== state.word)) return "";
      const stroke = `stroke-opacity="${share.toFixed(3)}" stroke-width="${(1 + 3 * share).toFixed(2)}"`;
      return `<path d="M0 ${middle(q)}L100 ${middle(k)}" ${stroke}/>`;
    });
    const between = make("div", { class: "strokes", "aria-hidden": "true" });
    const size = `viewBox="0 0 100 ${n * ROW_HEIGHT}" preserveAspectRatio="none"`;
    between.innerHTML = `<svg ${size}>${paths.join("")}</svg>`;
    return between;
  }

  /* Matrix ----------------------------------------------------------------------------------------------- */

  function matrix({ map, label, answer: { words, n }, state, spot, toggle }) {
    const told = make("p", { class: "told", role: "status" }, "\u00a0");
    const cell = make("div", { class: "cell" });
    const read = (q, k) => {
      [spot.word, spot.key] = [q, k];
      lay(cell, q, k, 1, n);
      announce(told, `“${words[q]}” looks at “${words[k]}”: ${percent(map[q * n + k])}`);
    };
    const canvas = make("canvas", {
      role: "application",
      tabindex: 0,
      "aria-label": `${label}: a matrix of ${n} × ${n}. Arrow keys read its cells, Enter chooses a row.`,
      onpointermove: (event) => read(...under(event, n)),
      onclick: (event) => {
        read(...under(event, n));
        toggle(spot.word);
      },
      onfocus: () => read(spot.word, spot.key),
      onkeydown: (event) => {
        const at = spot.word * n + spot.key;
        const to = arrows(event, at, n, n * n);
        if (to !== at) read(Math.floor(to / n), to % n);
        if (!isPress(event)) return;
        event.preventDefault();
        toggle(spot.word);
      },
    });
    paint(canvas, map, n);
    const row = state.word === null ? null : lay(make("div", { class: "row" }), state.word, 0, n, n);
    const over = make("div", { class: "over" }, row, cell);
    const size = n > MOST_LARGE_WORDS ? "matrix large" : "matrix";
    const names = ["columns", "rows"].map((way) => namesAlong(way, words, state.word));
    return make("div", {}, make("div", { class: size }, ...names, canvas, over), told);
  }

  // Put a mark on cells of a row.
  function lay(mark, q, k, nCells, n) {
    const [top, left, width, height] = [q, k, nCells, 1].map((cells) => `${(100 * cells) / n}%`);
    Object.assign(mark.style, { top, left, width, height });
    return mark;
  }

  // The cell under the pointer.
  function under({ currentTarget, clientX, clientY }, n) {
    const { top, left, width, height } = currentTarget.getBoundingClientRect();
    const cell = (share) => Math.min(Math.max(Math.floor(share * n), 0), n - 1);
    return [cell((clientY - top) / height), cell((clientX - left) / width)];
  }

  function namesAlong(way, words, chosen) {
    const name = (word, i) => make("span", { class: i === chosen && way === "rows" ? "chosen" : "" }, word);
    return make("div", { class: way, "aria-hidden": "true" }, ...words.map(name));
  }

  /* Table ------------------------------------------------------------------------------------------------ */

  function table({ map, label, answer: { words, n }, state }) {
    const names = ["looks ↓ at →", ...words].map((word) => make("th", { scope: "col" }, word));
    const row = (word, q) => {
      const cells = words.map((_, k) => make("td", {}, (100 * map[q * n + k]).toFixed(0)));
      return make(
        "tr",
        { class: q === state.word ? "chosen" : "" },
        make("th", { scope: "row" }, word),
        ...cells,
      );
    };
    const rows = make("tbody");
    grow(rows, words, row);
    const caption = `${explorer.State.MEASURES[state.measure]} in per cent, ${label}`;
    const head = make("thead", {}, make("tr", {}, ...names));
    return make(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table, ${label}` },
      make("table", { style: `--columns: ${n}` }, make("caption", {}, caption), head, rows),
    );
  }

  // A long table grows from picture to picture, so that none takes long.
  function grow(rows, words, row, from = 0) {
    rows.append(...words.slice(from, from + AT_ONCE).map((word, i) => row(word, from + i)));
    if (from + AT_ONCE >= words.length) return;
    const more = () => rows.isConnected && grow(rows, words, row, from + AT_ONCE);
    requestAnimationFrame(() => setTimeout(more));
  }

  explorer.views = { lines, matrix, table };
}
