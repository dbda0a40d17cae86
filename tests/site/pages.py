"""What the tests of built pages share: which there are, their looks, how books are built and pages opened."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import axe_playwright_python
import yaml

ROOT = Path(__file__).parents[2]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
LISTED = [TOC["root"], *(entry["file"] for part in TOC["parts"] for entry in part["chapters"])]
REFERENCE = [f"chapters/package/{path.stem}" for path in sorted((ROOT / "chapters" / "package").glob("*.md"))]
NOTEBOOKS = [page for page in LISTED if (ROOT / f"{page}.ipynb").exists()]
PAGES = [*LISTED, "search"]
THEMES, WIDTHS = ("light", "dark"), (1280, 390)
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
MAX_BYTES, MAX_REQUESTS = 500_000, 40


# Words that look alike, on grounds that look alike, have one contrast: axe is asked of the first of them.
LOOKS = """(part) => {
    const grounds = new Map([[null, '']]), looks = new Map();
    const ground = (element) => {
        if (!grounds.has(element)) {
            const { backgroundColor, backgroundImage, opacity, position, filter } = getComputedStyle(element);
            const own = [backgroundColor, backgroundImage, opacity, position, filter].join();
            const above = ground(element.parentElement);
            grounds.set(element, own === 'rgba(0, 0, 0, 0),none,1,static,none' ? above : `${above}|${own}`);
        }
        return grounds.get(element);
    };
    const words = (node) => node.nodeType === Node.TEXT_NODE && node.data.trim();
    for (const element of document.querySelectorAll(`${part}, ${part} *`)) {
        const field = element.matches('input, select, textarea, button');
        if (!element.checkVisibility() || !(field || [...element.childNodes].some(words))) continue;
        const { color, fontSize, fontWeight, textDecoration, textShadow } = getComputedStyle(element);
        const around = getComputedStyle(element.parentElement ?? element).color;
        const look = [element.tagName, color, fontSize, fontWeight, textDecoration, textShadow, around];
        const key = field ? element : look.join() + ground(element);
        if (!looks.has(key)) looks.set(key, element);
    }
    return [...looks.values()];
}"""


def barriers(page, part="html"):
    """Return what axe finds in a part of a page, in both themes: theme, rule, element.

    In the second theme only the rules about colours are asked: they alone can find anything else.
    """
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(AXE)
    run = f"""async ([part, tags, all]) => {{
        const changing = document.getAnimations().filter((change) => change instanceof CSSTransition);
        await Promise.allSettled(changing.map((change) => change.finished));
        const ask = async (where, colours) => {{
            const asked = axe.getRules(tags).filter((rule) => rule.tags.includes('cat.color') === colours
                && !rule.tags.includes('experimental'));
            const runOnly = asked.map((rule) => rule.ruleId);
            const options = {{runOnly, resultTypes: ['violations'], preload: false}};
            return (await axe.run(where, options)).violations;
        }};
        const words = ({LOOKS})(part);
        const ofColours = words.length ? await ask({{include: words}}, true) : [];
        return all ? [...ofColours, ...await ask(part, false)] : ofColours;
    }}"""
    found = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        found += [
            (theme, rule["id"], node["html"][:200])
            for rule in page.evaluate(run, [part, WCAG, theme == THEMES[0]])
            if rule["id"] != "empty-table-header"  # a corner may be empty
            for node in rule["nodes"][:3]
        ]
    return found


def build(source, output):
    """Build a book as ``make book`` does, on a system whose own encoding knows no letter beyond ASCII."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source, "--path-output", output]
    command += ["--all", "-W", "-n", "--keep-going", "--quiet"]
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ascii_only)


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
    (book / "_toc.yml").write_text(f"format: jb-book\nroot: {page}\n", encoding="utf-8")
    path = os.pathsep.join([str(folder / "empty"), os.environ.get("PYTHONPATH", "")])
    command = [Path(sys.executable).with_name("jupyter-book"), "build", book, "--all", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-4000:]
    return book / "_build" / "html"


@contextlib.contextmanager
def opening(browser):
    """Open an address; the page's ``faults`` and ``addresses`` say what went wrong and what it asked for."""
    contexts = []

    def open_page(address, theme="light", width=1280, script=""):
        height = 800 if width > 800 else 844
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.faults, page.addresses = [], []
        page.on("request", lambda request: page.addresses.append(request.url))
        page.on("requestfailed", lambda request: page.faults.append(f"failed: {request.url}"))
        page.on(
            "response",
            lambda answer: answer.status < 400 or page.faults.append(f"{answer.status}: {answer.url}"),
        )
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on(
            "console",
            lambda message: message.type in ("error", "warning") and page.faults.append(message.text),
        )
        page.add_init_script(script)
        page.goto(address)
        page.evaluate("document.fonts.ready")
        page.wait_for_selector(":root:not(.waiting, .top-first)")
        return page

    yield open_page
    for context in contexts:
        context.close()
