"""Prints the built site as one PDF: ``python -m print_book _build`` writes ``_build/pdf/``.

The pages are put one behind the other into one page, which Chromium prints. How paper looks is said in
``_static/print.css``, for this book and for a page that a reader prints. Chromium can't write page numbers
into the contents: the first print tells them, the second one carries them. Solutions stand at the end.
"""

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pypdf
import yaml
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer
from playwright.sync_api import Browser, Playwright
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

logging.getLogger("pypdf").setLevel(logging.ERROR)  # Chromium counts its objects wrong by two, to no harm

ROOT = Path(__file__).parents[2]
FONTS = ("source-serif-4", "source-serif-4-ext", "source-serif-4-italic", "source-sans-3")
WEIGHTS = (400, 600)
PRINTS = 4  # the first tells on which pages things stand, the second carries that, a third changes nothing
FORMULA = re.compile(
    r'<span class="katex-mathml">.*?<annotation encoding="application/x-tex">(.*?)</annotation>'
    r'</semantics></math></span><span [^>]*class="katex-html"[^>]*>',
    re.DOTALL,
)
LINKED = re.compile(r'<h([1-6])>(.*?)<a class="headerlink" href="#([^"]+)".*?</a></h\1>', re.DOTALL)
HEADING = re.compile(r'<h([1-6]) id="([^"]+)">(.*?)</h\1>', re.DOTALL)
SOLVED = re.compile(
    r'(<h3 id="([^"]+)">((?:(?!</h3>).)*)</h3>(?:(?!<h3 ).)*?)'
    r'<div class="cell tag_solution[^>]*>\s*<details[^>]*><summary>\w+</summary>(.*?)</details>\s*</div>',
    re.DOTALL,
)
LINK = re.compile(r'<a class="reference internal" href="#((\w[\w-]*)[^"]*)"[^>]*>.*?</a>', re.DOTALL)


def launch(playwright: Playwright) -> Browser:
    """Start a Chromium: the system's, or else the one that Playwright has installed.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    """
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    found = map(shutil.which, names)  # the first has no windows, and opens pages sooner
    program = next(filter(None, found), playwright.chromium.executable_path)
    if not Path(program).exists():
        raise FileNotFoundError(
            "no Chromium found. Install one (Debian: apt install chromium), "
            "or let Playwright bring its own: .venv/bin/playwright install chromium"
        )
    quiet = ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    return playwright.chromium.launch(executable_path=program, args=quiet)


def name_headings(body: str) -> str:
    """Give a heading the name of its section: the section may begin at the foot of the page before."""
    for _, _, name in LINKED.findall(body):
        body = body.replace(f' id="{name}"', "", 1)
    return LINKED.sub(r'<h\1 id="\3">\2</h\1>', body)


def render_for_paper(body: str, name: str) -> str:
    """Render a page's text with names and links that hold in the book, without what paper can't show."""
    body = re.sub(r'(?<=\sid=")|(?<=href="#)|(?<=url\(#)', f"{name}.", body)
    body = re.sub(r'href="([\w-]+)\.html"', r'href="#\1"', body)
    body = re.sub(r'href="([\w-]+)\.html#', r'href="#\1.', body)
    # files of the site, and its pages in folders, which the book doesn't hold
    body = re.sub(r'<a [^>]*href="(?!https?:)[^"#]*/[^>]*>(.*?)</a>', r"\1", body)
    body = re.sub(r'<script type="application/json">.*?</script>', "", body)
    body = name_headings(body)
    # PDF readers speak a picture's text, but know no MathML
    return FORMULA.sub(r'<span class="katex-html" role="img" aria-label="\1">', body)


def render_heading(markup: str) -> str:
    """Render a heading as text: the outline of a PDF holds no formulas."""
    heading = BeautifulSoup(markup, "html.parser")
    for formula in heading.select(".katex"):
        tex = formula.select_one("[aria-label]")["aria-label"]
        formula.replace_with(re.sub(r"\\text|[{}]", "", tex.replace(r"\sqrt", "√")))
    return heading.get_text()


def parse_page(name: str, body: str) -> dict[str, Any]:
    """Return what the template asks of a page: its name, its text, its headings and its title."""
    headings = [
        {"level": int(level), "words": words, "id": target} for level, target, words in HEADING.findall(body)
    ]
    return {"name": name, "body": body, "headings": headings, "title": headings[0]["words"]}


def read_page(site: Path, file: str) -> dict[str, Any]:
    """Read a built page."""
    html = (site / f"{file}.html").read_text(encoding="utf-8")
    name = Path(file).name
    return parse_page(name, render_for_paper(re.search("<article>(.*)</article>", html, re.DOTALL)[1], name))


def take_solutions(pages: list[dict[str, Any]]) -> dict[str, Any]:
    """Take the solutions out of the chapters, leave word of where they are, and return a page of them."""
    taken = ['<h1 id="solutions.solutions">Solutions</h1>']
    for chapter in pages:
        if not SOLVED.search(chapter["body"]):
            continue
        name, title = chapter["name"], chapter["title"]
        taken.append(f'<h2 id="solutions.{name}">{title}</h2>')
        for _, exercise, words, solution in SOLVED.findall(chapter["body"]):
            taken.append(f'<h3 id="solutions.{exercise}">{words}</h3>{solution}')
        link = r'<a class="reference internal" href="#solutions.\2">Solution</a>'
        chapter["body"] = SOLVED.sub(rf'\1<p class="solution">{link}</p>', chapter["body"])
    return parse_page("solutions", "".join(taken))


def add_page_numbers(here: str, body: str, numbers: dict[str, int]) -> str:
    """Write behind a link to another chapter on which page it leads."""

    def number(link: re.Match) -> str:
        target, name = link.groups()
        if name in (here, "glossary", "bibliography") or target not in numbers:
            return link[0]
        return f'{link[0]}<span class="at"> (p. {numbers[target]})</span>'

    return LINK.sub(number, body)


def parts(site: Path) -> list[dict[str, Any]]:
    """Return the parts of the book in the order of its contents, each with its caption and pages."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    found = [{"caption": None, "pages": [read_page(site, toc["root"])]}]
    for part in toc["parts"]:
        pages = [read_page(site, entry["file"]) for entry in part["chapters"]]
        found.append({"caption": part["caption"], "pages": pages})
    solutions = take_solutions([page for part in found for page in part["pages"]])
    return [*found, {"caption": None, "pages": [solutions]}]


def save_fonts(folder: Path) -> None:
    """Write the book's fonts in the weights that it uses: a PDF can't hold a font of variable weight."""
    for name in FONTS:
        for weight in WEIGHTS:
            font = TTFont(ROOT / "_static" / "fonts" / f"{name}.woff2")
            font = instancer.instantiateVariableFont(font, {"wght": weight})
            # these letters look like ‘ and ’, and would stand for them in the text
            for table in font["cmap"].tables:
                table.cmap.pop(0x2BB, None)
                table.cmap.pop(0x2BC, None)
            font.flavor = None
            font.save(folder / f"{name}-{weight}.ttf")


def print_pages(browser: Browser, html: Path, pdf: Path) -> dict[str, int]:
    """Print a page to a PDF, and return on which of its pages each place is that a link leads to."""
    page = browser.new_page(java_script_enabled=False)
    page.goto(html.as_uri())
    page.pdf(path=pdf, prefer_css_page_size=True, print_background=True, tagged=True, outline=True)
    page.close()
    printed = pypdf.PdfReader(pdf)
    return {
        name.removeprefix("/"): printed.get_destination_page_number(place) + 1
        for name, place in printed.named_destinations.items()
    }


def bookmarks(parent: DictionaryObject) -> Iterator[DictionaryObject]:
    """Yield the items of a PDF's outline in their order."""
    item = parent.get("/First")
    while item:
        yield item.get_object()
        yield from bookmarks(item)
        item = item.get_object().get("/Next")


def finish(pdf: Path, metadata: dict[str, str], headings: Sequence[str]) -> None:
    """Say what the book is instead of what printed it and when, and make its outline plain text."""
    writer = pypdf.PdfWriter(clone_from=pdf)
    writer.pdf_header = "%PDF-1.7"  # tags and an outline are younger than what Chromium writes there
    writer.metadata = metadata
    for item, words in zip(bookmarks(writer.root_object["/Outlines"]), headings, strict=True):
        item[NameObject("/Title")] = TextStringObject(render_heading(words))
    writer.write(pdf)


def main(browser: Browser, build: Path) -> None:
    """Print the site that lies in the folder ``html`` of a build into its folder ``pdf``.

    Raises
    ------
    RuntimeError
        If the page numbers that a print carries move what it prints, each time anew.
    """
    site, folder = build / "html", build / "pdf"
    folder.mkdir(exist_ok=True)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    start = (site / "chapters" / "start.html").read_text(encoding="utf-8")
    book = {
        "title": config["title"],
        "author": config["author"],
        "question": re.search("<p><strong>(.*?)</strong></p>", start)[1],
        "licence": re.search("<footer>(.*?)</footer>", start, re.DOTALL)[1],
        "mark": (ROOT / "_ext" / "quiet" / "mark.svg").read_text(encoding="utf-8"),
        "fonts": FONTS,
        "weights": WEIGHTS,
        "parts": parts(site),
    }
    save_fonts(folder)
    template = jinja2.Template(Path(__file__).with_name("print_book.html").read_text(encoding="utf-8"))
    html, pdf = folder / "book.html", folder / "one-head-many-heads.pdf"
    numbers = {}
    for _ in range(PRINTS):
        text = template.render(book, numbers=numbers, add_page_numbers=add_page_numbers)
        html.write_text(text, encoding="utf-8")
        before, numbers = numbers, print_pages(browser, html, pdf)
        if numbers == before:
            break
    else:
        moved = sorted(name for name in numbers if numbers[name] != before.get(name))
        raise RuntimeError(f"page numbers must come to rest, but in {PRINTS} prints these moved: {moved[:5]}")
    headings = [
        heading["words"] for part in book["parts"] for page in part["pages"] for heading in page["headings"]
    ]
    metadata = {"/Title": book["title"], "/Author": book["author"], "/Subject": book["question"]}
    finish(pdf, metadata, ["Contents", *headings])
    print(f"The book is printed: {pdf}")
