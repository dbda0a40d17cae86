"""The two indexes hold what the book holds, and each figure can be shared by its link."""

import json
import re
from urllib.parse import urljoin, urlsplit

import pytest
from bs4 import BeautifulSoup
from pages import LISTED, NOTEBOOKS, ROOT

from manyheads import results
from manyheads.experiments import runner


def soup(site, page):
    return BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def cells(page):
    return json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]


def figures(page):
    """Names of a notebook's figures, in order, and whether the reader can turn them."""
    for cell in cells(page):
        name = "figure-" + cell["id"].removesuffix("-figure")
        if any("image/svg+xml" in output.get("data", {}) for output in cell.get("outputs", [])):
            yield name, False
        if cell["cell_type"] == "markdown" and "<mh-" in "".join(cell["source"]):
            yield name, True


# ---------------------------------------------------------------------- links to figures


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_figure_is_named_after_its_cell_and_leads_to_itself(site, name):
    linked = soup(site, name).select(".linked")
    turnable = [figure.find(re.compile("^mh-")) is not None for figure in linked]
    assert list(zip([figure["id"] for figure in linked], turnable, strict=True)) == list(figures(name))
    for figure in linked:
        (link,) = figure.select("a.figure-link")
        assert link["href"] == f"#{figure['id']}"
        assert link.text == "Link to this figure"


SHARED = [
    ("self-attention", "figure-pencil"),
    ("self-attention", "figure-turn-query"),
    ("what-one-head-cannot-do", "figure-lookup"),
    ("what-one-head-cannot-do", "figure-turn-lookup"),
]


@pytest.mark.parametrize(("chapter", "figure"), SHARED)
@pytest.mark.parametrize("width", [1280, 390])
def test_who_comes_by_a_link_sees_the_figure_marked(open_page, served, chapter, figure, width):
    page = open_page(f"{served}chapters/{chapter}.html#{figure}", width=width)
    shown = page.locator(f"#{figure}")
    page.wait_for_timeout(500)
    assert 0 <= shown.evaluate("(it) => it.getBoundingClientRect().top") < 200
    marks = "(it) => getComputedStyle(it, '::before').borderLeftStyle"
    assert shown.evaluate(marks) == "solid"
    assert page.locator(".linked").evaluate_all(f"(all) => all.map({marks})").count("solid") == 1
    assert not page.faults


@pytest.mark.parametrize(("chapter", "figure"), SHARED[:2])
def test_the_link_below_a_figure_copies_its_address(open_page, served, chapter, figure):
    page = open_page(f"{served}chapters/{chapter}.html")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    link = page.locator(f"#{figure} .figure-link")
    seen = "(it) => getComputedStyle(it).opacity"
    assert link.evaluate(seen) == "0"
    page.locator(f"#{figure}").hover()
    assert link.evaluate(seen) == "1"
    page.mouse.move(0, 0)
    assert link.evaluate(seen) == "0"
    link.press("Enter")  # by keyboard: focus shows it
    assert link.evaluate(seen) == "1"
    said = page.locator("[aria-live=polite].heard").last
    page.wait_for_function("(it) => it.textContent === 'Link copied'", arg=said.element_handle())
    address = f"{served}chapters/{chapter}.html#{figure}"
    assert page.evaluate("navigator.clipboard.readText()") == address
    assert page.url == address
    page.wait_for_function("(it) => it.textContent === 'Link to this figure'", arg=link.element_handle())
    assert not page.faults


def test_from_the_disk_and_without_javascript_the_link_leads_to_the_figure(open_page, browser, site):
    chapter, figure = SHARED[0]
    address = (site / "chapters" / f"{chapter}.html").as_uri()
    quiet = browser.new_context(java_script_enabled=False)
    bare = quiet.new_page()
    bare.goto(address)
    for page in (open_page(address), bare):
        page.locator(f"#{figure} .figure-link").press("Enter")
        assert page.url == f"{address}#{figure}"
        assert page.locator(".figure-link", has_text="copied").count() == 0
    quiet.close()


def test_paper_shows_no_links_to_figures(open_page, served):
    page = open_page(f"{served}chapters/{SHARED[0][0]}.html")
    page.emulate_media(media="print")
    assert not any(link.is_visible() for link in page.locator(".figure-link").all())


# ---------------------------------------------------------------------- the index of figures


def straight(words):
    """Words as they were typed: small, in one line, with typewriter's quotes."""
    return " ".join(words.split()).lower().translate(str.maketrans("‘’", "''"))


def test_every_figure_is_in_the_index_once_and_in_order(site):
    entries = soup(site, "chapters/figures").select(".gallery .entry")
    listed = [(entry.a["href"], entry.select_one(".turnable") is not None) for entry in entries]
    names = [(page, *figure) for page in NOTEBOOKS for figure in figures(page)]
    assert listed == [(f"{page.rpartition('/')[2]}.html#{name}", turnable) for page, name, turnable in names]
    pages = {page: soup(site, page) for page in NOTEBOOKS}
    for (page, name, turnable), entry in zip(names, entries, strict=True):
        figure = pages[page].find(id=name)
        said = entry.select("p")[1].text.rstrip(".")
        assert len(said.split()) >= 3
        alt = figure.em.text if turnable else figure.svg["aria-label"]
        assert straight(said) in straight(alt)
        # what a screen reader calls an entry is the heading above its figure
        assert entry.a.text == figure.find_previous(re.compile("^h[1-4]$")).text.removesuffix("#")
        assert (entry.img is None) == turnable


# ---------------------------------------------------------------------- the index of experiments


def seconds(words):
    parts = re.findall(r"([\d.]+) (h|min|s)", words)
    return sum(float(number) * {"h": 3600, "min": 60, "s": 1}[unit] for number, unit in parts)


def test_every_experiment_is_in_the_index_with_what_is_stored(site):
    page = soup(site, "chapters/experiments")
    sections = page.select("section[id^=experiment-]")
    assert [section["id"] for section in sections] == [f"experiment-{name}" for name in runner.NAMES]
    for section, name in zip(sections, runner.NAMES, strict=True):
        stored = results.load(name)
        assert section.p.text == stored["question"]
        assert section.pre.text.strip() == stored["command"]
        facts = dict(zip((dt.text for dt in section("dt")), section("dd"), strict=True))
        size = [int(number) for number in re.findall(r"\d+", facts["Size"].text)]
        assert size == [len(stored["settings"]), *[len(stored["seeds"])][: bool(stored["seeds"])]]
        cpu, wall = facts["Took"].text.split(",")
        for words, clock in ((cpu, "cpu_s"), (wall, "duration_s")):
            assert seconds(words) == pytest.approx(stored[clock], rel=0.06, abs=31 if "min" in words else 0.5)
        file = (site / "chapters" / facts["Numbers"].a["href"]).resolve()
        assert file.read_bytes() == (results.MEASURED / f"{name}.json").read_bytes()
    total = sum(results.load(name)["cpu_s"] for name in runner.NAMES)
    sums = page.find("p", string=re.compile("There are")).text
    assert int(re.search(r"\d+", sums)[0]) == len(sections)
    assert seconds(sums.partition("took")[2]) == pytest.approx(total, abs=31)


def test_experiments_name_the_chapters_that_read_them(site):
    """Who reads a sweep has its name in quotes, in a cell that runs or in a figure that is turned.

    A page of words that quotes a sweep gives its command.
    """
    page = soup(site, "chapters/experiments")
    for name in runner.NAMES:
        readers = {
            urlsplit(urljoin("chapters/", link["href"])).path.removesuffix(".html")
            for link in page.select(f"#experiment-{name} dd a:not([download])")
        }
        code = {chapter: "".join("".join(cell["source"]) for cell in cells(chapter)) for chapter in NOTEBOOKS}
        surely = {
            chapter
            for chapter, text in code.items()
            if re.search(rf"(load|measure|per_seed)\(\"{name}\"|data-sweep=\"{name}\"", text)
        }
        maybe = {chapter for chapter, text in code.items() if f'"{name}"' in text}
        words = {
            page
            for page in set(LISTED) - set(NOTEBOOKS)
            if f"manyheads.experiments {name} " in (ROOT / f"{page}.md").read_text(encoding="utf-8")
        }
        assert surely | words <= readers <= maybe | words, name
        assert readers, f"nobody reads {name}"
    assert set(LISTED) >= {"chapters/figures", "chapters/experiments"}
