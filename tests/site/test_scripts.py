"""The scripts of the site: which names they share, and that people can read them."""

import re

from pages import LISTED, ROOT

OURS = [
    path
    for folder in ("_ext", "_static")
    for path in sorted((ROOT / folder).rglob("*.js"))
    if "katex" not in path.parts
]
EXPLORER = {"bert", "explorer", "explorerPiece"}


def names(page):
    """Names on the window, and those of let, const and class at the top of a script, which lie beside it."""
    on_window = page.evaluate("Object.getOwnPropertyNames(window)")
    beside = page.context.new_cdp_session(page).send("Runtime.globalLexicalScopeNames")["names"]
    return {name for name in (*on_window, *beside) if not name.isdigit()}


def loaded(site, name):
    """What scripts a page loads; the search page alone has Sphinx's, too."""
    text = (site / f"{name}.html").read_text(encoding="utf-8")
    return frozenset(re.findall(r'src="[./]*_static/([\w/]+)\.js', text))


def test_scripts_share_no_names_but_those_agreed(open_page, served, site):
    bare = names(open_page(f"{served}_static/site.css"))  # a page without scripts
    one_of_each = {loaded(site, name): name for name in LISTED}
    for scripts, name in one_of_each.items():
        page = open_page(f"{served}{name}.html")
        agreed = ({"dom"} & scripts) | (EXPLORER if "explorer/explorer" in scripts else set())
        assert names(page) - bare == agreed, name
        if "dom" in scripts:
            assert page.evaluate("Object.isFrozen(dom)")


def test_every_script_is_strict_and_its_lines_are_short():
    """The formatter cuts neither comments nor strings."""
    for path in OURS:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert any(line.strip() == '"use strict";' for line in lines), path
        long = [number for number, line in enumerate(lines, 1) if len(line) > 110]
        assert not long, (path, long)
