/* Cells that can be changed and run in the page. worker.js runs them; here is what one sees and does. */
"use strict";

{
  const { make, button } = dom;
  const home = new URL(".", document.currentScript.src);
  const nBytes = Number(document.getElementById("run-here").dataset.bytes);
  const codes = [...document.querySelectorAll(".cell .cell_input pre")];
  const book = codes.map((code) => code.textContent);
  const cells = [...book]; // as the reader has changed them

  const FROM_DISK =
    "A page that was opened from the disk can't start Python: browsers forbid it to load files. Run " +
    "“make serve” in the folder of the book, then open http://127.0.0.1:8000 and go to this chapter.";

  let python = null; // the worker, once it was asked for
  let running = null; // the cell that it works on

  function startPython() {
    const worker = new Worker(new URL("worker.js", home));
    worker.onmessage = ({ data }) => running?.hear(data);
    worker.onerror = (event) => running?.hear({ broken: event.message ?? "it did not load" });
    return worker;
  }

  function endPython() {
    python?.terminate();
    python = null;
  }

  class Cell {
    constructor(code, number) {
      this.code = code;
      this.number = number;
      this.place = code.closest(".cell");
      this.stored = this.place.querySelector(".cell_output");
      this.runButton = button("Run", () => (running === this ? this.stop() : this.run()));
      this.runButton.className = "go";
      this.editButton = button("Edit", () => this.edit());
      this.resetButton = button("Reset", () => this.reset());
      this.resetButton.hidden = true;
      this.progress = make("progress", {
        max: nBytes,
        value: 0,
        hidden: true,
        "aria-label": "Loading Python",
      });
      this.status = make("span", { class: "status", role: "status" });
      this.foot = make(
        "div",
        { class: "run" },
        this.runButton,
        this.editButton,
        this.resetButton,
        this.status,
        this.progress,
      );
      code.closest(".cell_input").after(this.foot);
    }

    tell(text) {
      this.status.textContent = text;
    }

    run() {
      if (location.protocol === "file:") return this.tell(FROM_DISK);
      if (running) return this.tell("Another cell is running: wait for it, or stop it.");
      running = this;
      this.runButton.textContent = "Stop";
      this.clear();
      this.tell(python ? "Running …" : `Loading Python and NumPy, ${(nBytes / 1e6).toFixed(1)} MB, once …`);
      this.progress.hidden = Boolean(python);
      python ??= startPython();
      python.postMessage({ cells, book, number: this.number });
    }

    stop() {
      endPython();
      this.end("Stopped. What ran is gone; the next run starts Python afresh.");
    }

    end(text) {
      running = null;
      this.runButton.textContent = "Run";
      this.progress.hidden = true;
      this.tell(text);
    }

    hear({ loaded, started, said, ended, broken }) {
      if (loaded) this.progress.value = loaded;
      if (started) {
        this.progress.hidden = true;
        this.tell("Running …");
      }
      if (said) this.show(said);
      if (ended !== undefined) this.end(this.judge(ended));
      if (broken) {
        endPython();
        this.end(`Python ended: ${broken}. The next run starts it afresh.`);
      }
    }

    judge(ended) {
      if (!ended) return "An error ended the run.";
      if (!this.result) return "Ran. It prints nothing.";
      const inBook = [...(this.stored?.querySelectorAll("pre") ?? [])]
        .map((block) => block.textContent)
        .join("");
      return this.result.textContent.trimEnd() === inBook.trimEnd()
        ? "Ran. The same output as in the book."
        : "Ran.";
    }

    clear() {
      this.result?.closest(".ran").remove();
      this.result = null;
      if (this.stored) this.stored.hidden = false;
    }

    show(said) {
      if (!this.result) {
        this.result = make("pre");
        const output = make("div", { class: "output stream highlight" }, this.result);
        this.foot.after(make("div", { class: "cell_output ran" }, output));
        if (this.stored) this.stored.hidden = true;
      }
      this.result.append(said);
      const { scrollWidth, clientWidth, scrollHeight, clientHeight } = this.result;
      // for the keyboard
      if (scrollWidth > clientWidth || scrollHeight > clientHeight) this.result.tabIndex = 0;
    }

    edit() {
      const id = `run-hint-${this.number}`;
      const hint = make("p", { class: "hint", id }, "Ctrl+Enter runs · Tab or Esc leaves");
      this.editor = make("textarea", {
        wrap: "off",
        spellcheck: "false",
        autocapitalize: "off",
        autocomplete: "off",
        "aria-label": "Code of this cell",
        "aria-describedby": id,
        oninput: () => this.take(),
        onkeydown: (event) => this.type(event),
      });
      this.editor.value = cells[this.number].trimEnd();
      this.code.hidden = true;
      this.code.after(this.editor, hint);
      this.editButton.hidden = true;
      this.resetButton.hidden = false;
      this.take();
      this.editor.focus();
    }

    take() {
      cells[this.number] = `${this.editor.value}\n`;
      this.editor.rows = this.editor.value.split("\n").length;
    }

    type(event) {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.shiftKey)) {
        event.preventDefault();
        if (running !== this) this.run();
      } else if (event.key === "Enter") {
        // keep the indentation: Tab is for leaving
        event.preventDefault();
        const before = this.editor.value.slice(0, this.editor.selectionStart);
        const line = before.slice(before.lastIndexOf("\n") + 1);
        document.execCommand(
          "insertText",
          false,
          `\n${line.match(/^ */)[0]}${line.endsWith(":") ? "    " : ""}`,
        );
      } else if (event.key === "Escape") {
        this.runButton.focus();
      }
    }

    reset() {
      if (running === this) this.stop();
      cells[this.number] = book[this.number];
      this.code.nextElementSibling.remove(); // the editor ...
      this.code.nextElementSibling.remove(); // ... and its hint
      this.code.hidden = false;
      this.editButton.hidden = false;
      this.resetButton.hidden = true;
      this.clear();
      this.tell("");
      this.editButton.focus();
    }
  }

  codes.forEach((code, number) => {
    if (code.closest(".runs-here")) new Cell(code, number);
    else {
      const where = make("a", { href: "#run-here" }, "runs in JupyterLab");
      code.closest(".cell_input").after(make("p", { class: "run-elsewhere" }, where));
    }
  });
}
