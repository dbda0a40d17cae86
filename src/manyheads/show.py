"""Shows the library's own source inside a chapter, so that text and code cannot drift apart."""

import ast
import inspect
from types import FunctionType


class Source:
    """A piece of source code that notebooks and the web book show highlighted.

    Parameters
    ----------
    code : str
        Python source.
    """

    def __init__(self, code: str):
        self.code = code

    def __repr__(self) -> str:
        return self.code

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.code}\n```"


def source(*objects: FunctionType | type, docstrings: bool = False) -> Source:
    """Show what really runs: the source of functions, methods or classes, read from their file.

    Parameters
    ----------
    *objects : function, method or class
    docstrings : bool
        Whether to keep the docstrings, which explain shapes but take room.

    Returns
    -------
    Source

    Raises
    ------
    TypeError
        If something has no Python source, as a number or a built-in function.
    """
    pieces = []
    for item in objects:
        try:
            lines = inspect.cleandoc("\n" + inspect.getsource(item)).splitlines()
        except (TypeError, OSError):
            raise TypeError(f"only what is written in Python has a source to show, got {item!r}") from None
        if not docstrings:
            lines = _without_docstrings(lines)
        pieces.append("\n".join(lines))
    return Source("\n\n\n".join(pieces))


def _without_docstrings(lines: list[str]) -> list[str]:
    dropped = set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            text = node.body[0]
            end = text.end_lineno or text.lineno
            dropped.update(range(text.lineno, end + 1))
            if len(node.body) > 1 and not lines[end].strip():
                dropped.add(end + 1)  # the blank line after it
    return [line for number, line in enumerate(lines, 1) if number not in dropped]
