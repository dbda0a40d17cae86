"""The page around the text: a small theme of our own, and the few places where Sphinx's markup needs mending."""

import re
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode

OWN_STYLE = ("pygments.css", "mystnb.")  # site.css draws code and notebook cells itself, in the book's colours


def name_solutions(app, doctree):
    for cell in doctree.findall(nodes.container):
        if "tag_solution" in cell["classes"]:
            cell["prompt_show"] = "Solution"


def open_fold(translator, node):
    """Fold a cell away under one word, which is also its accessible name; MyST-NB gives it another one."""
    label = node["prompt_show"]
    translator.body.append(f'<details class="fold {label.lower()}"><summary>{label}</summary>\n')


def close_fold(translator, node):
    translator.body.append("</details>\n")


def mend(app, pagename, templatename, context, doctree):
    """Give tables their own scroll box, the bibliography a list that readers of lists understand."""
    context["css_files"] = [css for css in context["css_files"] if not any(n in str(css.filename) for n in OWN_STYLE)]
    body = context.get("body", "")
    body = body.replace("<table", '<div class="scroll"><table').replace("</table>", "</table></div>")
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    body = body.replace(' role="doc-backlink"', "").replace(' role="doc-biblioref"', "")
    context["body"] = re.sub(r'(<a class="headerlink" [^>]*title=)"[^"]*"', r'\1"Link here"', body)


def setup(app):
    app.add_html_theme("quiet", Path(__file__).with_name("theme"))
    app.connect("doctree-read", name_solutions)
    app.add_node(HideCodeCellNode, override=True, html=(open_fold, close_fold))
    app.connect("html-page-context", mend, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
