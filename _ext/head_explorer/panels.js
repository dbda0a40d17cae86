/* The two large maps: that of the chosen head, and that of all heads together. */
"use strict";

{
  const { make, announce } = dom;
  // of manyheads.experiments.bert_census.kinds
  const KINDS = {
    sink: "a sink, most weight on [CLS] and [SEP]",
    previous: "previous, looks at the word before",
    next: "next, looks at the word after",
    punctuation: "punctuation, looks at commas and full stops",
    same: "same, looks at the same word",
    broad: "broad, looks at everything a little",
    mixed: "mixed, no single habit",
  };
  // to read each view
  const HOW = {
    lines:
      "Choose a word at the left, by a click or with the arrow keys: its lines stay, with their numbers. " +
      "A second click, or Enter, lets go.",
    matrix:
      "A row is a word that looks, a column a word that is looked at. Point at a cell, or walk with the " +
      "arrow keys, to read it; a click, or Enter, chooses its row.",
    table: "A row is a word that looks, a column a word that is looked at.",
  };

  explorer.Panels = class {
    how = make("p", { class: "hint" });
    panels = [make("section", { class: "panel" }), make("section", { class: "panel" })];
    summary = make("p", { class: "summary", role: "status" });
    spot = { word: 0, key: 0 }; // where the keyboard is, whether its word is chosen or not

    // `changed` is called when a word has been chosen.
    constructor(state, changed) {
      Object.assign(this, { state, changed });
      this.elements = [this.how, make("div", { class: "panels" }, ...this.panels), this.summary];
    }

    choose(word) {
      this.state.word = word;
      this.changed();
    }
    toggle(word) {
      this.spot.word = word;
      this.choose(word === this.state.word ? null : word);
    }

    draw(answer, kinds) {
      const { state, spot } = this;
      spot.word = Math.min(state.word ?? spot.word, answer.n - 1);
      spot.key = Math.min(spot.key, answer.n - 1);
      this.how.textContent = HOW[state.view];
      const parts = [this.ofHead(answer, kinds), this.ofAll(answer)];
      this.drawPanel(0, parts, answer);
      clearTimeout(this.second);
      // two short tasks rather than a long one
      this.second = setTimeout(() => this.drawPanel(1, parts, answer));
      const said = parts.map(({ map, who }) => map && answer.summary(map, who, state.word));
      announce(this.summary, answer.n > 2 ? said.join(" ") : ""); // without a word there is nothing to say
    }

    ofHead(answer, kinds) {
      const { state } = this;
      const off = state.off.has(state.selected) ? ". Switched off: this is what it would see" : "";
      return {
        title: `Layer ${state.layer}, head ${state.head}`,
        under: `Measured in chapter 5: ${KINDS[kinds[state.selected]]}${off}`,
        map: answer[state.measure].heads[state.selected],
        label: state.name(),
        who: state.name(),
      };
    }

    ofAll(answer) {
      const { state } = this;
      const nOn = state.every.length - state.off.size;
      return {
        title: `Average of ${state.off.size ? "the" : "all"} ${nOn} heads`,
        under: "All looks in a single view",
        map: nOn ? answer[state.measure].mean : null,
        label: "average",
        who: "the average",
      };
    }

    drawPanel(i, parts, answer) {
      const { title, under, map, label } = parts[i];
      const { state, spot } = this;
      const react = { choose: (word) => this.choose(word), toggle: (word) => this.toggle(word) };
      const held = this.panels[i].contains(document.activeElement);
      this.panels[i].replaceChildren(
        make("h3", {}, title),
        make("p", { class: "under" }, under),
        map
          ? explorer.views[state.view]({ map, label, answer, state, spot, ...react })
          : make("p", {}, "No head is on."),
      );
      if (held) this.panels[i].querySelector("[tabindex='0']")?.focus();
    }
  };
}
