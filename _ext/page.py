"""The page around the text: a small theme of our own, and the few places where markup needs mending."""

import re
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode

# kinds of code that site.css gives a colour: keywords, strings, numbers, names that are defined, comments
COLOURED = re.compile("k[ncdr]?|ow|s[12adeir]?|m[bfhi]|n[cdf]|fm|c[1m]?")


def name_solutions(app, doctree):
    """Let a hidden solution unfold under its own word, not under that of other hidden cells."""
    for cell in doctree.findall(nodes.container):
        if "tag_solution" in cell["classes"]:
            cell["prompt_show"] = "Solution"


def tell_sentences(app, doctree):
    """Mark printed sentences, which may wrap on a narrow screen; columns, held by spaces, must not."""
    for block in doctree.findall(nodes.literal_block):
        if "output" in block["classes"] and not re.search(r"\S {2,}\S", block.astext()):
            block["classes"].append("sentences")


def open_fold(translator, node):
    """Fold a cell away under one word, which is also its accessible name; MyST-NB gives it another one."""
    label = node["prompt_show"]
    translator.body.append(f'<details class="fold {label.lower()}"><summary>{label}</summary>\n')


def close_fold(translator, node):
    translator.body.append("</details>\n")


def keep_coloured(match):
    return match[0] if COLOURED.fullmatch(match[1]) else match[2]


def mend(app, pagename, templatename, context, doctree):
    # site.css draws code and cells itself, in the book's colours
    others = ("pygments.css", "mystnb.")
    context["css_files"] = [
        css for css in context["css_files"] if not any(name in str(css.filename) for name in others)
    ]
    body = context.get("body", "")
    # a wide table scrolls in its own box, not the page
    body = body.replace("<table", '<div class="scroll"><table').replace("</table>", "</table></div>")
    # docutils puts roles of printed books into a plain list, which then has no items
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    body = re.sub(r' role="doc-(backlink|biblioref|noteref)"', "", body)
    # most of a page's elements would be pieces of code that have no colour of their own
    context["body"] = re.sub(r'<span class="(\w{1,2})">([^<]*)</span>', keep_coloured, body)


def setup(app):
    app.add_html_theme("quiet", Path(__file__).with_name("theme"))
    app.connect("doctree-read", name_solutions)
    app.connect("doctree-read", tell_sentences)
    app.add_node(HideCodeCellNode, override=True, html=(open_fold, close_fold))
    app.connect("html-page-context", mend, priority=900)  # after the extensions that add their styles
    return {"parallel_read_safe": True, "parallel_write_safe": True}
