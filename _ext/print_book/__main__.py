"""Prints the built site: see :mod:`print_book`."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from print_book import launch, main

with sync_playwright() as playwright:
    try:
        browser = launch(playwright)
    except FileNotFoundError as error:
        sys.exit(f"The book is not printed: {error}")
    main(browser, Path(sys.argv[1]).resolve())
    browser.close()
