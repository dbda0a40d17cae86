/* Chapter 2: walk one token of the pencil example through two heads; light up what touches what. */
"use strict";

{
  const { make, button } = dom;

  // oxfmt-ignore
  const X = [[1, 0, 2, 1], [0, 1, 1, 2]]; // (token, d_model)
  // The columns 0, 1 of Q, K, V and the rows 0, 1 of O are those of head 0; the others are those of head 1.
  // oxfmt-ignore
  const W = {
    Q: [[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1], [0, -1, 0, -1]],
    K: [[1, 1, 1, 0], [0, 1, 1, 1], [0, -1, 0, 1], [0, 1, 0, -1]],
    V: [[4, 0, 0, 4], [0, 4, 4, 0], [4, 0, 4, -4], [0, 4, -4, 4]],
    O: [[1, 0, 1, 0], [0, 1, 0, 1], [2, 0, 0, -1], [0, -1, 1, 0]],
  };
  const D_HEAD = 2;
  const ROLES = { Q: "queries", K: "keys", V: "values" };
  const ONE = { Q: "query", K: "key", V: "value" };
  const STEPS = { project: "1 Project", cut: "2 Cut", look: "3 Look", merge: "4 Merge", output: "5 Output" };

  const times = (row, matrix) =>
    matrix[0].map((_, j) => row.reduce((sum, number, i) => sum + number * matrix[i][j], 0));
  const part = (vector, head) => vector.slice(head * D_HEAD, (head + 1) * D_HEAD);
  const dot = (a, b) => a.reduce((sum, number, i) => sum + number * b[i], 0);
  const headOf = (index) => Math.floor(index / D_HEAD);
  const HEADS = [0, 1];
  const PLACES = [0, 1, 2, 3];

  // Everything that happens to one token. As in the chapter, a key's weight is proportional to 3 ** score.
  function walk(token) {
    const [q, k, v] = ["Q", "K", "V"].map((role) => X.map((x) => times(x, W[role])));
    const heads = HEADS.map((head) => {
      const scores = k.map((key) => dot(part(q[token], head), part(key, head)));
      const powers = scores.map((score) => 3 ** score);
      const total = powers[0] + powers[1];
      const weights = powers.map((power) => power / total);
      const mix = times(
        weights,
        v.map((value) => part(value, head)),
      );
      return { scores, powers, weights, mix, brings: times(mix, part(W.O, head)) };
    });
    return { q, k, v, heads, output: PLACES.map((j) => heads[0].brings[j] + heads[1].brings[j]) };
  }

  class Split extends customElements.get("mh-figure") {
    heading = "Walk a token through two heads";
    token = 0;
    step = "project";
    role = "Q";
    light = "all"; // or "head 0", "coordinate 2": of the token, in the last step of the output

    build() {
      this.steps = this.choice("step", STEPS, (to) => this.go(to));
      this.tokens = this.choice("token", { 0: "0", 1: "1" }, (to) => {
        this.token = +to;
        this.changed();
      });
      this.roles = this.choice("make", ROLES, (to) => {
        this.role = to;
        this.changed();
      });
      const lights = { all: "all", "head 0": "head 0", "head 1": "head 1" };
      for (const c of PLACES) lights[`coordinate ${c}`] = `coordinate ${c}`;
      this.lights = this.choice("light up", lights, (to) => {
        this.light = to;
        this.changed();
      });
      this.stage = make("div", { class: "stage" });
      this.back = button("← Back", () => this.go(this.neighbour(-1)));
      this.next = button("Next →", () => this.go(this.neighbour(1)));
      return [
        make(
          "p",
          { class: "lead" },
          "The numbers are those of the pencil example. Go through the five steps, and light up a " +
            "head or one coordinate to see which weights it touches.",
        ),
        make(
          "div",
          { class: "controls one-column" },
          this.steps,
          this.lights,
          make("div", { class: "buttons" }, this.tokens, this.roles),
        ),
        this.stage,
        this.sentence,
        make("div", { class: "buttons" }, this.back, this.next),
      ];
    }

    neighbour(by) {
      const names = Object.keys(STEPS);
      return names[Math.max(0, Math.min(names.length - 1, names.indexOf(this.step) + by))];
    }
    // a coordinate of the token isn't one of the output: its light doesn't stay
    go(step) {
      if ([step, this.step].includes("output") && step !== this.step && this.light.startsWith("coordinate"))
        this.light = "all";
      this.step = step;
      this.changed();
    }

    update() {
      const found = walk(this.token);
      this.arriving = this.shown !== this.step; // the cut opens and closes once, as the reader comes to it
      this.shown = this.step;
      this.steps.value = this.step;
      this.tokens.value = this.token;
      this.roles.value = this.role;
      this.lights.value = this.light;
      this.roles.hidden = this.step !== "project";
      // not disabled: the focus would be lost
      this.back.setAttribute("aria-disabled", this.step === "project");
      this.next.setAttribute("aria-disabled", this.step === "output");
      const whose = this.step === "output" ? "output" : "coordinate";
      [...this.lights.querySelectorAll("label span")].slice(-PLACES.length).forEach((words, c) => {
        words.textContent = `${whose} ${c}`;
      });
      const [kind, number] = this.light.split(" ");
      this.lit = { head: kind === "head" ? +number : null, place: kind === "coordinate" ? +number : null };
      this.stage.replaceChildren(...this[this.step](found));
      return this[`${this.step}InWords`](found);
    }

    // Is a number of this head lit, that the chosen coordinate reaches (or doesn't)?
    shines(head, reached = true) {
      if (this.lit.head !== null) return head === this.lit.head;
      return this.lit.place === null || reached;
    }
    // A cell: its head gives the colour, the light its strength.
    number(value, head, lit) {
      const colour = head === null ? "" : ` h${head}`;
      return make(
        "td",
        { class: `${this.light === "all" ? "plain" : lit ? "lit" : "dim"}${colour}` },
        this.digits(value, 0),
      );
    }
    heads(...before) {
      return make(
        "tr",
        {},
        ...before,
        ...HEADS.map((head) =>
          make("th", { scope: "colgroup", colspan: D_HEAD, class: `h${head}` }, `head ${head}`),
        ),
      );
    }
    row(name, cells, kind = "") {
      return make("tr", { class: kind }, make("th", { scope: "row" }, name), ...cells);
    }
    sheet(caption, head, ...rows) {
      const kind = { cut: "apart", merge: "together" }[this.step] ?? "";
      const moving = this.arriving ? "moving" : "";
      return make(
        "table",
        { class: `sheet ${kind} ${moving}` },
        make("caption", {}, caption),
        make("thead", {}, head),
        make("tbody", {}, ...rows),
      );
    }
    vector(numbers) {
      return `(${numbers.map((number) => this.digits(number, 0)).join(", ")})`;
    }
    // "1·1 + 0·1 + 2·0 + 1·0"
    sum(numbers, column) {
      return numbers
        .map(
          (number, i) =>
            `${this.digits(number, 0)}·${column[i] < 0 ? `(${this.digits(column[i], 0)})` : column[i]}`,
        )
        .join(" + ");
    }

    /* 1. A token times a matrix: the token runs down the left, each result stands below its column ------- */

    project() {
      const x = X[this.token];
      const matrix = W[this.role];
      const made = times(x, matrix);
      const { place } = this.lit;
      const corner = make("th", { scope: "col", colspan: 2 }, `token ${this.token}`);
      const rows = PLACES.map((c) =>
        this.row(`coordinate ${c}`, [
          this.number(x[c], null, place === null || place === c),
          ...PLACES.map((j) => this.number(matrix[c][j], headOf(j), this.shines(headOf(j), place === c))),
        ]),
      );
      const result = this.row(
        ONE[this.role],
        [
          make("td", {}, "="),
          ...PLACES.map((j) =>
            this.number(made[j], headOf(j), this.shines(headOf(j), matrix[place ?? 0][j] !== 0)),
          ),
        ],
        "result",
      );
      return [this.sheet(`Token × W_${this.role}`, this.heads(corner), ...rows, result)];
    }
    projectInWords() {
      const x = X[this.token];
      const matrix = W[this.role];
      const { head, place } = this.lit;
      const one = ONE[this.role];
      if (head !== null) {
        const sums = part(PLACES, head).map((j) => {
          const column = matrix.map((row) => row[j]);
          return `${this.sum(x, column)} = ${this.digits(dot(x, column), 0)}`;
        });
        return (
          `Head ${head} owns two columns of W_${this.role}, and each has a weight for every ` +
          `coordinate: ${sums.join("; ")}. So its ${one} comes from the whole token.`
        );
      }
      if (place !== null) {
        const reached = HEADS.filter((h) => part(matrix[place], h).some(Boolean)).map((h) => `head ${h}`);
        return (
          `Coordinate ${place} meets row ${place} of W_${this.role}, which reaches through the columns ` +
          `of both heads. Where the weight isn't 0 it counts: in ${reached.join(" and ")}.`
        );
      }
      return (
        `The whole token ${this.vector(x)} goes through W_${this.role}, and the ${one} ` +
        `${this.vector(times(x, matrix))} comes out. Nothing has been cut yet.`
      );
    }

    /* 2. Only now is something cut: what came out of the projections ------------------------------------- */

    cut({ q, k, v }) {
      const { place } = this.lit;
      const line = (name, numbers, role) =>
        this.row(
          name,
          PLACES.map((j) =>
            this.number(numbers[j], headOf(j), this.shines(headOf(j), W[role][place ?? 0][j] !== 0)),
          ),
        );
      const corner = make("td", {});
      return [
        this.sheet(
          "What comes out of the projections, cut in two",
          this.heads(corner),
          line(`query of token ${this.token}`, q[this.token], "Q"),
          ...X.map((_, t) => line(`key of token ${t}`, k[t], "K")),
          ...X.map((_, t) => line(`value of token ${t}`, v[t], "V")),
        ),
      ];
    }
    cutInWords({ q, k, v }) {
      const { head, place } = this.lit;
      const mine = q[this.token];
      if (head !== null)
        return (
          `Head ${head} gets its two numbers of every query, key and value; its query is ` +
          `${this.vector(part(mine, head))}. It sees nothing of the other head's.`
        );
      if (place !== null)
        return (
          `Coordinate ${place} of the tokens is in every lit number. Both heads have some: the cut ` +
          "didn't share the coordinates out."
        );
      // the first row whose two parts differ shows the cut best
      const rows = [
        [`query of token ${this.token}`, mine],
        ...k.map((key, t) => [`key of token ${t}`, key]),
        ...v.map((value, t) => [`value of token ${t}`, value]),
      ];
      const [name, row] = rows.find(([, vector]) => String(part(vector, 0)) !== String(part(vector, 1)));
      return (
        `The ${name}, ${this.vector(row)}, becomes ${this.vector(part(row, 0))} for head 0 and ` +
        `${this.vector(part(row, 1))} for head 1. The cut computes nothing.`
      );
    }

    /* 3. Each head looks for itself ---------------------------------------------------------------------- */

    look({ v, heads }) {
      return [
        make(
          "div",
          { class: "side-by-side" },
          ...heads.map(({ scores, powers, weights, mix }, head) => {
            const bar = (weight) =>
              make("span", { class: "bar", style: `--part: ${weight}` }, this.digits(weight, 2));
            const rows = X.map((_, t) => [
              `token ${t}`,
              this.digits(scores[t], 0),
              this.digits(powers[t], Number.isInteger(powers[t]) ? 0 : 2),
              bar(weights[t]),
              this.vector(part(v[t], head)),
            ]);
            rows.push(["mix", "", "", "", make("strong", {}, this.vector(mix))]);
            const table = this.table(`Head ${head}`, ["key", "score", "3^score", "weight", "value"], rows);
            table.className = `look h${head} ${this.shines(head) ? "" : "dim"}`;
            return table;
          }),
        ),
      ];
    }
    lookInWords({ heads }) {
      const { head, place } = this.lit;
      const said = (h) =>
        `head ${h} gives the weights ` +
        `${heads[h].weights.map((weight) => this.digits(weight, 2)).join(" and ")} and brings the ` +
        `mix ${this.vector(heads[h].mix)}`;
      if (head !== null) return `From token ${this.token}, ${said(head)}.`;
      if (place !== null)
        return (
          `Coordinate ${place} takes part in scores and values, so by now it has touched the numbers ` +
          "of both heads."
        );
      const [one, two] = heads.map(({ weights: [first, second] }) =>
        first === second ? "at both tokens alike" : `most at token ${first > second ? 0 : 1}`,
      );
      const verdict =
        one === two
          ? `Both look ${one}.`
          : `Head 0 looks ${one}, head 1 ${two}. One head could do only one of these: that is why ` +
            "there are two.";
      return `From token ${this.token}, ${said(0)}; ${said(1)}. ${verdict}`;
    }

    /* 4. Side by side again ------------------------------------------------------------------------------ */

    merge({ heads }) {
      const mixes = heads.flatMap(({ mix }) => mix);
      const corner = make("td", {});
      return [
        this.sheet(
          "The two mixes side by side",
          this.heads(corner),
          this.row(
            "mix",
            PLACES.map((j) => this.number(mixes[j], headOf(j), this.shines(headOf(j)))),
          ),
        ),
      ];
    }
    mergeInWords({ heads }) {
      const { head, place } = this.lit;
      if (head !== null)
        return (
          `Places ${part(PLACES, head).join(" and ")} hold the mix of head ${head}, ` +
          `${this.vector(heads[head].mix)}, unchanged.`
        );
      if (place !== null)
        return (
          `Coordinate ${place} of the token has touched all four numbers; none of them belongs to it ` +
          "alone."
        );
      return (
        `${this.vector(heads[0].mix)} and ${this.vector(heads[1].mix)} become ` +
        `${this.vector(heads.flatMap(({ mix }) => mix))}. The merge computes nothing either.`
      );
    }

    /* 5. The mixes times W_O: a head owns rows, and writes into every coordinate of the output ----------- */

    output({ heads, output }) {
      const mixes = heads.flatMap(({ mix }) => mix);
      const { place } = this.lit;
      const corner = [
        make("th", { scope: "col", colspan: 2 }, "mix"),
        ...PLACES.map((j) => make("th", { scope: "col" }, j)),
      ];
      const rows = PLACES.map((i) =>
        this.row(
          `head ${headOf(i)}`,
          [
            this.number(mixes[i], headOf(i), this.shines(headOf(i))),
            ...PLACES.map((j) => this.number(W.O[i][j], headOf(i), this.shines(headOf(i), place === j))),
          ],
          i === D_HEAD ? "next-head" : "",
        ),
      );
      const brings = HEADS.map((head) =>
        this.row(
          `head ${head} brings`,
          [
            make("td", {}, "="),
            ...PLACES.map((j) => this.number(heads[head].brings[j], head, this.shines(head, place === j))),
          ],
          head ? "" : "result",
        ),
      );
      const total = this.row(
        "together",
        [
          make("td", {}, "="),
          ...PLACES.map((j) =>
            this.number(output[j], null, place === null ? this.lit.head === null : place === j),
          ),
        ],
        "result",
      );
      return [
        this.sheet(
          "Mixes × W_O; columns are the coordinates of the output",
          make("tr", {}, ...corner),
          ...rows,
          ...brings,
          total,
        ),
      ];
    }
    outputInWords({ heads, output }) {
      const { head, place } = this.lit;
      if (head !== null)
        return (
          `Head ${head} owns two rows of W_O, and they reach every coordinate: it brings ` +
          `${this.vector(heads[head].brings)} to the output ${this.vector(output)}.`
        );
      if (place !== null) {
        const parts = heads.map(({ brings }, h) => `${this.digits(brings[place], 0)} from head ${h}`);
        const together = this.digits(output[place], 0);
        return `Coordinate ${place} of the output is ${parts.join(" and ")}: ${together} together.`;
      }
      return (
        `Head 0 brings ${this.vector(heads[0].brings)}, head 1 brings ${this.vector(heads[1].brings)}. ` +
        `Added up they are the output ${this.vector(output)}.`
      );
    }
  }

  customElements.define("mh-split", Split);
}
