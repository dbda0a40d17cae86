"""Puts figures into the page itself, so that they take the colours of the reader's theme and scale with the page.

A notebook stores a figure as SVG (drawn in the named colours of ``manyheads.plots``), as PNG for places that
strip SVG, and as text: what it shows. Here each named colour becomes a CSS variable, as ``var(--mh-ink)``.
"""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from docutils import nodes
from manyheads import plots
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
COLOURS = {
    getattr(plots, name): f"var(--mh-{name.lower()})"
    for name in ("PAPER", "INK", "MUTED", "GRID", "BLUE", "ORANGE", "GREEN", "PURPLE")
}
PIXELS_PER_POINT = 96 / 72
logger = logging.getLogger(__name__)


def themed(svg, alt, prefix):
    """Return the figure as inline SVG, and the colours in it that have no name in ``plots``."""
    root = ET.fromstring(svg)
    strangers = set()

    def named(match):
        colour = match[0].lower()
        if colour not in COLOURS:
            strangers.add(colour)
        return COLOURS.get(colour, colour)

    for element in list(root.iter()):
        for child in list(element):
            if child.tag not in {SVG + tag for tag in ("g", "path", "use", "defs", "clipPath", "rect", "image", "text", "tspan")}:
                element.remove(child)  # metadata, and a style that would reach the whole page
    for element in root.iter():
        element.text = element.text if (element.text or "").strip() else None
        element.tail = None
        for key, value in list(element.attrib.items()):
            if key == XLINK + "href":
                del element.attrib[key]
                element.set("href", value.replace("#", f"#{prefix}", 1) if value[0] == "#" else value)
            elif key == "id":  # only what is referred to needs its name
                if element.tag in (SVG + "path", SVG + "clipPath") or "image" in value:
                    element.set(key, prefix + value)
                else:
                    del element.attrib[key]
            elif key in ("style", "fill", "stroke"):
                element.set(key, re.sub(r"#[0-9a-fA-F]{6}\b", named, value).replace("; ", ";").replace(": ", ":"))
            elif key == "clip-path":
                element.set(key, value.replace("url(#", f"url(#{prefix}"))
            elif key == "d":
                element.set(key, re.sub(r"\d+\.\d+", lambda n: f"{float(n[0]):.2f}", " ".join(value.split())))
    width, height = (float(n) for n in root.get("viewBox").split()[2:])
    root.attrib = {
        "viewBox": root.get("viewBox"),
        "role": "img",
        "aria-label": " ".join(alt.split()),
        "style": f"--natural-width:{width * PIXELS_PER_POINT:.0f}px",
    }
    return ET.tostring(root, encoding="unicode"), strangers


class InlineFigures(SphinxPostTransform):
    """Replace each stored figure before MyST-NB chooses one of its forms and writes it to a file."""

    default_priority = 3
    formats = ("html",)

    def run(self, **kwargs):
        ET.register_namespace("", SVG[1:-1])
        bundles = self.document.findall(lambda n: isinstance(n, nodes.container) and n.get("nb_element") == "mime_bundle")
        for number, bundle in enumerate(list(bundles), 1):
            forms = {form["mime_type"]: form for form in bundle.children}
            if not any(kind.startswith("image/") for kind in forms):
                continue
            alt = forms["text/plain"].astext() if "text/plain" in forms else ""
            if "image/svg+xml" not in forms or len(alt.split()) < 5 or alt.startswith("<"):
                logger.warning("a figure needs SVG and a text that says what it shows: use plots.display", location=bundle)
                continue
            (image,) = forms["image/svg+xml"].findall(nodes.image)
            svg = (Path(self.app.srcdir) / image["uri"].lstrip("/")).read_text(encoding="utf-8")
            markup, strangers = themed(svg, alt, f"f{number}-")
            if strangers:
                logger.warning("a figure uses colours that plots doesn't name: %s", ", ".join(sorted(strangers)), location=bundle)
            bundle.replace_self(nodes.raw("", f'<div class="figure">{markup}</div>', format="html"))


def setup(app):
    app.add_post_transform(InlineFigures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
