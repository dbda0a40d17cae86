/* The model of the head explorer: its pieces are loaded, then a worker computes with them what is asked. */
"use strict";

{
  const home = new URL("data/", document.currentScript.src);

  /* Loading: each piece is a script that calls explorerPiece with its data ------------------------------- */

  const arrived = {};
  const asked = {};
  window.explorerPiece = (name, data) => {
    arrived[name] = data;
  };

  // asks again if it failed before
  function piece(name) {
    asked[name] ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = new URL(`${name}.js`, home);
      script.onload = () => {
        done(arrived[name]);
        delete arrived[name];
        script.remove();
      };
      script.onerror = () => {
        delete asked[name];
        script.remove();
        failed(
          new Error(
            "A piece of the model did not arrive. Check the connection, then press the button again.",
          ),
        );
      };
      document.head.append(script);
    });
    return asked[name];
  }

  /* The worker that computes. It is made from the text of bert.js, which also works from the disk. ------- */

  class Model {
    #waiting = new Map();
    #questions = 0;
    #given = new Map(); // pieces that the worker has, or is about to get

    constructor() {
      const source = URL.createObjectURL(new Blob([`(${bert})()`], { type: "text/javascript" }));
      this.worker = new Worker(source);
      this.worker.onmessage = ({ data: { number, answer, error } }) => {
        const { done, failed } = this.#waiting.get(number);
        this.#waiting.delete(number);
        if (error) failed(new Error(error));
        else done(answer);
      };
    }

    ask(ask, about) {
      return new Promise((done, failed) => {
        const number = this.#questions++;
        this.#waiting.set(number, { done, failed });
        this.worker.postMessage({ number, ask, about });
      });
    }

    give(name, as = "weights") {
      if (!this.#given.has(name)) {
        const given = piece(name).then((data) => this.ask(as, data).then(() => data));
        given.catch(() => this.#given.delete(name));
        this.#given.set(name, given);
      }
      return this.#given.get(name);
    }

    async load(progress) {
      this.about = await this.give("about", "about");
      const sizes = Object.entries(this.about.pieces);
      const all = sizes.reduce((sum, [, size]) => sum + size, 0);
      let loaded = 0;
      await this.give("vocabulary", "vocabulary");
      await Promise.all(
        sizes.map(([name, size]) => this.give(name).then(() => progress((loaded += size) / all))),
      );
      this.vectors ??= await this.ask("read", this.about.vectors);
    }

    // The tokens of a text: at most as many as the page can show, always with [SEP] at the end.
    async tokens(text) {
      const all = await this.ask("tokens", text);
      const most = this.about.maxTokens;
      const kept = all.length > most ? [...all.slice(0, most - 1), all.at(-1)] : all;
      return { words: kept.map(([word]) => word), ids: kept.map(([, id]) => id), total: all.length };
    }

    async forward(tokenIds, off = new Set()) {
      const { layers, heads, shard } = this.about;
      await Promise.all(
        [...new Set(tokenIds.map((id) => Math.floor(id / shard)))].map((i) => this.give(`words-${i}`)),
      );
      const gates = Array.from({ length: layers * heads }, (_, i) => (off.has(i) ? 0 : 1));
      return this.ask("forward", { tokenIds, gates });
    }
  }

  window.explorer = { Model };
}
