"""Puts the head explorer into its page: packs the model, and loads the script there and nowhere else.

The packed model never sits in git. Where the package with the weights is missing, the page says so.
"""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

from manyheads import bert, explorer

ASSETS = Path(__file__).parent
SCRIPTS = (  # each after those that it uses
    "bert.js", "model.js", "state.js", "answer.js", "paint.js", "views.js", "grid.js", "panels.js",
    "effect.js", "stories.js", "explorer.js",
)  # fmt: skip
MISSING = (
    "The explorer is not in this copy of the book: the package with the weights of MiniLM was missing when "
    "it was built. Install it with <code>make models</code>, then build again with <code>make book</code>."
)


def add_explorer(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load the explorer in the page that has a place for it, or say there why it is missing."""
    if 'id="explorer"' not in context.get("body", "") or app.builder.name != "html":
        return
    target = Path(app.outdir) / "_static" / "explorer"
    for name in (*SCRIPTS, "explorer.css"):
        copy_asset(ASSETS / name, target)
    try:
        model = bert.load_minilm()
    except FileNotFoundError:
        context["body"] = context["body"].replace('<p class="explorer-needs">', f"<p>{MISSING}</p><p hidden>")
        return
    n_bytes = explorer.pack(model, target / "data")
    best = " ".join(map(str, explorer.best_heads()))
    attentions = [block.attention for block in model.stack.blocks]
    shape = f'data-layers="{len(attentions)}" data-heads="{attentions[0].n_heads}"'
    told = f'data-megabytes="{n_bytes / 1e6:.1f}" data-first="{explorer.FIRST}" data-best="{best}" {shape}'
    context["body"] = context["body"].replace('id="explorer"', f'{told} id="explorer"')
    app.add_css_file("explorer/explorer.css")
    app.add_js_file("dom.js")
    for script in SCRIPTS:
        app.add_js_file(f"explorer/{script}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the explorer with Sphinx."""
    app.setup_extension("dom")
    app.connect("html-page-context", add_explorer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
