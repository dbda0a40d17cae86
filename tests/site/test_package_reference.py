"""The reference has a place for each public name, and chapters that show a source lead to it."""

import ast
import json
import re

import pytest
from bs4 import BeautifulSoup
from pages import NOTEBOOKS, ROOT, barriers

PACKAGE = ROOT / "src" / "manyheads"
ROOMS = sorted({path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} | {"experiments"})


def html(site, page):
    return BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def public(path):
    """Full names of the functions, classes and methods of a file."""
    module = ".".join(("manyheads", *path.relative_to(PACKAGE).with_suffix("").parts))
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{module}.{node.name}"
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield f"{module}.{node.name}.{inner.name}"


def test_there_is_a_page_a_room_and_the_index_leads_to_each(site):
    links = [link["href"] for link in html(site, "chapters/package").select("dl.facts dt a")]
    assert sorted(links) == sorted(f"package/{room}.html" for room in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_each_public_name_has_its_place_and_says_what_its_docstring_says(site, room):
    page = html(site, f"chapters/package/{room}")
    files = [file for file in PACKAGE.rglob("*.py") if not file.stem.startswith("__")]
    files = [file for file in files if file.relative_to(PACKAGE).parts[0].removesuffix(".py") == room]
    names = {name for file in files for name in public(file)}
    assert names <= {place["id"] for place in page.select("dl.py > dt[id]")}
    assert not page.select(".problematic, .system-message")
    told = page.get_text()
    assert "Parameters" in told or room in ("environment", "results")
    assert not re.search(r"^-{4,}$|:\w+:`", told, re.MULTILINE), "a docstring was not read to its end"


def test_a_source_stands_under_its_own_title(site):
    page = html(site, "chapters/package/attention")
    place = page.find(id="manyheads.attention.causal_mask").find_next_sibling("dd")
    assert [title.text for title in place.select("p.rubric")] == ["Source"]
    assert place.select_one("p.rubric + p").text == "Vaswani et al. 2017, section 3.2.3."


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_source_that_a_chapter_shows_leads_to_the_reference(site, name):
    cells = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    shows = [call for call in calls if ast.unparse(call.func) == "show.source"]
    shown = [ast.unparse(one) for call in shows for one in call.args]
    links = html(site, name).select("p.in-reference a")
    assert [link.text for link in links] == [name for name in shown if "._" not in name]
    for link in links:
        page, _, anchor = link["href"].partition("#")
        assert html(site, f"chapters/{page.removesuffix('.html')}").find(id=anchor)
        assert anchor.endswith(link.text.rpartition(".")[2])


def test_the_search_finds_a_function_by_its_name(open_page, site):
    page = open_page(f"{(site / 'search.html').as_uri()}?q=padding_mask")
    place = "package/attention.html#manyheads.attention.padding_mask"
    page.locator(f"#search-results li a[href*='{place}']").wait_for()
    assert not page.faults


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["package", "package/attention", "package/experiments"])
def test_the_reference_is_open_to_everyone_and_fits(open_page, site, name, width):
    page = open_page((site / "chapters" / f"{name}.html").as_uri(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not barriers(page, "main")
