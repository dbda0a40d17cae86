"""The book in WebKit, the engine of Safari: every page opens, a figure turns, the head explorer loads.

All else is tested in Chromium. Here WebDriver drives WebKitGTK's MiniBrowser, on a screen that nobody sees.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pages import PAGES
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.client_config import ClientConfig
from selenium.webdriver.remote.remote_connection import RemoteConnection
from selenium.webdriver.support.ui import WebDriverWait
from selenium.webdriver.webkitgtk.options import Options
from selenium.webdriver.webkitgtk.service import Service

from manyheads import cost

NOTE_FAULTS = """<script>
    window.faults = [];
    const note = (what) => window.faults.push(String(what));
    const failed = ({ src, href }) => `failed: ${src || href}`;
    addEventListener("error", (event) => note(event.message || failed(event.target)), true);
    addEventListener("unhandledrejection", (event) => note(event.reason));
    for (const kind of ["error", "warn"]) console[kind] = (...said) => note(said.join(" "));
</script>"""
FONTS = "return [...document.fonts].map(({family, status}) => [family.replaceAll('\"', ''), status])"
DRAWN = "return !document.documentElement.matches('.waiting, .top-first')"
COMPUTED = "return document.querySelector('#explorer .results').matches(':not([hidden], [aria-busy])')"


# ---------------------------------------------------------------------- a browser, and pages that note faults


@pytest.fixture(scope="module")
def programs():
    """The driver, the browser and the screen; Debian keeps the browser beside its library."""
    browsers = sorted(Path("/usr/lib").glob("*/webkit*gtk-*/MiniBrowser"))
    found = shutil.which("WebKitWebDriver"), next(iter(browsers), None), shutil.which("Xvfb")
    if not all(found):
        pytest.skip("no WebKit found. Install it (Debian: apt install webkit2gtk-driver xvfb)")
    return found


@contextlib.contextmanager
def screen(xvfb):
    """Start a screen that nobody sees; it chooses a free number and tells it."""
    read_end, write_end = os.pipe()
    command = [xvfb, "-displayfd", str(write_end), "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
    with (
        open(read_end, encoding="utf-8") as told,
        subprocess.Popen(command, pass_fds=[write_end], stderr=subprocess.DEVNULL) as process,
    ):
        os.close(write_end)
        try:
            number = told.readline().strip()
            assert number, "Xvfb didn't start"
            yield f":{number}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def webkit(programs):
    """One browser for all tests: to start it takes seconds."""
    driver, browser, xvfb = programs
    options = Options()
    options.binary_location = str(browser)
    options.add_argument("--automation")
    with screen(xvfb) as display:
        service = Service(driver, env={**os.environ, "DISPLAY": display})
        service.start()
        try:  # webdriver.WebKitGTK would do, but warns of itself
            address = ClientConfig(remote_server_addr=service.service_url)
            with webdriver.Remote(RemoteConnection(client_config=address), options=options) as webkit:
                yield webkit
        finally:
            service.stop()


@pytest.fixture(scope="module")
def watched(site, serve, tmp_path_factory):
    """The address of the site with pages that note their own faults: WebDriver can't ask for them."""
    folder = tmp_path_factory.mktemp("watched") / site.name
    shutil.copytree(site, folder, copy_function=os.symlink)
    for name in PAGES:
        page = folder / f"{name}.html"
        text = page.read_text(encoding="utf-8")
        page.unlink()  # a link: what it names stays as it is
        page.write_text(text.replace("<head>", f"<head>{NOTE_FAULTS}", 1), encoding="utf-8")
    return f"{serve(folder.parent)}{folder.name}/"


@pytest.fixture
def open_page(webkit, watched):
    """Open a page by its name; returns the browser once all of the page is drawn."""

    def open_page(name):
        webkit.get(f"{watched}{name}.html")
        until(webkit, DRAWN)
        return webkit

    return open_page


def until(page, script):
    """Wait until a script says yes."""
    WebDriverWait(page, 30, poll_frequency=0.05).until(lambda page: page.execute_script(script), script)


def one(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def faults(page):
    return page.execute_script("return window.faults")


# ---------------------------------------------------------------------- the tests


def test_a_fault_would_be_noted(open_page):
    page = open_page("search")
    assert faults(page) == []
    page.execute_script("""
        setTimeout(() => { throw new Error("thrown"); });
        Promise.reject(new Error("rejected"));
        console.warn("said");
        document.body.append(Object.assign(new Image(), { src: "missing.png" }));
    """)
    until(page, "return window.faults.length >= 4")
    noted = "\n".join(faults(page))
    assert all(words in noted for words in ("thrown", "rejected", "said", "missing.png")), noted


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_with_its_fonts_and_without_faults(open_page, name):
    page = open_page(name)
    assert page.title
    heading = one(page, "h1")
    assert heading.text
    assert heading.is_displayed()
    assert "ready" in one(page, ":root").get_attribute("class").split()  # else the fonts were late
    fonts = page.execute_script(FONTS)
    assert {"Source Serif", "Source Sans"} <= {family for family, status in fonts if status == "loaded"}
    assert not [family for family, status in fonts if status == "error"]
    assert not faults(page)


def test_a_figure_is_turned_by_keyboard_and_counts_as_the_library_does(open_page):
    page = open_page("chapters/what-heads-cost")
    sentence = one(page, "mh-cost .sentence")
    assert sentence.text.startswith("12 heads of width 64, each with its own keys and values, cost ")
    heads, shared = page.find_elements(By.CSS_SELECTOR, "mh-cost input[type=range]")
    heads.send_keys(Keys.ARROW_RIGHT)  # from 12 to the next divisor of 768
    shared.send_keys(Keys.ARROW_LEFT)  # from 16 to 8
    assert sentence.text.startswith("16 heads of width 48, sharing 8 key/value heads, cost ")
    parameters, flops, *_ = page.find_elements(By.CSS_SELECTOR, "mh-cost td .exact")
    assert int(parameters.text.replace(",", "")) == 12 * cost.parameters(768, 16, 8)
    assert int(flops.text.replace(",", "")) == 12 * cost.matmul_flops(768, 16, 8, n_query=512)
    assert not faults(page)


def press(page, name):
    """Choose a story and wait until it is told."""
    page.find_element(By.XPATH, f"//*[@id='explorer']//button[normalize-space()='{name}']").click()
    until(page, f"return document.querySelector('#explorer [aria-pressed=true]')?.textContent === '{name}'")
    until(page, COMPUTED)


def test_the_explorer_loads_its_model_and_shows_the_beautiful_head(open_page):
    page = open_page("chapters/explorer")
    one(page, "#explorer button[type=submit]").click()
    until(page, COMPUTED)
    assert len(page.find_elements(By.CSS_SELECTOR, "#explorer .results [role=gridcell]")) == 72
    assert "cat 79 %" not in one(page, "#explorer .summary").text  # all words together, at first
    press(page, "The beautiful head")
    assert "cat 79 %" in one(page, "#explorer .summary").text
    assert not faults(page)
