"""Renders formulas while the site is built, with KaTeX in this process: a page needs no script to show them.

Sphinx would otherwise load MathJax from another host on every page. A formula that KaTeX can't read is a
warning, and warnings fail the build.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import dukpy
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.fileutil import copy_asset
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

# npm katex 0.19.1: script, style, woff2 fonts and licence, as published
KATEX = Path(__file__).with_name("katex")
OPTIONS = {"output": "htmlAndMathml", "strict": "error", "throwOnError": True}
logger = logging.getLogger(__name__)


@cache
def interpreter() -> dukpy.JSInterpreter:
    """Start JavaScript with KaTeX, once for all formulas."""
    engine = dukpy.JSInterpreter()
    # 0: dukpy wants a plain result
    engine.evaljs((KATEX / "katex.min.js").read_text(encoding="utf-8") + "; 0")
    return engine


@cache
def render(tex: str, display: bool) -> str:
    """Render a formula as HTML, in a line or displayed.

    Raises
    ------
    dukpy.JSRuntimeError
        If KaTeX can't read it.
    """
    options = {**OPTIONS, "displayMode": display}
    return interpreter().evaljs("katex.renderToString(dukpy.tex, dukpy.options)", tex=tex, options=options)


def render_or_warn(tex: str, display: bool, node: nodes.Node) -> str:
    """Render a formula; one that KaTeX can't read is left out, with a warning that fails the build."""
    try:
        return render(tex, display)
    except dukpy.JSRuntimeError as error:
        logger.warning("KaTeX can't read %r: %s", tex, str(error).splitlines()[0], location=node)
        return ""


def join_punctuation(app: Sphinx, doctree: nodes.document) -> None:
    """Join a formula and the sign behind it: a browser would else begin a line with a comma."""
    for formula in list(doctree.findall(nodes.math)):
        line, behind = formula.parent, formula.parent.index(formula) + 1
        after = line[behind] if behind < len(line) else None
        if isinstance(after, nodes.Text) and (sign := re.match("[,.;:!?)]+", after)):
            formula.children = [nodes.Text(rf"{formula.astext()}\text{{{sign[0]}}}")]
            line[behind] = nodes.Text(after[sign.end() :])


def visit_math(translator: HTML5Translator, node: nodes.math) -> NoReturn:
    """Write a formula into its line."""
    translator.body.append(render_or_warn(node.astext(), False, node))
    raise nodes.SkipNode


def visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> NoReturn:
    """Write a displayed formula, with its number if it has one."""
    tex = node.astext()
    if node["number"]:
        tex += rf"\tag{{{get_node_equation_number(translator, node)}}}"
    # a span, because MyST also puts displayed formulas into paragraphs, which hold no div
    translator.body.append(translator.starttag(node, "span", CLASS="math-block"))
    translator.body.append(render_or_warn(tex, True, node) + "</span>\n")
    raise nodes.SkipNode


def add_style(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load KaTeX's style where a page shows a formula."""
    if 'class="katex' in context.get("body", ""):
        app.add_css_file("katex/katex.min.css")


def copy_style(app: Sphinx, exception: Exception | None) -> None:
    """Copy KaTeX's style, fonts and licence into the site."""
    if app.builder.format == "html" and exception is None:
        target = Path(app.outdir) / "_static" / "katex"
        for name in ("katex.min.css", "LICENSE"):
            copy_asset(KATEX / name, target)
        copy_asset(KATEX / "fonts", target / "fonts")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register KaTeX with Sphinx as what renders formulas."""
    app.add_html_math_renderer("katex", (visit_math, None), (visit_math_block, None))
    app.connect("doctree-read", join_punctuation)
    app.connect("html-page-context", add_style)
    app.connect("build-finished", copy_style)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
