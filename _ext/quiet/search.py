"""Tells the search page where in a page its words stand: writes the prose of every section into one script.

Sphinx's search finds pages. Its own summaries fetch each page that it finds, which a browser forbids from the
disk, and show only where the first of the words stands.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

PARTS = (nodes.section, addnodes.glossary)  # they stand for themselves
NO_PROSE = (nodes.title, nodes.literal_block, nodes.math_block, nodes.raw, nodes.comment)
SIGNS = {
    "cdot": "·", "times": "×", "sqrt": "√", "top": "ᵀ", "partial": "∂", "sum": "Σ", "beta": "β",
    "epsilon": "ε", "ge": "≥", "le": "≤", "pm": "±", "lVert": "‖", "rVert": "‖", "dots": "…",
    "approx": "≈", "to": "→",
}  # fmt: skip


def plain(tex):
    r"""Say a formula of a line as one types it: ``d_\text{model}`` is d_model, ``\tfrac18`` is 1/8."""
    tex = re.sub(r"\\(text|math\w+|left|right|[,;: ])(?![a-z])", "", tex)
    tex = re.sub(r"\\[td]?frac(\{[^{}]*\}|\w)(\{[^{}]*\}|\w)", r"\1/\2", tex)
    return re.sub(r"\\([a-zA-Z]+)|[{}]", lambda part: SIGNS.get(part[1], part[1] or ""), tex)


def prose(node):
    """Return the words of a node, without its parts, its code, and what the code prints."""
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, nodes.math):
        return plain(node.astext())
    kept = [child for child in node.children if not isinstance(child, PARTS + NO_PROSE)]
    return ("" if isinstance(node, nodes.TextElement) else " ").join(map(prose, kept))


def places(doctree):
    """Yield each section and each entry of a glossary: where it is, its title, its prose."""
    for section in doctree.findall(nodes.section):
        anchor = "" if section.parent is doctree else f"#{section['ids'][0]}"
        yield anchor, prose(section.next_node(nodes.title)), prose(section)
    for glossary in doctree.findall(addnodes.glossary):
        for term in glossary.findall(nodes.term):
            yield f"#{term['ids'][0]}", prose(term), prose(term.parent.next_node(nodes.definition))


def setup(app):
    found = {}

    def collect(app, pagename, templatename, context, doctree):
        if doctree:
            page = pagename + app.builder.link_suffix
            found[page] = [[" ".join(part.split()) for part in place] for place in places(doctree)]

    def write(app, exception):
        if app.builder.format == "html" and exception is None:
            script = f"const places = {json.dumps(found, ensure_ascii=False, separators=(',', ':'))};\n"
            (Path(app.outdir) / "_static" / "places.js").write_text(script, encoding="utf-8")

    app.connect("html-page-context", collect)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
