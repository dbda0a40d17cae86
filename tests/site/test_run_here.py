"""The cells that run in the page: which they are, and that a real browser's Python gives the stored outputs.

What holds for every page is tested in ``test_site``.
"""

import functools
import hashlib
import json
import re
import zipfile
from pathlib import Path

import nbformat
import pytest
import run_here
from bs4 import BeautifulSoup
from pages import NOTEBOOKS, ROOT, WIDTHS, barriers, build_without
from run_here import run_cells

FIRST_TWO = ("chapters/self-attention", "chapters/splitting-into-heads")
PATIENCE = 180_000  # milliseconds: a busy machine takes long to start Python


def notebook_cells(name):
    return [cell for cell in nbformat.read(ROOT / f"{name}.ipynb", 4).cells if cell.cell_type == "code"]


def stored(cell):
    """What a cell printed and its last value, as text."""
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.outputs]
    return "".join(texts).rstrip()


def offered(site, name):
    """For each cell of a page whose code can be seen: whether it can be run there."""
    page = BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    cells = [cell for cell in page.select("div.cell") if cell.select_one(".cell_input pre")]
    return ["runs-here" in cell["class"] for cell in cells]


# ---------------------------------------------------------------------- which cells, and what they need

SETUP = "import math, torch\nimport numpy as np\nfrom manyheads import plots, reference\ntorch.manual_seed(0)"
CELLS = [
    SETUP,
    "x = np.ones(3)\nk = 2",  # 1
    "def times(y):\n    return y * k",  # 2
    "x = [w for w in x]",  # 3
    "x[0] = 5",  # 4
    "k += 1",  # 5
    "assert times(x)[0] == 15",  # 6
    "class A:\n    size = 3\n    def area(self):\n        return self.size * math.pi",  # 7
    "plots.use_style()",  # 8
    "w = torch.ones(3)",  # 9
    "def first():\n    return second()\ndef second():\n    return A().area()",  # 10
    "w + 1",  # 11
    "nowhere + 1",  # 12
]
WHOLE = run_cells.WHOLE


def test_a_hint_alone_and_a_deletion_bind_nothing():
    assert run_cells.needed(["x = 1", "x: int", "del x", "print(x)"], 3) == [(0, WHOLE)]
    assert run_cells.needed(["x = 1", "x: int = 2", "print(x)"], 2) == [(1, WHOLE)]


@pytest.mark.parametrize(
    ("number", "needs", "modules"),
    [
        (1, [(0, 2)], {"numpy"}),
        (2, [(0, 2), (1, WHOLE)], {"numpy"}),
        (3, [(0, 2), (1, WHOLE)], {"numpy"}),  # w is the comprehension's own
        (4, [(0, 2), (1, WHOLE), (3, WHOLE)], {"numpy"}),
        (5, [(0, 2), (1, WHOLE)], {"numpy"}),
        (6, [(0, 2), *((cell, WHOLE) for cell in range(1, 6))], {"numpy"}),  # times uses k
        (7, [(0, 0)], {"math"}),
        (8, [(0, 3)], {"manyheads.plots"}),
        (10, [(0, 0), (7, WHOLE)], {"math"}),  # second is bound later, in the same cell
        (11, [(0, 1), (9, WHOLE)], {"torch"}),
    ],
)
def test_a_cell_needs_what_its_names_come_from(number, needs, modules):
    assert run_cells.needed(CELLS, number) == needs
    assert run_cells.modules(CELLS, number) == modules
    assert run_cells.unknown(CELLS, number) == set()


def test_a_name_from_nowhere_is_noticed():
    assert run_cells.unknown(CELLS, 12) == {"nowhere"}


def test_a_cell_is_offered_if_it_shows_something_light_or_leads_to_it():
    shows = [cell in (6, 8, 11, 12) for cell in range(len(CELLS))]
    assert run_here.can_run(CELLS, shows) == {1, 2, 3, 4, 5, 6}


def said(cells, number, book=None):
    told = []
    ended = run_cells.run(cells, book or cells, number, told.append)
    return ended, "".join(told)


def test_a_run_shows_prints_and_the_last_value_of_its_own_cell_only():
    cells = ["import math", "print('above')\nx = 2", "print('here')\nx + math.floor(1.5)"]
    assert said(cells, 2) == (True, "here\n3\n")


def test_nothing_stays_from_one_run_to_the_next():
    assert said(["left_over = 1"], 0) == (True, "")
    assert "NameError" in said(["left_over"], 0)[1]


def test_the_reader_may_break_the_numbers_of_the_book():
    cells = ["x = 3", "y = x + 1\nassert y == 4", "print(y)"]
    assert said(["x = 5", *cells[1:]], 2) == (True, "6\n")
    ended, told = said(["x = 5", *cells[1:]], 1)
    assert not ended
    assert re.fullmatch(
        r'.*File "this cell", line 2, in <module>\n    assert y == 4\n.*AssertionError\n', told, re.S
    )


def test_an_error_is_told_by_the_readers_own_lines():
    cells = ["import json", "def parsed(text):\n    return json.loads(text)", "parsed('}')"]
    ended, told = said(cells, 2)
    assert not ended
    assert re.findall(r'File "(.+)", line (\d+)', told) == [
        ("this cell", "1"),
        ("the cell “def parsed(text):”", "2"),
    ]
    assert told.splitlines()[-1].startswith("json.decoder.JSONDecodeError: Expecting value")


def test_a_cell_that_the_reader_broke_is_named_where_it_is_needed():
    book = ["answer = None", "answer = 4", "print(answer)"]
    ended, told = said(["answer = None", "answer = 4,5)", "print(answer)"], 2, book)
    assert not ended
    assert 'File "the cell “answer = 4,5)”", line 1' in told
    assert "SyntaxError" in told
    assert said(["answer = 4,5)", *book[1:]], 2, book) == (True, "4\n"), "it isn't needed here"


def test_a_run_that_prints_without_end_is_cut():
    _, told = said(["for i in range(10**5):\n    print(i)\nraise ValueError('at last')"], 0)
    assert len(told) < run_cells.LIMIT + 500
    assert told.endswith("ValueError: at last\n")


# ---------------------------------------------------------------------- what is loaded


def test_numpy_is_the_one_that_pyodide_names():
    (wheel,) = run_here.ASSETS.glob("*.whl")
    (lock,) = (file for file in run_here.pyodide() if file.name == "pyodide-lock.json")
    named = json.loads(lock.read_text(encoding="utf-8"))["packages"]["numpy"]
    assert (wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()) == (
        named["file_name"],
        named["sha256"],
    )
    assert any(name.endswith(".dist-info/LICENSE.txt") for name in zipfile.ZipFile(wheel).namelist())


def test_the_site_holds_pyodide_as_published_and_the_light_rooms(site):
    folder = site / "_static" / "run_here"
    for name, sha256 in run_here.PYODIDE.files.items():
        assert hashlib.sha256((folder / Path(name).name).read_bytes()).hexdigest() == sha256
    with zipfile.ZipFile(folder / "manyheads.zip") as rooms:
        names = {Path(name).stem for name in rooms.namelist()}
        assert names == {"__init__", "reference", "checks", "cost", "show", "packages", "bootstrap", "sizes"}
        for name in rooms.namelist():
            assert rooms.read(name) == (ROOT / "src" / name).read_bytes()


def test_without_pyodide_the_book_is_built_and_says_what_is_missing(tmp_path, open_page):
    built = build_without("flet_web", "chapters/the-verdicts", tmp_path)
    page = open_page((built / "chapters" / "the-verdicts.html").as_uri())
    assert page.get_by_text("make models").is_visible()
    assert not page.get_by_role("button", name="Run", exact=True).count()
    assert not page.faults


# ---------------------------------------------------------------------- in a browser


def ready(page, name):
    """Unfold all cells of a chapter; ``page.cell(id)`` is a cell of its notebook."""
    page.set_default_timeout(PATIENCE)
    page.evaluate("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
    ids = [cell.id for cell in notebook_cells(name)]
    page.cell = lambda name: page.locator(".cell:has(.cell_input pre)").nth(ids.index(name))
    return page


@pytest.fixture
def chapter(open_page, served):
    """Open a chapter."""
    return lambda name=FIRST_TWO[0], width=1280: ready(open_page(f"{served}{name}.html", width=width), name)


@pytest.fixture(scope="module")
def started(open_for_all, served):
    """A chapter for the tests that run Python in it: to start that takes seconds, so they share it."""
    return functools.cache(lambda name: ready(open_for_all(f"{served}{name}.html"), name))


def press(cell, name):
    cell.get_by_role("button", name=name, exact=True).click()


def write(cell, code):
    if not cell.get_by_role("textbox").count():
        press(cell, "Edit")
    cell.get_by_role("textbox").fill(code)


def outcome(cell):
    """Wait until a run has ended; returns what the page says of it, and the output that is seen."""
    status = cell.get_by_role("status").filter(has_text=re.compile("Ran|error|Stopped|ended"))
    status.wait_for()
    return status.text_content(), "".join(
        cell.locator(".cell_output:visible pre").all_text_contents()
    ).rstrip()


def test_nothing_is_loaded_before_the_reader_asks_and_then_the_size_is_said(started, served, site):
    """Comes first, since the tests below share its page."""
    page = started(FIRST_TWO[0])
    assert not [url for url in page.addresses if "run_here" in url and "/run." not in url]
    cell = page.cell("ex-1-1-check")
    before = len(page.addresses)
    press(cell, "Run")
    told = cell.get_by_role("status").text_content()
    assert cell.get_by_role("progressbar", name="Loading Python").is_visible()
    assert (
        outcome(cell)[1] == "Not answered yet. Write your number in the cell above, then run this one again."
    )
    names = [url.rsplit("/", 1)[1] for url in page.addresses[before:]]
    files = [site / "_static" / "run_here" / name for name in names]
    megabytes = f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
    assert megabytes in told
    assert megabytes in page.locator("#run-here").text_content()
    assert not page.faults


@pytest.mark.parametrize("name", FIRST_TWO)
def test_every_offered_cell_gives_its_stored_output(started, served, site, name):
    page = started(name)
    cells = notebook_cells(name)
    runs = offered(site, name)
    assert len(runs) == len(cells)
    for cell, runs_here in zip(cells, runs, strict=True):
        place = page.cell(cell.id)
        if runs_here:
            press(place, "Run")
            saying = "The same output as in the book." if stored(cell) else "It prints nothing."
            assert outcome(place) == (f"Ran. {saying}", stored(cell)), cell.id
        else:
            assert not place.get_by_role("button", name="Run").count()
            assert place.get_by_role("link", name="runs in JupyterLab").get_attribute("href") == "#run-here"
    assert "make lab" in page.locator("#run-here").text_content()
    assert not page.faults
    assert all(url.startswith(served) for url in page.addresses)


OTHERS = [name for name in NOTEBOOKS if name not in FIRST_TWO]


def test_so_does_every_offered_cell_of_the_other_chapters(open_page, served, site):
    page = open_page(f"{served}{OTHERS[0]}.html")
    page.evaluate("""() => {
        const python = new Worker('../_static/run_here/worker.js');
        window.run = (cells, number) => new Promise((done) => {
            let told = '';
            python.onmessage = ({ data: { said, ended, broken } }) => {
                told += said ?? broken ?? '';
                if (broken || ended !== undefined) done([ended ?? false, told.trimEnd()]);
            };
            python.postMessage({ cells, book: cells, number });
        });
    }""")
    n_run = 0
    for name in OTHERS:
        runs = offered(site, name)
        if not any(runs):
            continue
        cells = notebook_cells(name)
        assert len(runs) == len(cells)
        for number in (number for number, runs_here in enumerate(runs) if runs_here):
            told = page.evaluate("(asked) => run(...asked)", [[cell.source for cell in cells], number])
            assert told == [True, stored(cells[number])], cells[number].id
            n_run += 1
    assert n_run > 100
    assert not page.faults


def test_the_cells_with_numpy_alone_are_offered(site):
    """Told by their words: where neither they nor what they need name torch, a layer or a figure."""
    for name, wanted in zip(
        FIRST_TWO,
        (
            "pencil-vectors pencil-by-hand projections self-attention-by-hand why-three-code softmax-source "
            "softmax-laws-code reference-source two-looks breaks-code",
            "pencil-project pencil-attend pencil-output pencil-agrees",
        ),
        strict=True,
    ):
        ids = [cell.id for cell in notebook_cells(name)]
        runs = {one for one, runs_here in zip(ids, offered(site, name), strict=True) if runs_here}
        exercises = {one for one in runs if one.startswith("ex-")}
        assert runs - exercises == set(wanted.split())
        checked = {one.removesuffix("-check") for one in exercises if one.endswith("-check")}
        assert len(checked) >= 3
        assert {f"{one}-answer" for one in checked} <= exercises


def test_what_the_reader_writes_is_what_runs(started):
    page = started(FIRST_TWO[0])
    answer, check = page.cell("ex-1-1-answer"), page.cell("ex-1-1-check")
    write(answer, "answer = 4.5")
    press(check, "Run")
    assert outcome(check) == ("Ran.", "Right.")
    press(answer, "Reset")
    press(check, "Run")
    assert outcome(check)[0] == "Ran. The same output as in the book."

    cell = page.cell("pencil-by-hand")
    write(cell, "key @ query_of_happy @ 1")
    press(cell, "Run")
    told, shown = outcome(cell)
    assert told == "An error ended the run."
    assert re.fullmatch(
        r'Traceback .*\n  File "this cell", line 1, in <module>\n.*\nValueError: .*', shown, re.S
    )
    write(cell, "print('for ever')\nwhile True:\n    pass")
    press(cell, "Run")
    cell.get_by_text("for ever", exact=True).wait_for()
    press(check, "Run")
    assert "Another cell is running" in check.get_by_role("status").text_content()
    press(cell, "Stop")
    assert "What ran is gone" in outcome(cell)[0]
    write(cell, "import torch")
    press(cell, "Run")
    assert "No module named 'torch'" in outcome(cell)[1]
    press(cell, "Reset")
    assert not cell.get_by_role("textbox").count()
    press(cell, "Run")
    assert outcome(cell)[0] == "Ran. The same output as in the book."
    assert not page.faults


def test_editing_by_keyboard(started):
    page = started(FIRST_TWO[0])
    cell = page.cell("ex-1-3-answer")
    cell.get_by_role("button", name="Edit").focus()
    page.keyboard.press("Enter")
    editor = cell.get_by_role("textbox", name="Code of this cell")
    assert editor.evaluate("it => it === document.activeElement")
    assert editor.get_attribute("aria-describedby")
    assert cell.get_by_text("Tab or Esc leaves").get_attribute("id") == editor.get_attribute(
        "aria-describedby"
    )
    page.keyboard.press("Control+A")
    page.keyboard.type("for i in range(2):\nprint(i)\nprint(-i)")
    assert editor.input_value() == "for i in range(2):\n    print(i)\n    print(-i)"
    page.keyboard.press("Escape")
    assert cell.get_by_role("button", name="Run", exact=True).evaluate("it => it === document.activeElement")
    page.keyboard.press("Shift+Tab")
    assert editor.evaluate("it => it === document.activeElement")
    assert editor.evaluate("it => getComputedStyle(it).outlineStyle") == "solid"
    page.keyboard.press("Tab")
    assert not editor.evaluate("it => it === document.activeElement")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Control+Enter")
    assert outcome(cell) == ("Ran.", "0\n0\n1\n-1")
    assert editor.evaluate("it => it === document.activeElement"), "the reader writes on"


@pytest.mark.parametrize("width", WIDTHS)
def test_an_open_editor_is_open_to_everyone(chapter, width):
    page = chapter(FIRST_TWO[1], width=width)
    cell = page.cell("pencil-attend")
    write(cell, "x" * 300)
    cell.evaluate("it => it.scrollIntoView()")
    assert not barriers(page, ".cell:has(textarea), #run-here, .run-elsewhere")
    page.set_viewport_size({"width": min(width, 360), "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    heights = cell.get_by_role("button").evaluate_all("all => all.map(it => it.offsetHeight)")
    assert all(height == 0 or height >= 24 for height in heights)


def test_nothing_jumps_when_the_buttons_come(chapter):
    page = chapter()
    heights = """() => {
        const before = document.body.scrollHeight;
        document.querySelectorAll('.run, .run-elsewhere').forEach((row) => row.remove());
        return [before, document.body.scrollHeight];
    }"""
    before, after = page.evaluate(heights)
    assert abs(before - after) <= 20


def test_from_the_disk_the_button_says_why_not(open_page, site):
    page = open_page((site / f"{FIRST_TWO[0]}.html").as_uri())
    cell = page.locator(".runs-here").first
    press(cell, "Run")
    told = cell.get_by_role("status").text_content()
    assert "opened from the disk" in told
    assert "make serve" in told
    assert not page.faults
    assert not [url for url in page.addresses if "worker.js" in url]


def test_without_javascript_nothing_is_promised(browser, served):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served}{FIRST_TWO[0]}.html")
    assert not page.locator("#run-here").is_visible()
    assert not page.locator(".run").count()
    context.close()


def test_where_python_does_not_arrive_the_page_says_so(chapter):
    page = chapter()
    page.route("**/*.whl", lambda route: route.abort())
    cell = page.cell("ex-1-1-check")
    press(cell, "Run")
    assert outcome(cell)[0] == "Python ended: NumPy did not arrive. The next run starts it afresh."
    page.unroute("**/*.whl")
    press(cell, "Run")
    cell.get_by_role("status").filter(has_text="Ran.").wait_for()
