"""Lets the reader change and run, in the page, the cells that need only Python and NumPy.

Python for the browser is Pyodide: five files of the npm package ``pyodide``. They come, bit for bit the same,
inside the PyPI package ``flet-web``, so that pip can install them, and never sit in git. NumPy, built for
Pyodide, lies here. A page loads neither before the reader asks for it. Where Pyodide is missing,
the page says so.
"""

import re
import sys
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

import manyheads
from manyheads.packages import Package
from run_here import run_cells

ASSETS = Path(__file__).parent
ROOMS = Path(manyheads.__file__).parent
PYODIDE = Package(
    name="Pyodide 0.27.7",
    package="flet-web",
    folder="flet_web",
    files={
        "web/pyodide/pyodide.js": "b4cb23a53aba19c221659b9fb40a2f18281d685691dc06647fb0afd0681baf98",
        "web/pyodide/pyodide.asm.js": "6b4c90de5b7172873f04f21884d0e9d2274e305fe32116558fe3e4fbe3618d51",
        "web/pyodide/pyodide.asm.wasm": "a50dd1843f805a0b7c45b61037ee0d7b26dfe85efe0e18ef95a34ad24e401f5f",
        "web/pyodide/pyodide-lock.json": "9c45b916001a750f4102fc287494f3eab215909c7535c626a20db80fd6333e2c",
        "web/pyodide/python_stdlib.zip": "16611534726e5d8ac2bd8f926410b2dcb8d6f49aa24913463533b457a2115c16",
    },
    licence="MPL-2.0",
    url="https://github.com/pyodide/pyodide",
)
NOTE = (
    '<p class="run-note" id="run-here" data-bytes="{n_bytes}">Cells with a <b>Run</b> button can be changed '
    "and run right here, in your browser; the first run loads Python and NumPy ({megabytes:.1f} MB). The "
    "other cells need PyTorch, or they draw: they run in JupyterLab, with <code>make lab</code> in a copy of "
    "this book.</p>"
)
MISSING = (
    '<p class="run-missing">Some cells could be changed and run right here, but Python for the browser was '
    "missing when this copy of the book was built. Install it with <code>make models</code>, then build "
    "again with <code>make book</code>.</p>"
)


@cache
def pyodide() -> list[Path] | None:
    """Find the files of Pyodide; None where they aren't installed."""
    try:
        return PYODIDE.paths()
    except FileNotFoundError:
        return None


@cache
def is_light(module: str) -> bool:
    """Tell whether a module needs nothing but Python and NumPy."""
    root, _, room = module.partition(".")
    if root == "manyheads":
        file = ROOMS / f"{room or '__init__'}.py"
        if room == "results" or not file.is_file():  # the stored results stay out of the page
            return False
        return all(map(is_light, run_cells.modules([file.read_text(encoding="utf-8")], 0)))
    return root == "numpy" or root in sys.stdlib_module_names


def light_rooms() -> list[Path]:
    """Find the rooms of the package that need nothing but Python and NumPy."""
    return [file for file in sorted(ROOMS.glob("*.py")) if is_light(f"manyheads.{file.stem}")]


def can_run(codes: Sequence[str], show_something: Sequence[bool]) -> set[int]:
    """Choose the cells to offer: those that need only Python and NumPy, and show something or lead to it."""
    shown = {
        i
        for i in range(len(codes))
        if show_something[i]
        and not run_cells.unknown(codes, i)
        and all(map(is_light, run_cells.modules(codes, i)))
    }
    return shown | {
        cell for i in shown for cell, place in run_cells.needed(codes, i) if place == run_cells.WHOLE
    }


def parts(cell: nodes.container, kind: str) -> list[nodes.container]:
    """Find the source of a cell, or its outputs."""
    return [part for part in cell.findall(nodes.container) if part.get("nb_element") == f"cell_code_{kind}"]


def mark_cells(app: Sphinx, doctree: nodes.document) -> None:
    """Mark the cells that run in the page, and those that don't."""
    cells = [cell for cell in doctree.findall(nodes.container) if cell.get("nb_element") == "cell_code"]
    cells = [cell for cell in cells if parts(cell, "source")]
    codes = [parts(cell, "source")[0].astext() for cell in cells]
    runs_here = can_run(codes, [bool(parts(cell, "output")) for cell in cells])
    for number, cell in enumerate(cells):
        cell["classes"].append("runs-here" if number in runs_here else "runs-elsewhere")


def assets() -> list[Path]:
    """Find the files that a page loads when a reader runs a cell."""
    return [*pyodide(), *ASSETS.glob("*.whl"), ASSETS / "worker.js", Path(run_cells.__file__)]


def add_runner(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load the script in pages with such cells, and say above the first of them what a button does."""
    first = re.search(r'<div class="cell[^"]* runs-here', context.get("body", ""))
    if not first or app.builder.name != "html":
        return
    note = MISSING
    if pyodide():
        n_bytes = sum(file.stat().st_size for file in assets())
        note = NOTE.format(n_bytes=n_bytes, megabytes=n_bytes / 1e6)
        app.add_js_file("dom.js")
        app.add_js_file("run_here/run.js")
    app.add_css_file("run_here/run.css")
    context["body"] = context["body"][: first.start()] + note + context["body"][first.start() :]


def copy_assets(app: Sphinx, exception: Exception | None) -> None:
    """Copy into the site what runs the cells, and the rooms of the package that they import."""
    if app.builder.name != "html" or exception is not None:
        return
    target = Path(app.outdir) / "_static" / "run_here"
    for file in [ASSETS / "run.css", *([ASSETS / "run.js", *assets()] if pyodide() else [])]:
        copy_asset(file, target)
    if pyodide():
        with zipfile.ZipFile(target / "manyheads.zip", "w", zipfile.ZIP_DEFLATED) as rooms:
            for file in light_rooms():
                rooms.write(file, f"manyheads/{file.name}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the cells that run with Sphinx."""
    app.setup_extension("dom")
    app.connect("doctree-read", mark_cells)
    app.connect("html-page-context", add_runner)
    app.connect("build-finished", copy_assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
