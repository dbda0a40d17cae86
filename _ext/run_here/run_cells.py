"""What a cell needs of the cells above it, and how it runs without the rest of the notebook.

This file works in two places: in the build, which looks for the cells that need only Python and NumPy,
and in the reader's browser, which runs them. Each run has a fresh namespace and begins with the cells that
its names come from: what comes out depends on what stands on the page, and on nothing that ran before.
"""

import ast
import builtins
import contextlib
import io
import linecache
import symtable
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

LIMIT = 20_000  # characters that one run may print
WHOLE = -1  # instead of the place of a statement: the whole cell
THIS = "this cell"
AT_ONCE = "genexpr"  # a function, as Python sees it, which runs where it stands

Piece = tuple[int, int]  # the number of a cell, and the place of a statement in it, or WHOLE
Named = tuple[ast.stmt, set[str], set[str], set[str]]  # a statement with its names

# ---------------------------------------------------------------------- what a cell needs


class _Explicit(ast.NodeTransformer):
    """Rewrites what tables of symbols hide: that ``x += 1`` reads x, and which names a comprehension keeps.

    From Python 3.12 on they mix up the names of ``[x for x in y]`` with those around it, but not those of
    ``(x for x in y)``.
    """

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        read = ast.parse(ast.unparse(node.target), mode="eval").body
        return self.generic_visit(ast.Assign([node.target], ast.BinOp(read, node.op, node.value), lineno=1))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """A hint alone binds nothing."""
        return self.generic_visit(node) if node.value else ast.Expr(node.annotation)

    def visit_Delete(self, node: ast.Delete) -> ast.AST:
        """To delete a name reads it, and binds nothing."""
        return ast.parse(", ".join(map(ast.unparse, node.targets))).body[0]

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp) -> ast.AST:
        return self.generic_visit(ast.GeneratorExp(node.elt, node.generators))

    visit_SetComp = visit_ListComp

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self.generic_visit(ast.GeneratorExp(ast.Tuple([node.key, node.value]), node.generators))


def _scopes(table: symtable.SymbolTable, at_once: bool = True) -> Iterator[tuple[symtable.SymbolTable, bool]]:
    """Yield a scope and those within it, and whether they run at once or when somebody calls them."""
    yield table, at_once
    for inner in table.get_children():
        yield from _scopes(inner, at_once and (inner.get_type() == "class" or inner.get_name() == AT_ONCE))


def names(statement: ast.stmt) -> tuple[set[str], set[str], set[str]]:
    """Return the global names of a statement: used, used by later calls too, bound or changed in place."""
    uses, late, binds = set(), set(), set()
    source = ast.unparse(_Explicit().visit(ast.parse(ast.unparse(statement))))
    for table, at_once in _scopes(symtable.symtable(source, THIS, "exec")):
        outside = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (outside or symbol.is_global()):
                (uses if at_once else late).add(symbol.get_name())
            made = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
            if made and (outside or symbol.is_declared_global()):
                binds.add(symbol.get_name())
    if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
                while isinstance(node, ast.Attribute | ast.Subscript):
                    node = node.value
                binds |= {node.id} if isinstance(node, ast.Name) else set()
    return uses | late, late, binds


def split_import(statement: ast.stmt) -> list[ast.stmt]:
    """Split an import of several names, so that one can be had without the others."""
    if isinstance(statement, ast.Import):
        single = [ast.Import([alias]) for alias in statement.names]
    elif isinstance(statement, ast.ImportFrom):
        single = [ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names]
    else:
        return [statement]
    return [ast.copy_location(one, statement) for one in single]


@cache
def statements(source: str) -> list[Named]:
    """Return the statements of a cell, each with its names."""
    single = [one for statement in ast.parse(source).body for one in split_import(statement)]
    return [(one, *names(one)) for one in single]


def parse_piece(cells: Sequence[str], number: int, place: int) -> list[Named]:
    """Return the statements of a piece of a cell."""
    every = statements(cells[number])
    return every if place == WHOLE else [every[place]]


def origin(cells: Sequence[str], name: str, before: int) -> Piece | None:
    """Find where a name was bound last: a cell, or one import of a cell, which can be had alone."""
    for number in reversed(range(before)):
        for place, (statement, _, _, binds) in reversed(list(enumerate(statements(cells[number])))):
            if name in binds:
                return number, place if isinstance(statement, ast.Import | ast.ImportFrom) else WHOLE
    return None


def free(parts: Iterable[Named]) -> set[str]:
    """Return the names that are used before they are bound."""
    found, bound = set(), set()
    for _, uses, _, binds in parts:
        found |= uses - bound
        bound |= binds
    return found


def needed(cells: Sequence[str], number: int) -> list[Piece]:
    """Return what has to run before a cell, in order: pairs of a cell's number and a place in it."""
    found, todo = set(), [(number, WHOLE)]
    while todo:
        cell, place = todo.pop()
        parts = parse_piece(cells, cell, place)
        origins = {origin(cells, name, cell) for name in free(parts)}
        origins |= {origin(cells, name, number) for _, _, late, _ in parts for name in late}
        origins -= found | {None}
        found |= origins
        todo += origins
    return sorted(found)


def unknown(cells: Sequence[str], number: int) -> set[str]:
    """Return the names that a cell needs and that no cell on the page binds."""
    found = set()
    for cell, place in [*needed(cells, number), (number, WHOLE)]:
        parts = parse_piece(cells, cell, place)
        inside = {name for *_, binds in parts for name in binds}
        found |= {name for name in free(parts) - inside if origin(cells, name, cell) is None}
    return found - set(dir(builtins))


def modules(cells: Sequence[str], number: int) -> set[str]:
    """Return the modules that a cell imports, itself or through what it needs."""
    found = set()
    for piece in [*needed(cells, number), (number, WHOLE)]:
        for node in (node for statement, *_ in parse_piece(cells, *piece) for node in ast.walk(statement)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                rooms = node.module == "manyheads"
                found |= {f"manyheads.{alias.name}" for alias in node.names} if rooms else {node.module}
    return found


# ---------------------------------------------------------------------- running it


class Printed(io.TextIOBase):
    """Hands on what a run prints, line by line, and no more than a page can bear."""

    def __init__(self, say: Callable[[str], object]):
        self.say, self.line, self.left = say, "", LIMIT

    def write(self, text: str) -> int:
        """Take what is printed."""
        if self.left > 0:
            self.line += text[: self.left]
            self.left -= len(text)
            if self.left <= 0:
                self.line += f"\n… a run shows {LIMIT:,} characters, the rest is left out\n"
            if "\n" in self.line:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Hand on what has come so far."""
        if self.line:
            self.say(self.line)
        self.line = ""


def parseable(source: str, original: str) -> str:
    """Return a cell, or where the reader broke it the one in the book: it tells what the cell binds."""
    try:
        statements(source)
    except SyntaxError:
        return original
    return source


def label(source: str) -> str:
    """Name a cell above in a traceback, by its first line."""
    return f"the cell “{source.strip().partition(chr(10))[0]}”"


def execute(body: list[ast.stmt], source: str, name: str, namespace: dict[str, Any]) -> None:
    """Run statements, so that a traceback shows their lines."""
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name  # for tracebacks
    exec(compile(ast.Module(body, []), name, "exec"), namespace)


def prepare(cells: Sequence[str], book: Sequence[str], number: int, namespace: dict[str, Any]) -> None:
    """Run what a cell needs; not the asserts, which the reader's own numbers need not pass."""
    readable = [parseable(*pair) for pair in zip(cells, book, strict=True)]
    for cell, place in needed([*readable[:number], cells[number]], number):
        source = cells[cell]
        body = (
            ast.parse(source, label(source)).body
            if place == WHOLE
            else [parse_piece(readable, cell, place)[0][0]]
        )
        body = [statement for statement in body if not isinstance(statement, ast.Assert)]
        execute(body, source, label(source), namespace)


def format_error(error: BaseException) -> str:
    """Format an error as Python does, without the lines that aren't the reader's."""
    frames = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in frames if frame.filename == THIS or frame.filename.startswith("the cell “")]
    head = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    return "".join([*head, *traceback.format_exception_only(error)])


def run(cells: Sequence[str], book: Sequence[str], number: int, say: Callable[[str], object]) -> bool:
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
        say(format_error(error))
        return False
    printed.flush()
    return True
