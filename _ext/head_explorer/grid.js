/* All heads as small maps: a row a layer, a column a head. */
"use strict";

{
  const { make, arrows } = dom;

  function rowOf(layer, heads) {
    const name = make("span", { role: "rowheader", "aria-label": `Layer ${layer}` }, `${layer}`);
    const cells = Array.from({ length: heads }, (_, head) => {
      const map = make("canvas", { "aria-hidden": "true" });
      return make("div", { role: "gridcell", "data-head": layer * heads + head }, map);
    });
    return make("div", { role: "row" }, name, ...cells);
  }

  function rowOfNames(heads) {
    const corner = make("span", { role: "columnheader" }, make("span", { class: "unseen" }, "Layer"));
    const names = Array.from({ length: heads }, (_, head) =>
      make("span", { role: "columnheader", "aria-label": `Head ${head}` }, `${head}`),
    );
    return make("div", { role: "row" }, corner, ...names);
  }

  explorer.Grid = class {
    // `pick` takes a head's number; so does `toggle`, which switches it off or on.
    constructor(state, pick, toggle) {
      Object.assign(this, { state, pick, toggle });
      const rows = Array.from({ length: state.layers }, (_, layer) => rowOf(layer, state.heads));
      const attributes = { class: "heads", role: "grid", "aria-label": "Heads, a row a layer" };
      const react = { onclick: (event) => this.click(event), onkeydown: (event) => this.type(event) };
      const columns = { style: `--heads: ${state.heads}` };
      this.element = make("div", { ...attributes, ...columns, ...react }, rowOfNames(state.heads), ...rows);
      this.cells = this.element.querySelectorAll("[data-head]");
    }

    click({ target }) {
      const cell = target.closest("[data-head]");
      if (cell) this.walk(Number(cell.dataset.head));
    }

    type(event) {
      const { layers, heads, selected } = this.state;
      const at = Number(event.target.closest("[data-head]")?.dataset.head ?? selected);
      const to = arrows(event, at, heads, layers * heads);
      if (to !== at) this.walk(to);
      if (event.key !== "Delete" && event.key !== "Backspace") return;
      event.preventDefault();
      this.toggle(at);
    }

    walk(i) {
      this.pick(i);
      this.cells[i].focus();
    }

    draw(answer, kinds) {
      const { state } = this;
      this.cells.forEach((cell, i) => {
        const off = state.off.has(i);
        const chosen = i === state.selected;
        explorer.paint(cell.firstChild, answer[state.measure].heads[i], answer.n);
        cell.title = [state.name(i), kinds[i], ...(off ? ["off"] : [])].join(", ");
        cell.setAttribute("aria-label", cell.title);
        cell.setAttribute("aria-selected", chosen);
        cell.tabIndex = chosen ? 0 : -1;
        cell.classList.toggle("off", off);
      });
    }
  };
}
