"""What a cell needs of the cells above it, and how it runs without the rest of the notebook.

This file works in two places: in the build, which looks for the cells that need only Python and NumPy,
and in the reader's browser, which runs them. Each run has a fresh namespace and begins with the cells that
its names come from: what comes out depends on what stands on the page, and on nothing that ran before.
"""

import ast
import builtins
import contextlib
import dis
import inspect
import io
import linecache
import traceback
import types
from functools import cache

LIMIT = 20_000  # characters that one run may print
WHOLE = -1  # instead of the place of a statement: the whole cell
THIS = "this cell"
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>")  # functions inside Python 3.11, which run at once

# ---------------------------------------------------------------------- what a cell needs


def names(statement):
    """Return the global names of a statement: used, used again by later calls, bound or changed in place."""
    uses, late, binds = set(), set(), set()
    module = compile(ast.Module([statement], []), THIS, "exec")
    codes = [(module, uses)]
    while codes:
        code, found = codes.pop()
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                at_once = not inner.co_flags & inspect.CO_NEWLOCALS or inner.co_name in COMPREHENSIONS
                codes.append((inner, found if at_once else late))
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
                found.add(step.argval)
            elif step.opname == "STORE_GLOBAL" or (step.opname == "STORE_NAME" and code is module):
                binds.add(step.argval)
    if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
                while isinstance(node, ast.Attribute | ast.Subscript):
                    node = node.value
                binds |= {node.id} if isinstance(node, ast.Name) else set()
    return uses | late, late, binds


def apart(statement):
    """Take an import of several names apart, so that one can be had without the others."""
    if isinstance(statement, ast.Import):
        single = [ast.Import([alias]) for alias in statement.names]
    elif isinstance(statement, ast.ImportFrom):
        single = [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
    else:
        return [statement]
    return [ast.copy_location(one, statement) for one in single]


@cache
def statements(source):
    """Return the statements of a cell, each with its names."""
    single = [one for statement in ast.parse(source).body for one in apart(statement)]
    return [(one, *names(one)) for one in single]


def part(cells, number, place):
    every = statements(cells[number])
    return every if place == WHOLE else [every[place]]


def origin(cells, name, before):
    """Find where a name was bound last: a cell, or one import of a cell, which can be had alone."""
    for number in reversed(range(before)):
        for place, (statement, _, _, binds) in reversed(list(enumerate(statements(cells[number])))):
            if name in binds:
                return number, place if isinstance(statement, ast.Import | ast.ImportFrom) else WHOLE
    return None


def free(parts):
    """Return the names that are used before they are bound."""
    found, bound = set(), set()
    for _, uses, _, binds in parts:
        found |= uses - bound
        bound |= binds
    return found


def needed(cells, number):
    """Return what has to run before a cell, in order: pairs of a cell's number and a place in it."""
    found, todo = set(), [(number, WHOLE)]
    while todo:
        cell, place = todo.pop()
        parts = part(cells, cell, place)
        origins = {origin(cells, name, cell) for name in free(parts)}
        origins |= {origin(cells, name, number) for _, _, late, _ in parts for name in late}
        origins -= found | {None}
        found |= origins
        todo += origins
    return sorted(found)


def unknown(cells, number):
    """Return the names that a cell needs and that no cell on the page binds."""
    found = set()
    for cell, place in [*needed(cells, number), (number, WHOLE)]:
        parts = part(cells, cell, place)
        inside = {name for *_, binds in parts for name in binds}
        found |= {name for name in free(parts) - inside if origin(cells, name, cell) is None}
    return found - set(dir(builtins))


def modules(cells, number):
    """Return the modules that a cell imports, itself or through what it needs."""
    found = set()
    for piece in [*needed(cells, number), (number, WHOLE)]:
        for node in (node for statement, *_ in part(cells, *piece) for node in ast.walk(statement)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                rooms = node.module == "manyheads"
                found |= {f"manyheads.{alias.name}" for alias in node.names} if rooms else {node.module}
    return found


# ---------------------------------------------------------------------- running it


class Printed(io.TextIOBase):
    """Hands on what a run prints, line by line, and no more than a page can bear."""

    def __init__(self, say):
        self.say, self.line, self.left = say, "", LIMIT

    def write(self, text):
        if self.left > 0:
            self.line += text[: self.left]
            self.left -= len(text)
            if self.left <= 0:
                self.line += f"\n… a run shows {LIMIT:,} characters, the rest is left out\n"
            if "\n" in self.line:
                self.flush()
        return len(text)

    def flush(self):
        if self.line:
            self.say(self.line)
        self.line = ""


def legible(source, original):
    """Tell what a cell binds even where the reader broke it: then, what it binds in the book."""
    try:
        statements(source)
    except SyntaxError:
        return original
    return source


def above(source):
    return f"the cell “{source.strip().partition(chr(10))[0]}”"


def execute(body, source, name, namespace):
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name  # for tracebacks
    exec(compile(ast.Module(body, []), name, "exec"), namespace)


def prepare(cells, book, number, namespace):
    """Run what a cell needs; not the asserts, which the reader's own numbers need not pass."""
    readable = [legible(*pair) for pair in zip(cells, book, strict=True)]
    for cell, place in needed([*readable[:number], cells[number]], number):
        source = cells[cell]
        body = (
            ast.parse(source, above(source)).body if place == WHOLE else [part(readable, cell, place)[0][0]]
        )
        body = [statement for statement in body if not isinstance(statement, ast.Assert)]
        execute(body, source, above(source), namespace)


def told(error):
    """Write an error as Python does, without the lines that aren't the reader's."""
    frames = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in frames if frame.filename == THIS or frame.filename.startswith("the cell “")]
    head = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    return "".join([*head, *traceback.format_exception_only(error)])


def run(cells, book, number, say):
    """Run a cell after what it needs.

    Parameters
    ----------
    cells : list of str
        The code on the page, from top to bottom, as the reader has changed it.
    book : list of str
        The same code as it is in the book.
    number : int
        Which one to run.
    say : callable
        Is given, piece by piece, what the cell prints, the value of its last line, or its error.

    Returns
    -------
    bool
        Whether it ran to its end.
    """
    namespace = {"__name__": "__main__"}
    printed = Printed(say)
    try:
        body = ast.parse(cells[number], THIS).body
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            prepare(cells, book, number, namespace)
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            execute(body, cells[number], THIS, namespace)
            if last:
                value = eval(compile(ast.Expression(last.value), THIS, "eval"), namespace)
                if value is not None:
                    print(repr(value))
    except BaseException as error:  # whatever goes wrong in the reader's code is for the reader
        printed.flush()
        say(told(error))
        return False
    printed.flush()
    return True
