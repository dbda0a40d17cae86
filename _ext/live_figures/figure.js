/* What all figures share that the reader can turn: the element <mh-figure>, which the others extend.

   A figure's script finds this class in the page's own list of elements. A figure gives `build`, which makes
   its parts once, and `update`, which shows the state after each change and returns what there is to see as a
   sentence. The sentence stands below the figure; screen readers hear it when the reader pauses. What the
   cell held before, for pages without JavaScript, is replaced. */
"use strict";

{
  const { make, draw } = dom;

  class Figure extends HTMLElement {
    connectedCallback() {
      if (this.sentence) return; // moved within the page: all is there already
      const data = this.querySelector("script[type='application/json']");
      if (data) this.data = JSON.parse(data.textContent);
      this.sentence = make("p", { class: "sentence" });
      this.heard = make("p", { class: "heard", "aria-live": "polite" });
      this.setAttribute("role", "group");
      this.setAttribute("aria-label", this.heading);
      const parts = this.build();
      if (!parts.includes(this.sentence)) parts.push(this.sentence);
      this.replaceChildren(make("p", { class: "title" }, this.heading), ...parts, this.heard);
      this.sentence.textContent = this.update();
    }

    // After the reader has changed something.
    changed() {
      const sentence = this.update();
      this.sentence.textContent = sentence;
      clearTimeout(this.pause);
      this.pause = setTimeout(() => {
        this.heard.textContent = sentence;
      }, 500);
    }

    // A number as text: with a real minus sign, and none before zero.
    digits(number, count) {
      return number
        .toFixed(count)
        .replace(/^-(?=[0.]+$)/, "")
        .replace("-", "\u2212");
    }

    // A slider with its name and its value in words. `control.value = 3` moves it.
    range(name, { min, max, step = 1, words = String }, change) {
      const value = make("span", { class: "value", "aria-hidden": "true" });
      const input = make("input", {
        type: "range",
        min,
        max,
        step,
        oninput: () => {
          show();
          change(+input.value);
        },
      });
      const show = () => {
        value.textContent = words(+input.value);
        input.setAttribute("aria-valuetext", value.textContent);
      };
      const control = make("label", { class: "range" }, make("span", { class: "name" }, name), input, value);
      return Object.defineProperty(control, "value", {
        set(to) {
          input.value = to;
          show();
        },
      });
    }

    // One of several, as radio buttons that look like one bar. `options` is value → words.
    choice(name, options, change) {
      // figures don't share their choices
      const place = [...document.querySelectorAll(".live")].indexOf(this);
      const group = `live-${place}-${name.replaceAll(" ", "-")}`;
      const labels = dom.radios(group, options, change);
      const bar = make("span", { class: "bar-of-choices" }, ...labels);
      const control = make("fieldset", { class: "choice" }, make("legend", {}, name), bar);
      return Object.defineProperty(control, "value", {
        set(to) {
          for (const input of bar.querySelectorAll("input")) input.checked = input.value === String(to);
        },
      });
    }

    // What the signs of a drawing mean: pairs of a sign, drawn around 0 0 as the drawing has it, and words.
    key(...signs) {
      return make(
        "p",
        { class: "signs" },
        ...signs.map(([sign, words]) =>
          make("span", {}, draw("svg", { viewBox: "-12 -7 24 14", "aria-hidden": "true" }, sign), words),
        ),
      );
    }

    // A table: names of the columns, then rows whose first cell names the row.
    table(caption, columns, rows) {
      const head = columns.map((name) => make("th", { scope: "col" }, name));
      const body = rows.map(([name, ...cells]) =>
        make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell))),
      );
      return make(
        "table",
        {},
        make("caption", {}, caption),
        make("thead", {}, make("tr", {}, ...head)),
        make("tbody", {}, ...body),
      );
    }
  }

  customElements.define("mh-figure", Figure);
}
