"""Lends the scripts of other extensions a few functions on elements, in the pages that they name.

It lies here because Jupyter Book loads each script of ``_static`` in every page. An extension sets this one
up and adds ``dom.js`` before its own script; Sphinx adds it to a page once, however many ask for it.
"""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

SCRIPT = Path(__file__).with_name("dom.js")


def copy_script(app: Sphinx, exception: Exception | None) -> None:
    """Copy the script into the site."""
    if app.builder.format == "html" and exception is None:
        copy_asset(SCRIPT, Path(app.outdir) / "_static")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the script with Sphinx."""
    app.connect("build-finished", copy_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
