"""Fits tables to narrow screens."""

import re
from itertools import chain

from bs4 import BeautifulSoup

# signs that a phone has room for, in a cell and in the longest words of a row: in small letters, in full
TIGHT, PLAIN = (32, 54), (60, 38)


SLIM = set(".,:;'|()[]il-\u00a0")


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
