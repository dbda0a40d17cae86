"""A chapter shows what really runs, line by line."""

import ast
import inspect

import pytest

from manyheads import attention, reference, show


def test_the_source_is_the_files_own_without_docstrings():
    text = show.source(reference.softmax).code
    lines = inspect.getsource(reference.softmax).splitlines()
    assert text.splitlines()[0] == lines[0]
    assert '"""' not in text
    kept = lines[next(i for i in range(1, len(lines)) if lines[i].strip() == '"""') + 1 :]
    assert text.splitlines()[1:] == kept


def test_with_docstrings_it_is_the_file_itself():
    text = show.source(attention.attend, docstrings=True).code
    assert text == inspect.getsource(attention.attend).rstrip("\n")


@pytest.mark.parametrize(
    "item", [attention.attend, attention.MultiHeadAttention, attention.SelfAttention.forward]
)
def test_what_is_shown_is_the_same_program(item):
    def program(text):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                node.body = node.body[1:] or [ast.Pass()]
        return ast.dump(tree)

    with_words, without = (show.source(item, docstrings=docstrings).code for docstrings in (True, False))
    assert program(with_words) == program(without)
    assert "numpy" not in without
    assert len(without) < len(with_words)


def test_methods_lose_their_indent_and_many_are_shown_one_after_another():
    text = show.source(attention.MultiHeadAttention.head, attention.merge_heads).code
    method, function = text.split("\n\n\n")
    assert method.startswith("def head(self, i: int)")
    assert function.startswith("def merge_heads(x: Tensor)")


def test_notebooks_show_it_highlighted_and_plain():
    shown = show.source(attention.merge_heads)
    assert repr(shown) == shown.code
    assert shown._repr_markdown_() == f"```python\n{shown.code}\n```"


@pytest.mark.parametrize("item", [3, len, "text"])
def test_what_has_no_source_says_so(item):
    with pytest.raises(TypeError, match="written in Python"):
        show.source(item)
