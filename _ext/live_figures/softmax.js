/* Chapter 1: 64 random keys, one random query. Make them wider, scale the scores; softmax saturates. */
"use strict";

{
  const { make, button } = dom;

  const KEYS = 64;
  const WIDEST = 1024;
  const REACHES = [5, 20, 100, 500]; // of the axis of scores

  // Random numbers from a seed, mulberry32; then two of them make one normal number, by Box and Muller.
  function* normals(seed) {
    const uniform = () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
    for (;;) yield Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  }

  class Softmax extends customElements.get("mh-figure") {
    heading = "Watch softmax saturate";
    log2Width = 6; // d_head = 64
    log2Factor = -3; // factor 1/8 = 1/√64
    rule = "divided"; // or "not", or "own": a factor of one's own
    seed = 1;

    build() {
      const bothAs = (power) => (power < 0 ? `1/${this.round(2 ** -power)}` : this.round(2 ** power));
      this.width = this.range(
        "d_head",
        { min: 0, max: Math.log2(WIDEST), words: (power) => 2 ** power },
        (to) => {
          this.log2Width = to;
          this.changed();
        },
      );
      this.factor = this.range("factor", { min: -5, max: 1, step: 0.5, words: bothAs }, (to) => {
        this.log2Factor = to;
        this.rule = "own";
        this.changed();
      });
      this.rules = this.choice(
        "scores",
        { divided: "divided by √d_head", not: "not divided", own: "times my factor" },
        (to) => {
          this.rule = to;
          this.changed();
        },
      );
      const again = button("Draw other numbers", () => {
        this.seed += 1;
        this.draw64();
        this.changed();
      });
      this.draw64();
      this.numbers = make("div");
      return [
        make(
          "p",
          { class: "lead" },
          "One query meets 64 keys; all their numbers are drawn at random. Move d_head to the right. " +
            "Then choose “not divided”, and do the same.",
        ),
        make("div", { class: "controls" }, this.width, this.factor),
        make("div", { class: "buttons" }, this.rules, again),
        this.scoreAxis(),
        this.weightBars(),
        this.numbers,
      ];
    }

    // Wider heads keep the numbers of the narrow ones and add more, so that nothing jumps.
    draw64() {
      const random = normals(this.seed);
      const vector = () => Array.from({ length: WIDEST }, () => random.next().value);
      this.query = vector();
      this.keys = Array.from({ length: KEYS }, vector);
    }

    attend(width, factor) {
      const scores = this.keys.map((key) => {
        let product = 0;
        for (let i = 0; i < width; i++) product += this.query[i] * key[i];
        return factor * product;
      });
      const largest = Math.max(...scores); // minus the largest: no overflow
      const powers = scores.map((score) => Math.exp(score - largest));
      const total = powers.reduce((sum, power) => sum + power);
      const weights = powers.map((power) => power / total);
      const entropy = weights.reduce((sum, weight) => sum - (weight && weight * Math.log2(weight)), 0);
      const response = weights.reduce((sum, weight) => sum + weight * (1 - weight), 0);
      return { scores, weights, entropy, response };
    }

    update() {
      if (this.rule === "divided") this.log2Factor = -this.log2Width / 2;
      if (this.rule === "not") this.log2Factor = 0;
      this.width.value = this.log2Width;
      this.factor.value = this.log2Factor;
      this.rules.value = this.rule;
      const found = this.attend(2 ** this.log2Width, 2 ** this.log2Factor);
      const { scores, weights, entropy, response } = found;
      this.showScores(scores);
      this.showWeights(weights);
      const largest = Math.max(...weights);
      const reach = Math.max(...scores) - Math.min(...scores);
      this.numbers.replaceChildren(
        this.table(
          "Of this one query",
          ["what", "now", "at most"],
          [
            ["range of the scores", this.digits(reach, 2), ""],
            ["largest weight", this.digits(largest, 3), "1"],
            ["entropy of the weights", `${this.digits(entropy, 3)} bits`, "6 bits"],
            ["response to the scores", this.digits(response, 3), this.digits(1 - 1 / KEYS, 3)],
          ],
        ),
      );
      const verdict =
        largest > 0.5
          ? "One key takes more than half, by chance, and nudging the scores changes little."
          : entropy > 5
            ? "The attention is spread over most keys, and the weights still answer to their scores."
            : "Some keys are well ahead of the others.";
      return (
        `With d_head ${2 ** this.log2Width} and factor ` +
        `${this.factor.querySelector(".value").textContent}, the largest weight is ` +
        `${this.digits(largest, 2)}. ${verdict}`
      );
    }

    round(number) {
      return Number.isInteger(number) ? String(number) : this.digits(number, 2);
    }

    /* Above: the scores on one axis; below: a bar for each weight ---------------------------------------- */

    scoreAxis() {
      this.ticks = this.keys.map(() => make("i"));
      this.levels = [-1, -0.5, 0, 0.5, 1].map((part) => make("span", { style: `left: ${50 + 46 * part}%` }));
      return (this.axis = make(
        "div",
        { class: "scores", role: "img" },
        make("b", {}, "scores, times the factor"),
        make("div", { class: "ticks" }, ...this.ticks),
        ...this.levels,
      ));
    }

    // The axis reaches as far as the scores do, in a few steps that its numbers tell.
    showScores(scores) {
      const farthest = Math.max(...scores.map(Math.abs));
      const reach = REACHES.find((each) => each >= farthest) ?? Math.ceil(farthest);
      this.ticks.forEach((tick, i) => {
        tick.style.left = `${50 + (46 * scores[i]) / reach}%`;
      });
      this.levels.forEach((level, i) => {
        const number = ((i - 2) * reach) / 2;
        level.textContent = this.digits(number, Number.isInteger(number) ? 0 : 1);
      });
      this.axis.setAttribute("aria-label", `The 64 scores on an axis from minus ${reach} to ${reach}.`);
    }

    weightBars() {
      this.bars = this.keys.map(() => make("i"));
      this.best = make("strong");
      const levels = [0, 0.5, 1].map((level) =>
        make("span", { style: `bottom: ${100 * level}%` }, String(level)),
      );
      return make(
        "div",
        {
          class: "weights",
          role: "img",
          "aria-label": "A bar for the weight of each of the 64 keys, between 0 and 1.",
        },
        make("b", {}, "weights, one bar a key"),
        make("div", { class: "bars" }, ...levels, ...this.bars, this.best),
      );
    }

    showWeights(weights) {
      const best = weights.indexOf(Math.max(...weights));
      this.bars.forEach((bar, i) => {
        bar.style.height = `${100 * weights[i]}%`;
      });
      this.best.textContent = this.digits(weights[best], 2);
      this.best.style.left = `${Math.max(3, Math.min(97, (100 * (best + 0.5)) / KEYS))}%`;
      this.best.style.bottom = `${100 * weights[best]}%`;
    }
  }

  customElements.define("mh-softmax", Softmax);
}
