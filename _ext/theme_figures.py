"""Puts figures into the page itself, so that they take the colours of the reader's theme and scale with it.

A notebook stores a figure as SVG (drawn in the named colours of ``manyheads.plots``), as PNG for places that
strip SVG, and as text: what it shows. Here each named colour becomes a CSS variable, as ``var(--mh-ink)``.
Each figure has a name, from the id of its cell, and a link by which it can be shared.
"""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from manyheads import plots

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
NAMES = ("PAPER", "INK", "MUTED", "GRID", "BLUE", "ORANGE", "GREEN", "PURPLE")
VARIABLES = {getattr(plots, name): f"var(--mh-{name.lower()})" for name in NAMES}
PIXELS_PER_POINT = 96 / 72
logger = logging.getLogger(__name__)


def render_svg(svg: str, alt: str, prefix: str) -> tuple[str, set[str]]:
    """Render a figure as inline SVG in the colours of the theme.

    Parameters
    ----------
    svg : str
        As Matplotlib wrote it.
    alt : str
        What it shows.
    prefix : str
        For its ids, which must differ from those of other figures in the page.

    Returns
    -------
    markup : str
    strangers : set of str
        The colours in it that ``plots`` doesn't name.
    """
    root = ET.fromstring(svg)
    referred = set(re.findall(r"""(?:url\(|href=["'])#([^)"']+)""", svg))
    strangers = set()

    def rename(match: re.Match) -> str:
        colour = match[0].lower()
        if colour not in VARIABLES:
            strangers.add(colour)
        return VARIABLES.get(colour, colour)

    for element in list(root.iter()):
        for child in list(element):
            if child.tag in (SVG + "metadata", SVG + "style"):  # this style would reach the whole page
                element.remove(child)
    for element in root.iter():
        link = element.attrib.pop(XLINK + "href", None)
        if link:
            element.set("href", link)
        name = element.attrib.pop("id", None)
        if name in referred:
            element.set("id", prefix + name)
        for key, value in list(element.attrib.items()):
            if key in ("style", "fill", "stroke"):
                value = re.sub(r"#[0-9a-fA-F]{6}\b", rename, value)
            # several figures of one page may use one name for different things
            element.set(key, re.sub(r"^#|(?<=url\()#", f"#{prefix}", value))
    width = float(root.get("viewBox").split()[2])
    root.attrib = {
        "viewBox": root.get("viewBox"),
        "role": "img",
        "aria-label": " ".join(alt.split()),
        "style": f"--natural-width:{width * PIXELS_PER_POINT:.0f}px",
    }
    return ET.tostring(root, encoding="unicode"), strangers


def figure_id(cell_id: str) -> str:
    """Name a figure in its page; as stable as the id of its cell."""
    return f"figure-{cell_id.removesuffix('-figure')}"


def wrap_linked(markup: str, cell_id: str) -> str:
    """Give a figure its name and a link to itself, whose address site.js copies."""
    anchor = figure_id(cell_id)
    link = f'<a class="figure-link" href="#{anchor}">Link to this figure</a>'
    return f'<div class="linked" id="{anchor}">{markup}{link}</div>'


def parse_cells(env: BuildEnvironment, docname: str) -> list[dict[str, Any]]:
    """Return the cells of a page's notebook; of another page, none."""
    path = Path(env.doc2path(docname))
    return json.loads(path.read_text(encoding="utf-8"))["cells"] if path.suffix == ".ipynb" else []


def is_element(node: nodes.Node, name: str) -> bool:
    """Tell whether a node is what MyST-NB calls so."""
    return isinstance(node, nodes.container) and node.get("nb_element") == name


def mark_cells(app: Sphinx, doctree: nodes.document) -> None:
    """Note the id of each code cell while it is known which page is being read."""
    known = parse_cells(app.env, app.env.docname)
    for node in doctree.findall(lambda node: is_element(node, "cell_code")):
        node["cell_id"] = known[node["cell_index"]]["id"]


class InlineFigures(SphinxPostTransform):
    """Replace each stored figure before MyST-NB chooses one of its forms and writes it to a file."""

    default_priority = 3
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Replace the figures of a page by what a theme can colour."""
        ET.register_namespace("", SVG[1:-1])
        bundles = [node for node in self.document.findall(nodes.container) if is_element(node, "mime_bundle")]
        for number, bundle in enumerate(bundles, 1):
            forms = {form["mime_type"]: form for form in bundle.children}
            if not any(form.startswith("image/") for form in forms):
                continue
            alt = forms["text/plain"].astext() if "text/plain" in forms else ""
            if "image/svg+xml" not in forms or len(alt.split()) < 5 or alt.startswith("<"):
                problem = "a figure needs SVG and a text that says what it shows: use plots.display"
                logger.warning(problem, location=bundle)
                continue
            (image,) = forms["image/svg+xml"].findall(nodes.image)
            svg = (Path(self.app.srcdir) / image["uri"].lstrip("/")).read_text(encoding="utf-8")
            markup, strangers = render_svg(svg, alt, f"f{number}-")
            if strangers:
                problem = "a figure uses colours that plots doesn't name: %s"
                logger.warning(problem, ", ".join(sorted(strangers)), location=bundle)
            cell = bundle.parent
            while "cell_id" not in cell:
                cell = cell.parent
            figure = wrap_linked(f'<div class="figure">{markup}</div>', cell["cell_id"])
            bundle.replace_self(nodes.raw("", figure, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the figures with Sphinx."""
    app.connect("doctree-read", mark_cells)
    app.add_post_transform(InlineFigures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
