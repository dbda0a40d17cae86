/* Chapter 3: choose a number of heads; see what each trained head looks at and how all seeds fared.

   All numbers are those of chapters/results/NAME.json, which the build puts into the page. */
"use strict";

{
  const TASKS = {
    staircase: {
      heading: "Climb the stairs", dModel: 24, score: "left_over", top: 0.8, axis: [0, 0.25, 0.5, 0.75],
      measure: "NMSE: the share that is missed", verb: "miss", bound: "lower bound",
      lead: "Choose the number of heads. Each square is one trained head, of seed 0: its rows are the 12 tokens that ask, its columns the 12 that are looked at. Grey marks the four that are to be copied.",
      wanted: ["1 back", "2 back", "3 back", "4 back"],
    },
    lookup: {
      heading: "Too few, enough, too narrow", dModel: 32, score: "accuracy", top: 1, axis: [0, 0.5, 1],
      measure: "accuracy: the share of right answers", verb: "answer", after: " right",
      lead: "Choose the number of heads. Each column is one trained head, of seed 0; each row says how much of its weight lies on one of the four keys that the query names, on average.",
      wanted: ["1st key", "2nd key", "3rd key", "4th key"],
    },
  };
  const VARIANTS = {
    "": "as in the figure", "4x training": "4 × the training", "scores see content": "scores see contents",
    MLP: "with an MLP behind", "MLP, 4x training": "with an MLP, 4 × the training",
  };
  const WIDTH = 340, HEIGHT = 250, LEFT = 40, BOTTOM = 205;

  const mean = (numbers) => numbers.reduce((sum, number) => sum + number) / numbers.length;
  const spread = (numbers) => Math.sqrt(numbers.reduce((sum, x) => sum + (x - mean(numbers)) ** 2, 0) / (numbers.length - 1));
  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

  customElements.define("mh-heads", class extends customElements.get("mh-figure") {
    task = TASKS[this.dataset.sweep];
    heading = this.task.heading;
    chosen = 4;
    variant = "";

    build() {
      // settings are named "h=4" or "h=12, 4x training"
      this.runs = Object.entries(this.data.settings).map(([name, found]) => {
        const [, heads, , variant = ""] = name.match(/^h=(\d+)(, (.*))?$/);
        return { heads: +heads, variant, seeds: found.per_seed[this.task.score], theory: found.theory, attention: found.attention };
      });
      this.plain = this.runs.filter((run) => !run.variant);
      this.heads = this.choice("heads", Object.fromEntries(this.plain.map(({ heads }) => [heads, heads])), (to) => this.choose(+to));
      this.variants = this.make("div");
      this.looks = this.make("div", { class: "looks" });
      const allRuns = this.make("details", {}, this.make("summary", {}, "All runs as a table"), this.runTable());
      this.lookTable = this.make("div");
      const allLooks = this.make("details", {}, this.make("summary", {}, "What each head looks at, as a table"), this.lookTable);
      return [
        this.make("p", { class: "lead" }, this.task.lead),
        this.make("div", { class: "controls" }, this.heads, this.variants),
        this.make("div", { class: "side-by-side" }, this.chart(), this.looks), this.sentence, allRuns, allLooks,
      ];
    }

    choose(heads, variant = "") {
      Object.assign(this, { chosen: heads, variant });
      this.changed();
    }

    update() {
      const { task, chosen } = this, mine = this.runs.filter((run) => run.heads === chosen);
      const run = mine.find(({ variant }) => variant === this.variant), width = task.dModel / chosen;
      this.heads.value = chosen;
      this.showVariants(mine);
      this.showRun(run);
      this.looks.replaceChildren(...(task === TASKS.staircase ? this.maps(run.attention) : [this.grid(run.attention)]));
      this.listLooks(run);
      const seeds = run.seeds, each = [mean(seeds), Math.min(...seeds), Math.max(...seeds)].map((number) => this.digits(number, 3));
      const many = `${chosen} ${chosen > 1 ? "heads" : "head"} of width ${width}${run.variant ? `, ${VARIANTS[run.variant]}` : ""}`;
      const theorem = run.theory > 0 ? `The theorem allows no less than ${this.digits(run.theory, 2)}.` : "The theorem, which counts heads and not their width, forbids nothing.";
      const bound = task.bound && !run.variant.includes("content") ? ` ${theorem}` : "";
      return `${many}: the ${seeds.length} seeds ${task.verb} ${each[0]}${task.after ?? ""} on average, from ${each[1]} to ${each[2]}.${bound}`;
    }

    showVariants(mine) {
      if (this.offered !== this.chosen) {
        const options = Object.fromEntries(mine.map(({ variant }) => [variant, VARIANTS[variant]]));
        this.variantChoice = this.choice("run", options, (to) => this.choose(this.chosen, to));
        this.variants.replaceChildren(...(mine.length > 1 ? [this.variantChoice] : []));
        this.offered = this.chosen;
      }
      this.variantChoice.value = this.variant;
    }

    /* The result: every seed a dot, the mean a line, the chosen number of heads a band --------------------------- */

    x(index) {
      return LEFT + ((WIDTH - LEFT) * (index + 0.5)) / this.plain.length;
    }
    y(score) {
      return BOTTOM - ((BOTTOM - 26) * score) / this.task.top;
    }

    chart() {
      const { task, plain } = this, step = (WIDTH - LEFT) / plain.length;
      const text = (words, x, y, anchor, kind = "quiet") => this.draw("text", { x, y, class: kind, "text-anchor": anchor }, words);
      const levels = task.axis.flatMap((level) => [
        this.draw("line", { x1: LEFT, x2: WIDTH, y1: this.y(level), y2: this.y(level), class: level ? "grid" : "axis" }),
        text(level, LEFT - 7, this.y(level) + 4, "end")]);
      const dots = plain.flatMap(({ seeds }, i) => seeds.map((score, seed) =>
        this.draw("circle", { cx: this.x(i) + 3 * (seed - (seeds.length - 1) / 2), cy: this.y(score), r: 3, class: "seed" })));
      const line = this.draw("path", { d: `M${plain.map(({ seeds }, i) => [this.x(i), this.y(mean(seeds))]).join("L")}`, class: "mean" });
      const stairs = plain.map(({ theory }, i) => `M${this.x(i) - step / 2} ${this.y(theory)}h${step}`).join("");
      this.band = this.draw("rect", { y: 22, width: step, height: BOTTOM + 22 - 22, rx: 4, class: "band" });
      this.extra = this.draw("g");
      return this.draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "chart",
        "aria-label": "Every seed as a dot for each number of heads, their means as a line. The numbers stand in the table below.",
        onclick: (event) => this.pick(event) },
      this.band, ...levels, ...(task.bound ? [this.draw("path", { d: stairs, class: "bound" })] : []), line, ...dots, this.extra,
      ...plain.map(({ heads }, i) => text(heads, this.x(i), BOTTOM + 18, "middle")),
      text("heads", (LEFT + WIDTH) / 2, BOTTOM + 37, "middle"), text(task.measure, 0, 12, "start"),
      ...(task.bound ? [text("dashed: lower bound", WIDTH, 40, "end")] : []));
    }

    pick(event) {                    // a click into the chart chooses the nearest number of heads
      const box = event.currentTarget.getBoundingClientRect(), x = (WIDTH * (event.clientX - box.left)) / box.width;
      const index = Math.floor(((x - LEFT) / (WIDTH - LEFT)) * this.plain.length);
      if (this.plain[index]) this.choose(this.plain[index].heads);
    }

    showRun({ heads, variant, seeds }) {
      const index = this.plain.findIndex((run) => run.heads === heads);
      this.fill(this.band, { x: this.x(index) - (WIDTH - LEFT) / this.plain.length / 2 });
      this.extra.replaceChildren(...(variant ? seeds : []).map((score, seed) => this.draw("rect",
        { x: this.x(index) + 3 * (seed - (seeds.length - 1) / 2) - 3, y: this.y(score) - 3, width: 6, height: 6, class: "extra" })));
    }

    runTable() {
      const rows = this.runs.map(({ heads, variant, seeds, theory }) => [
        [heads, VARIANTS[variant]].slice(0, variant ? 2 : 1).join(", "), this.task.dModel / heads,
        ...(this.task.bound ? [variant.includes("content") ? "" : this.digits(theory, 2)] : []),
        `${this.digits(mean(seeds), 3)} ± ${this.digits(spread(seeds), 3)}`, seeds.map((score) => this.digits(score, 3)).join(" ")]);
      const columns = ["heads", "width", ...(this.task.bound ? [this.task.bound] : []), "mean ± sd", "each seed"];
      return this.table(this.task.measure, columns, rows);
    }

    /* What the heads look at -------------------------------------------------------------------------------------- */

    // One square a head: (query, key). Cells of equal shade are one path; what is to be copied lies grey below.
    maps(attention) {
      const n = attention[0].length, cell = (row, column) => `M${column} ${row}h1v1h-1z`;
      const wanted = attention[0].flatMap((_, t) => [1, 2, 3, 4].map((back) => cell(t, (t - back + n) % n))).join("");
      const shades = 12;
      const columns = { 1: 1, 2: 2, 3: 2, 4: 2, 12: 4, 24: 6 }[attention.length];
      this.looks.style.setProperty("--columns", columns);
      return attention.map((map, head) => {
        const paths = Array.from({ length: shades + 1 }, () => "");
        map.forEach((row, t) => row.forEach((weight, s) => { paths[Math.round(shades * weight)] += cell(t, s); }));
        const painted = paths.slice(1).map((d, i) => d && this.draw("path", { d, class: "look", "fill-opacity": (i + 1) / shades }));
        return this.make("figure", {}, this.draw("svg", { viewBox: `0 0 ${n} ${n}`, role: "img", "aria-label": `What head ${head} looks at` },
          this.draw("path", { d: wanted, class: "wanted" }), ...painted.filter(Boolean),
          this.draw("rect", { width: n, height: n, class: "frame" })), this.make("figcaption", {}, attention.length > 12 ? head : `head ${head}`));
      });
    }

    // One column a head, one row for each of the four keys; numbers where there is room.
    grid(attention) {
      const cells = [], { wanted } = this.task;
      wanted.forEach((name, slot) => {
        cells.push(this.make("span", { class: "slot" }, name));
        for (const looks of attention) {
          cells.push(this.make("i", { style: `--part: ${looks[slot]}`, class: attention.length > 8 ? "bare" : false },
            attention.length <= 8 ? this.digits(looks[slot], 2).replace("0.", ".") : ""));
        }
      });
      cells.push(this.make("span", { class: "slot" }, "head"),
        ...attention.map((_, head) => this.make("span", { class: "number" }, attention.length <= 8 || head % 4 === 0 ? head : "")));
      return this.make("div", { class: "slots", role: "img", style: `--heads: ${attention.length}`,
        "aria-label": "How much each head looks at each named key. The numbers stand in the table below." }, ...cells);
    }

    // Head by head: the share on each of the four, and on the rest.
    shares(attention) {
      if (this.task === TASKS.lookup) return attention;
      const n = attention[0].length;
      return attention.map((map) => [1, 2, 3, 4].map((back) => mean(map.map((row, t) => row[(t - back + n) % n]))));
    }

    listLooks({ attention }) {
      const rows = this.shares(attention).map((parts, head) =>
        [`head ${head}`, ...parts.map((part) => this.digits(part, 2)), this.digits(Math.max(0, 1 - sum(parts)), 2)]);
      this.lookTable.replaceChildren(this.table("Share of the weight, averaged", ["", ...this.task.wanted, "others"], rows));
    }
  });
}
