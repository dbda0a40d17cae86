"""What the tests of built pages share: which pages there are, in which looks, and how a book is built."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import axe_playwright_python
import yaml

ROOT = Path(__file__).parent.parent
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
LISTED = [TOC["root"], *(entry["file"] for part in TOC["parts"] for entry in part["chapters"])]
NOTEBOOKS = [page for page in LISTED if (ROOT / f"{page}.ipynb").exists()]
PAGES = [*LISTED, "search"]
LOOKS = [(theme, width) for theme in ("light", "dark") for width in (1280, 390)]
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
MAX_BYTES, MAX_REQUESTS = 500_000, 40


def build(source, output):
    """Build a book as ``make book`` does."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source, "--path-output", output]
    command += ["--all", "-W", "-n", "--keep-going", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def build_without(package, page, folder):
    """Build a book of one page where a package lacks its files; its links lead nowhere, so without ``-W``."""
    (folder / "empty" / package).mkdir(parents=True)
    (folder / "empty" / package / "__init__.py").touch()
    book = folder / "book"
    for name in ("_config.yml", "references.bib", f"{page}.ipynb"):
        (book / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, book / name)
    for name in ("_ext", "_static"):
        (book / name).symlink_to(ROOT / name)
    (book / "_toc.yml").write_text(f"format: jb-book\nroot: {page}\n")
    path = os.pathsep.join([str(folder / "empty"), os.environ.get("PYTHONPATH", "")])
    command = [Path(sys.executable).with_name("jupyter-book"), "build", book, "--all", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-4000:]
    return book / "_build" / "html"
