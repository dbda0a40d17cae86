"""Marks in cells and their outputs what the style sheets treat in a way of its own."""

import ast
import re

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

# code that is of no use on paper: for an answer, its check, a listing, and what a folded cell brings in
FOR_SCREENS = re.compile(
    r"answer = None(\s*#.*)?|def \w+\([^)]*\):\s+\.\.\.(\s*#.*)?|(checks\.(number|choice)|show\.source)\(.*",
    re.DOTALL,
)
IMPORTS = re.compile("(import|from) .*", re.DOTALL)


def mark_solutions(app: Sphinx, doctree: nodes.document) -> None:
    """Let a hidden solution unfold under its own word, not under that of other hidden cells."""
    for cell in doctree.findall(nodes.container):
        if "tag_solution" in cell["classes"]:
            cell["prompt_show"] = "Solution"


def mark_sentences(app: Sphinx, doctree: nodes.document) -> None:
    """Mark printed sentences, which may wrap on a narrow screen; columns, held by spaces, must not."""
    for block in doctree.findall(nodes.literal_block):
        if "output" in block["classes"] and not re.search(r"\S {2,}\S", block.astext()):
            block["classes"].append("sentences")


def mark_screen_only(app: Sphinx, doctree: nodes.document) -> None:
    """Mark what paper can do without: print.css leaves it out."""
    for block in doctree.findall(nodes.literal_block):
        part, code = block.parent, block.astext()
        if part.get("nb_element") == "cell_code_source":
            folded = "tag_hide-input" in part.parent["classes"]
            away = FOR_SCREENS.fullmatch(code) or (folded and IMPORTS.fullmatch(code))
        else:
            away = "Not answered yet." in code
        if away:
            (part if part.get("nb_element") else block)["classes"].append("on-screen")


def mark_claims(app: Sphinx, doctree: nodes.document) -> None:
    """Mark the lines of code that assert: there a chapter settles its claims."""
    for block in doctree.findall(nodes.literal_block):
        if block.parent.get("nb_element") == "cell_code_source":
            claims = (node for node in ast.walk(ast.parse(block.astext())) if isinstance(node, ast.Assert))
            lines = [line for claim in claims for line in range(claim.lineno, claim.end_lineno + 1)]
            block.setdefault("highlight_args", {})["hl_lines"] = lines


def list_objectives(app: Sphinx, doctree: nodes.document) -> None:
    """Turn objectives, time and needs of a chapter, one paragraph in its notebook, into a list of three."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if not paragraph.astext().startswith("Objectives:"):
            continue
        opening, definition = nodes.definition_list(classes=["opening"]), nodes.paragraph()
        for part in paragraph.children:
            if isinstance(part, nodes.strong) and part.astext().endswith(":"):
                definition = nodes.paragraph()
                term = nodes.term("", part.astext().rstrip(":"))
                opening += nodes.definition_list_item("", term, nodes.definition("", definition))
            else:
                definition += part.deepcopy()
        paragraph.replace_self(opening)


MARKS = (mark_solutions, mark_sentences, mark_screen_only, list_objectives, mark_claims)


def open_fold(translator: HTML5Translator, node: HideCodeCellNode) -> None:
    """Fold a cell away under one word, which is also its accessible name; MyST-NB gives it another one."""
    label = node["prompt_show"]
    translator.body.append(f'<details class="fold {label.lower()}"><summary>{label}</summary>\n')


def close_fold(translator: HTML5Translator, node: HideCodeCellNode) -> None:
    """End what :func:`open_fold` began."""
    translator.body.append("</details>\n")
