"""Fits tables to narrow screens."""

import copy
import re
from itertools import chain

from bs4 import BeautifulSoup

# signs that a phone has room for, in a cell and in the longest words of a row: in small letters, in full
TIGHT, FULL = (32, 54), (60, 38)
SLIM = set(".,:;'|()[]il-\u00a0")


def width(word: str) -> float:
    """Return about how wide a word is, in letters of the usual width."""
    return sum(0.55 if sign in SLIM else 1 for sign in word)


def join_numbers(table: str) -> str:
    """Let no line end within an interval, or between a sign and its number."""
    table = re.sub(r"[\[(][-\d., to]+[\])]", lambda interval: interval[0].replace(" ", "\u00a0"), table)
    return re.sub(r"(?<!\w)([±×x]) (?=\d)", "\\1\u00a0", table)


def fit_table(table: str) -> str:
    """Fit a table to narrow screens: one with much in a row gets small letters, or becomes a list.

    Parameters
    ----------
    table : str
        HTML, with the names of the columns in its first row.

    Returns
    -------
    str
        HTML; where it became a list, each cell says its column's name.
    """
    table = join_numbers(table)
    soup = BeautifulSoup(table, "html.parser")
    read = copy.copy(soup)
    for twin in read.select(".katex-html, annotation"):  # a formula stands there three times
        twin.decompose()
    names, *rows = ([cell.get_text(" ", strip=True) for cell in row(["th", "td"])] for row in read("tr"))
    columns = (" ".join(column).split(" ") for column in zip(names, *rows, strict=True))
    needed = max(map(len, chain(*rows))), sum(max(map(width, words)) + 1.2 for words in columns)

    def has_room(limits: tuple[int, int]) -> bool:
        return all(need <= limit for need, limit in zip(needed, limits, strict=True))

    if len(names) < 3 or has_room(FULL):
        return table
    soup.table["class"] = ["tight" if has_room(TIGHT) else "stack"]
    for row in soup.select(".stack tbody tr"):
        for name, cell in zip(names, row(["th", "td"]), strict=True):
            if cell.get_text(strip=True):
                cell["data-label"] = name
    return str(soup)
