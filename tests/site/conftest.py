"""What the tests of built pages share: the site, its address, and a browser."""

import contextlib
import functools
import http.server
import os
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from pages import ROOT, build, opening
from playwright.sync_api import sync_playwright
from print_book import launch


@pytest.fixture(scope="session")
def serve():
    """Give a folder an address over http."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with contextlib.ExitStack() as servers:

        def serve(folder):
            handler = functools.partial(Quiet, directory=folder)
            server = servers.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}/"

        yield serve


@pytest.fixture(scope="session")
def site(request, tmp_path_factory):
    """The folder of the built pages: what ``--site`` names, or else the first worker builds them, for all."""
    if given := request.config.getoption("site"):
        return Path(given).resolve()
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            output = tmp_path_factory.mktemp("built")
            done = build(ROOT, output)
            assert done.returncode == 0, done.stderr[-4000:]
            output.rename(shared)
    return shared / "_build" / "html"


@pytest.fixture(scope="session")
def served(site, serve):
    """The site's address over http, not at the root of its host."""
    return f"{serve(site.parent)}{site.name}/"


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        try:
            chromium = launch(playwright)
        except FileNotFoundError as error:
            pytest.skip(str(error))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def picture(request):
    """Keep a picture of a page or an element where ``--pictures`` says; else there is none to keep."""
    folder = request.config.getoption("pictures")

    def picture(shown, name, **options):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shown.screenshot(path=Path(folder) / f"{name}.jpeg", **options)

    return picture if folder else None


@pytest.fixture
def open_page(browser):
    with opening(browser) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def open_for_all(browser):
    """The same for pages that the tests of a module share."""
    with opening(browser) as open_page:
        yield open_page
