"""The reference of the package: a page a room, and links to it from cells that show a source.

Sphinx's own autodoc and napoleon read the docstrings; ``package-index`` lists the rooms.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import theme_figures
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.fileutil import copy_asset

FOLDER = "chapters/package"


def link(env: BuildEnvironment, domain: str, kind: str, target: str, name: str) -> addnodes.pending_xref:
    """Make a link that is a warning, and so fails the build, if its target isn't there."""
    about = {"refdomain": domain, "reftype": kind, "reftarget": target, "refdoc": env.docname}
    return addnodes.pending_xref("", nodes.literal("", name), refexplicit=True, refwarn=True, **about)


def title_source(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Give the line ``Source: …`` of a docstring a title: napoleon would take it for a value."""
    for at, line in enumerate(lines):
        if found := re.match(r"Source: (.*)", line):
            lines[at:] = ["Source", "------", found[1], *lines[at + 1 :]]
            return


class PackageIndex(SphinxDirective):
    """The rooms in their order, each with what it is for."""

    def run(self) -> list[nodes.Node]:
        """Make a list of links."""
        listed = nodes.definition_list(classes=["facts"])
        for page in self.config.external_site_map[FOLDER].child_files():
            room = page.rpartition("/")[2]
            said = inspect.getdoc(importlib.import_module(f"manyheads.{room}")).split("\n\n")[0]
            text, _ = self.state.inline_text(" ".join(said.split()), self.lineno)
            term = nodes.term("", "", link(self.env, "std", "doc", f"/{page}", room))
            definition = nodes.definition("", nodes.paragraph("", "", *text))
            listed += nodes.definition_list_item("", term, definition)
        return [listed]


def parse_imports(code: str) -> dict[str, str]:
    """Return the full names of what code imports from the package, by their names there."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("manyheads")
        for alias in node.names
    }


def parse_shown(code: str) -> list[str]:
    """Return the names that a cell gives to ``show.source``."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    shows = [call for call in calls if ast.unparse(call.func) == "show.source"]
    return [ast.unparse(name) for call in shows for name in call.args]


def link_sources(app: Sphinx, doctree: nodes.document) -> None:
    """Link each public name whose source a cell shows to the reference, below the cell."""
    cells = theme_figures.parse_cells(app.env, app.env.docname)
    codes = ["".join(cell["source"]) if cell["cell_type"] == "code" else "" for cell in cells]
    names = parse_imports("\n".join(codes))
    for cell in [node for node in doctree.findall(nodes.container) if node.get("nb_element") == "cell_code"]:
        links = []
        for name in parse_shown(codes[cell["cell_index"]]):
            room, _, rest = name.partition(".")
            if "._" not in name:
                full = f"{names[room]}.{rest}".rstrip(".")
                links += [nodes.Text(", " if links else " "), link(app.env, "py", "obj", full, name)]
        if links:
            text = nodes.paragraph("", "In the reference:", *links, classes=["in-reference", "on-screen"])
            cell.parent.insert(cell.parent.index(cell) + 1, text)


def add_style(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load the style in the pages of the reference, and in those that link to it."""
    if re.search('class="(py |in-reference)', context.get("body", "")):
        app.add_css_file("reference.css")


def copy_style(app: Sphinx, exception: Exception | None) -> None:
    """Copy the style into the site."""
    if app.builder.format == "html" and exception is None:
        copy_asset(Path(__file__).with_name("reference.css"), Path(app.outdir) / "_static")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the reference with Sphinx."""
    app.add_directive("package-index", PackageIndex)
    app.connect("autodoc-process-docstring", title_source, priority=400)  # before napoleon
    app.connect("doctree-read", link_sources)
    app.connect("html-page-context", add_style)
    app.connect("build-finished", copy_style)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
