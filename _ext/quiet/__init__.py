"""The page around the text: a small theme of our own, and the few places where markup needs mending."""

import ast
import re
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode

from quiet import cells, search
from quiet.cells import close_fold, open_fold
from quiet.tables import fit

# kinds of code that site.css gives a colour: keywords, strings, numbers, names that are defined, comments
COLOURED = re.compile("k[ncdr]?|ow|s[12adeir]?|m[bfhi]|n[cdf]|fm|c[1m]?")


def elsewhere(config, page):
    """Return where a notebook can be opened, by service; nowhere if ``_config.yml`` names no repository.

    The keys are Jupyter Book's own: ``repository`` and ``launch_buttons``.
    """
    repository, hosts = config.get("repository", {}), config.get("launch_buttons", {})
    if not repository.get("url"):
        return {}
    found = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(\.git)?/?", repository["url"])
    if not found:
        rule = "Colab and Binder open what lies on GitHub: repository.url must read https://github.com/OWNER/NAME"
        raise ValueError(f"{rule}, not {repository['url']!r}; mend or remove it in _config.yml")
    branch, book = repository.get("branch", "main"), repository.get("path_to_book", "").strip("/")
    path = f"{book}/{page}.ipynb".lstrip("/")
    addresses = {
        "Colab": ("colab_url", f"github/{found[1]}/blob/{branch}/{path}"),
        "Binder": ("binderhub_url", f"v2/gh/{found[1]}/{branch}?labpath={quote(path, safe='')}"),
    }
    return {
        name: f"{hosts[key].rstrip('/')}/{rest}" for name, (key, rest) in addresses.items() if hosts.get(key)
    }


def keep_coloured(match):
    return match[0] if COLOURED.fullmatch(match[1]) else match[2]


def mend(app, pagename, templatename, context, doctree):
    # site.css draws code and cells itself, in the book's colours
    others = ("pygments.css", "mystnb.")
    context["css_files"] = [
        css for css in context["css_files"] if not any(name in str(css.filename) for name in others)
    ]
    context["css_files"].sort(key=lambda css: "print.css" in str(css.filename))  # paper has the last word
    config = yaml.safe_load((Path(app.srcdir) / "_config.yml").read_text(encoding="utf-8"))
    context["elsewhere"] = (
        elsewhere(config, pagename) if context.get("sourcename", "").endswith(".ipynb") else {}
    )
    body = context.get("body", "")
    body = re.sub(r"<table.*?</table>", fit, body, flags=re.DOTALL)
    # the number of a chapter is quieter than its name
    body = re.sub(r"<h1>(\d+ ·) ", r'<h1><span class="number">\1</span> ', body)
    # a wide table scrolls in its own box, not the page
    body = body.replace("<table", '<div class="scroll"><table').replace("</table>", "</table></div>")
    # docutils puts roles of printed books into a plain list, which then has no items
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    body = re.sub(r' role="doc-(backlink|biblioref|noteref)"', "", body)
    # no line ends within an option of a command
    body = re.sub(r'<span class="pre">(?=--?\w)', '<span class="pre option">', body)
    # print.css writes out where a link leads, unless its words say it
    body = re.sub(
        r'<a class="reference external"( href="([^"]+)">\2</a>)',
        r'<a class="reference external address"\1',
        body,
    )
    # most of a page's elements would be pieces of code that have no colour of their own
    context["body"] = re.sub(r'<span class="(\w{1,2})">([^<]*)</span>', keep_coloured, body)


def setup(app):
    search.setup(app)
    app.add_html_theme("quiet", Path(__file__).parent)
    app.connect("doctree-read", cells.name_solutions)
    app.connect("doctree-read", cells.tell_sentences)
    app.connect("doctree-read", cells.leave_to_screens)
    app.connect("doctree-read", cells.set_openings)
    app.connect("doctree-read", cells.tell_claims)
    app.add_node(HideCodeCellNode, override=True, html=(open_fold, close_fold))
    app.connect("html-page-context", mend, priority=900)  # after the extensions that add their styles
    return {"parallel_read_safe": True, "parallel_write_safe": False}
