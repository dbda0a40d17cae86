"""The whole book as a PDF: all of it is there, can be found, and can be read."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter

import nbformat
import print_book
import pypdf
import pypdfium2
import pytest
import yaml
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont
from pages import LISTED, NOTEBOOKS, ROOT

PRINT = [sys.executable, "-m", "print_book"]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
CELLS = [cell for name in NOTEBOOKS for cell in nbformat.read(ROOT / f"{name}.ipynb", 4).cells]
MAX_BYTES = 25_000_000


def squashed(text):
    """Text without spaces and line ends, which differ between a page and its print."""
    return re.sub(r"[\s\u200b]", "", text)


@pytest.fixture(scope="module")
def build(site, browser):
    done = subprocess.run(
        [*PRINT, site.parent.absolute()], cwd=ROOT / "_ext", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""
    return site.parent


@pytest.fixture(scope="module")
def path(build):
    return build / "pdf" / "one-head-many-heads.pdf"


@pytest.fixture(scope="module")
def pdf(path):
    return pypdf.PdfReader(path)


@pytest.fixture(scope="module")
def text(path):
    """The text of each page, by its number. PDFium gives a hyphen at the end of a line a sign of its own."""
    with pypdfium2.PdfDocument(path) as pages:
        found = [page.get_textpage().get_text_range() for page in pages]
    return {n: words.replace("\r", "").replace("\ufffe", "-") for n, words in enumerate(found, 1)}


@pytest.fixture(scope="module")
def body(text):
    """All text, without what stands at the foot of each page but the first (in the PDF it comes first)."""
    return squashed(text[1] + "".join(page.partition("\n")[2] for page in list(text.values())[1:]))


@pytest.fixture(scope="module")
def articles(site):
    """The pages of the site, in the order of the contents."""
    html = ((site / f"{name}.html").read_text(encoding="utf-8") for name in LISTED)
    return [BeautifulSoup(page, "html.parser").article for page in html]


@pytest.fixture(scope="module")
def book(build):
    return BeautifulSoup((build / "pdf" / "book.html").read_text(encoding="utf-8"), "html.parser")


@pytest.fixture(scope="module")
def elements(pdf):
    """What the PDF says to those who can't see it: its elements, each with its text if it is a picture."""
    found, waiting = [], [pdf.root_object["/StructTreeRoot"]]
    while waiting:
        element = waiting.pop().get_object()
        if isinstance(element, list):
            waiting += element
        elif isinstance(element, dict):
            found.append((element.get("/S"), element.get("/Alt")))
            waiting += [element["/K"]] if "/K" in element else []
    return Counter(found)


# ---------------------------------------------------------------------- finding one's way


def outline(items, level=1):
    for item in items:
        if isinstance(item, list):
            yield from outline(item, level + 1)
        else:
            yield level, item


def words(heading):
    """A heading's words; a formula counts for none, it has its own test."""
    heading = BeautifulSoup(str(heading), "html.parser")
    for part in heading.select(".headerlink, .katex"):
        part.decompose()
    return heading.get_text().strip()


@pytest.fixture(scope="module")
def solutions(articles):
    """Level and words of the headings that the page of solutions must have."""
    found = [(1, "Solutions")]
    for article in articles:
        exercises = [cell.find_parent("section").h3 for cell in article.select(".cell.tag_solution")]
        if exercises:
            found += [(2, words(article.h1)), *((3, words(exercise)) for exercise in exercises)]
    return found


def test_the_outline_has_every_page_and_section(pdf, articles, solutions):
    found = [(level, item.title) for level, item in outline(pdf.outline)]
    wanted = [
        (int(heading.name[1]), words(heading))
        for article in articles
        for heading in article.select("h1, h2, h3")
    ]
    wanted += solutions
    assert found[0] == (1, "Contents")
    assert len(found) == len(wanted) + 1
    for (level, title), (wanted_level, start) in zip(found[1:], wanted, strict=True):
        assert level == wanted_level
        assert title.startswith(start)
        assert title == start or title == "Why divide by √d_head?"


def test_the_contents_tell_the_page_of_every_heading(pdf, text, articles, book):
    """In the contents, in the outline, and in the text."""
    lines = [
        (words(line.select_one(".words")), line.select_one(".at").text) for line in book.select("nav li")
    ]
    deep = {article.h1: "h1" if "Index" in article.h1.text else "h1, h2" for article in articles}
    headings = [words(heading) for article in articles for heading in article.select(deep[article.h1])]
    assert [title for title, _ in lines] == [*headings, "Solutions"]
    first = int(lines[0][1])
    shown = squashed("".join(text[number] for number in range(2, first)))
    places = iter(item for level, item in outline(pdf.outline) if level <= 2)
    for title, number in lines:
        place = next(place for place in places if place.title.startswith(title))
        assert squashed(f"{title}{number}") in shown or "√" in place.title
        assert pdf.get_destination_page_number(place) + 1 == int(number)
        assert squashed(title) in squashed(text[int(number)])


def test_each_page_but_the_title_carries_its_number_and_its_chapter(pdf, text, articles):
    titles = {1: None, 2: "Contents"}
    titles |= {
        pdf.get_destination_page_number(item) + 1: item.title
        for level, item in outline(pdf.outline)
        if level == 1
    }
    title = None
    for number, page in text.items():
        title = titles.get(number, title)
        foot = squashed(f"{title}{number}")
        assert squashed(page).startswith(foot) == (title is not None), f"page {number}: {page[:80]!r}"


def test_links_to_other_chapters_tell_the_page(pdf, book):
    places = {name.removeprefix("/"): place for name, place in pdf.named_destinations.items()}
    told = book.select("article .at")
    assert len(told) > 150
    for page in told:
        target = page.find_previous_sibling("a")["href"].removeprefix("#")
        assert page.text == f" (p. {pdf.get_destination_page_number(places[target]) + 1})"


def test_each_exercise_leads_to_its_solution_which_stands_at_the_end(book, body, articles):
    at_the_end = book.select_one("article#solutions")
    exercises = [one for one in book.select('h3[id*=".exercise-"]') if one not in at_the_end.select("h3")]
    assert len(exercises) == sum(len(article.select(".tag_solution")) for article in articles) > 50
    for exercise in exercises:
        link = exercise.find_next("p", class_="solution").a["href"]
        heading = at_the_end.find(id=link.removeprefix("#"))
        assert heading.text == exercise.text
        assert heading.find_next_sibling("div").select("pre")
    assert not book.select(".tag_solution")
    assert "Notansweredyet" not in body


def test_every_latin_letter_is_of_the_books_own_fonts(text):
    letters = {sign for page in text.values() for sign in page if sign.isalpha() and sign < "\u0250"}
    fonts = (ROOT / "_static" / "fonts").glob("source-serif-4*.woff2")
    upright = (TTFont(font).getBestCmap() for font in fonts if "italic" not in font.name)
    assert {"č", "ć", "Ł"} < letters <= {chr(sign) for cmap in upright for sign in cmap}


def test_links_lead_somewhere(pdf, book):
    ids = [element["id"] for element in book.select("[id]")]
    assert len(ids) == len(set(ids))
    links = [link["href"] for link in book.select("a[href]")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert all(link.startswith(("#", "https://")) for link in links)
    names, inside = {name.removeprefix("/") for name in pdf.named_destinations}, 0
    for page in pdf.pages:
        for note in page.get("/Annots", []):
            note = note.get_object()
            if "/Dest" in note:
                assert note["/Dest"].removeprefix("/") in names
                inside += 1
            else:
                assert note["/A"]["/URI"].startswith("https://")
    assert inside >= 500  # those of the contents alone are 200


# ---------------------------------------------------------------------- all of it is there


def test_no_page_is_blank(pdf, text):
    for number, page in enumerate(pdf.pages, 1):
        drawn = len(page.get_contents().get_data())
        assert len(squashed(text[number])) > 60 or drawn > 10_000, number


def test_figures_and_formulas_are_pictures_with_words(elements, articles, book):
    figures = [figure["aria-label"] for article in articles for figure in article.select(".figure svg")]
    assert len(figures) == sum(
        "image/svg+xml" in output.get("data", {}) for cell in CELLS for output in cell.get("outputs", [])
    )
    away = ".entry:has(.turnable) annotation"
    formulas = [note.text for article in articles for note in article.select(f"annotation:not({away})")]
    twice = [formula["aria-label"] for formula in book.select("nav .katex-html")]  # in the contents, too
    spoken = Counter(
        {" ".join(alt.split()): count for (kind, alt), count in elements.items() if kind == "/Figure" and alt}
    )
    assert spoken == Counter(" ".join(alt.split()) for alt in (*figures, *formulas, *twice))


def test_formulas_are_drawn(text):
    assert not [
        number for number, page in text.items() if re.search(r"\\(frac|sqrt|text|math|cdot)|\$\$", page)
    ]


def stands(line, body):
    """Tell whether a line is in the text; a long one may go on below, on the next page."""
    return any(line[:cut] in body and line[cut:] in body for cut in range(max(1, len(line))))


def test_code_is_printed_to_the_end_of_its_lines_unless_it_is_folded_away(articles, body):
    for article in articles:
        for code in article.select("pre"):
            away = code.find_parent(class_="on-screen")
            if away:
                call = "cell_input" in away["class"] and not code.find_parent("details")
                assert not call or len(ast.parse(code.text).body) == 1, "more than a call is away"
                continue
            fold = code.find_parent("details")
            if fold and "code" in fold["class"] and fold.find_next_sibling("div"):  # it drew that
                assert squashed(code.text) not in body
                continue
            for line in code.text.splitlines():
                assert stands(squashed(line), body), line


def test_of_words_only_how_to_use_the_cells_is_left_out(body):
    assert squashed("Each chapter has at least five") in body  # where a teacher reads of exercises
    assert squashed("Write your answer in the first cell") not in body


def test_what_can_be_turned_is_said_to_be_on_the_website(articles, body):
    live = [element for article in articles for element in article.select(".live p, .explorer-needs")]
    assert len(live) >= 6
    for element in live:
        assert squashed(element.text) in body


# ---------------------------------------------------------------------- it can be handed out


def test_nothing_is_wider_than_the_page(build, open_page):
    page = open_page((build / "pdf" / "book.html").as_uri(), width=627)  # 166 mm between the margins
    page.emulate_media(media="print")
    wider = page.evaluate("""() => [...document.querySelectorAll('body *')]
        .filter((part) => !part.closest('svg') && part.getBoundingClientRect().right > innerWidth + 1)
        .map((part) => part.outerHTML.slice(0, 120))""")
    assert not wider
    assert not page.faults


def fonts(pdf):
    for page in pdf.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            yield font.get_object()


def test_fonts_are_embedded(pdf):
    names = set()
    for font in fonts(pdf):
        if font["/Subtype"] == "/Type0":
            (descendant,) = font["/DescendantFonts"]
            descriptor = descendant.get_object()["/FontDescriptor"]
            assert {"/FontFile2", "/FontFile3"} & descriptor.keys(), font["/BaseFont"]
            names.add(font["/BaseFont"].partition("+")[2])
        else:
            assert "/CharProcs" in font  # drawn in the PDF itself
    assert {"SourceSerif4-Regular", "SourceSerif4-Italic", "SourceSans3-Roman"} <= names
    assert {"KaTeX_Main-Regular", "KaTeX_Math-Italic", "KaTeX_Size2-Regular"} <= names


def test_it_says_what_it_is_and_not_where_it_was_made(path, pdf):
    assert pdf.metadata.title == CONFIG["title"]
    assert pdf.metadata.author == CONFIG["author"]
    assert pdf.metadata.creation_date is None
    assert pdf.root_object["/Lang"] == "en"
    assert pdf.root_object["/MarkInfo"]["/Marked"]
    assert path.stat().st_size <= MAX_BYTES


def test_headings_tables_and_lists_are_told_to_screen_readers(elements, articles, solutions):
    for kind, name in {"/H1": "h1", "/H2": "h2", "/H3": "h3", "/Table": "table"}.items():
        count = sum(len(article.select(name)) for article in articles)
        count += sum(name == f"h{level}" for level, _ in solutions)
        assert elements[kind, None] == count + (kind == "/H1"), kind  # and the contents' own


def test_without_a_chromium_it_says_how_to_get_one(tmp_path):
    empty = {**os.environ, "PATH": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    done = subprocess.run(
        [*PRINT, tmp_path], cwd=ROOT / "_ext", capture_output=True, text=True, check=False, env=empty
    )
    assert done.returncode != 0
    assert "apt install chromium" in done.stderr
    assert "Traceback" not in done.stderr


def test_page_numbers_that_never_come_to_rest_end_the_printing_with_their_names(site, tmp_path, monkeypatch):
    (tmp_path / "html").symlink_to(site.absolute())
    printed = iter(range(99))
    monkeypatch.setattr(print_book, "save_fonts", lambda folder: None)
    monkeypatch.setattr(print_book, "print_pages", lambda *_: {"start": 1, "moves": next(printed)})
    with pytest.raises(RuntimeError, match=r"in 4 prints these moved: \['moves'\]"):
        print_book.main(None, tmp_path)
    assert next(printed) == 4


# ---------------------------------------------------------------------- a page that a reader prints


def test_a_printed_page_follows_the_same_rules(open_page, served):
    page = open_page(f"{served}chapters/splitting-into-heads.html", width=627)
    page.emulate_media(media="print")
    assert page.locator(".fold.solution pre").first.is_visible()
    for away in (".fold.code", "header.site", "nav.turn", ".live", ".headerlink", "p.download"):
        assert not page.locator(away).first.is_visible(), away
    link = page.locator("a.external", has_text="nanoGPT#629")
    shown = link.evaluate("(link) => getComputedStyle(link, '::after').content")
    assert link.get_attribute("href") in shown
    assert page.evaluate("document.documentElement.scrollWidth") <= 627
