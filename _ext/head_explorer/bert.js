/* BERT in the page: a text becomes tokens, tokens become vectors, and every head's weights are kept.

   This is manyheads.bert.Bert once more, in plain JavaScript: no library, the same names of weights, the same
   order of steps. It runs in a worker, so that the page stays awake; model.js starts it. */

window.bert = function () {
  "use strict";
  const weights = {}; // name → Float32Array, named as in the model's state_dict
  let about; // sizes of the model, and how its numbers are written
  let ids; // word → its number

  /* Tokens: BERT's basic tokenisation, then WordPiece ---------------------------------------------------- */

  const SPECIAL = /(\[(?:PAD|UNK|CLS|SEP|MASK)\])/;
  const SPACE = /[\t\n\v\f\r\x85\p{Z}]/u;
  const REMOVED = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\uFFFD]/gu;
  const IDEOGRAPHS = String.raw`\u4E00-\u9FFF\u3400-\u4DBF\uF900-\uFAFF\u{20000}-\u{2A6DF}`;
  const RARE = String.raw`\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\u{2F800}-\u{2FA1F}`;
  const CHINESE = new RegExp(`[${IDEOGRAPHS}${RARE}]`, "gu");
  const PUNCTUATION = /([!-/:-@[-`{-~\p{P}])/u; // the four ranges of ASCII, and what Unicode calls so

  // → words: no accents, lower case, each punctuation mark and ideograph alone
  function basic(text) {
    const clean = text
      .replace(/[\t\n\r]/g, " ")
      .replace(REMOVED, "")
      .replace(CHINESE, " $& ");
    const plain = Array.from(clean.normalize("NFD").replace(/\p{Mn}/gu, ""), (c) => c.toLowerCase()).join("");
    return plain
      .split(SPACE)
      .flatMap((word) => word.split(PUNCTUATION))
      .filter(Boolean);
  }

  // the longest piece that is known, then the longest of what is left, …
  function pieces(word) {
    const letters = Array.from(word);
    const found = [];
    if (letters.length > about.maxLetters) return ["[UNK]"];
    for (let start = 0, end; start < letters.length; start = end) {
      const piece = () => (start ? "##" : "") + letters.slice(start, end).join("");
      for (end = letters.length; end > start && !ids.has(piece()); end--);
      if (end === start) return ["[UNK]"];
      found.push(piece());
    }
    return found;
  }

  function tokens(text) {
    const parts = text
      .split(SPECIAL)
      .flatMap((part) => (SPECIAL.test(part) ? part : basic(part).flatMap(pieces)));
    return ["[CLS]", ...parts, "[SEP]"];
  }

  /* Numbers: a character holds two of 8 bits or one of 15, as manyheads.explorer wrote them -------------- */

  function codes(text) {
    const { lowest, surrogates, nSurrogates } = about.encoding;
    const out = new Uint16Array(text.length);
    for (let i = 0; i < out.length; i++) {
      const character = text.charCodeAt(i);
      out[i] = (character < surrogates ? character : character - nSurrogates) - lowest;
    }
    return out;
  }

  function read({ unit, numbers, steps, scales }) {
    const { group, largest, finest } = about.encoding;
    if (numbers) return Float32Array.from(codes(numbers), (code) => unit * (code - finest));
    const scale = read(scales);
    const out = new Float32Array(2 * steps.length);
    const nLevels = 2 * largest + 1;
    codes(steps).forEach((pair, i) => {
      const ofGroup = scale[Math.floor((2 * i) / group)];
      out[2 * i] = ofGroup * (Math.floor(pair / nLevels) - largest);
      out[2 * i + 1] = ofGroup * ((pair % nLevels) - largest);
    });
    return out;
  }

  /* The model; x holds one vector after the other: (token, width) ---------------------------------------- */

  function linear(x, name, joint = ".") {
    const matrix = weights[`${name}${joint}weight`];
    const bias = weights[`${name}${joint}bias`];
    const to = bias.length;
    const from = matrix.length / to;
    const n = x.length / from;
    const out = new Float32Array(n * to);
    const exact = Float64Array.from(x); // as JavaScript computes: nothing is converted on the way
    for (let t = 0; t < n; t += 4) {
      // four tokens and two rows share the numbers that were fetched
      const [a, b, c, d] = [t, t + 1, t + 2, t + 3].map((i) => Math.min(i, n - 1));
      const [A, B, C, D] = [a, b, c, d].map((i) => exact.subarray(i * from, (i + 1) * from));
      for (let row = 0; row < to; row += 2) {
        // oxfmt-ignore
        let a0 = bias[row], b0 = a0, c0 = a0, d0 = a0, a1 = bias[row + 1], b1 = a1, c1 = a1, d1 = a1;
        // oxfmt-ignore
        for (let i = 0, w = row * from, v = w + from; i < from; i++) {
          const w0 = matrix[w + i], w1 = matrix[v + i], xA = A[i], xB = B[i], xC = C[i], xD = D[i];
          a0 += w0 * xA; b0 += w0 * xB; c0 += w0 * xC; d0 += w0 * xD;
          a1 += w1 * xA; b1 += w1 * xB; c1 += w1 * xC; d1 += w1 * xD;
        }
        [
          [a, a0, a1],
          [b, b0, b1],
          [c, c0, c1],
          [d, d0, d1],
        ].forEach(([token, one, other]) => {
          out[token * to + row] = one;
          out[token * to + row + 1] = other;
        });
      }
    }
    return out;
  }

  // each token to mean 0 and spread 1, then what was learnt
  function norm(x, name) {
    const scale = weights[`${name}.weight`];
    const shift = weights[`${name}.bias`];
    const width = scale.length;
    for (let at = 0; at < x.length; at += width) {
      const token = x.subarray(at, at + width);
      const mean = token.reduce((sum, value) => sum + value, 0) / width;
      const spread = Math.sqrt(
        token.reduce((sum, value) => sum + (value - mean) ** 2, 0) / width + about.epsilon,
      );
      token.forEach((value, i) => {
        token[i] = ((value - mean) / spread) * scale[i] + shift[i];
      });
    }
    return x;
  }

  // erf by Abramowitz & Stegun 7.1.26, off by 1.5e-7 at most
  function gelu(x) {
    const z = Math.abs(x) / Math.SQRT2;
    const t = 1 / (1 + 0.3275911 * z);
    const series =
      ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    const erf = 1 - series * Math.exp(-z * z);
    return (x * (1 + Math.sign(x) * erf)) / 2;
  }

  const add = (x, y) => x.map((value, i) => value + y[i]);

  // One layer of heads. `gates` has a number for each: 1 leaves the head as it is, 0 switches it off.
  function attention(x, name, gates) {
    const { width, heads } = about;
    const n = x.length / width;
    const size = width / heads;
    const qkv = linear(x, `${name}.in_proj`, "_");
    const mixed = new Float32Array(n * width);
    const maps = new Float32Array(heads * n * n);
    const lengths = new Float32Array(heads * n);
    const out = weights[`${name}.out_proj.weight`];
    for (let head = 0; head < heads; head++) {
      const query = (t) => 3 * width * t + size * head;
      const key = (t) => query(t) + width;
      const value = (t) => query(t) + 2 * width;
      for (let q = 0; q < n; q++) {
        const row = maps.subarray((head * n + q) * n, (head * n + q + 1) * n);
        for (let k = 0; k < n; k++) {
          let product = 0;
          for (let i = 0; i < size; i++) product += qkv[query(q) + i] * qkv[key(k) + i];
          row[k] = product / Math.sqrt(size);
        }
        const top = Math.max(...row);
        row.forEach((score, k) => {
          row[k] = Math.exp(score - top);
        });
        const sum = row.reduce((all, weight) => all + weight, 0);
        row.forEach((weight, k) => {
          row[k] = weight / sum;
          for (let i = 0; i < size; i++)
            mixed[q * width + head * size + i] += gates[head] * row[k] * qkv[value(k) + i];
        });
      }
      for (let k = 0; k < n; k++) {
        // the length of v W_O: what a weight of 1 would bring
        let square = 0;
        for (let row = 0; row < width; row++) {
          let product = 0;
          for (let i = 0; i < size; i++) product += out[row * width + head * size + i] * qkv[value(k) + i];
          square += product * product;
        }
        lengths[head * n + k] = Math.sqrt(square);
      }
    }
    return { mixed: linear(mixed, `${name}.out_proj`), maps, lengths };
  }

  function forward(tokenIds, gates) {
    const { width, layers, heads, shard } = about;
    const n = tokenIds.length;
    const maps = new Float32Array(layers * heads * n * n);
    const lengths = new Float32Array(layers * heads * n);
    let x = new Float32Array(n * width);
    tokenIds.forEach((id, t) => {
      const words = weights[`words-${Math.floor(id / shard)}`];
      const row = (id % shard) * width;
      for (let i = 0; i < width; i++)
        x[t * width + i] = words[row + i] + weights["position.weight"][t * width + i];
    });
    norm(x, "norm");
    for (let layer = 0; layer < layers; layer++) {
      const block = `stack.blocks.${layer}`;
      const heard = attention(x, `${block}.attention`, gates.slice(layer * heads, (layer + 1) * heads));
      maps.set(heard.maps, layer * heads * n * n);
      lengths.set(heard.lengths, layer * heads * n);
      x = norm(add(x, heard.mixed), `${block}.norm_attention`);
      const wide = linear(x, `${block}.feed_forward.up`).map(gelu);
      x = norm(add(x, linear(wide, `${block}.feed_forward.down`)), `${block}.norm_feed_forward`);
    }
    const vector = new Float32Array(width); // of the sentence: the mean over tokens, length 1
    x.forEach((value, i) => {
      vector[i % width] += value;
    });
    const length = Math.hypot(...vector);
    return { maps, lengths, vector: vector.map((value) => value / length) };
  }

  /* What the page may ask for ---------------------------------------------------------------------------- */

  const answers = {
    about(given) {
      about = given;
    },
    vocabulary(words) {
      ids = new Map(words.map((word, id) => [word, id]));
    },
    weights(piece) {
      for (const name in piece) weights[name] = read(piece[name]);
    },
    tokens(text) {
      return tokens(text).map((word) => [word, ids.get(word)]);
    },
    read,
    forward({ tokenIds, gates }) {
      return forward(tokenIds, gates);
    },
  };
  onmessage = ({ data: { number, ask, about: what } }) => {
    try {
      postMessage({ number, answer: answers[ask](what) });
    } catch (error) {
      postMessage({ number, error: String(error) });
    }
  };
};
