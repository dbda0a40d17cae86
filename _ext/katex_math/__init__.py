"""Renders formulas while the site is built, with KaTeX in this process: a page needs no script to show them.

Sphinx would otherwise load MathJax from another host on every page. A formula that KaTeX can't read is a
warning, and warnings fail the build.
"""

import re
from functools import cache
from pathlib import Path

import dukpy
from docutils import nodes
from sphinx.util import logging
from sphinx.util.fileutil import copy_asset
from sphinx.util.math import get_node_equation_number

# npm katex 0.19.1: script, style, woff2 fonts and licence, as published
KATEX = Path(__file__).with_name("katex")
OPTIONS = {"output": "htmlAndMathml", "strict": "error", "throwOnError": True}
logger = logging.getLogger(__name__)


@cache
def interpreter():
    engine = dukpy.JSInterpreter()
    # 0: dukpy wants a plain result
    engine.evaljs((KATEX / "katex.min.js").read_text(encoding="utf-8") + "; 0")
    return engine


@cache
def render(tex, display):
    options = {**OPTIONS, "displayMode": display}
    return interpreter().evaljs("katex.renderToString(dukpy.tex, dukpy.options)", tex=tex, options=options)


def html(tex, display, node):
    try:
        return render(tex, display)
    except dukpy.JSRuntimeError as error:
        logger.warning("KaTeX can't read %r: %s", tex, str(error).splitlines()[0], location=node)
        return ""


def hold_signs(app, doctree):
    """Take the sign behind a formula into it: a browser would else begin a line with a comma."""
    for formula in list(doctree.findall(nodes.math)):
        line, behind = formula.parent, formula.parent.index(formula) + 1
        after = line[behind] if behind < len(line) else None
        if isinstance(after, nodes.Text) and (sign := re.match("[,.;:!?)]+", after)):
            formula.children = [nodes.Text(rf"{formula.astext()}\text{{{sign[0]}}}")]
            line[behind] = nodes.Text(after[sign.end() :])


def visit_math(translator, node):
    translator.body.append(html(node.astext(), False, node))
    raise nodes.SkipNode


def visit_math_block(translator, node):
    tex = node.astext()
    if node["number"]:
        tex += rf"\tag{{{get_node_equation_number(translator, node)}}}"
    # a span, because MyST also puts displayed formulas into paragraphs, which hold no div
    translator.body.append(translator.starttag(node, "span", CLASS="math-block"))
    translator.body.append(html(tex, True, node) + "</span>\n")
    raise nodes.SkipNode


def load_style_where_needed(app, pagename, templatename, context, doctree):
    if 'class="katex' in context.get("body", ""):
        app.add_css_file("katex/katex.min.css")


def copy_style(app, exception):
    if app.builder.format == "html" and exception is None:
        target = Path(app.outdir) / "_static" / "katex"
        for name in ("katex.min.css", "LICENSE"):
            copy_asset(KATEX / name, target)
        copy_asset(KATEX / "fonts", target / "fonts")


def setup(app):
    app.add_html_math_renderer("katex", (visit_math, None), (visit_math_block, None))
    app.connect("doctree-read", hold_signs)
    app.connect("html-page-context", load_style_where_needed)
    app.connect("build-finished", copy_style)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
