"""The chapters' form, and proof that a chapter which no longer says what its code says is caught.

``chapters/conftest.py`` and nbval run every cell again; ``hygiene`` sees what nbval doesn't.
"""

import ast
import base64
import copy
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import hygiene
import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from manyheads import plots

ROOT = Path(__file__).parents[2]
CHAPTERS = ROOT / "chapters"
NOTEBOOKS = sorted(CHAPTERS.glob("*.ipynb"))
WITHOUT_EXERCISES = {"explorer.ipynb", "start.ipynb"}


@cache
def public_names():
    """What the rooms of the library define for others, read from their source."""
    names = set()
    for path in (ROOT / "src" / "manyheads").glob("*.py"):
        names = names.union(*hygiene.defined(ast.parse(path.read_text(encoding="utf-8"))))
    return {name for name in names if not name.startswith("_")}


# ---------------------------------------------------------------------- the chapters


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_in_order(path):
    more = [hygiene.redefines(public_names())]
    if path.name not in WITHOUT_EXERCISES:
        more.append(hygiene.has_exercises)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    found = hygiene.faults(notebook, *more)
    assert not found, "\n".join(["", *found])
    assert path.stat().st_size <= hygiene.MAX_BYTES


def test_the_contents_and_the_pages_are_the_same():
    def listed(node):
        if isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from listed(child)

    contents = list(listed(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))))
    assert len(contents) == len(set(contents))
    wanted = {
        str(path.relative_to(ROOT).with_suffix(""))
        for kind in ("ipynb", "md")
        for path in CHAPTERS.rglob(f"*.{kind}")
    }
    assert {str(Path(name).with_suffix("")) for name in contents} == wanted


# ---------------------------------------------------------------------- a small chapter


def markdown(name, text):
    return nbformat.v4.new_markdown_cell(text, id=name)


def code(name, text, **metadata):
    return nbformat.v4.new_code_cell(text, id=name, metadata=metadata)


FIGURES = ("picture", "drawing", "alt", "code")


def figure(name):
    return code(
        name,
        "fig, ax = plots.figure(2, 1)\nax.plot([0, 1], weights)\n"
        'plots.display(fig, alt="A flat line: both keys weigh the same.")',
    )


def small_chapter():
    cells = [
        markdown("intro", "# A small chapter\n\nHalf of the weight, 0.5, goes to each of two equal keys."),
        code(
            "setup",
            "import numpy as np\n\nfrom manyheads import plots, reference, show\n\nplots.use_style()",
            tags=["hide-input"],
        ),
        code(
            "weights", "weights = reference.softmax([0.0, 0.0])\nassert sum(weights) > 0.99\nprint(weights)"
        ),
        code("digit", "print(0.1234)"),
        code("source", "show.source(reference.softmax)"),
        *map(figure, FIGURES),
    ]
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def cell(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small chapter that has run."""
    notebook = small_chapter()
    resources = {"metadata": {"path": tmp_path_factory.mktemp("run")}}
    NotebookClient(notebook, kernel_name="python3", record_timing=False, resources=resources).execute()
    notebook.metadata = small_chapter().metadata
    return notebook


def damaged(notebook):
    """A copy that says something else than its code in every cell but two: setup and source."""
    notebook = copy.deepcopy(notebook)
    cell(notebook, "weights").outputs = []
    digit = cell(notebook, "digit").outputs[0]
    digit.text = digit.text.replace("0.1234", "0.1235")
    picture = cell(notebook, "picture").outputs[0].data
    raw = bytearray(base64.b64decode(picture["image/png"]))
    raw[-20] ^= 1
    picture["image/png"] = base64.b64encode(raw).decode()
    drawing = cell(notebook, "drawing").outputs[0].data
    drawing["image/svg+xml"] = drawing["image/svg+xml"].replace(plots.BLUE, plots.ORANGE)
    alt = cell(notebook, "alt").outputs[0].data
    alt["text/plain"] = alt["text/plain"].replace("flat", "steep")
    cell(notebook, "code").source = cell(notebook, "code").source.replace("[0, 1]", "[0, 2]")
    return notebook


def nbval(folder, **environment):
    """Run nbval as the book does: for each notebook the ids of the cells that fail."""
    shutil.copy(CHAPTERS / "conftest.py", folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", folder, "-rA", "."],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    failing = {}
    for path in folder.glob("*.ipynb"):
        ids = [one.id for one in hygiene.code(nbformat.read(path, 4))]
        passed, failed = (
            {
                ids[int(found[1])]
                for found in re.finditer(rf"^{word} {path.name}::Cell (\d+)", done.stdout, re.M)
            }
            for word in ("PASSED", "FAILED")
        )
        assert passed | failed == set(ids), done.stdout + done.stderr
        failing[path.stem] = failed
    return failing


def test_a_cell_that_measures_time_runs_alone(good, tmp_path):
    shutil.copy(CHAPTERS / "conftest.py", tmp_path)
    nbformat.write(good, tmp_path / "calm.ipynb")
    timed = copy.deepcopy(good)
    put("weights", metadata=measures(ignore_reason="times"))(timed)
    nbformat.write(timed, tmp_path / "timed.ipynb")
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path]
    command += ["-m", "alone", "--collect-only", "-q", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    number = hygiene.code(timed).index(cell(timed, "weights"))
    assert re.findall(r"^(\w+)\.ipynb::Cell (\d+)$", done.stdout, re.M) == [("timed", str(number))], (
        done.stdout
    )


def test_running_again_catches_every_damage(good, tmp_path):
    nbformat.write(good, tmp_path / "good.ipynb")
    nbformat.write(damaged(good), tmp_path / "damaged.ipynb")
    assert nbval(tmp_path) == {"good": set(), "damaged": {"weights", "digit", *FIGURES}}


@pytest.mark.parametrize(
    ("old", "new", "cells"),
    [
        ("[power / sum(powers)", "[power / (sum(powers) + 0.01)", {"weights", "source", *FIGURES}),
        ("largest = max(scores)\n", "largest = max(scores)  # the same\n", {"source"}),
    ],
    ids=["what it does", "how it reads"],
)
def test_running_again_catches_a_changed_function_that_a_chapter_shows(good, tmp_path, old, new, cells):
    changed = tmp_path / "src" / "manyheads"
    shutil.copytree(ROOT / "src" / "manyheads", changed, ignore=shutil.ignore_patterns("__pycache__"))
    text = (changed / "reference.py").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (changed / "reference.py").write_text(text.replace(old, new), encoding="utf-8")
    pages = tmp_path / "pages"
    pages.mkdir()
    nbformat.write(good, pages / "good.ipynb")
    assert nbval(pages, PYTHONPATH=str(changed.parent)) == {"good": cells}


def test_stripped_outputs_are_seen(good):
    notebook = copy.deepcopy(good)
    assert not hygiene.faults(notebook)
    for one in hygiene.code(notebook):
        one.update(outputs=[], execution_count=None)
    found = hygiene.faults(notebook)
    assert any("must have run once" in fault for fault in found)
    assert any("no cell has a stored output" in fault for fault in found)


# ---------------------------------------------------------------------- each rule


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def shown(**data):
    return nbformat.v4.new_output(
        "display_data", {kind.replace("_", "/"): text for kind, text in data.items()}
    )


def put(name, **changes):
    """A way to spoil a chapter: set fields of one cell."""

    def spoil(notebook):
        one = cell(notebook, name)
        for key, value in changes.items():
            one[key] = nbformat.from_dict(value)

    return spoil


def add(name, *outputs):
    return lambda notebook: cell(notebook, name).outputs.extend(outputs)


def write(text):
    return lambda notebook: notebook.cells.append(markdown("more", text))


def measures(**metadata):
    return {"tags": ["nbval-ignore-output"], **metadata}


ERROR = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])
SVG = "<svg></svg>"

SPOILT = {
    "must have run once": put("weights", execution_count=7),
    "an empty cell never runs": put("weights", source=" \n"),
    "stored stderr": add("weights", stream("a warning", "stderr")),
    "stored error without": add("weights", ERROR),
    "but raises nothing": put("weights", metadata={"tags": ["raises-exception"]}),
    "a path of one machine, '/home/a'": add("weights", stream("File /home/ada/book/x.py")),
    "a path of one machine, '/tmp/i'": add("weights", stream("\x1b[0;32m/tmp/ipykernel_12/1.py\x1b[0m")),
    r"a path of one machine, 'C:\\U'": add("weights", shown(text_html=r"C:\Users\ada")),
    "a path of one machine, '~/b'": put("weights", source="open('~/book')"),
    "tag 'nbval-skip'": put("weights", metadata={"tags": ["nbval-skip"]}),
    "tag 'hide-inputs'": put("weights", metadata={"tags": ["hide-inputs"]}),
    "hides from readers": put("weights", source="# NBVAL_SKIP\n1"),
    "which isn't ignored": put("weights", metadata={"ignore_reason": "times"}),
    "without ignore_reason": put("weights", metadata=measures(), source="assert time"),
    "asserts nothing": put("weights", metadata=measures(ignore_reason="times"), source="time = 1"),
    "neither time nor memory": put("weights", metadata=measures(ignore_reason="times"), source="assert 1"),
    "an id used twice": put("weights", id="source"),
    "an id must be readable": put("weights", id="3f2a9c1e"),
    "Weights: an id must be": put("weights", id="Weights"),
    f"{'a' * 65}: an id must be": put("weights", id="a" * 65),
    "must be called setup": put("setup", id="begin"),
    "kernel must be python3": lambda notebook: notebook.metadata.kernelspec.update(name="conda"),
    "only the name python": lambda notebook: notebook.metadata.language_info.update(version="3.11.2"),
    "notebook metadata that isn't": lambda notebook: notebook.metadata.update(widgets={}),
    "cell metadata that isn't": put("weights", metadata={"execution": {"iopub.status.idle": "2026"}}),
    "not plain Python": put("weights", source="%timeit 1"),
    "one title": write("# Another title"),
    "a level of heading": write("### Too deep"),
    "reads badly raw": write("```{note}\nthis\n```"),
    "an empty cell": write(""),
    "a figure whose text says nothing": add("weights", shown(image_png="", text_plain="<Figure size 9>")),
    "a figure without ['image/svg+xml']": add("weights", shown(image_png="", text_plain="a b c d e")),
    "a figure without ['image/png']": add(
        "weights", shown(**{"image_svg+xml": SVG, "text_plain": "a b c d e"})
    ),
    "an <img> without alt": add("weights", shown(text_html='<p><img src="x" alt=""></p>')),
    "a picture without alt": write("![](picture.png)"),
    "0.51 stands": write("About 0.51 of it."),
    "0.12345 stands": write("About 0.12345 of it."),
    "1024 stands": write("All 1,024 of it."),
    "1024.5 stands": write("| bytes |\n|---|\n| 1,024.5 |"),
    "defines softmax": put("weights", source="def softmax(scores):\n    return scores"),
    "defines attend": put("weights", source="if True:\n    attend = lambda query: query"),
    "defines merge_heads": put(
        "weights",
        source="from manyheads.attention import merge_heads\nfor merge_heads in range(3):\n    pass",
    ),
    "defines INK": put("weights", source="INK, paper = 1, 2"),
    "at least 5 exercises": write("## No exercises"),
}


@pytest.mark.parametrize("complaint", SPOILT)
def test_hygiene_sees(good, complaint):
    notebook = copy.deepcopy(good)
    rules = [hygiene.redefines(public_names())]
    assert not hygiene.faults(notebook, *rules)
    SPOILT[complaint](notebook)
    if "exercises" in complaint:
        rules.append(hygiene.has_exercises)
    assert any(complaint in fault for fault in hygiene.faults(notebook, *rules)), hygiene.faults(
        notebook, *rules
    )


@pytest.mark.parametrize(
    "text",
    [
        "Rounded to 0.123, or 0.12.",
        "In section 3.2.2, equation 1.5, chapters 1.1 and 1.2, table 3.4 and Exercise 9.9, with torch 2.13.",
        "In 2017, as `1.234` and $x = 9.75$ and\n\n$$y = 8.25$$\n\nand ``a `7.5` b`` say.",
        "```python\nx = 6.5\n```",
        "By {cite:t}`vaswani4.5`, [there](page-4.25.html), <b style='5.5'>bold</b>, arXiv:1706.03762.",
        "## 1.5 A numbered heading",
        "Words, 3 numbers and 100 % of what is small, as in nanoGPT#12345.",
    ],
)
def test_hygiene_lets_pass_what_no_cell_needs_to_compute(good, text):
    notebook = copy.deepcopy(good)
    write(text)(notebook)
    assert not hygiene.faults(notebook)


def test_hygiene_lets_pass_what_is_done_as_it_should_be(good):
    notebook = copy.deepcopy(good)
    add("weights", shown(**{"image_svg+xml": SVG, "image_png": "", "text_plain": "a b c d e"}))(notebook)
    put(
        "source",
        metadata=measures(ignore_reason="seconds of this machine"),
        source="assert (seconds := 1) < 2",
    )(notebook)
    put("digit", source="scores = [attend for attend in range(3)]\ndef mine(softmax):\n    attend = 1")(
        notebook
    )
    add("alt", ERROR)(notebook)
    put("alt", metadata={"tags": ["raises-exception"]})(notebook)
    assert not hygiene.faults(notebook, hygiene.redefines(public_names()))


# ---------------------------------------------------------------------- exercises


def exercise(number, level="core", answer="answer = None", check="Not answered yet.", solution="Right."):
    name = f"ex-1-{number}"
    call = "checks.number(answer, 'abc')"
    cells = [
        markdown(f"exercise-{number}", f"### Exercise 1.{number} · a title ({level})\n\nWhat is it?"),
        code(f"{name}-answer", answer),
        code(f"{name}-check", call),
        code(f"{name}-solution", f"answer = 1\n{call}", tags=["solution", "hide-cell"]),
    ]
    cells[2].outputs, cells[3].outputs = [stream(check)], [stream(solution)]
    return cells


def exercises(**changes):
    levels = ["warm-up", "core", "core", "stretch", "research"]
    made = [exercise(number, level) for number, level in enumerate(levels, 1)]
    made[2] = exercise(3, **changes)
    return nbformat.v4.new_notebook(cells=[one for cells in made for one in cells])


def test_good_exercises_pass():
    assert not list(hygiene.has_exercises(exercises()))
    assert not list(hygiene.has_exercises(exercises(answer="def mine(x):\n    ...")))


@pytest.mark.parametrize(
    ("complaint", "notebook"),
    [
        ("a heading must read", exercises(level="hard")),
        ("leave None or ...", exercises(answer="answer = 3")),
        ("'Not answered yet'", exercises(check="")),
        ("judge nothing", exercises(check="A: Not answered yet.\nB: Right.")),
        ("must say 'Right'", exercises(solution="Not yet")),
        ("missing: ['research']", nbformat.v4.new_notebook(cells=exercises().cells[:16] + exercise(5))),
        ("numbered in order", nbformat.v4.new_notebook(cells=exercises().cells[4:] + exercise(6))),
        ("at least 5", nbformat.v4.new_notebook(cells=exercises().cells[:16])),
        ("must follow", nbformat.v4.new_notebook(cells=exercises().cells[:18] + exercises().cells[19:])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_pattern_of_exercises_is_kept(complaint, notebook):
    assert any(complaint in fault for fault in hygiene.has_exercises(notebook)), list(
        hygiene.has_exercises(notebook)
    )


@pytest.mark.parametrize(
    ("complaint", "change"),
    [
        ("prints nothing", add("ex-1-2-answer", stream("3"))),
        ("must call the same check", put("ex-1-2-check", source="print('Not answered yet.')")),
        ("needs the tags", put("ex-1-2-solution", metadata={"tags": ["solution"]})),
    ],
)
def test_the_cells_of_an_exercise_do_their_part(complaint, change):
    notebook = exercises()
    change(notebook)
    assert any(complaint in fault for fault in hygiene.has_exercises(notebook))
