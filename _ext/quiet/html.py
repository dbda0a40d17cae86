"""Renders what Sphinx and its extensions leave otherwise in a finished page; each step says why."""

import re

from docutils import nodes
from sphinx.application import Sphinx

from quiet.tables import fit_table

# kinds of code that site.css gives a colour: keywords, strings, numbers, names that are defined, comments
COLOURED = re.compile("k[ncdr]?|ow|s[12adeir]?|m[bfhi]|n[cdf]|fm|c[1m]?")


def mark_addresses(app: Sphinx, doctree: nodes.document) -> None:
    """Mark links whose words are their address: print.css writes out where all others lead."""
    for link in doctree.findall(nodes.reference):
        if link.get("refuri") == link.astext():
            link["classes"].append("address")


def wrap_tables(body: str) -> str:
    """Fit tables to narrow screens, and let a wide one scroll in its own box, not the page."""
    return re.sub(
        "<table.*?</table>",
        lambda table: f'<div class="scroll">{fit_table(table[0])}</div>',
        body,
        flags=re.DOTALL,
    )


def mark_chapter_number(body: str) -> str:
    """Make the number of a chapter quieter than its name."""
    return re.sub(r"<h1>(\d+ ·) ", r'<h1><span class="number">\1</span> ', body)


def mend_roles(body: str) -> str:
    """Give the bibliography the roles of a list: docutils gives those of printed books, and no items."""
    body = body.replace('role="doc-biblioentry"', 'role="listitem"')
    return re.sub(r' role="doc-(backlink|biblioref|noteref)"', "", body)


def mark_options(body: str) -> str:
    """Mark the options of a command, within which no line may end."""
    return re.sub(r'<span class="pre">(?=--?\w)', '<span class="pre option">', body)


def strip_plain_code(body: str) -> str:
    """Strip pieces of code that have no colour of their own: they would be most of a page's elements."""
    return re.sub(
        r'<span class="(\w{1,2})">([^<]*)</span>',
        lambda piece: piece[0] if COLOURED.fullmatch(piece[1]) else piece[2],
        body,
    )


def render(body: str) -> str:
    """Render the text of a page as this theme shows it."""
    for step in (wrap_tables, mark_chapter_number, mend_roles, mark_options, strip_plain_code):
        body = step(body)
    return body
