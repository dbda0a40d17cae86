"""The theme of the book: one layout, cells and tables that fit it, a search that knows the places in a page.

What ``_config.yml`` says of the book's repository is read here, once; its keys are Jupyter Book's own.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import yaml
from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.config import Config

from quiet import cells, html, search

# site.css draws code and cells itself, in the book's colours
NOT_OURS = ("pygments.css", "mystnb.")


def read_config(app: Sphinx, config: Config) -> None:
    """Keep what ``_config.yml`` says, once for all pages: Jupyter Book hands on only some of it.

    Raises
    ------
    ValueError
        If it names a repository that doesn't lie on GitHub.
    """
    config.book = yaml.safe_load((Path(app.srcdir) / "_config.yml").read_text(encoding="utf-8"))
    repository(config.book)


def repository(book: dict[str, Any]) -> str | None:
    """Return the book's repository as ``OWNER/NAME``; none if ``_config.yml`` names none.

    Raises
    ------
    ValueError
        If it doesn't lie on GitHub.
    """
    url = book.get("repository", {}).get("url")
    if not url:
        return None
    found = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(\.git)?/?", url)
    if not found:
        rule = "Colab and Binder open what lies on GitHub: repository.url must read https://github.com/OWNER/NAME"
        raise ValueError(f"{rule}, not {url!r}; mend or remove it in _config.yml")
    return found[1]


def services(book: dict[str, Any], page: str) -> dict[str, str]:
    """Return where a notebook can be opened: the address by the name of the service."""
    home, hosts, about = repository(book), book.get("launch_buttons", {}), book.get("repository", {})
    if not home:
        return {}
    branch, folder = about.get("branch", "main"), about.get("path_to_book", "").strip("/")
    path = f"{folder}/{page}.ipynb".lstrip("/")
    addresses = {
        "Colab": ("colab_url", f"github/{home}/blob/{branch}/{path}"),
        "Binder": ("binderhub_url", f"v2/gh/{home}/{branch}?labpath={quote(path, safe='')}"),
    }
    return {
        name: f"{hosts[key].rstrip('/')}/{rest}" for name, (key, rest) in addresses.items() if hosts.get(key)
    }


def issue(book: dict[str, Any], page: str) -> str | None:
    """Return where a reader can report an error on a page; nowhere if there is no repository."""
    home = repository(book)
    form = {"title": f"Error on {page}", "body": "What does the page say, and what should it say?"}
    return f"https://github.com/{home}/issues/new?{urlencode(form)}" if home else None


def set_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the layout what it shows around the text, and the text as it is shown."""
    styles = [css for css in context["css_files"] if not any(name in str(css.filename) for name in NOT_OURS)]
    # paper has the last word
    context["css_files"] = sorted(styles, key=lambda css: "print.css" in str(css.filename))
    is_notebook = context.get("sourcename", "").endswith(".ipynb")
    context["services"] = services(app.config.book, pagename) if is_notebook else {}
    context["issue"] = issue(app.config.book, pagename) if doctree else None
    context["body"] = html.render(context.get("body", ""))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the theme with Sphinx."""
    app.add_html_theme("quiet", Path(__file__).parent)
    app.add_config_value("book", {}, "html", dict)
    app.connect("config-inited", read_config)
    for mark in cells.MARKS:
        app.connect("doctree-read", mark)
    app.connect("doctree-read", html.mark_addresses)
    app.add_node(HideCodeCellNode, override=True, html=(cells.open_fold, cells.close_fold))
    search.connect(app)
    app.connect("html-page-context", set_page, priority=900)  # after the extensions that add their styles
    return {"parallel_read_safe": True, "parallel_write_safe": False}
