/* Python, beside the page: whatever a cell does, the page stays alive, and Stop ends it. */
"use strict";

// Everything that Python loads is counted on its way, for the bar that the reader sees.
const load = self.fetch;
let loaded = 0;
self.fetch = async (...request) => {
  const answer = await load(...request);
  if (!answer.ok) throw new Error(`${answer.url} is missing`);
  const count = new TransformStream({
    transform(piece, onwards) {
      postMessage({ loaded: (loaded += piece.length) });
      onwards.enqueue(piece);
    },
  });
  return new Response(answer.body.pipeThrough(count), answer);
};

async function start() {
  importScripts("pyodide.js");
  const python = await loadPyodide({ indexURL: new URL(".", location).href });
  await python.loadPackage("numpy", { messageCallback() {}, errorCallback() {} });
  if (!python.loadedPackages.numpy) throw new Error("NumPy did not arrive");
  const rooms = await fetch("manyheads.zip");
  python.unpackArchive(await rooms.arrayBuffer(), "zip");
  const runner = await fetch("run_cells.py");
  python.FS.writeFile("run_cells.py", await runner.text());
  return python;
}

const ready = start();

onmessage = async ({ data: { cells, book, number } }) => {
  try {
    const python = await ready;
    postMessage({ started: true });
    const { run } = python.pyimport("run_cells");
    const ended = run(python.toPy(cells), python.toPy(book), number, (said) => postMessage({ said }));
    postMessage({ ended });
  } catch (error) {
    postMessage({ broken: error.message });
  }
};
