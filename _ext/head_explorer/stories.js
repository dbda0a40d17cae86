/* Stories: each sets a view; what is said about it is read off the numbers. */
"use strict";

{
  const PICTURE = "The picture of the dogs was hanging on the wall.";

  // `first` is the sentence at the start, `best` the head of each layer that is kept last. `set` names what
  // is asked for: of the heads, those to keep. `say` gets the weight of one word for another, and the cosine.
  explorer.stories = (first, best) => ({
    "One word back": {
      set: { text: first, head: [0, 2], word: "happy" },
      say: (at) =>
        "A head that does one thing: each word looks at the word before it. " +
        `Here “happy” gives ${at("happy", "looked")} of its weight to “looked”.`,
    },
    "Nothing to say": {
      set: { text: first, head: [2, 7] },
      say: (at) =>
        "Words that need nothing from a head look at [CLS], the mark at the start: " +
        `here “cat” gives it ${at("cat", "[CLS]")}. But little arrives from there: choose “contributions”, ` +
        `and its share is ${at("cat", "[CLS]", "contributions")}.`,
    },
    "The beautiful head": {
      set: { text: first, head: [5, 11], word: "sitting" },
      say: (at) =>
        `“sitting” gives ${at("sitting", "cat")} to “cat”, its subject. ` +
        "Has the model a head that finds subjects? Try the next story before you believe it.",
    },
    "… on another sentence": {
      set: { text: PICTURE, head: [5, 11], word: "was" },
      say: (at) =>
        `The same head. “was” gives ${at("was", "dogs")} to “dogs” and ${at("was", "picture")} to ` +
        "“picture”, its subject. A head that was found on one sentence must be tested on others.",
    },
    "One head a layer": {
      set: { text: first, head: [best.length - 1, best.at(-1)], keep: best },
      say: (_, cosine) =>
        "Of twelve heads in each layer one is left, the first in chapter 8’s ranking by gradient. " +
        `The cosine to the intact model falls to ${cosine}.`,
    },
    "No attention": {
      set: { text: first, head: [5, 11], keep: [] },
      say: (_, cosine) =>
        `All heads are off: no word knows of another. The cosine is still ${cosine}, for the words ` +
        "themselves say much. A number for few heads means something only beside this one.",
    },
  });
}
