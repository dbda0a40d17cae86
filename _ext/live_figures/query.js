/* Chapter 1: move a query among the keys of "cat", "mat" and "happy", and see what it brings home. */
"use strict";

{
  const { make, draw, fill, button } = dom;

  const WORDS = ["cat", "mat", "happy"];
  const KEYS = [
    [Math.log(3), Math.log(2)],
    [Math.log(1), Math.log(3)],
    [Math.log(2), Math.log(1)],
  ];
  const VALUES = [
    [6, 6],
    [6, 0],
    [0, 6],
  ];
  const QUERIES = { cat: [0, 0], mat: [0, 1], happy: [1, 0] };
  const REACH = 2; // how far the query can go, each way
  const SIZE = 320; // of both drawings

  const dot = (a, b) => a.reduce((sum, number, i) => sum + number * b[i], 0);
  const inReach = (number) => Math.max(-REACH, Math.min(REACH, Math.round(number * 20) / 20));
  const onKeys = ([x, y]) => [SIZE / 2 + 70 * x, SIZE / 2 - 70 * y]; // where a vector is drawn
  const onValues = ([x, y]) => [62 + 34 * x, SIZE - 48 - 34 * y];

  class Query extends customElements.get("mh-figure") {
    heading = "Move the query";
    query = QUERIES.happy;

    // Score, weigh, mix: the three steps of the pencil.
    attend(query) {
      const scores = KEYS.map((key) => dot(query, key));
      const powers = scores.map(Math.exp);
      const weights = powers.map((power) => power / powers.reduce((sum, each) => sum + each));
      const mix = [0, 1].map((axis) =>
        dot(
          weights,
          VALUES.map((value) => value[axis]),
        ),
      );
      return { scores, powers, weights, mix };
    }

    build() {
      const slider = (name, axis) =>
        this.range(name, { min: -REACH, max: REACH, step: 0.05, words: (x) => this.digits(x, 2) }, (to) =>
          this.move(this.query.with(axis, to)),
        );
      this.sliders = [slider("asks about feeling", 0), slider("asks about sitting", 1)];
      const asked = Object.entries(QUERIES).map(([word, query]) =>
        button(`as ${word}`, () => this.move(query)),
      );
      this.numbers = make("div");
      return [
        make(
          "p",
          { class: "lead" },
          "Drag the orange arrow among the keys, or use the sliders. Turn it, and another word wins. " +
            "Make it longer, and the winner takes more.",
        ),
        make("div", { class: "side-by-side" }, this.keyPlane(), this.valuePlane()),
        this.key(
          [this.dot([0, 0], 7, "weight"), "a larger disc: more weight"],
          [draw("path", { d: "M-12 0h24", class: "shadow" }), "how far a key reaches along the query"],
          [this.dot([0, 0], 6, "ring"), "drag here"],
        ),
        make(
          "div",
          { class: "controls" },
          ...this.sliders,
          make("div", { class: "buttons" }, make("span", { class: "name" }, "ask"), ...asked),
        ),
        this.numbers,
      ];
    }

    move(query) {
      this.query = query.map(inReach);
      this.changed();
    }

    update() {
      const found = this.attend(this.query);
      const { weights, mix } = found;
      this.sliders.forEach((slider, axis) => {
        slider.value = this.query[axis];
      });
      this.showKeys(found);
      this.showValues(found);
      this.showNumbers(found);
      const shares = WORDS.map((word, i) => `${word} ${this.digits(weights[i], 2)}`);
      return (
        `The query ${this.pair(this.query, 2)} gives the weights ${shares.join(", ")}. It brings home ` +
        `the mix ${this.pair(mix, 2)}.`
      );
    }

    showNumbers({ scores, powers, weights, mix }) {
      const bar = (weight) =>
        make("span", { class: "bar", style: `--part: ${weight}` }, this.digits(weight, 3));
      const rows = WORDS.map((word, i) => [
        word,
        this.digits(scores[i], 2),
        this.digits(powers[i], 2),
        bar(weights[i]),
        this.pair(VALUES[i], 0),
      ]);
      rows.push(["mix", "", "", "", make("strong", {}, this.pair(mix, 2))]);
      this.numbers.replaceChildren(
        this.table("Score, weigh, mix", ["word", "score", "e^score", "weight", "value"], rows),
      );
    }

    pair(numbers, digits) {
      return `(${numbers.map((number) => this.digits(number, digits)).join(", ")})`;
    }

    /* Left: keys and query are arrows in one plane ------------------------------------------------------- */

    keyPlane() {
      const edge = 2.2;
      const grid = [-2, -1, 0, 1, 2].flatMap((tick) => [
        this.line([tick, -edge], [tick, edge], tick ? "grid" : "axis"),
        this.line([-edge, tick], [edge, tick], tick ? "grid" : "axis"),
      ]);
      this.shadows = KEYS.map((key) => this.line(key, key, "shadow"));
      this.circles = KEYS.map((key) => this.dot(onKeys(key), 0, "weight"));
      this.names = KEYS.map((key, i) => {
        const [x, y] = onKeys(key);
        return this.text(
          "",
          [x + [20, 14, -4][i], y + [-10, -16, 40][i]],
          "blue",
          i < 2 ? "start" : "middle",
        );
      });
      this.arrow = this.line([0, 0], [0, 0], "query");
      this.end = draw(
        "g",
        {
          class: "handle",
          onpointerdown: (event) => this.drag(event),
          // a finger on the handle drags it; elsewhere it moves the page
          ontouchstart: (event) => event.preventDefault(),
        },
        this.dot([0, 0], 24, "grip"),
        this.dot([0, 0], 13, "ring"),
        this.dot([0, 0], 8, "query-end"),
      );
      this.endName = this.text("query", [0, 0], "orange");
      return (this.plane = draw(
        "svg",
        {
          viewBox: `0 0 ${SIZE} ${SIZE}`,
          role: "img",
          onclick: (event) => this.move(this.pointed(event)),
          "aria-label": "The plane of keys and the query. The table below has its numbers.",
        },
        ...grid,
        this.text("feeling →", [SIZE - 4, SIZE / 2 + 26], "quiet", "end"),
        this.text("↑ sitting", [SIZE / 2 + 18, 12], "quiet"),
        ...this.shadows,
        ...KEYS.map((key) => this.line([0, 0], key, "key")),
        ...this.circles,
        ...KEYS.map((key) => this.dot(onKeys(key), 3.5, "key-end")),
        ...this.names,
        this.arrow,
        this.endName,
        this.end,
      ));
    }

    showKeys({ weights }) {
      const { query } = this;
      const square = dot(query, query);
      const [x, y] = onKeys(query);
      // From each key a dashed line down to the query's direction: score = its foot times the query's length.
      this.shadows.forEach((line, i) => {
        const part = square > 0.001 ? dot(KEYS[i], query) / square : 0;
        const [x2, y2] = onKeys(square > 0.001 ? query.map((number) => part * number) : KEYS[i]);
        fill(line, { x2, y2 });
      });
      this.circles.forEach((circle, i) => fill(circle, { r: 3.5 + 16 * Math.sqrt(weights[i]) }));
      this.names.forEach((name, i) => {
        name.textContent = `${WORDS[i]} ${this.digits(weights[i], 2)}`;
      });
      fill(this.arrow, { x2: x, y2: y });
      fill(this.end, { transform: `translate(${x} ${y})` });
      // Its name stands farther out: above its end or below it, or beside it where the drawing ends.
      const right = x > SIZE / 2;
      const up = query[1] >= 0;
      const beside = up ? y < 32 : y > SIZE - 34;
      const room = 44;
      const turned = beside && Math.abs(x - SIZE / 2) > SIZE / 2 - 20 - room;
      const away = beside ? 20 : 16;
      const at = x + (right !== turned ? away : -away);
      fill(this.endName, {
        x: Math.max(room, Math.min(SIZE - room, at)),
        y: y + (beside ? 5 : up ? -18 : 30),
        "text-anchor": right !== turned ? "start" : "end",
      });
    }

    // the vector under the pointer
    pointed(event) {
      const box = this.plane.getBoundingClientRect();
      const unit = (70 * box.width) / SIZE;
      return [
        (event.clientX - box.left - box.width / 2) / unit,
        (box.top + box.height / 2 - event.clientY) / unit,
      ];
    }

    drag(start) {
      const { pointerId } = start;
      const move = (event) => event.pointerId === pointerId && this.move(this.pointed(event));
      const stop = (event) => {
        if (event.pointerId !== pointerId) return;
        removeEventListener("pointermove", move);
        removeEventListener("pointerup", stop);
        removeEventListener("pointercancel", stop);
      };
      addEventListener("pointermove", move);
      addEventListener("pointerup", stop);
      addEventListener("pointercancel", stop);
      start.preventDefault();
    }

    /* Right: the mix lies among the values --------------------------------------------------------------- */

    valuePlane() {
      const corners = VALUES.map(onValues);
      const zero = onValues([0, 0]);
      this.pulls = corners.map(([x1, y1]) => draw("line", { x1, y1, class: "pull" }));
      this.square = draw("rect", { x: -6, y: -6, width: 12, height: 12, class: "mix" });
      this.mixName = this.text("mix", [0, 0], "orange");
      const frame = draw("path", {
        d: `M${zero[0]} 30V${zero[1]}H${SIZE - 20}`,
        class: "axis",
        fill: "none",
      });
      return draw(
        "svg",
        {
          viewBox: `0 0 ${SIZE} ${SIZE}`,
          role: "img",
          "aria-label":
            "The triangle of the three values, and the mix inside it. The table below has its numbers.",
        },
        frame,
        draw("path", { d: `M${corners.join("L")}Z`, class: "hull" }),
        this.text(
          "a thing →",
          onValues([3, 0]).map((at, i) => at + 20 * i),
          "quiet",
          "middle",
        ),
        this.text("↑ lives or feels", [zero[0] - 2, 20], "quiet"),
        ...[0, 6].flatMap((tick) => [
          this.text(tick, [onValues([tick, 0])[0], zero[1] + 20], "quiet", "middle"),
          this.text(tick, [zero[0] - 10, onValues([0, tick])[1] + 4], "quiet", "end"),
        ]),
        ...this.pulls,
        ...corners.map((corner) => this.dot(corner, 5, "key-end")),
        ...corners.map(([x, y], i) =>
          this.text(
            `value of ${WORDS[i]}`,
            [x + [14, 14, 8][i], y + [-14, -12, -14][i]],
            "blue",
            i < 2 ? "end" : "start",
          ),
        ),
        this.square,
        this.mixName,
      );
    }

    showValues({ weights, mix }) {
      const [x, y] = onValues(mix);
      this.pulls.forEach((line, i) =>
        fill(line, { x2: x, y2: y, style: `stroke-width: ${1 + 9 * weights[i]}` }),
      );
      fill(this.square, { transform: `translate(${x} ${y})` });
      fill(this.mixName, { x: x - 12, y: y + 18, "text-anchor": "end" });
    }

    /* Pieces of drawings --------------------------------------------------------------------------------- */

    line(from, to, kind) {
      const [[x1, y1], [x2, y2]] = [onKeys(from), onKeys(to)];
      return draw("line", { x1, y1, x2, y2, class: kind });
    }
    dot([cx, cy], r, kind) {
      return draw("circle", { cx, cy, r, class: kind });
    }
    text(words, [x, y], kind, anchor = "start") {
      return draw("text", { x, y, class: kind, "text-anchor": anchor }, words);
    }
  }

  customElements.define("mh-query", Query);
}
