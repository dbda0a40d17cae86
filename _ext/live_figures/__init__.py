"""Brings figures to life that the reader can turn: each is a custom element in a cell, such as ``<mh-cost>``.

Its script lies here under the element's name and is loaded only by pages that hold the element.
What it shows of stored results is put into the page here: nothing has to be fetched, not even from the disk.
"""

import json
import re
from pathlib import Path
from typing import Any

import theme_figures
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

from live_figures import pruned
from manyheads import results, tasks

FIGURES = Path(__file__).parent
ELEMENT = re.compile(r'<mh-(\w+)((?: data-sweep="([\w-]+)")?)>')  # data-sweep names a stored sweep


def stored(name: str) -> dict[str, Any]:
    """Return what a figure shows of a sweep: all runs of each setting, theory, attention; and chance."""
    wanted = ("setting", "per_seed", "theory", "attention")
    settings = results.load(name)["settings"].values()
    return {
        "settings": [{key: found[key] for key in wanted} for found in settings],
        "chance": tasks.Lookup().chance if name == "lookup" else None,
    }


def name_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Give each figure its name and its link, as the static ones have them."""
    turned = [raw for raw in doctree.findall(nodes.raw) if ELEMENT.search(raw.astext())]
    cells = theme_figures.parse_cells(app.env, app.env.docname) if turned else []
    ids = [cell["id"] for cell in cells if ELEMENT.search("".join(cell["source"]))]
    for raw, cell_id in zip(turned, ids, strict=True):
        raw.children = [nodes.Text(theme_figures.wrap_linked(raw.astext(), cell_id))]


def add_figures(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put into a page the numbers of the figures that it holds, and load their scripts."""
    body = context.get("body", "")
    names = sorted({name for name, _, _ in ELEMENT.findall(body)})
    if not names:
        return

    def fill(match: re.Match) -> str:
        name, attribute, sweep = match.groups()
        data = stored(sweep) if sweep else pruned.models() if name == "prune" else None
        written = json.dumps(data, separators=(",", ":"))
        return f'<mh-{name} class="live"{attribute}>' + (
            f'<script type="application/json">{written}</script>' if data else ""
        )

    context["body"] = ELEMENT.sub(fill, body)
    app.add_css_file("figures/figures.css")
    app.add_js_file("dom.js")
    app.add_js_file("figures/figure.js")
    for name in names:
        app.add_js_file(f"figures/{name}.js")


def copy_scripts(app: Sphinx, exception: Exception | None) -> None:
    """Copy the scripts and the style into the site."""
    if app.builder.format == "html" and exception is None:
        for file in (*FIGURES.glob("*.js"), *FIGURES.glob("*.css")):
            copy_asset(file, Path(app.outdir) / "_static" / "figures")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the figures with Sphinx."""
    app.setup_extension("dom")
    app.connect("doctree-read", name_figures)
    app.connect("html-page-context", add_figures)
    app.connect("build-finished", copy_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
