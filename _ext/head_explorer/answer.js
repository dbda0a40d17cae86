/* What the model answers, as numbers and words that can be shown. */
"use strict";

{
  const dot = (one, other, at = 0) => one.reduce((sum, value, i) => sum + value * other[at + i], 0);
  const percent = (share) => `${(100 * share).toFixed(0)} %`;

  // Each row as shares of its sum; a row of zeros stays one.
  function shares(map, n) {
    const out = new Float32Array(map.length);
    for (let q = 0; q < n; q++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += map[q * n + k];
      for (let k = 0; k < n; k++) out[q * n + k] = sum && map[q * n + k] / sum;
    }
    return out;
  }

  // The shares of many maps together. Rows of weights sum to 1, so theirs are their mean.
  function together(maps, n) {
    const all = new Float32Array(n * n);
    for (const map of maps) map.forEach((value, at) => (all[at] += value));
    return shares(all, n);
  }

  // The maps of all heads, and that of those that are on. A contribution is the length of weight · v W_O; of
  // each row we show the shares, so that it can be held against weights.
  function measured({ maps, lengths }, n, off) {
    const size = n * n;
    const weights = Array.from({ length: lengths.length / n }, (_, i) =>
      maps.subarray(i * size, (i + 1) * size),
    );
    const arriving = weights.map((map, i) => map.map((weight, at) => weight * lengths[i * n + (at % n)]));
    const mean = (every) =>
      together(
        every.filter((_, i) => !off.has(i)),
        n,
      );
    return {
      weights: { heads: weights, mean: mean(weights) },
      contributions: { heads: arriving.map((map) => shares(map, n)), mean: mean(arriving) },
    };
  }

  class Answer {
    constructor(text, { words, total }, off, heard, intact) {
      const n = words.length;
      Object.assign(this, {
        text,
        words,
        n,
        total,
        off,
        intact,
        vector: heard.vector,
        ...measured(heard, n, off),
      });
    }

    // What the intact model says of the text is known if the answer before was about the same.
    static async ask(model, text, off, before) {
      const tokens = await model.tokens(text);
      const heard = await model.forward(tokens.ids, off);
      const known = before?.text === text ? before.intact : off.size ? null : heard.vector;
      const intact = known ?? (await model.forward(tokens.ids)).vector;
      return new Answer(text, tokens, off, heard, intact);
    }

    // Is it what is asked for?
    fits({ text, off }) {
      return this.text === text && this.off.size === off.size && [...this.off].every((i) => off.has(i));
    }

    /* In words ------------------------------------------------------------------------------------------- */

    notes(nHeads) {
      const { words, total, n } = this;
      const ready = `Ready: ${n} tokens, seen by ${nHeads} heads.`;
      const empty = "There is no word to read: the model sees only its marks for start and end.";
      const most = `The text has ${total.toLocaleString("en")} tokens; `;
      const unknown = words.filter((word) => word === "[UNK]").length;
      const parts = unknown === 1 ? "One part of the text isn’t" : `${unknown} parts of the text aren’t`;
      return [
        n === 2 ? empty : ready,
        total > n ? `${most}the first ${n - 1} and the mark at the end are read.` : "",
        unknown ? `${parts} in the vocabulary: [UNK], unknown.` : "",
      ]
        .filter(Boolean)
        .join(" ");
    }

    // How much of its weight one word gives another.
    look(i, from, to, measure = "weights") {
      return percent(this[measure].heads[i][this.words.indexOf(from) * this.n + this.words.indexOf(to)]);
    }

    // What the words together, or the one that is chosen, look at.
    summary(map, who, chosen) {
      const { words, n } = this;
      const rows = chosen === null ? [...words.keys()] : [chosen];
      const sums = new Map();
      words.forEach((word, k) => {
        const share = rows.reduce((sum, q) => sum + map[q * n + k], 0) / rows.length;
        sums.set(word, (sums.get(word) ?? 0) + share);
      });
      const top = [...sums].sort(([, a], [, b]) => b - a).slice(0, 3);
      const said = top.map(([word, share]) => `${word} ${percent(share)}`).join(", ");
      const asked = chosen === null ? "all words together look" : `“${words[chosen]}” looks`;
      return `In ${who}, ${asked} most at ${said}.`;
    }

    /* The vector of the sentence ------------------------------------------------------------------------- */

    get cosine() {
      const product = dot(this.intact, this.vector);
      return product.toFixed(product > 0.995 ? 4 : 3); // more is lost with the rounding
    }

    // Of two vectors of length 1, from their distance: the cosine hardly tells small angles apart.
    get angle() {
      const distance = Math.hypot(...this.intact.map((value, i) => value - this.vector[i]));
      const angle = (360 / Math.PI) * Math.asin(Math.min(distance / 2, 1));
      return `${angle.toFixed(angle && angle < 1 ? 2 : 1)}°`;
    }

    // Sentences, the nearest first, with their cosines and their places now and for the intact model.
    neighbours(sentences, vectors) {
      const width = this.vector.length;
      const near = sentences.map((text, i) => {
        return {
          text,
          before: dot(this.intact, vectors, i * width),
          now: dot(this.vector, vectors, i * width),
        };
      });
      const rank = (key) => [...near].sort((a, b) => b[key] - a[key]);
      const before = rank("before");
      return rank("now").map((one, i) => ({ ...one, place: i + 1, placeBefore: before.indexOf(one) + 1 }));
    }
  }

  Object.assign(explorer, { Answer, percent });
}
