/* What all figures share that the reader can turn: the element <mh-figure>, which the others extend.

   No library and no global name: a figure's script finds this class in the page's own list of elements.
   A figure gives `build`, which makes its parts once, and `update`, which shows the state after each change and
   returns what there is to see as a sentence. The sentence stands below the figure; screen readers hear it when
   the reader pauses. What the cell held before, for pages without JavaScript, is replaced. */
"use strict";

{
  class Figure extends HTMLElement {
    connectedCallback() {
      if (this.sentence) return; // moved within the page: all is there already
      const data = this.querySelector("script[type='application/json']");
      if (data) this.data = JSON.parse(data.textContent);
      this.sentence = this.make("p", { class: "sentence" });
      this.heard = this.make("p", { class: "heard", "aria-live": "polite" });
      this.setAttribute("role", "group");
      this.setAttribute("aria-label", this.heading);
      const parts = this.build();
      if (!parts.includes(this.sentence)) parts.push(this.sentence);
      this.replaceChildren(this.make("p", { class: "title" }, this.heading), ...parts, this.heard);
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

    // An element of HTML, and one of SVG: attributes, listeners (their names begin with "on"), then what is inside.
    make(tag, attributes = {}, ...inside) {
      return this.fill(document.createElement(tag), attributes, inside);
    }
    draw(tag, attributes = {}, ...inside) {
      return this.fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, inside);
    }
    fill(element, attributes, inside = []) {
      for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else if (value !== undefined && value !== false)
          element.setAttribute(name, value === true ? "" : value);
      }
      element.append(...inside);
      return element;
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
      const value = this.make("span", { class: "value", "aria-hidden": "true" });
      const input = this.make("input", {
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
      const control = this.make(
        "label",
        { class: "range" },
        this.make("span", { class: "name" }, name),
        input,
        value,
      );
      return Object.defineProperty(control, "value", {
        set(to) {
          input.value = to;
          show();
        },
      });
    }

    // One of several, as radio buttons that look like one bar. `options` is value → words.
    choice(name, options, change) {
      const place = [...document.querySelectorAll(".live")].indexOf(this); // figures don't share their choices
      const group = `live-${place}-${name.replaceAll(" ", "-")}`;
      const inputs = Object.keys(options).map((value) =>
        this.make("input", { type: "radio", name: group, value, onchange: () => change(value) }),
      );
      const labels = inputs.map((input) =>
        this.make("label", {}, input, this.make("span", {}, options[input.value])),
      );
      const bar = this.make("span", { class: "bar-of-choices" }, ...labels);
      const control = this.make("fieldset", { class: "choice" }, this.make("legend", {}, name), bar);
      return Object.defineProperty(control, "value", {
        set(to) {
          for (const input of inputs) input.checked = input.value === String(to);
        },
      });
    }

    button(name, click) {
      return this.make("button", { type: "button", onclick: click }, name);
    }

    // What the signs of a drawing mean: pairs of a sign, drawn around 0 0 as the drawing has it, and words.
    key(...signs) {
      return this.make(
        "p",
        { class: "signs" },
        ...signs.map(([sign, words]) =>
          this.make(
            "span",
            {},
            this.draw("svg", { viewBox: "-12 -7 24 14", "aria-hidden": "true" }, sign),
            words,
          ),
        ),
      );
    }

    // A table: names of the columns, then rows whose first cell names the row.
    table(caption, columns, rows) {
      const head = columns.map((name) => this.make("th", { scope: "col" }, name));
      const body = rows.map(([name, ...cells]) =>
        this.make(
          "tr",
          {},
          this.make("th", { scope: "row" }, name),
          ...cells.map((cell) => this.make("td", {}, cell)),
        ),
      );
      return this.make(
        "table",
        {},
        this.make("caption", {}, caption),
        this.make("thead", {}, this.make("tr", {}, ...head)),
        this.make("tbody", {}, ...body),
      );
    }
  }

  customElements.define("mh-figure", Figure);
}
