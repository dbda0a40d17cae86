/* What the reader asks for: a text, a head, a word, how it is shown, which heads are off; and its address. */
"use strict";

{
  const choose = (value, choices) => (Object.hasOwn(choices, value) ? value : Object.keys(choices)[0]);
  const whole = (value, top) => Math.min(Math.max(Math.floor(Number(value)) || 0, 0), top);

  explorer.State = class {
    static MEASURES = { weights: "Weights", contributions: "Contributions" };
    static VIEWS = { lines: "Lines", matrix: "Matrix", table: "Table" };

    measure = "weights";
    view = "lines";
    word = null;
    off = new Set(); // heads, counted from the first of layer 0
    story = "";

    constructor(text, layers, heads) {
      Object.assign(this, { text, layers, heads, layer: layers - 1, head: heads - 1 });
      this.every = Array.from({ length: layers * heads }, (_, i) => i);
    }

    /* Heads by their number, from the first of layer 0 --------------------------------------------------- */

    get selected() {
      return this.layer * this.heads + this.head;
    }
    place(i) {
      return [Math.floor(i / this.heads), i % this.heads];
    }
    name(i = this.selected) {
      const [layer, head] = this.place(i);
      return `L${layer}H${head}`;
    }
    pick(i) {
      [this.layer, this.head] = this.place(i);
      this.story = "";
    }

    get ofLayer() {
      return this.every.filter((i) => this.place(i)[0] === this.layer);
    }
    get others() {
      return this.every.filter((i) => i !== this.selected);
    }
    areOff(heads) {
      return heads.every((i) => this.off.has(i));
    }
    toggle(heads) {
      const left = [...this.off].filter((i) => !heads.includes(i));
      this.switchOff(this.areOff(heads) ? left : [...this.off, ...heads]);
    }
    switchOff(heads) {
      this.off = new Set(heads);
      this.story = "";
    }

    // Keep one head of each layer, none where there is no number.
    keep(heads) {
      this.switchOff(this.every.filter((i) => heads[this.place(i)[0]] !== this.place(i)[1]));
    }

    /* The address ---------------------------------------------------------------------------------------- */

    // Whether the address holds a view, which is then taken.
    read(address) {
      const given = new URLSearchParams(address);
      if (!given.has("text")) return false;
      const [layer, head] = (given.get("head") ?? "").split(".");
      this.text = given.get("text");
      this.layer = whole(layer, this.layers - 1);
      this.head = whole(head, this.heads - 1);
      this.word = given.has("word") ? whole(given.get("word"), Infinity) : null;
      this.measure = choose(given.get("measure"), explorer.State.MEASURES);
      this.view = choose(given.get("view"), explorer.State.VIEWS);
      const bits = (given.get("off") ?? "").split("-").map((digits) => parseInt(digits, 16));
      this.switchOff(this.every.filter((i) => bits[this.place(i)[0]] & (1 << this.place(i)[1])));
      return true;
    }

    write() {
      const text = this.text.slice(0, 1000);
      const given = new URLSearchParams({ text, head: `${this.layer}.${this.head}` });
      if (this.word !== null) given.set("word", this.word);
      if (this.measure !== "weights") given.set("measure", this.measure);
      if (this.view !== "lines") given.set("view", this.view);
      if (this.off.size) given.set("off", this.offInDigits());
      return String(given);
    }

    // Hexadecimal digits for each layer, a bit for each head.
    offInDigits() {
      const bits = Array.from({ length: this.layers }, () => 0);
      for (const [layer, head] of [...this.off].map((i) => this.place(i))) bits[layer] |= 1 << head;
      const nDigits = Math.ceil(this.heads / 4);
      return bits.map((layer) => layer.toString(16).padStart(nDigits, "0")).join("-");
    }
  };
}
