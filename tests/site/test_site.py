"""The built site in a real browser: over http under a sub-path, and from the disk.

Every page is looked at in light and dark, at 1280 and 390 pixels; ``make pictures`` keeps what is seen.
"""

import gzip
import json
import re
import shutil
import time
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urldefrag, urljoin, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from pages import (
    LISTED,
    MAX_BYTES,
    MAX_REQUESTS,
    NOTEBOOKS,
    PAGES,
    REFERENCE,
    ROOT,
    THEMES,
    TOC,
    WIDTHS,
    barriers,
    build,
    opening,
)
from quiet.search import render_tex
from quiet.tables import join_numbers

from manyheads import plots


def html(site, page):
    return (site / f"{page}.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------------- every page, looked at


SHIFTS = """
    window.shift = 0;
    new PerformanceObserver((seen) => seen.getEntries().forEach((entry) => (window.shift += entry.value)))
        .observe({type: 'layout-shift'});
"""


@pytest.fixture(scope="module", params=WIDTHS)
def width(request):
    return request.param


@pytest.fixture(scope="module", params=PAGES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def look(browser, served, name, width):
    """A page in one width; the tests that look at it share it, since to load a chapter takes seconds."""
    with opening(browser) as open_page:
        yield open_page(f"{served}{name}.html", width=width, script=SHIFTS)


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")


def test_nothing_moves_once_it_is_drawn(look):
    look.wait_for_function("!document.documentElement.classList.contains('waiting')")
    look.wait_for_timeout(300)
    assert look.evaluate("shift") <= 0.05


def test_page_is_light(look, served, site):
    asked = {url for url in look.addresses if url.startswith("http")}
    files = [site / unquote(urlsplit(url).path).removeprefix(f"/{site.name}/") for url in asked]
    weight = sum(len(gzip.compress(file.read_bytes())) for file in files)
    assert weight <= MAX_BYTES
    assert len(asked) <= MAX_REQUESTS


def test_page_is_drawn_in_both_themes(look, name, width, picture):
    follows = """() => {
        const paper = getComputedStyle(document.body).backgroundColor;
        const figures = [...document.querySelectorAll('.figure svg')];
        return figures.every((svg) => getComputedStyle(svg.querySelector(':scope > g path')).fill === paper);
    }"""
    for theme in THEMES:
        look.emulate_media(color_scheme=theme)
        if picture:
            picture(look, f"{name.split('/')[-1]}-{width}-{theme}", full_page=True)
        assert look.evaluate(follows), f"in the {theme} theme, a figure's paper isn't the page's"


def test_whatever_can_be_touched_is_large_enough(look):
    unfold(look)
    small = """() => [...document.querySelectorAll('a, button, input, select, summary')].filter((target) => {
        const {width, height} = target.getBoundingClientRect();
        const display = getComputedStyle(target).display;
        const inText = target.matches('a') && display === 'inline';  // of these the rule asks nothing
        return target.checkVisibility() && width > 0 && !inText && (width < 24 || height < 24);
    }).map((target) => target.outerHTML.slice(0, 120))"""
    assert look.evaluate(small) == []


def test_what_a_page_shows_fits_it(look):
    """Only code may be wider. And no word of a figure reaches over the figure's edge."""
    unfold(look)
    wide = """() => [...document.querySelectorAll('.figure, .math-block, .output pre, .scroll')]
        .filter((shown) => !shown.closest('.highlight-python') && shown.scrollWidth > shown.clientWidth + 1)
        .map((shown) => shown.id || shown.innerText)"""
    assert look.evaluate(wide) == []
    over = """() => [...document.querySelectorAll('.figure svg')].filter((svg) => {
        const paper = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('g:not(defs *) > use:not([clip-path])')]
            .filter((sign) => !sign.closest('[clip-path]')).map((sign) => sign.getBoundingClientRect())
            .some((sign) => sign.bottom > paper.bottom + 1 || sign.top < paper.top - 1
                || sign.right > paper.right + 1 || sign.left < paper.left - 1);
    }).map((svg) => svg.closest('.figure').id)"""
    assert look.evaluate(over) == []


def test_no_line_ends_within_an_option(look):
    unfold(look)
    broken = """() => [...document.querySelectorAll('code .pre')]
        .filter((word) => /^--?\\w/.test(word.innerText) && word.getClientRects().length > 1)
        .map((word) => word.innerText)"""
    assert look.evaluate(broken) == []


def test_formulas_are_drawn(look, name):
    if name in NOTEBOOKS:
        cells = nbformat.read(ROOT / f"{name}.ipynb", 4).cells
        words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        words = (ROOT / f"{name}.md").read_text(encoding="utf-8") if name in LISTED else ""
    words = re.sub(r"```.*?```|`[^`]*`", "", words, flags=re.DOTALL)
    drawn = look.locator(".katex").count()
    assert drawn >= len(re.findall(r"\$\$.+?\$\$|\$[^$]+\$", words, flags=re.DOTALL))
    rest = """() => {
        const text = document.querySelector('main').cloneNode(true);
        text.querySelectorAll('pre, code, .katex').forEach((part) => part.remove());
        return text.textContent;
    }"""
    assert not re.search(r"\$|\\[(\[a-z]", look.evaluate(rest))


def test_a_notebook_can_be_downloaded_where_there_is_one(look, name):
    links = look.locator("a[download]", has_text="Download notebook")
    assert links.count() == (name in NOTEBOOKS)
    for link in links.all():
        with look.expect_download() as download:
            link.click()
        assert download.value.suggested_filename == f"{Path(name).name}.ipynb"
        assert Path(download.value.path()).read_bytes() == (ROOT / f"{name}.ipynb").read_bytes()


def test_page_is_open_to_everyone(look, served, width):
    """Comes last, since it spoils the page."""
    unfold(look)
    # what draws figures and formulas is hidden from assistive tools; the colours of code have their own test
    look.evaluate("""() => {
        document.querySelectorAll('.figure svg > *, .katex-html').forEach((part) => part.replaceChildren());
        document.querySelectorAll('pre').forEach((code) => (code.textContent = code.textContent));
    }""")
    assert not barriers(look)
    if width == 390:
        look.set_viewport_size({"width": 360, "height": 800})
    wider = look.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider == 0, f"the page is {wider} pixels wider than the screen"
    assert not look.faults
    strangers = [url for url in look.addresses if not url.startswith((served, "data:"))]
    assert not strangers
    assert look.locator("input[type=search]").count() == 1


def test_barriers_of_either_theme_are_seen(open_page):
    page = open_page("about:blank")
    dark = "@media (prefers-color-scheme: dark) {p {color: #444; background: #222; transition: all .2s}}"
    page.set_content(f"<style>{dark}</style><p>Words</p><button></button>")
    found = {(theme, rule) for theme, rule, _ in barriers(page)}
    assert found >= {("light", "button-name"), ("dark", "color-contrast")}
    assert ("light", "color-contrast") not in found


FAINT = {
    "another ground": "<p>on grey</p>",
    "another colour": '<b style="color: #aaa">grey</b>',
    "less opaque": "<i>faint</i>",
}


@pytest.mark.parametrize("fault", FAINT)
def test_of_words_that_look_alike_the_faint_one_is_seen(open_page, fault):
    page = open_page("about:blank")
    style = "<style>html {background: #fff} p {color: #666} div {background: #888} i {opacity: .3}</style>"
    alike = "<p>These <b>look</b> alike.</p>" * 9
    faint = FAINT[fault]
    page.set_content(f"{style}{alike}<div>{faint}</div>{alike}")
    seen = {(theme, html) for theme, rule, html in barriers(page) if rule == "color-contrast"}
    assert seen == {(theme, faint) for theme in THEMES}
    page.set_content(f"{style}{alike}")
    assert not [rule for _, rule, _ in barriers(page) if rule == "color-contrast"]


def test_a_system_that_is_dark_gets_a_dark_page(open_page, served):
    page = open_page(f"{served}{TOC['root']}.html", "dark")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.get_by_role("button", name="Dark theme").get_attribute("aria-pressed") == "true"


def test_a_table_whose_words_need_more_than_a_phone_gets_small_letters_or_becomes_a_list(site):
    """Each cell of a list says its column's name. A formula counts as it is read, not as TeX, and once."""
    tables = {
        tuple(cell.get_text() for cell in table("th")[:2]): table
        for name in ("notation", "what-heads-cost", "models-and-data", "heads-on-small-machines")
        for table in BeautifulSoup(html(site, f"chapters/{name}"), "html.parser").select("table")
    }
    stacked, tight = (
        {first for first, table in tables.items() if kind in table["class"]} for kind in ("stack", "tight")
    )
    assert stacked >= {("symbol", "in code"), ("regime", "what stays fixed"), ("model", "layers")}
    assert tight >= {("regime", "FLOPs"), ("heads", "best"), ("what", "size, MB")}
    plain = set(tables) - stacked - tight
    assert plain >= {("what", "formula"), ("model, loaded in float32", "CPU seconds"), ("", "gradient")}
    ours = tables["ours", "Vaswani 2017"]
    names = [cell.get_text() for cell in ours("th")]
    assert [cell["data-label"] for cell in ours.select_one("tbody tr")("td")] == names
    symbol = tables["symbol", "in code"].select_one("tbody tr")  # n has no shape, and a list doesn't say so
    assert [cell.get("data-label") for cell in symbol("td")] == ["symbol", "in code", None, "meaning"]


def test_no_line_of_a_table_ends_within_an_interval(site):
    said = "<td>-0.718 [0.661, 0.775]</td><td>x 0.51 (0.49 to 0.52)</td><td>max 3 ± 0.002, [CLS] and 1</td>"
    joint = "<td>-0.718 [0.661,_0.775]</td><td>x_0.51 (0.49_to_0.52)</td><td>max 3 ±_0.002, [CLS] and 1</td>"
    assert join_numbers(said).replace("\u00a0", "_") == joint
    for name in NOTEBOOKS:
        tables = BeautifulSoup(html(site, name), "html.parser").select("table")
        cells = [cell.get_text() for table in tables for cell in table("td") if not cell.select(".katex")]
        assert not [cell for cell in cells if re.search(r"\[-?[\d.]+, |\([\d.]+ to |[±×] \d", cell)], name


@pytest.mark.parametrize("name", PAGES)
def test_page_opens_from_the_disk(open_page, site, name):
    page = open_page((site / f"{name}.html").as_uri())
    assert not page.faults
    assert all(url.startswith((site.as_uri(), "data:")) for url in page.addresses)


def slow_fonts(route):
    time.sleep(2.5)
    route.continue_()


def test_a_page_whose_fonts_are_late_does_without_them(browser, served):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(SHIFTS)
    page.route("**/*.woff2", slow_fonts)
    page.goto(f"{served}{TOC['root']}.html", wait_until="commit")
    page.wait_for_function("document.documentElement.classList.contains('late')")
    assert page.locator("h1").is_visible()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)
    assert "Source" not in page.evaluate("getComputedStyle(document.body).fontFamily")
    assert page.evaluate("shift") <= 0.05
    context.close()


def test_fonts_are_asked_for_before_the_styles_have_come(browser, served):
    context = browser.new_context()
    page = context.new_page()
    page.route("**/*.css*", lambda route: None)  # they never do
    page.goto(f"{served}{TOC['root']}.html", wait_until="commit")
    fonts = "performance.getEntriesByType('resource').filter(({name}) => name.endsWith('woff2'))"
    page.wait_for_function(f"{fonts}.length == 3", polling=50)
    assert page.evaluate("document.fonts.size") == 0
    context.close()


LONG = "chapters/what-one-head-cannot-do"
FIRST_WORDS = "[...document.querySelectorAll('article > section > section')].map(({children}) => children[1])"


def test_the_top_of_a_page_is_drawn_first(browser, served):
    context = browser.new_context()
    page = context.new_page()
    last = []
    page.route("**/site.js*", lambda route: last.append(route))
    page.goto(f"{served}{LONG}.html", wait_until="commit")
    page.wait_for_selector(".ready nav.turn", state="attached")
    drawn = page.evaluate(f"{FIRST_WORDS}.map((words) => words.checkVisibility())")
    assert len(drawn) > 5
    assert drawn == [True, True, *(False for _ in drawn[2:])]
    assert not page.evaluate(
        f"{FIRST_WORDS}[1].parentElement.lastElementChild.firstElementChild.checkVisibility()"
    )
    last.pop().continue_()
    page.wait_for_selector(":root:not(.top-first)")
    assert all(page.evaluate(f"{FIRST_WORDS}.map((words) => words.checkVisibility())"))
    context.close()


def test_who_comes_back_or_for_a_section_finds_the_place(open_page, served):
    page = open_page(f"{served}{LONG}.html#exercises")
    assert abs(page.locator("#exercises").bounding_box()["y"]) < 100
    page.evaluate("scrollTo(0, 9000)")
    page.reload()
    page.wait_for_function("scrollY == 9000")
    page.goto(f"{served}{TOC['root']}.html")
    page.go_back()
    page.wait_for_function("scrollY == 9000")
    assert not page.faults


@pytest.mark.parametrize("name", PAGES)
def test_little_stands_before_the_first_picture_of_a_page(site, name):
    page = BeautifulSoup(html(site, name), "html.parser")
    assert not page.select("head script[src]:not([defer])")
    styles = [urlsplit(style["href"]).path for style in page.select("link[rel=stylesheet]")]
    blocking = [(site / name).parent / style for style in styles]
    assert sum(len(gzip.compress(style.read_bytes())) for style in blocking) <= 20_000
    assert len(gzip.compress(html(site, name).encode())) <= 250_000


# ---------------------------------------------------------------------- getting about

TERMS = re.findall(
    r"^(\S.*)\n  \S",
    (ROOT / "chapters" / "glossary.md").read_text(encoding="utf-8").partition(":::{glossary}")[2],
    re.MULTILINE,
)


def found(page, start, words):
    """Ask the search page; return where its results lead."""
    page.goto(f"{start}search.html?q={quote(words)}")
    page.get_by_text("Found:").wait_for()
    return [link.get_attribute("href") for link in page.locator("#search-results li a").all()]


def test_search_finds_every_word_of_the_glossary(open_page, served):
    page = open_page(f"{served}search.html?q=head")
    page.get_by_text("Found:").wait_for()
    assert len(TERMS) > 70
    asked = "(term) => Search._performSearch(...Search._parseQuery(term)).map((result) => result[0])"
    assert not [term for term in TERMS if "chapters/glossary" not in page.evaluate(asked, term)]
    assert not page.faults


def test_search_finds_words_of_the_glossary_from_the_disk(open_page, site):
    page = open_page((site / "search.html").as_uri())
    for term in TERMS[::10]:
        assert any("glossary.html" in address for address in found(page, f"{site.as_uri()}/", term)), term
    assert not page.faults


def test_search_finds_what_pages_write_as_a_formula(open_page, served):
    page = open_page(f"{served}search.html")
    for symbol in ("W_o", "W_Q", "d_model"):
        addresses = " ".join(found(page, served, symbol))
        assert all(name in addresses for name in ("notation.html", "splitting-into-heads.html")), symbol


@pytest.mark.parametrize("width", WIDTHS)
def test_a_key_leads_to_the_search_from_anywhere_and_says_which(open_page, site, width):
    page = open_page(f"{site.as_uri()}/{TOC['root']}.html", width=width)
    box = page.get_by_role("searchbox")
    page.locator("main").click()
    for other in ("k", "Control+Shift+K", "Alt+K"):
        page.keyboard.press(other)
    assert page.evaluate("document.activeElement.type") != "search"
    page.keyboard.press("Control+K")
    assert page.evaluate("document.activeElement.type") == "search"
    assert box.is_visible()
    assert box.get_attribute("aria-keyshortcuts") == "Control+K Meta+K"
    assert box.get_attribute("placeholder") in ("Search (Ctrl K)", "Search (⌘ K)", "Search")
    page.keyboard.type("old")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Control+K")
    page.keyboard.type("new")
    assert box.input_value() == "new"
    assert not page.faults


@pytest.mark.parametrize("base", ["http", "disk"])
@pytest.mark.parametrize("words", ["softmax", "multi-head", "KV cache"])
def test_search_finds(open_page, served, site, base, words):
    start = served if base == "http" else f"{site.as_uri()}/"
    page = open_page(f"{start}{TOC['root']}.html")
    page.get_by_role("searchbox").fill(words)
    page.keyboard.press("Enter")
    results = page.locator("#search-results li a")
    results.first.wait_for()
    page.get_by_text("Each page has all of these words.").wait_for()
    assert any("glossary.html" in link.get_attribute("href") for link in results.all())
    page.goto(f"{start}search.html?q=zzyzx")
    page.get_by_text("Found: none.").wait_for()
    page.go_back()
    results.first.click()
    page.locator("main h1").wait_for()
    assert "search.html" not in page.url
    assert not page.faults


def places_of(page):
    """What stands below each page that was found: where it leads, its words, which of them are marked."""
    return page.evaluate("""() => [...document.querySelectorAll('ul.search ul li')].map((item) => ({
        href: item.querySelector('a').getAttribute('href'), title: item.querySelector('a').textContent,
        words: item.querySelector('p').textContent,
        marked: [...item.querySelectorAll('mark')].map((mark) => mark.textContent.toLowerCase()),
    }))""")


@pytest.mark.parametrize("base", ["http", "disk"])
def test_search_says_where_in_a_page(open_page, served, site, base):
    start = served if base == "http" else f"{site.as_uri()}/"
    page = open_page(f"{start}search.html")
    found(page, start, "fused kernel")
    shown = places_of(page)
    assert {place["href"].partition("#")[0] for place in shown} > {
        "chapters/what-heads-cost.html",
        "chapters/speed.html",
    }
    for place in shown:
        address, _, anchor = place["href"].partition("#")
        article = BeautifulSoup((site / address).read_text(encoding="utf-8"), "html.parser").article
        section = article.find(id=anchor) if anchor else article
        said = [section, *([section.find_next_sibling("dd")] if section.name == "dt" else [])]
        text = " ".join(part.get_text().lower() for part in said)
        assert place["marked"], place
        assert all(word in text and re.search("fuse|kernel", word) for word in place["marked"]), place
    best = next(place for place in shown if "what-heads-cost" in place["href"])
    assert {"fused", "kernel"} <= set(best["marked"])
    assert page.locator("[aria-live]", has_text="Found:").count() == 1
    assert not page.faults


def test_search_shows_what_the_glossary_says(open_page, served):
    page = open_page(f"{served}search.html")
    found(page, served, "KV cache")
    entry = page.locator("ul.search > li", has=page.locator("a[href*='#term-']")).first
    assert "The keys and values of earlier tokens" in entry.locator("p").text_content()


@pytest.mark.parametrize("width", WIDTHS)
def test_what_was_found_is_open_to_everyone(open_page, served, width, picture):
    page = open_page(f"{served}search.html", width=width)
    found(page, served, "head")
    for theme in THEMES if picture else ():
        page.emulate_media(color_scheme=theme)
        picture(page, f"found-{width}-{theme}")
    assert not barriers(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width


FORMULAS = {
    r"d_\text{model}": "d_model",
    r"\tfrac18 + \frac{ab}{c}": "1/8 + ab/c",
    r"QK^\top / \sqrt{d_\text{head}}": "QK^ᵀ / √d_head",
    r"h \times d_\text{head}": "h × d_head",
    r"11 \ln 2": "11 ln 2",
}


@pytest.mark.parametrize("tex", FORMULAS)
def test_a_formula_is_found_as_one_types_it(tex):
    assert render_tex(tex) == FORMULAS[tex]


def test_every_section_is_a_place(site):
    script = (site / "_static" / "places.js").read_text(encoding="utf-8")
    written = json.loads(script.removeprefix("const places = ").rstrip(";\n"))
    assert written.keys() == {f"{name}.html" for name in LISTED + REFERENCE}
    for name in LISTED:
        page = BeautifulSoup(html(site, name), "html.parser").article
        sections = [section["id"] for section in page.select("section[id]")]
        entries = [term["id"] for term in page.select("dl.glossary dt[id]")]
        assert [where for where, _, _ in written[f"{name}.html"]] == [
            "",
            *(f"#{at}" for at in sections[1:] + entries),
        ]
        first = page.select_one("section > p")
        if first and not first.select(".katex"):
            assert " ".join(first.get_text().split())[:60] in written[f"{name}.html"][0][2]


def test_the_address_of_the_site_leads_to_its_first_page(open_page, served):
    page = open_page(f"{served}search.html")
    page.goto(served)
    page.wait_for_url(f"**/{TOC['root']}.html")
    assert not page.faults


def test_links_lead_somewhere(site):
    pages = {path.resolve(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    names = {path: set(re.findall(r'\sid="([^"]+)"', text)) for path, text in pages.items()}
    lost = []
    for path, text in pages.items():
        for href in re.findall(r'<a [^>]*?href="([^"]+)"', text):
            if urlsplit(href).scheme:
                continue
            address, fragment = urldefrag(urljoin(path.as_uri(), href))
            target = Path(unquote(urlsplit(address).path))
            if not target.exists() or (fragment and unquote(fragment) not in names[target]):
                lost.append(f"{path.name}: {href}")
    assert not lost


def test_no_line_can_begin_with_the_sign_behind_a_formula(site):
    for name in NOTEBOOKS:
        page = BeautifulSoup(html(site, name), "html.parser")
        behind = [formula.next_sibling for formula in page.select("article .katex:not(.math-block *)")]
        assert not [text for text in behind if re.match("[,.;:!?)]", str(text or ""))], name


def test_no_two_things_on_a_page_have_one_name(site):
    for name in PAGES:
        ids = re.findall(r'\sid="([^"]+)"', html(site, name))
        assert len(ids) == len(set(ids)), name


def test_theme_is_remembered(open_page, served):
    page = open_page(f"{served}{TOC['root']}.html", "light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate(ground) != light
    page.goto(f"{served}{LISTED[-1]}.html")
    assert page.evaluate(ground) != light


def test_contents_open_on_a_phone(open_page, served):
    page = open_page(f"{served}{TOC['root']}.html", width=390)
    link = page.locator("nav.chapters a", has_text="Glossary")
    assert not link.is_visible()
    page.get_by_role("button", name="Contents").click()
    link.click()
    page.wait_for_url("**/glossary.html")


def test_paper_is_printed_light(open_page, served):
    page = open_page(f"{served}{NOTEBOOKS[-1]}.html", "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


# ---------------------------------------------------------------------- figures and colours


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_figures_are_in_the_page_with_words(site, name):
    outputs = [
        out for cell in nbformat.read(ROOT / f"{name}.ipynb", 4).cells for out in cell.get("outputs", [])
    ]
    said = [
        " ".join(out.data["text/plain"].split()) for out in outputs if "image/svg+xml" in out.get("data", {})
    ]
    figures = re.findall(r'<div class="figure">(<svg .*?</svg>)</div>', html(site, name), flags=re.DOTALL)
    assert len(figures) == len(said)
    assert html(site, name).count("<img") == 0
    for figure, alt in zip(figures, said, strict=True):
        assert unescape(re.search(r'aria-label="([^"]*)"', figure)[1]) == alt
        painted = set(re.findall(r"(?:fill|stroke)[:=]\"?\s*([^;\"]+)", figure))
        assert all(paint == "none" or paint.startswith("var(--mh-") for paint in painted), painted


def contrast(one, other):
    def light(colour):
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        parts = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_read_and_are_those_of_the_figures():
    style = (ROOT / "_static" / "site.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--(?:mh-)?(\w+): (#[0-9a-f]{6})", block))
        for block in re.findall(r':root(?:\[data-theme="dark"\])? \{(.*?)\}', style, flags=re.DOTALL)
    )
    names = ("ink", "muted", "blue", "orange", "green", "purple")
    assert all(light[name] == getattr(plots, name.upper()) for name in (*names, "paper", "grid"))
    for colours in (light, dark):
        for name in names:
            assert contrast(colours[name], colours["paper"]) >= 4.5, name
            assert contrast(colours[name], colours["wash"]) >= 4.5, name


# ---------------------------------------------------------------------- what the build refuses

FAULTS = {
    "formula": ("$\\frac{1}$", "KaTeX can't read"),
    "page": ("[nowhere](nowhere.md)", "cross-reference target not found: 'nowhere.md'"),
    "section": ("[nowhere](#nowhere)", "cross-reference target not found: 'nowhere'"),
    "citation": ("{cite:t}`nobody1900nothing`", 'could not find bibtex key "nobody1900nothing"'),
    "term": ("{term}`no such word`", "term not in glossary: 'no such word'"),
}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M 0 0" style="fill: {}"/></svg>'
FIGURE_FAULTS = {
    "colour": (
        SVG.format("#123456"),
        "A square in a colour of its own.",
        "colours that plots doesn't name: #123456",
    ),
    "words": (SVG.format(plots.INK), "<Figure size 640x480 with 1 Axes>", "a text that says what it shows"),
}


def book(folder, words, figures, settings=""):
    """Write a book of one page with this site's settings, and more."""
    shutil.copy(ROOT / "references.bib", folder)
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    (folder / "_config.yml").write_text(config + settings, encoding="utf-8")
    (folder / "_ext").symlink_to(ROOT / "_ext")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: page\n", encoding="utf-8")
    bundles = [
        nbformat.v4.new_output("display_data", data={"image/svg+xml": svg, "text/plain": alt})
        for svg, alt in figures
    ]
    cells = [nbformat.v4.new_markdown_cell(words), nbformat.v4.new_code_cell("draw()", outputs=bundles)]
    language = {"language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=language), folder / "page.ipynb")
    return build(folder, folder)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound book of one page that has a public home."""
    folder = tmp_path_factory.mktemp("sound")
    home = "repository: {url: https://github.com/some/book, branch: trunk, path_to_book: in/here}\n"
    words = "# Sound\n\n$\\frac{1}{2}$"
    done = book(folder, words, [(SVG.format(plots.INK), "A square in the colour of ink.")], home)
    return done, folder / "_build" / "html"


def test_a_sound_book_is_built(sound, site):
    done, _ = sound
    assert done.returncode == 0, done.stderr
    for offer in ("Open in", "Report an error"):
        assert offer not in html(site, LISTED[1]), "this one has no public home"


def test_a_book_with_a_public_home_opens_there(sound):
    page = BeautifulSoup(html(sound[1], "page"), "html.parser")
    assert {link.text: link["href"] for link in page.select("p.download a:not([download])")} == {
        "Open in Colab": "https://colab.research.google.com/github/some/book/blob/trunk/in/here/page.ipynb",
        "Open in Binder": "https://mybinder.org/v2/gh/some/book/trunk?labpath=in%2Fhere%2Fpage.ipynb",
    }


def test_a_reader_of_a_book_with_a_public_home_can_report_an_error_on_each_page(sound):
    page = BeautifulSoup(html(sound[1], "page"), "html.parser")
    (link,) = page.select("p.report a")
    assert link.text == "Report an error on this page"
    address = urlsplit(link["href"])
    assert f"{address.scheme}://{address.netloc}{address.path}" == "https://github.com/some/book/issues/new"
    assert parse_qs(address.query)["title"] == ["Error on page"]
    assert not BeautifulSoup(html(sound[1], "search"), "html.parser").select("p.report")


def test_a_home_that_neither_service_knows_is_refused(tmp_path):
    done = book(tmp_path, "# Abroad", [], "repository: {url: https://example.org/book}\n")
    assert done.returncode != 0
    assert (
        "repository.url must read https://github.com/OWNER/NAME, not 'https://example.org/book'"
        in done.stderr
    )


@pytest.fixture(scope="module")
def refusal(tmp_path_factory):
    words = "# Faulty\n\n" + "\n\n".join(text for text, _ in FAULTS.values())
    return book(tmp_path_factory.mktemp("faulty"), words, [fault[:2] for fault in FIGURE_FAULTS.values()])


@pytest.mark.parametrize("fault", [*FAULTS, *FIGURE_FAULTS])
def test_the_build_refuses_a_faulty(refusal, fault):
    assert refusal.returncode != 0
    assert {**FAULTS, **FIGURE_FAULTS}[fault][-1] in refusal.stderr
