/* Chapter 4: a calculator for what attention costs, and what of it grows with the heads.

   The formulas are those of manyheads.cost, in whole numbers of any size (BigInt), so that they agree
   exactly. */
"use strict";

{
  const { make } = dom;

  // Sizes as published: [d_model, heads, K/V heads, layers, tokens, bytes a number, biases], and where.
  const PRESETS = {
    "BERT-base": [768, 12, 12, 12, 512, 4, true, "google-bert/bert-base-uncased, config.json"],
    "GPT-2": [768, 12, 12, 12, 1024, 4, true, "openai-community/gpt2, config.json"],
    "ViT-B/16": [
      768,
      12,
      12,
      12,
      197,
      4,
      true,
      "google/vit-base-patch16-224, config.json: 14 × 14 patches and one class token",
    ],
    "TinyBERT-4": [312, 12, 12, 4, 512, 4, true, "huawei-noah/TinyBERT_General_4L_312D, config.json"],
    "Llama 3 8B": [4096, 32, 8, 32, 8192, 2, false, "meta-llama/Meta-Llama-3-8B, config.json"],
  };
  const BYTES = { 4: "float32", 2: "bfloat16", 1: "int8" };
  const MOST = 128; // heads that the slider offers
  const LIMITS = {
    dModel: ["d_model", 16384],
    nTokens: ["tokens", 1048576],
    nLayers: ["layers", 1000],
    dHead: ["d_head", 1024],
  };

  // One layer. d = d_model, h = heads, g = K/V heads, c = d_head, n = tokens, b = bytes a number.
  const BILLS = {
    parameters: ({ d, h, g, c, bias }) => 2n * d * c * (h + g) + (bias ? c * (h + 2n * g) + d : 0n),
    flops: ({ d, h, g, c, n }) => 4n * n * d * c * (h + g) + 4n * n * n * h * c,
    softmax: ({ h, n }) => h * n * (5n * n - 2n),
    weights: ({ h, n, b }) => h * n * n * b,
    cache: ({ g, c, n, b }) => 2n * n * g * c * b,
  };
  const NAMES = {
    parameters: ["parameters", "numbers to learn"],
    flops: ["matrix products", "FLOPs of one forward pass"],
    softmax: ["softmax", "operations of one forward pass"],
    weights: ["attention weights", "bytes, if they are stored"],
    cache: ["KV cache", "bytes that a decoder would keep"],
  };

  const divisors = (number) =>
    Array.from({ length: Math.min(number, MOST) }, (_, i) => i + 1).filter((i) => number % i === 0);
  const nearest = (offered, wanted) =>
    offered.reduce((best, each) => (Math.abs(each - wanted) < Math.abs(best - wanted) ? each : best));

  class Cost extends customElements.get("mh-figure") {
    heading = "What does it cost?";

    // All bills of all layers, as whole numbers: { parameters, flops, softmax, weights, cache }.
    static count({ dModel, nHeads, nKvHeads, dHead, nTokens, nLayers, bytes, bias }) {
      const [d, h, g, c, n, b, L] = [dModel, nHeads, nKvHeads, dHead, nTokens, bytes, nLayers].map(BigInt);
      return Object.fromEntries(
        Object.entries(BILLS).map(([name, bill]) => [name, L * bill({ d, h, g, c, n, b, bias })]),
      );
    }

    build() {
      const set = (name) => (to) => {
        this.preset = "";
        this[name] = to;
        this.changed();
      };
      const want = (more) => set("wanted")({ ...this.wanted, ...more });
      this.take("BERT-base");
      this.presets = this.choice(
        "model",
        Object.fromEntries(Object.keys(PRESETS).map((name) => [name, name])),
        (name) => {
          this.take(name);
          this.changed();
        },
      );
      this.source = make("p", { class: "source" });
      this.headSlider = this.range("heads", { min: 0, max: 1, words: (i) => this.offered?.[i] ?? "" }, (i) =>
        want({ heads: this.offered[i] }),
      );
      this.kvSlider = this.range(
        "K/V heads",
        { min: 0, max: 1, words: (i) => this.kvOffered?.[i] ?? "" },
        (i) => want({ queries: this.nHeads / this.kvOffered[i] }),
      );
      this.widthRule = this.choice("width of a head", { cut: "d_model / heads", fixed: "fixed" }, (to) =>
        set("fixed")(to === "fixed"),
      );
      this.fields = Object.fromEntries(
        Object.entries(LIMITS).map(([name, [words, most]]) => [name, this.field(words, most, set(name))]),
      );
      const types = Object.entries(BYTES).map(([value, words]) => make("option", { value }, words));
      this.type = make("select", { onchange: (event) => set("bytes")(+event.target.value) }, ...types);
      this.biases = make("input", {
        type: "checkbox",
        onchange: (event) => set("bias")(event.target.checked),
      });
      this.problem = make("p", { class: "problem", role: "alert", id: "cost-problem" });
      this.dividing = make("p", { class: "source" });
      this.bills = make("div");
      return [
        make(
          "p",
          { class: "lead" },
          "Choose a model, then move its heads. The bars compare with a single head: right of the " +
            "middle costs more, left of it less, and each line is a doubling.",
        ),
        make("div", { class: "controls one-column" }, this.presets, this.source),
        make("div", { class: "controls" }, this.headSlider, this.kvSlider),
        this.dividing,
        make("div", { class: "controls" }, this.widthRule, this.fields.dHead),
        make(
          "div",
          { class: "controls three-columns" },
          this.fields.dModel,
          this.fields.nTokens,
          this.fields.nLayers,
          make("label", { class: "field" }, make("span", { class: "name" }, "dtype"), this.type),
          make("label", { class: "field" }, make("span", { class: "name" }, "biases"), this.biases),
        ),
        this.problem,
        this.bills,
      ];
    }

    field(words, most, change) {
      const input = make("input", {
        type: "number",
        min: 1,
        max: most,
        step: 1,
        inputmode: "numeric",
        oninput: () => change(input.value === "" ? NaN : +input.value),
      });
      const control = make("label", { class: "field" }, make("span", { class: "name" }, words), input);
      return Object.defineProperty(control, "value", {
        set(to) {
          if (document.activeElement !== input && !Number.isNaN(to)) input.value = to;
        },
      });
    }

    take(name) {
      const [dModel, nHeads, nKvHeads, nLayers, nTokens, bytes, bias] = PRESETS[name];
      // as far as d_model allows; queries a K/V head
      const wanted = { heads: nHeads, queries: nHeads / nKvHeads };
      Object.assign(this, { preset: name, wanted, dModel, nLayers, nTokens, bytes, bias, fixed: false });
    }

    // What is wrong with the numbers, in words; nothing if all is well. The field tells of its problem.
    wrong() {
      for (const [name, [words, most]] of Object.entries(LIMITS)) {
        const bad =
          (name !== "dHead" || this.fixed) &&
          !(Number.isInteger(this[name]) && this[name] >= 1 && this[name] <= most);
        const input = this.fields[name].querySelector("input");
        input.setAttribute("aria-invalid", bad);
        if (bad) input.setAttribute("aria-describedby", this.problem.id);
        else input.removeAttribute("aria-describedby");
        if (bad) return `${words} must be a whole number from 1 to ${this.grouped(most)}.`;
      }
      return "";
    }

    update() {
      this.problem.textContent = this.wrong();
      this.bills.inert = Boolean(this.problem.textContent); // the last bills stay, pale
      if (this.bills.inert) return "";
      this.offered = divisors(this.dModel); // only numbers of heads that divide the width
      this.nHeads = nearest(this.offered, this.wanted.heads);
      this.kvOffered = divisors(this.nHeads);
      this.nKvHeads = nearest(this.kvOffered, this.nHeads / this.wanted.queries);
      if (!this.fixed) this.dHead = this.dModel / this.nHeads;
      this.showControls();
      const now = this.constructor.count(this);
      const single = this.constructor.count({
        ...this,
        nHeads: 1,
        nKvHeads: 1,
        dHead: this.fixed ? this.dHead : this.dModel,
      });
      this.showBills(now, single);
      const named = (test) =>
        Object.keys(BILLS)
          .filter((name) => test(now[name], single[name]))
          .map((name) => NAMES[name][0]);
      const sorted = {
        more: named((a, b) => a > b),
        "the same": named((a, b) => a === b),
        less: named((a, b) => a < b),
      };
      const said = Object.entries(sorted)
        .filter(([, names]) => names.length)
        .map(([what, names]) => `${what} for ${this.list(names)}`);
      const heads = this.nHeads === 1 ? "1 head" : `${this.nHeads} heads`;
      const width = this.fixed ? this.dHead : this.dModel;
      const costs = [
        `${this.short(now.parameters)} parameters`,
        `${this.short(now.flops)} FLOPs`,
        `${this.inBytes(now.weights)} of attention weights`,
        `${this.inBytes(now.cache)} of KV cache`,
      ];
      const keys =
        this.nHeads === 1
          ? ""
          : this.nKvHeads === this.nHeads
            ? ", each with its own keys and values,"
            : `, sharing ${this.nKvHeads} key/value ${this.nKvHeads === 1 ? "head" : "heads"},`;
      return (
        `${heads} of width ${this.dHead}${keys} ${this.nHeads === 1 ? "costs" : "cost"} ` +
        `${this.list(costs)}. Beside one head of width ${width} that is ${said.join("; ")}.`
      );
    }

    list(names) {
      return names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
    }

    showControls() {
      this.presets.value = this.preset;
      this.source.textContent = this.preset
        ? `Sizes of ${PRESETS[this.preset].at(-1)}.`
        : "Sizes of your own.";
      for (const [slider, offered, value] of [
        [this.headSlider, this.offered, this.nHeads],
        [this.kvSlider, this.kvOffered, this.nKvHeads],
      ]) {
        const input = slider.querySelector("input");
        input.max = Math.max(1, offered.length - 1);
        input.disabled = offered.length < 2;
        slider.value = offered.indexOf(value);
      }
      const offered = this.offered.join(", ");
      this.dividing.textContent = `Numbers of heads that divide d_model, up to ${MOST}: ${offered}.`;
      this.widthRule.value = this.fixed ? "fixed" : "cut";
      for (const name of Object.keys(LIMITS)) this.fields[name].value = this[name];
      this.fields.dHead.querySelector("input").disabled = !this.fixed;
      this.type.value = this.bytes;
      this.biases.checked = this.bias;
    }

    showBills(now, single) {
      const rows = Object.entries(NAMES).map(([name, [words, unit]]) => {
        const bytes = unit.startsWith("bytes");
        const factor = Number(now[name]) / Number(single[name]);
        // the bar: from the middle (as much as one head) outwards, a step for each doubling
        const reach = Math.max(-1, Math.min(1, Math.log2(factor) / Math.log2(MOST)));
        const bar = make(
          "span",
          { class: "factor", style: `--from: ${Math.min(0, reach)}; --to: ${Math.max(0, reach)}` },
          this.times(factor),
        );
        return [
          make("span", {}, words, make("small", {}, unit)),
          make(
            "span",
            {},
            make("strong", {}, bytes ? this.inBytes(now[name]) : this.short(now[name])),
            make("small", { class: "exact" }, this.grouped(now[name])),
          ),
          bar,
        ];
      });
      const layers = this.nLayers === 1 ? "One layer" : `All ${this.nLayers} layers`;
      this.bills.replaceChildren(
        this.table(
          `${layers}, attention only, one sequence of ${this.grouped(this.nTokens)} tokens`,
          ["bill", "costs", this.scale()],
          rows,
        ),
      );
    }

    // The name of the column of bars, with both ends of their scale.
    scale() {
      const ends = [`1/${MOST}`, "1", MOST].map((words) => make("span", {}, words));
      return make(
        "span",
        {},
        "times one head",
        make("span", { class: "scale", "aria-hidden": "true" }, ...ends),
      );
    }

    grouped(number) {
      return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
    }
    times(factor) {
      return factor === 1 ? "the same" : `× ${Number(factor.toPrecision(3))}`;
    }
    // 28.4 million
    short(number) {
      const [power, word] = [
        [15, "quadrillion"],
        [12, "trillion"],
        [9, "billion"],
        [6, "million"],
        [3, "thousand"],
        [0, ""],
      ].find(([each]) => number >= 10n ** BigInt(each));
      return `${Number((Number(number) / 10 ** power).toPrecision(3))} ${word}`.trim();
    }
    inBytes(number) {
      const [power, word] = [
        [4, "TiB"],
        [3, "GiB"],
        [2, "MiB"],
        [1, "KiB"],
        [0, "bytes"],
      ].find(([each]) => number >= 1024n ** BigInt(each));
      return `${Number((Number(number) / 1024 ** power).toPrecision(3))} ${word}`;
    }
  }

  customElements.define("mh-cost", Cost);
}
