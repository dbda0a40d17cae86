/* Below each page that Sphinx's search finds: the places in it that fit best, each with some of its words.
   `places` is written by _ext/quiet/search.py: for each page its sections, as [where, title, prose]. */
"use strict";
{
  const MOST = 3; // places of a page
  const [BEFORE, AFTER] = [7, 20]; // words shown around what was asked
  const NEAR = 4; // words among which those that were asked stand together

  const stemmer = new Stemmer();
  const stems = new Map();
  function stem(word) {
    if (!stems.has(word)) stems.set(word, stemmer.stemWord(word));
    return stems.get(word);
  }

  const asked = splitQuery((new URLSearchParams(location.search).get("q") || "").toLowerCase());
  const terms = [...new Set(asked.filter((word) => !stopwords.includes(word)).map(stem))];

  /** Which terms stand in a text. As for Sphinx, a part of a word counts if it is no word of the book. */
  function hits(text) {
    const words = splitQuery(text.toLowerCase()).map(stem);
    const fits = (word, term) =>
      word === term || (term.length > 2 && !(term in Search._index.terms) && word.includes(term));
    return terms.filter((term) => words.some((word) => fits(word, term)));
  }
  const different = (lists) => new Set(lists.flat()).size;

  /** How well a place fits, and the words to show: where most terms stand, the closer together the better. */
  function weigh([where, title, prose]) {
    const words = prose.split(" ");
    const found = words.map(hits);
    const within = (start, length) => different(found.slice(start, start + length));
    let [best, start] = [0, 0];
    found.forEach((here, index) => {
      const together = here.length && 100 * within(index, NEAR) + within(index, AFTER);
      if (together > best) [best, start] = [together, index];
    });
    const inTitle = hits(title);
    const score =
      1e4 * different([inTitle, ...found]) + best + 50 * inTitle.length + Math.min(found.flat().length, 49);
    return { where, title, words, start, score };
  }

  /** Write words, what was asked in them marked, but not the signs around it. */
  function write(words, element) {
    words.forEach((whole, index) => {
      const [, before, word, after] = whole.match(/^([^\p{L}\p{N}]*)(.*?)([^\p{L}\p{N}]*)$/u);
      element.append(index ? " " : "", before);
      if (hits(word).length) element.appendChild(document.createElement("mark")).append(word);
      else element.append(word);
      element.append(after);
    });
  }

  function excerpt({ words, start }) {
    const [from, to] = [Math.max(0, start - BEFORE), start + AFTER];
    const shown = document.createElement("p");
    if (from > 0) shown.append("… ");
    write(words.slice(from, to), shown);
    if (to < words.length) shown.append(" …");
    return shown;
  }

  function expand(result) {
    const [page, anchor] = result.querySelector("a").getAttribute("href").split("#");
    const known = (places[page] || []).map(weigh);
    if (anchor) {
      const here = known.find((place) => place.where === `#${anchor}`);
      if (here) result.append(excerpt({ ...here, start: 0 }));
      return;
    }
    const list = document.createElement("ul");
    known
      .filter((place) => place.score >= 1e4)
      .sort((one, other) => other.score - one.score)
      .slice(0, MOST)
      .forEach((place) => {
        const item = list.appendChild(document.createElement("li"));
        const link = item.appendChild(document.createElement("a"));
        link.href = page + place.where;
        if (place.where) write(place.title.split(" "), link);
        else link.append("At the beginning");
        item.append(excerpt(place));
      });
    if (list.children.length) result.append(list);
  }

  // Sphinx's script writes one result after the other, and at the end how many there are, to be said aloud.
  const results = document.getElementById("search-results");
  new MutationObserver(() => {
    results.querySelectorAll("ul.search > li:not(.expanded)").forEach((result) => {
      result.classList.add("expanded");
      expand(result);
    });
    results.querySelector(".search-summary")?.setAttribute("aria-live", "polite");
  }).observe(results, { childList: true, subtree: true });
}
