/* Chapter 3: choose a number of heads; see what each trained head looks at and how all seeds fared.

   All numbers are those of src/manyheads/measured, which the build puts into the page. */
"use strict";

{
  const { make, draw, fill } = dom;

  const TASKS = {
    staircase: {
      heading: "Climb the stairs",
      dModel: 24,
      score: "left_over",
      top: 0.8,
      axis: [0, 0.25, 0.5, 0.75],
      measure: "NMSE",
      share: "the share that is missed",
      bound: "lower bound",
      lead:
        "Choose the number of heads. Each square is one trained head, of seed 0: its rows are the 12 " +
        "tokens that ask, its columns the 12 that are looked at. Outlined are the four that are to be " +
        "copied.",
      wanted: ["1 back", "2 back", "3 back", "4 back"],
    },
    lookup: {
      heading: "Too few, enough, too narrow",
      dModel: 32,
      score: "accuracy",
      top: 1,
      axis: [0, 0.5, 1],
      measure: "accuracy",
      share: "the share of right answers",
      lead:
        "Choose the number of heads. Each column is one trained head, of seed 0; each row says how " +
        "much of its weight lies on one of the four keys that the query names, on average.",
      wanted: ["1st key", "2nd key", "3rd key", "4th key"],
    },
  };
  const WIDTH = 340;
  const HEIGHT = 250;
  const LEFT = 40;
  const BOTTOM = 205;

  const mean = (numbers) => numbers.reduce((sum, number) => sum + number) / numbers.length;
  const spread = (numbers) =>
    Math.sqrt(numbers.reduce((sum, x) => sum + (x - mean(numbers)) ** 2, 0) / (numbers.length - 1));
  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

  class Heads extends customElements.get("mh-figure") {
    task = TASKS[this.dataset.sweep];
    heading = this.task.heading;
    chosen = 4;
    training = ""; // such as "2400 steps with an MLP"; it begins with the usual one

    build() {
      this.runs = this.data.settings.map(({ setting, per_seed, theory, attention }) => {
        const more = setting.d_ff ? " with an MLP" : setting.ordinary ? " with scores that see contents" : "";
        return {
          heads: setting.n_heads,
          training: `${setting.steps} steps${more}`,
          seeds: per_seed[this.task.score],
          theory: more ? null : theory,
          attention,
        };
      });
      this.training = this.runs[0].training;
      this.plain = this.runs.filter(({ training }) => training === this.training);
      const names = (key) => Object.fromEntries(this.runs.map((run) => [run[key], run[key]]));
      this.heads = this.choice("heads", names("heads"), (to) => this.choose(+to, this.training));
      this.trainings = this.choice("training", names("training"), (to) => this.choose(this.chosen, to));
      this.looks = make("div", { class: "looks" });
      const allRuns = make("details", {}, make("summary", {}, "All runs as a table"), this.runTable());
      this.lookTable = make("div");
      const allLooks = make(
        "details",
        {},
        make("summary", {}, "What each head looks at, as a table"),
        this.lookTable,
      );
      return [
        make("p", { class: "lead" }, this.task.lead),
        make("div", { class: "controls one-column" }, this.heads, this.trainings),
        make("div", { class: "side-by-side" }, make("div", {}, this.chart(), this.chartKey()), this.looks),
        this.sentence,
        allRuns,
        allLooks,
      ];
    }

    // So many heads, and the wanted training if there is a run of it.
    choose(heads, training) {
      const known = this.runs.some((run) => run.heads === heads && run.training === training);
      Object.assign(this, { chosen: heads, training: known ? training : this.plain[0].training });
      this.changed();
    }

    update() {
      const { task, chosen } = this;
      const mine = this.runs.filter((run) => run.heads === chosen);
      const run = mine.find(({ training }) => training === this.training);
      this.heads.value = chosen;
      this.trainings.value = this.training;
      for (const input of this.trainings.querySelectorAll("input"))
        input.disabled = !mine.some(({ training }) => training === input.value);
      this.showRun(run);
      this.looks.replaceChildren(
        ...(task === TASKS.staircase ? this.maps(run.attention) : [this.grid(run.attention)]),
      );
      this.listLooks(run);
      const seeds = run.seeds;
      const each = [mean(seeds), Math.min(...seeds), Math.max(...seeds)].map((number) =>
        this.digits(number, 3),
      );
      const many =
        `${chosen} ${chosen > 1 ? "heads" : "head"} of width ${task.dModel / chosen} after ` +
        `${run.training}`;
      const theorem =
        run.theory > 0
          ? `The theorem allows no less than ${this.digits(run.theory, 2)}.`
          : "The theorem, which counts heads and not their width, forbids nothing.";
      const bound = !task.bound
        ? ` Chance gives ${this.digits(this.data.chance, 3)}.`
        : run.theory === null
          ? ""
          : ` ${theorem}`;
      return (
        `${many}: ${task.share} is ${each[0]} on average of ${seeds.length} seeds, from ${each[1]} to ` +
        `${each[2]}.${bound}`
      );
    }

    /* The result: every seed a dot, the mean a line, the chosen number of heads a band ------------------- */

    x(index) {
      return LEFT + ((WIDTH - LEFT) * (index + 0.5)) / this.plain.length;
    }
    y(score) {
      return BOTTOM - ((BOTTOM - 26) * score) / this.task.top;
    }

    chart() {
      const { task, plain } = this;
      const step = (WIDTH - LEFT) / plain.length;
      const text = (words, x, y, anchor, kind = "quiet") =>
        draw("text", { x, y, class: kind, "text-anchor": anchor }, words);
      const levels = task.axis.flatMap((level) => [
        draw("line", {
          x1: LEFT,
          x2: WIDTH,
          y1: this.y(level),
          y2: this.y(level),
          class: level ? "grid" : "axis",
        }),
        text(level, LEFT - 7, this.y(level) + 4, "end"),
      ]);
      const dots = plain.flatMap(({ seeds }, i) =>
        seeds.map((score, seed) =>
          draw("circle", {
            cx: this.x(i) + 3 * (seed - (seeds.length - 1) / 2),
            cy: this.y(score),
            r: 3,
            class: "seed",
          }),
        ),
      );
      const line = draw("path", {
        d: `M${plain.map(({ seeds }, i) => [this.x(i), this.y(mean(seeds))]).join("L")}`,
        class: "mean",
      });
      const stairs = plain
        .map(({ theory }, i) => `M${this.x(i) - step / 2} ${this.y(theory)}h${step}`)
        .join("");
      const bound = task.bound ? stairs : `M${LEFT} ${this.y(this.data.chance)}H${WIDTH}`;
      this.band = draw("rect", { y: 22, width: step, height: BOTTOM + 22 - 22, rx: 4, class: "band" });
      this.extra = draw("g");
      return draw(
        "svg",
        {
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
          role: "img",
          class: "chart",
          "aria-label":
            "Every seed as a dot for each number of heads, their means as a line. The numbers stand " +
            "in the table below.",
          onclick: (event) => this.pick(event),
        },
        this.band,
        ...levels,
        draw("path", { d: bound, class: "bound" }),
        line,
        ...dots,
        this.extra,
        ...plain.map(({ heads }, i) => text(heads, this.x(i), BOTTOM + 18, "middle")),
        text("heads", (LEFT + WIDTH) / 2, BOTTOM + 37, "middle"),
        text(`${task.measure}: ${task.share}`, 0, 12, "start"),
      );
    }

    chartKey() {
      const line = (kind) => draw("path", { d: "M-12 0h24", class: kind });
      const key = this.key(
        [draw("circle", { r: 3, class: "seed" }), `a seed after ${this.plain[0].training}`],
        [line("mean"), "their mean"],
        [line("bound"), this.task.bound ?? "chance"],
        [this.extraSeed(0, 0), "a seed of the chosen training"],
      );
      this.extraWords = key.lastChild;
      return key;
    }
    extraSeed(x, y) {
      return draw("rect", { x: x - 3, y: y - 3, width: 6, height: 6, class: "extra" });
    }

    // a click into the chart chooses the nearest number of heads
    pick(event) {
      const box = event.currentTarget.getBoundingClientRect();
      const x = (WIDTH * (event.clientX - box.left)) / box.width;
      const index = Math.floor(((x - LEFT) / (WIDTH - LEFT)) * this.plain.length);
      if (this.plain[index]) this.choose(this.plain[index].heads, this.training);
    }

    showRun({ heads, training, seeds }) {
      const index = this.plain.findIndex((run) => run.heads === heads);
      fill(this.band, { x: this.x(index) - (WIDTH - LEFT) / this.plain.length / 2 });
      const usual = training === this.plain[0].training;
      this.extra.replaceChildren(
        ...(usual ? [] : seeds).map((score, seed) =>
          this.extraSeed(this.x(index) + 3 * (seed - (seeds.length - 1) / 2), this.y(score)),
        ),
      );
      this.extraWords.style.visibility = usual ? "hidden" : ""; // its place stays
    }

    runTable() {
      const rows = this.runs.map(({ heads, training, seeds, theory }) => [
        heads,
        training,
        this.task.dModel / heads,
        ...(this.task.bound ? [theory === null ? "" : this.digits(theory, 2)] : []),
        `${this.digits(mean(seeds), 3)} ± ${this.digits(spread(seeds), 3)}`,
        seeds.map((score) => this.digits(score, 3)).join(" "),
      ]);
      const columns = [
        "heads",
        "training",
        "width",
        ...(this.task.bound ? [this.task.bound] : []),
        "mean ± sd",
        "each seed",
      ];
      return this.table(`${this.task.measure}: ${this.task.share}`, columns, rows);
    }

    /* What the heads look at ----------------------------------------------------------------------------- */

    // One square a head: (query, key). Cells of equal shade are one path; a line runs around what is to be
    // copied.
    maps(attention) {
      const n = attention[0].length;
      const shades = 12;
      const cell = (row, column) => `M${column} ${row}h1v1h-1z`;
      const inside = (t, s) => Math.min(t, s) >= 0 && [1, 2, 3, 4].includes((t - s + n) % n);
      const edges = (t, s) =>
        (inside(t, s) !== inside(t, s - 1) ? `M${s} ${t}v1` : "") +
        (inside(t, s) !== inside(t - 1, s) ? `M${s} ${t}h1` : "");
      const wanted = attention[0].map((row, t) => row.map((_, s) => edges(t, s)).join("")).join("");
      const columns = { 1: 1, 2: 2, 3: 2, 4: 2, 12: 4, 24: 6 }[attention.length];
      this.looks.style.setProperty("--columns", columns);
      return attention.map((map, head) => {
        const paths = Array.from({ length: shades + 1 }, () => "");
        map.forEach((row, t) =>
          row.forEach((weight, s) => {
            paths[Math.round(shades * weight)] += cell(t, s);
          }),
        );
        const painted = paths
          .slice(1)
          .map((d, i) => d && draw("path", { d, class: "look", "fill-opacity": (i + 1) / shades }));
        return make(
          "figure",
          {},
          draw(
            "svg",
            { viewBox: `0 0 ${n} ${n}`, role: "img", "aria-label": `What head ${head} looks at` },
            ...painted.filter(Boolean),
            draw("path", { d: wanted, class: "wanted" }),
            draw("rect", { width: n, height: n, class: "frame" }),
          ),
          make("figcaption", {}, attention.length > 12 ? head : `head ${head}`),
        );
      });
    }

    // One column a head, one row for each of the four keys; numbers where there is room.
    grid(attention) {
      const cells = [];
      const { wanted } = this.task;
      wanted.forEach((name, slot) => {
        cells.push(make("span", { class: "slot" }, name));
        for (const looks of attention) {
          cells.push(
            make(
              "i",
              { style: `--part: ${looks[slot]}`, class: attention.length > 8 ? "bare" : false },
              attention.length <= 8 ? this.digits(looks[slot], 2).replace("0.", ".") : "",
            ),
          );
        }
      });
      cells.push(
        make("span", { class: "slot" }, "head"),
        ...attention.map((_, head) =>
          make("span", { class: "number" }, attention.length <= 8 || head % 4 === 0 ? head : ""),
        ),
      );
      return make(
        "div",
        {
          class: "slots",
          role: "img",
          style: `--heads: ${attention.length}`,
          "aria-label": "How much each head looks at each named key. The numbers stand in the table below.",
        },
        ...cells,
      );
    }

    // Head by head: the share on each of the four, and on the rest.
    shares(attention) {
      if (this.task === TASKS.lookup) return attention;
      const n = attention[0].length;
      return attention.map((map) =>
        [1, 2, 3, 4].map((back) => mean(map.map((row, t) => row[(t - back + n) % n]))),
      );
    }

    listLooks({ attention }) {
      const rows = this.shares(attention).map((parts, head) => [
        `head ${head}`,
        ...parts.map((part) => this.digits(part, 2)),
        this.digits(Math.max(0, 1 - sum(parts)), 2),
      ]);
      this.lookTable.replaceChildren(
        this.table("Share of the weight, averaged", ["", ...this.task.wanted, "others"], rows),
      );
    }
  }

  customElements.define("mh-heads", Heads);
}
