"""The house stands as its plan says: who imports whom, what stays light, what is explained, what is clean."""

import ast
import fnmatch
import graphlib
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "manyheads"
ROOMS = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.stem.startswith("__")
}


def plan():
    """CONTRIBUTING's table: for each room the rooms that it may import; "any above" and others by name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| room | imports of ours |")[2].partition("\n\n")[0]
    allowed = {}
    for rooms, imports in re.findall(r"^\| `([\w/*]+)` \| (.+?) \|$", table, re.MULTILINE):
        named, above = set(re.findall(r"`([\w/]+)`", imports)), imports.startswith("any above")
        assert named or above or imports == "none", f"{rooms}: what does {imports!r} allow?"
        may = named | (set(allowed) if above else set())
        new = set(fnmatch.filter(ROOMS, rooms)) - set(allowed)
        assert new, f"there is no room {rooms}"
        allowed |= dict.fromkeys(new, may)
    return allowed


def imports(tree):
    """Rooms of ours that a module imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = "manyheads." * (node.level > 0) + (node.module or "")
            names = [f"{origin.rstrip('.')}.{alias.name}" for alias in node.names]
        else:
            continue
        ours = (name.split(".")[1:] for name in names if name.startswith("manyheads."))
        yield from ("/".join(parts[: 1 + (parts[0] == "experiments")]) for parts in ours)


def test_the_plan_names_every_room_and_no_other():
    assert plan().keys() == ROOMS.keys()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_plan_allows(room):
    assert set(imports(ROOMS[room])) <= plan()[room]


def test_no_room_imports_itself_by_way_of_others():
    graphlib.TopologicalSorter({room: imports(tree) for room, tree in ROOMS.items()}).prepare()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from manyheads import attention", {"attention"}),
        ("from manyheads.attention import attend", {"attention"}),
        ("import manyheads.attention as a", {"attention"}),
        ("def f():\n    from .attention import attend", {"attention"}),
        ("from . import attention, cost", {"attention", "cost"}),
        ("from manyheads.experiments.lookup import lookup", {"experiments/lookup"}),
        ("from manyheads.experiments import lookup", {"experiments/lookup"}),
        ("import torch\nfrom attention import attend", set()),
    ],
)
def test_no_way_to_import_goes_unseen(source, found):
    assert set(imports(ast.parse(source))) == found


def test_the_package_itself_holds_a_docstring_and_the_version():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert [ast.unparse(node).split(" = ")[0] for node in tree.body[1:]] == ["__version__"]


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("manyheads", {"torch", "numpy", "matplotlib"}),
        ("manyheads.cost", {"torch", "numpy", "matplotlib"}),
        ("manyheads.reference", {"torch", "matplotlib"}),
        ("manyheads.results", {"torch", "numpy", "matplotlib", "safetensors", "tokenizers", "gguf", "onnx"}),
        ("manyheads.experiments.runner", {"safetensors", "tokenizers", "gguf", "onnx", "matplotlib"}),
        ("manyheads.attention", {"matplotlib"}),
        ("manyheads.plots", {"torch"}),
        ("manyheads.show", {"torch", "matplotlib"}),
        ("manyheads.checks", {"torch", "matplotlib"}),
    ],
)
def test_an_import_pulls_in_no_more_than_it_needs(module, unwanted):
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert module in loaded
    assert not unwanted & set(loaded)


def without_encoding(tree):
    """Calls that open a text file in whatever encoding the system has; ruff sees those of a name only."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or "encoding" in {keyword.arg for keyword in call.keywords}:
            continue
        name = ast.unparse(call.func)
        mode = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + call.args[1:]
        if re.search(r"\.(read|write)_text$", name) or (
            name == "open" and not (mode and "b" in ast.literal_eval(mode[0]))
        ):
            yield ast.unparse(call)


PYTHON = [
    path
    for folder in ("src", "_ext", "tests", "benchmarks", "chapters")
    for path in (ROOT / folder).rglob("*.py")
]


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_text_file_is_opened_with_its_encoding(path):
    assert not list(without_encoding(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "code",
    ["path.read_text()", "(a / 'b').write_text('c')", "open('a')", "open('a', 'w')", "open('a', mode='r')"],
)
def test_no_way_to_open_a_text_file_goes_unseen(code):
    assert list(without_encoding(ast.parse(code))) == [code]


def test_what_says_its_encoding_or_is_no_text_is_let_through():
    sound = "path.read_text(encoding='utf-8'); open('a', 'rb'); open('a', encoding='utf-8'); Image.open('a')"
    assert not list(without_encoding(ast.parse(sound)))


def code_lines(text):
    """Lines that hold code: no docstring, no comment, nothing empty."""
    told = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            told.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    no_code = {
        getattr(tokenize, name) for name in ("COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER")
    }
    held = (range(token.start[0], token.end[0] + 1) for token in tokens if token.type not in no_code)
    return len({line for lines in held for line in lines} - told)


def test_lines_of_code_are_counted():
    text = (
        '"""Told."""\n\n# why\ndef f(\n    a,  # what\n):\n    """Told\n    again."""\n\n    return "\\\n"\n'
    )
    assert code_lines(text) == 5


def test_the_package_stays_small():
    rooms = [name for name in ROOMS if not name.startswith("experiments/") and name != "explorer"]
    assert sum(code_lines((PACKAGE / f"{name}.py").read_text(encoding="utf-8")) for name in rooms) <= 2_800


# ---------------------------------------------------------------------- docstrings


def public(tree, within=""):
    """Public functions, classes and methods, with their full names; overloads say no more than hints."""
    for node in tree.body:
        if "overload" in map(ast.unparse, getattr(node, "decorator_list", [])):
            continue
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{within}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{within}{node.name}.")


def is_protocol(node):
    return isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases)


# What a protocol promises is said once, in the protocol; its methods need one sentence wherever they stand.
PROMISED = {
    method.name
    for tree in ROOMS.values()
    for protocol in filter(is_protocol, tree.body)
    for method in protocol.body
    if isinstance(method, ast.FunctionDef)
}


def missing(node, text):
    """The parts that the house asks for and the docstring lacks."""
    if not text:
        return ["a docstring"]
    sentence = re.split(r"\n\n|^\w+\n---", text)[0]
    lacks = []
    if not re.match(r"[A-Z`].*[.:]$", sentence, re.DOTALL) or len(sentence.split()) < 4:
        lacks.append("a first sentence that says why")
    if node.name in PROMISED:
        return lacks
    explained = section(text, "Parameters") + section(text, "Attributes")
    lacks += [
        f"the parameter {name}"
        for name in asked(node)
        if not re.search(rf"^[\w, *]*(?<!\w){name}\b", explained, re.MULTILINE)
    ]
    if isinstance(node, ast.FunctionDef):
        if gives(node) and not (section(text, "Returns") or section(text, "Yields")):
            lacks.append("what it returns")
        reasons = section(text, "Raises")
        lacks += [
            f"when it raises {error}"
            for error in raised(node)
            if not re.search(rf"^{error}\b", reasons, re.MULTILINE)
        ]
    return lacks


def section(text, name):
    found = re.search(
        rf"^{name}\n-{{{len(name)}}}\n(.*?)(?=\n\n\S|\n\w+\n---|\Z)", text, re.DOTALL | re.MULTILINE
    )
    return found[1] if found else ""


def asked(node):
    """Names of the parameters; of a class those of its ``__init__``, or its fields."""
    if isinstance(node, ast.FunctionDef):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [one for one in (arguments.vararg, arguments.kwarg) if one]
        return [one.arg for one in every if one.arg not in ("self", "cls")]
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return asked(part)
    return [part.target.id for part in node.body if isinstance(part, ast.AnnAssign)]


def gives(node):
    returned = node.returns is not None and ast.unparse(node.returns) != "None"
    short = any(ast.unparse(mark) in ("property", "cached_property") for mark in node.decorator_list)
    return returned and not short


def raised(node):
    """Errors that the function raises by name itself, not those of functions that it calls."""
    for part in ast.walk(node):
        if isinstance(part, ast.Raise) and isinstance(part.exc, ast.Call):
            yield ast.unparse(part.exc.func)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_explained(room):
    lacks = {} if ast.get_docstring(ROOMS[room]) else {room: ["a docstring"]}
    for name, node in public(ROOMS[room]):
        if parts := missing(node, ast.get_docstring(node)):
            lacks[name] = parts
    assert not lacks


EXPLAINED = '''
def heads(n_heads: int, *more) -> int:
    """Count the heads of a layer.

    Parameters
    ----------
    n_heads : int
    *more
        Others.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If there are none.
    """
    if n_heads < 1:
        raise ValueError("none")
    return n_heads
'''


@pytest.mark.parametrize(
    ("cut", "lack"),
    [
        ("", None),
        ("Count the heads of a layer.", "a first sentence that says why"),
        ("n_heads : int\n", "the parameter n_heads"),
        ("*more\n        Others", "the parameter more"),
        ("Returns\n    -------", "what it returns"),
        ("ValueError\n        If", "when it raises ValueError"),
    ],
)
def test_a_part_that_lacks_is_missed(cut, lack):
    (function,) = ast.parse(EXPLAINED.replace(cut, "", 1) if cut else EXPLAINED).body
    assert missing(function, ast.get_docstring(function)) == ([lack] if lack else [])


def test_a_missing_docstring_is_missed():
    (function,) = ast.parse("def heads():\n    return 1").body
    assert missing(function, ast.get_docstring(function)) == ["a docstring"]


def untyped(node):
    """What has no hint: parameters but self and cls, and what a function returns."""
    arguments = node.args
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    named = [one for one in every if one and one.arg not in ("self", "cls") and not one.annotation]
    return [one.arg for one in named] + ["return"] * (node.returns is None and node.name != "__init__")


SITE = sorted((ROOT / "_ext").rglob("*.py"))


@pytest.mark.parametrize("path", SITE, ids=lambda path: path.relative_to(ROOT / "_ext").as_posix())
def test_every_public_name_of_the_site_is_explained_and_typed(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    lacks = {}
    for name, node in public(tree):
        parts = [] if re.match(r".{15,}[.:;?]", ast.get_docstring(node) or "") else ["a sentence"]
        if isinstance(node, ast.FunctionDef):
            parts += untyped(node)
        if parts:
            lacks[name] = parts
    assert not lacks


@pytest.mark.parametrize(
    ("code", "lack"),
    [
        ("def f(a: int, *b: int, c: int = 1, **d: int) -> int: ...", []),
        ("def f(self, cls) -> int: ...", []),
        ("def f(a, *b, c=1, **d): ...", ["a", "c", "b", "d", "return"]),
    ],
)
def test_a_hint_that_lacks_is_missed(code, lack):
    assert untyped(ast.parse(code).body[0]) == lack


def test_every_work_in_the_bibliography_is_cited():
    works = re.findall(r"^@\w+\{(\S+),", (ROOT / "references.bib").read_text(encoding="utf-8"), re.M)
    pages = [*(ROOT / "chapters").glob("*.ipynb"), *(ROOT / "chapters").glob("*.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    cited = {key.strip() for keys in re.findall(r"\{cite:[pt]\}`([^`]+)`", text) for key in keys.split(",")}
    assert sorted(works) == sorted(cited)
