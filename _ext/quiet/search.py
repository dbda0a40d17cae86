"""Tells the search page where in a page its words stand: writes the prose of every section into one script.

Sphinx's search finds pages. Its own summaries fetch each page that it finds, which a browser forbids from the
disk, and show only where the first of the words stands.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

PARTS = (nodes.section, addnodes.glossary)  # they stand for themselves
NO_PROSE = (nodes.title, nodes.literal_block, nodes.math_block, nodes.raw, nodes.comment)
SIGNS = {
    "cdot": "·", "times": "×", "sqrt": "√", "top": "ᵀ", "partial": "∂", "sum": "Σ", "beta": "β",
    "epsilon": "ε", "ge": "≥", "le": "≤", "pm": "±", "lVert": "‖", "rVert": "‖", "dots": "…",
    "approx": "≈", "to": "→",
}  # fmt: skip


def render_tex(tex: str) -> str:
    r"""Render a formula of a line as one types it: ``d_\text{model}`` is d_model, ``\tfrac18`` is 1/8."""
    tex = re.sub(r"\\(text|math\w+|left|right|[,;: ])(?![a-z])", "", tex)
    tex = re.sub(r"\\[td]?frac(\{[^{}]*\}|\w)(\{[^{}]*\}|\w)", r"\1/\2", tex)
    return re.sub(r"\\([a-zA-Z]+)|[{}]", lambda part: SIGNS.get(part[1], part[1] or ""), tex)


def render_prose(node: nodes.Node) -> str:
    """Render a node as text, without its sections, its code, and what the code prints."""
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, nodes.math):
        return render_tex(node.astext())
    kept = [child for child in node.children if not isinstance(child, PARTS + NO_PROSE)]
    return ("" if isinstance(node, nodes.TextElement) else " ").join(map(render_prose, kept))


def parse_places(doctree: nodes.document) -> Iterator[tuple[str, str, str]]:
    """Yield each section and each entry of a glossary: its anchor, its title, its prose."""
    for section in doctree.findall(nodes.section):
        anchor = "" if section.parent is doctree else f"#{section['ids'][0]}"
        yield anchor, render_prose(section.next_node(nodes.title)), render_prose(section)
    for glossary in doctree.findall(addnodes.glossary):
        for term in glossary.findall(nodes.term):
            definition = term.parent.next_node(nodes.definition)
            yield f"#{term['ids'][0]}", render_prose(term), render_prose(definition)


def connect(app: Sphinx) -> None:
    """Collect the places of every page while it is written, and write them into one script at the end."""
    found = {}

    def collect(
        app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
    ) -> None:
        if doctree:
            page = pagename + app.builder.link_suffix
            found[page] = [[" ".join(part.split()) for part in place] for place in parse_places(doctree)]

    def write(app: Sphinx, exception: Exception | None) -> None:
        if app.builder.format == "html" and exception is None:
            script = f"const places = {json.dumps(found, ensure_ascii=False, separators=(',', ':'))};\n"
            (Path(app.outdir) / "_static" / "places.js").write_text(script, encoding="utf-8")

    app.connect("html-page-context", collect)
    app.connect("build-finished", write)
