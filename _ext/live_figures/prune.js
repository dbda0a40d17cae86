/* Chapter 8: choose which of MiniLM's heads go; see what is lost in quality and what is won in size and time.

   All numbers are those of src/manyheads/measured, which the build puts into the page (pruned.py). */
"use strict";

{
  const { make, draw, fill } = dom;

  const WIDTH = 340;
  const HEIGHT = 326;
  const LEFT = 40;
  const TOP = 14;
  const BOTTOM = 280;
  const AXES = {
    removed: { words: "heads removed", of: ({ removed }) => removed, step: 12 },
    bytes: { words: "size of the file, in MB", of: ({ bytes }) => bytes / 1e6, step: 20 },
    time: { words: "time, as a share of the intact model's", of: ({ time }) => time?.[0], step: 0.2 },
  };
  // Where a model's name stands beside its mark, in the chart against time: right, down, anchor.
  const NAMES = {
    intact: [0, 20, "middle"],
    int8: [0, -11, "middle"],
    "12 heads in all": [8, 11, "start"],
    "no attention": [-9, 5, "end"],
    "6 heads a layer": [-4, 20, "start"],
    "2 heads a layer": [8, -1, "start"],
    "1 head a layer": [0, 21, "middle"],
    "4 of 6 layers": [-10, 5, "end"],
    "3 of 6 layers": [0, 20, "middle"],
  };

  class Prune extends customElements.get("mh-figure") {
    heading = "Take heads away";
    ranking = "gradient"; // this and the number stay while a rule is chosen
    removed = 60;
    against = "removed";

    build() {
      this.models = this.data.models.map((model) => ({ ...model, rule: model.ranking ? null : model.name }));
      const all = new Set(this.models.map(({ ranking }) => ranking).filter(Boolean));
      this.rankings = new Map(
        [...all].map((name) => [name, this.models.filter(({ ranking }) => ranking === name)]),
      );
      // the ends of all rankings are the same, and one of them is a rule too
      this.once = this.models.filter(
        ({ ranking, name, rule }) => rule || !name || (ranking === "gradient" && name !== "no attention"),
      );
      const names = (list) => Object.fromEntries(list.map((name) => [name, name]));
      const rules = this.models.map(({ rule }) => rule).filter(Boolean);
      this.counts = this.rankings.get(this.ranking).map(({ removed }) => removed);
      this.chosen = this.find(this.ranking, this.removed);
      this.choices = {
        ranking: this.choice("by the ranking", names([...this.rankings.keys()]), (to) =>
          this.choose(this.find(to, this.removed)),
        ),
        removed: this.range(
          "heads removed",
          { min: 0, max: this.counts.length - 1, words: (i) => this.counts[i] },
          (i) => this.choose(this.find(this.ranking, this.counts[i])),
        ),
        rule: this.choice("or by a rule", names(rules), (to) =>
          this.choose(this.models.find(({ rule }) => rule === to)),
        ),
        against: this.choice("quality against", { removed: "heads", bytes: "size", time: "time" }, (to) => {
          this.against = to;
          this.changed();
        }),
      };
      this.chart = draw("svg", {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        role: "img",
        class: "chart",
        onclick: (event) => this.pick(event),
      });
      this.signs = make("div");
      this.heads = draw("svg", { viewBox: "0 0 340 190", role: "img" });
      this.numbers = make("div");
      return [
        make(
          "p",
          { class: "lead" },
          "MiniLM has 72 heads. Remove some, by a ranking or by a rule, and compare: what is lost in " +
            "quality, and what is won in size and time?",
        ),
        make("div", { class: "controls one-column" }, ...Object.values(this.choices)),
        make(
          "div",
          { class: "side-by-side" },
          make("div", {}, this.chart, this.signs),
          make("div", {}, this.heads, this.numbers),
        ),
        this.sentence,
        make("details", {}, make("summary", {}, "All models as a table"), this.everything()),
      ];
    }

    find(ranking, removed) {
      return this.rankings.get(ranking).find((model) => model.removed === removed);
    }
    choose(model) {
      this.chosen = model;
      if (model.ranking) Object.assign(this, { ranking: model.ranking, removed: model.removed });
      this.changed();
    }

    update() {
      const { chosen } = this;
      const { ranking, removed, rule, against } = this.choices;
      ranking.value = chosen.ranking;
      rule.value = chosen.rule;
      removed.value = this.counts.indexOf(this.removed);
      removed.classList.toggle("idle", !chosen.ranking);
      against.value = this.against;
      this.showChart();
      this.showHeads();
      this.showNumbers();
      return this.inWords();
    }

    /* Words and numbers ---------------------------------------------------------------------------------- */

    called({ rule, name, ranking, removed, lots }) {
      if (name === "intact") return "the intact model";
      return rule ?? `${removed} heads removed ${lots ? "at random, mean of six lots" : `by ${ranking}`}`;
    }
    within([middle, low, high], count = 3) {
      return `${this.digits(middle, count)} [${this.digits(low, count)}, ${this.digits(high, count)}]`;
    }
    megabytes({ bytes }) {
      return `${this.digits(bytes / 1e6, 1)} MB`;
    }
    share({ bytes }) {
      return `× ${this.digits(bytes / this.models[0].bytes, 2)}`;
    }

    inWords() {
      const { chosen } = this;
      const { before, after, time, lots } = chosen;
      const compared = ({ mrr, minus: [middle, low, high] }, whom) => {
        const apart =
          low > 0 || high < 0
            ? `, ${this.digits(Math.abs(middle), 3)} ${middle < 0 ? "below" : "above"} ${whom}`
            : `, and these texts can't tell it from ${whom}`;
        return `${this.digits(mrr[0], 3)}${chosen.name === "intact" ? "" : apart}`;
      };
      const name = this.called(chosen);
      const spread = lots
        ? ` The lots lie between ${this.digits(lots[0], 3)} and ${this.digits(lots[1], 3)}.`
        : "";
      const trained = after
        ? ` After a short training it is ${compared(after, "the intact model with the same training")}.`
        : " No training of it is stored.";
      const took = time
        ? `the time × ${this.digits(time[0], 2)}${chosen.rule === "int8" ? ", in another runtime" : ""}`
        : "its time was not measured";
      const quality =
        "the MRR is " +
        `${compared(before, "the intact model")}.${spread}${chosen.name === "intact" ? "" : trained}`;
      return (
        `${name[0].toUpperCase()}${name.slice(1)}: ${quality} The file has ${this.megabytes(chosen)}, ` +
        `${this.share(chosen)}; ${took}. The chart sets MRR against ${AXES[this.against].words}.`
      );
    }

    showNumbers() {
      const { before, after, time, name } = this.chosen;
      const beside = ({ minus }) => (name === "intact" ? "" : this.within(minus));
      this.numbers.replaceChildren(
        this.table(
          "In brackets the 95 % interval; for time, the quartiles",
          ["", "now", "beside the intact model"],
          [
            ["MRR", this.within(before.mrr), beside(before)],
            ["trained", after ? this.within(after.mrr) : "not trained", after ? beside(after) : ""],
            ["file", this.megabytes(this.chosen), this.share(this.chosen)],
            ["time", time ? `× ${this.within(time, 2)}` : "not measured", ""],
          ],
        ),
      );
    }

    everything() {
      const rows = this.once.map((model) => [
        this.called(model),
        this.within(model.before.mrr),
        model.after ? this.within(model.after.mrr) : "",
        this.digits(model.bytes / 1e6, 1),
        model.time ? this.digits(model.time[0], 2) : "",
      ]);
      const columns = ["heads", "MRR", "after training", "MB", "time"];
      const table = this.table(
        `Measured on ${this.data.processor}; what isn't stored is left empty`,
        columns,
        rows,
      );
      return make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "All models" }, table);
    }

    /* Which heads are left: a row a layer; removed heads are empty squares, a removed layer is a bar ----- */

    showHeads() {
      const { kept, lots } = this.chosen;
      const size = 20;
      const step = 25;
      const left = 42;
      const marks = kept.flatMap((row, layer) => {
        const y = 30 + layer * step;
        const label = this.text(layer, left - 8, y + 15, "end");
        const square = (bit, head) =>
          draw("rect", {
            x: left + head * step,
            y,
            width: size,
            height: size,
            rx: 3,
            class: bit === "1" ? "stays" : "gone",
          });
        if (row) return [label, ...Array.from(row, square)];
        const bar = draw("rect", {
          x: left,
          y: y + 2,
          width: 11 * step + size,
          height: size - 4,
          class: "gone",
        });
        return [label, bar, this.text("the whole layer is gone", left + 5.9 * step, y + 15)];
      });
      const columns = [0, 5, 11].map((head) => this.text(head, left + 10 + head * step, 24));
      const title = lots ? "heads left, in the first of the six lots" : "heads left, a row a layer";
      this.heads.replaceChildren(this.text(title, left, 8, "start"), ...columns, ...marks);
      const stay = (row) => [...row].flatMap((bit, head) => (bit === "1" ? [head] : [])).join(" ") || "none";
      const each = kept.map((row, layer) => `layer ${layer}: ${row ? stay(row) : "gone"}`);
      this.heads.setAttribute("aria-label", `Heads that are left. ${each.join("; ")}.`);
    }

    /* Quality against heads, size or time ---------------------------------------------------------------- */

    showChart() {
      const axis = AXES[this.against];
      const shown = this.models.filter((model) => axis.of(model) !== undefined);
      const ends = (values, step) => [
        Math.floor(Math.min(...values) / step) * step,
        Math.ceil(Math.max(...values) / step) * step,
      ];
      const [left, right] = ends(shown.map(axis.of), axis.step);
      const [low, high] = ends(
        this.models.flatMap(({ before }) => before.mrr),
        0.1,
      );
      const toX = (value) => LEFT + 10 + ((WIDTH - LEFT - 24) * (value - left)) / (right - left);
      this.x = (model) => toX(axis.of(model));
      this.y = (score) => BOTTOM - ((BOTTOM - TOP) * (score - low)) / (high - low);
      this.shown = shown;
      const steps = (from, to, by) =>
        Array.from({ length: Math.round((to - from) / by) + 1 }, (_, i) => from + i * by);
      const levels = steps(low, high, 0.1).flatMap((score) => [
        draw("line", {
          x1: LEFT,
          x2: WIDTH,
          y1: this.y(score),
          y2: this.y(score),
          class: score === low ? "axis" : "grid",
        }),
        this.text(this.digits(score, 1), LEFT - 7, this.y(score) + 4, "end"),
      ]);
      const ticks = steps(left, right, axis.step).map((value) =>
        this.text(this.digits(value, axis.step < 1 ? 1 : 0), toX(value), BOTTOM + 18),
      );
      const middle = (LEFT + WIDTH) / 2;
      const timed = this.against === "time";
      const marked = shown.includes(this.chosen);
      this.chart.replaceChildren(
        ...levels,
        ...ticks,
        this.text("MRR", LEFT - 7, TOP - 8, "end"),
        this.text(axis.words, middle, HEIGHT - 8),
        ...(timed ? [] : this.lines()),
        ...this.marks(timed),
        ...(marked ? [] : [this.text("its time was not measured", middle, BOTTOM - 10, "middle", "orange")]),
      );
      this.chart.setAttribute(
        "aria-label",
        `MRR against ${axis.words}: all models, the chosen one marked. The numbers stand in the tables.`,
      );
      this.signs.replaceChildren(this.key(...this.signsOf(timed, marked)));
    }

    // Every ranking is a line; that of the chosen one has its interval as a band.
    lines() {
      const along = (models, end) =>
        models.map((model) => `${this.x(model)} ${this.y(model.before.mrr[end])}`);
      const own = this.rankings.get(this.ranking);
      const band = draw("path", {
        d: `M${[...along(own, 1), ...along(own, 2).reverse()].join("L")}z`,
        class: "band",
      });
      return [
        band,
        ...[...this.rankings.values()].map((models) =>
          draw("path", {
            d: `M${along(models, 0).join("L")}`,
            class: models === own ? "mean" : "other",
          }),
        ),
      ];
    }

    // Where there are no lines, what a ranking leaves has a mark too, and all marks have names and lead to
    // what training makes of them.
    marks(timed) {
      const { chosen } = this;
      const here = (model) => this.shown.includes(model);
      const others = this.once.filter(
        (model) => here(model) && model !== chosen && !(model.name && model.name === chosen.name),
      );
      const trained = others.filter(({ after, name }) => after && name !== "intact");
      const link = (model) =>
        draw("path", {
          d: `M${this.x(model)} ${this.y(model.before.mrr[0])}V${this.y(model.after.mrr[0])}`,
          class: "link",
        });
      const titled = (sign, words) => fill(sign, {}, [draw("title", {}, words)]); // shown under the pointer
      return [
        ...(timed ? trained.map(link) : []),
        ...others
          .filter(({ rule }) => rule || timed)
          .map((model) => titled(this.sign(model), this.called(model))),
        ...trained.map((model) =>
          titled(
            this.circle(this.x(model), this.y(model.after.mrr[0])),
            `${this.called(model)}, after a short training`,
          ),
        ),
        ...(here(chosen) ? this.now() : []),
        ...(timed ? [...others, chosen].filter(here).map((model) => this.nameOf(model)) : []),
      ];
    }

    signsOf(timed, marked) {
      const line = (kind) => draw("path", { d: "M-12 0h24", class: kind });
      const ranked = timed
        ? [[this.square(0, 0), "by a ranking"]]
        : [
            [line("mean"), this.ranking],
            [draw("path", { d: "M-12-6h24v12h-24z", class: "band" }), "its 95 % interval"],
            [line("other"), "the other rankings"],
          ];
      const chosen = [[this.bar(0, -6, 6, "interval"), "95 % interval of the chosen one"]];
      return [
        ...ranked,
        [this.diamond(0, 0), "by a rule"],
        [this.circle(0, 0), "after a short training"],
        ...(marked ? chosen : []),
      ];
    }

    text(words, x, y, anchor = "middle", kind = "quiet") {
      return draw("text", { x, y, class: kind, "text-anchor": anchor }, words);
    }
    nameOf(model) {
      const [right, down, anchor] = NAMES[model.name];
      return this.text(
        model.name,
        this.x(model) + right,
        this.y(model.before.mrr[0]) + down,
        anchor,
        model === this.chosen ? "blue" : "quiet name",
      );
    }

    // The signs: a rule is a diamond, what a ranking leaves a square, a circle comes after training; an
    // interval.
    diamond(x, y, size = 4.5, kind = "cut") {
      return draw("path", {
        d: `M${x} ${y - size}l${size} ${size}l${-size} ${size}l${-size} ${-size}z`,
        class: kind,
      });
    }
    square(x, y, size = 3.5, kind = "cut") {
      return draw("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size, class: kind });
    }
    circle(cx, cy, r = 3.5, kind = "trained") {
      return draw("circle", { cx, cy, r, class: kind });
    }
    bar(x, low, high, kind) {
      return draw("path", { d: `M${x} ${low}V${high}m-4 0h8M${x - 4} ${low}h8`, class: kind });
    }

    sign(model, larger = 0, kind = "cut") {
      const x = this.x(model);
      const y = this.y(model.before.mrr[0]);
      return model.rule ? this.diamond(x, y, 4.5 + larger, kind) : this.square(x, y, 3.5 + larger, kind);
    }

    // The chosen model: its interval, and how far the training brought it.
    now() {
      const { before, after, name } = this.chosen;
      const x = this.x(this.chosen);
      const interval = ([, low, high], at, kind) => this.bar(at, this.y(low), this.y(high), kind);
      const cut = [interval(before.mrr, x, "interval"), this.sign(this.chosen, 2.5, "cut now")];
      if (!after || name === "intact") return cut;
      return [
        interval(after.mrr, x + 5, "interval after"),
        this.circle(x + 5, this.y(after.mrr[0]), 5, "trained now"),
        ...cut,
      ];
    }

    // the nearest model, by a ranking only where its line is drawn
    pick(event) {
      const box = event.currentTarget.getBoundingClientRect();
      const scale = WIDTH / box.width;
      const [x, y] = [scale * (event.clientX - box.left), scale * (event.clientY - box.top)];
      const away = (model) => Math.hypot(this.x(model) - x, this.y(model.before.mrr[0]) - y);
      this.choose(this.shown.reduce((best, model) => (away(model) < away(best) ? model : best)));
    }
  }

  customElements.define("mh-prune", Prune);
}
