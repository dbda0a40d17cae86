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

from quiet import search

# signs that a phone has room for, in a cell and in the longest words of a row: in small letters, in full
TIGHT, PLAIN = (32, 54), (60, 38)
SLIM = set(".,:;'|()[]il-\u00a0")
# kinds of code that site.css gives a colour: keywords, strings, numbers, names that are defined, comments
COLOURED = re.compile("k[ncdr]?|ow|s[12adeir]?|m[bfhi]|n[cdf]|fm|c[1m]?")
# code that is of no use on paper: for an answer, its check, a listing, and what a folded cell brings in
FOR_SCREENS = re.compile(
    r"answer = None(\s*#.*)?|def \w+\([^)]*\):\s+\.\.\.(\s*#.*)?|(checks\.(number|choice)|show\.source)\(.*",
    re.DOTALL,
)
IMPORTS = re.compile("(import|from) .*", re.DOTALL)


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


def leave_to_screens(app, doctree):
    """Mark what paper can do without: print.css leaves it out."""
    for block in doctree.findall(nodes.literal_block):
        part, words = block.parent, block.astext()
        if part.get("nb_element") == "cell_code_source":
            folded = "tag_hide-input" in part.parent["classes"]
            away = FOR_SCREENS.fullmatch(words) or (folded and IMPORTS.fullmatch(words))
        else:
            away = "Not answered yet." in words
        if away:
            (part if part.get("nb_element") else block)["classes"].append("on-screen")


def set_openings(app, doctree):
    """Set objectives, time and needs of a chapter, one paragraph in its notebook, as a list of three."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if not paragraph.astext().startswith("Objectives:"):
            continue
        opening, words = nodes.definition_list(classes=["opening"]), nodes.paragraph()
        for part in paragraph.children:
            if isinstance(part, nodes.strong) and part.astext().endswith(":"):
                words = nodes.paragraph()
                term = nodes.term("", part.astext().rstrip(":"))
                opening += nodes.definition_list_item("", term, nodes.definition("", words))
            else:
                words += part.deepcopy()
        paragraph.replace_self(opening)


def tell_claims(app, doctree):
    """Mark the lines of code that assert: there a chapter settles its claims."""
    for block in doctree.findall(nodes.literal_block):
        if block.parent.get("nb_element") == "cell_code_source":
            claims = (node for node in ast.walk(ast.parse(block.astext())) if isinstance(node, ast.Assert))
            lines = [line for claim in claims for line in range(claim.lineno, claim.end_lineno + 1)]
            block.setdefault("highlight_args", {})["hl_lines"] = lines


def open_fold(translator, node):
    """Fold a cell away under one word, which is also its accessible name; MyST-NB gives it another one."""
    label = node["prompt_show"]
    translator.body.append(f'<details class="fold {label.lower()}"><summary>{label}</summary>\n')


def close_fold(translator, node):
    translator.body.append("</details>\n")


def width(word):
    return sum(0.55 if sign in SLIM else 1 for sign in word)


def keep_together(table):
    """Let no line end within an interval, or between a sign and its number."""
    table = re.sub(r"[\[(][-\d., to]+[\])]", lambda interval: interval[0].replace(" ", "\u00a0"), table)
    return re.sub(r"(?<!\w)([±×x]) (?=\d)", "\\1\u00a0", table)


def fit(table):
    """Fit a table to narrow screens: one with much in a row gets small letters, or becomes a list.

    Each cell of a list says its column's name.
    """
    table = keep_together(table[0])
    soup, plain = (BeautifulSoup(table, "html.parser") for _ in range(2))
    for twin in plain.select(".katex-html, annotation"):  # a formula stands there three times
        twin.decompose()
    names, *rows = ([cell.get_text(" ", strip=True) for cell in row(["th", "td"])] for row in plain("tr"))
    columns = (" ".join(column).split(" ") for column in zip(names, *rows, strict=True))
    needed = max(map(len, chain(*rows))), sum(max(map(width, words)) + 1.2 for words in columns)

    def has_room(limits):
        return all(need <= limit for need, limit in zip(needed, limits, strict=True))

    if len(names) < 3 or has_room(PLAIN):
        return table
    soup.table["class"] = ["tight" if has_room(TIGHT) else "stack"]
    for row in soup.select(".stack tbody tr"):
        for name, cell in zip(names, row(["th", "td"]), strict=True):
            if cell.get_text(strip=True):
                cell["data-label"] = name
    return str(soup)


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
    app.connect("doctree-read", name_solutions)
    app.connect("doctree-read", tell_sentences)
    app.connect("doctree-read", leave_to_screens)
    app.connect("doctree-read", set_openings)
    app.connect("doctree-read", tell_claims)
    app.add_node(HideCodeCellNode, override=True, html=(open_fold, close_fold))
    app.connect("html-page-context", mend, priority=900)  # after the extensions that add their styles
    return {"parallel_read_safe": True, "parallel_write_safe": False}
