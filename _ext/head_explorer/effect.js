/* Heads that are switched off, and what that does to the sentence's vector and to what is near it. */
"use strict";

{
  const { make, button, announce } = dom;
  const N_NEAREST = 6;

  explorer.Effect = class {
    told = make("p", { role: "status" });
    nearest = make("div", { class: "nearest" });

    // `changed` is called when heads have been switched.
    constructor(state, changed) {
      this.state = state;
      const press = (change) => () => {
        change();
        changed();
      };
      this.head = button(
        "",
        press(() => state.toggle([state.selected])),
      );
      this.layer = button(
        "",
        press(() => state.toggle(state.ofLayer)),
      );
      this.rest = button(
        "",
        press(() => state.switchOff(state.others)),
      );
      const all = button(
        "All heads on",
        press(() => state.switchOff([])),
      );
      const attributes = { class: "switches", role: "group", "aria-label": "Switch heads off and on" };
      const switches = make("div", attributes, this.head, this.layer, this.rest, all);
      this.elements = [make("div", { class: "effect" }, this.told), switches];
    }

    draw(answer, { about, vectors }) {
      this.nameSwitches();
      this.tell(answer);
      const near = answer.neighbours(about.sentences, vectors).slice(0, N_NEAREST);
      this.nearest.replaceChildren(tableOf(near));
    }

    nameSwitches() {
      const { state } = this;
      const turn = (heads) => (state.areOff(heads) ? "on" : "off");
      this.head.textContent = `Switch ${state.name()} ${turn([state.selected])}`;
      this.layer.textContent = `Switch layer ${state.layer} ${turn(state.ofLayer)}`;
      this.rest.textContent = `Keep only ${state.name()}`;
    }

    tell({ off, angle, cosine }) {
      const nHeads = this.state.every.length;
      const nOn = nHeads - off.size;
      const heads = `${off.size ? `${nOn} of` : "All"} ${nHeads} heads ${nOn === 1 ? "is" : "are"} on.`;
      announce(
        this.told,
        `${heads} The sentence’s vector is turned by `,
        make("b", {}, angle),
        ` from the intact model’s (cosine\u00a0${cosine}).`,
      );
    }
  };

  function tableOf(near) {
    const columns = ["place", "sentence", "cosine now", "all heads on"];
    const names = columns.map((title) => make("th", { scope: "col" }, title));
    const rows = near.map(({ text, now, before, place, placeBefore }) => {
      const moved = place === placeBefore ? "" : ` (was ${placeBefore})`;
      const cells = [now, before].map((cosine) => make("td", {}, cosine.toFixed(2)));
      return make("tr", {}, make("td", {}, `${place}${moved}`), make("th", { scope: "row" }, text), ...cells);
    });
    const caption = "Nearest of twelve sentences, whose vectors are those of the intact model";
    const head = make("thead", {}, make("tr", {}, ...names));
    return make(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Nearest sentences" },
      make("table", {}, make("caption", {}, caption), head, make("tbody", {}, ...rows)),
    );
  }
}
