"""What nbval cannot see in a notebook. Each rule takes a notebook and yields its complaints, in words."""

import ast
import itertools
import re

MAX_BYTES = 300_000
TAGS = {
    "hide-input", "hide-output", "hide-cell", "remove-input", "remove-output", "remove-cell",
    "solution", "nbval-ignore-output", "raises-exception",
}  # fmt: skip
LEVELS = ("warm-up", "core", "stretch", "research")
MIN_EXERCISES = 5


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def tags(cell):
    return cell.metadata.get("tags", [])


def texts(cell):
    """Everything that a cell's outputs say in words; no pictures."""
    for output in cell.outputs:
        yield output.get("text", "")
        yield from output.get("traceback", [])
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield data if isinstance(data, str) else str(data)


# ---------------------------------------------------------------------- running


def has_run_in_order(notebook):
    counts = [cell.execution_count for cell in code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"cells must have run once, in order, from a fresh kernel; their numbers are {counts}"
    for cell in code(notebook):
        if not cell.source.strip():
            yield f"{cell.id}: an empty cell never runs"


def has_outputs(notebook):
    if not any(cell.outputs for cell in code(notebook)):
        yield "no cell has a stored output"


def has_no_stray_errors(notebook):
    for cell in code(notebook):
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"{cell.id}: stored stderr"
        raised = any(output.output_type == "error" for output in cell.outputs)
        if raised and "raises-exception" not in tags(cell):
            yield f"{cell.id}: stored error without the tag raises-exception"
        if not raised and "raises-exception" in tags(cell):
            yield f"{cell.id}: tagged raises-exception, but raises nothing"


def has_no_path_of_a_machine(notebook):
    folders = r"home|Users|root|work|tmp|usr|opt|var|mnt|private|content|builds|workspace"
    path = re.compile(
        rf"(?<![\w.:/~-])/(?:{folders})/\S|(?<!\w)~/\S|\b[A-Za-z]:\\\S|<ipython-input|ipykernel_\d"
    )
    for cell in code(notebook):
        for text in (cell.source, *texts(cell)):
            if found := path.search(re.sub(r"\x1b\[[\d;]*m", "", text)):
                yield f"{cell.id}: a path of one machine, {found[0]!r}"


# ---------------------------------------------------------------------- tags, ids, form


def is_compared(notebook):
    """Outputs are ignored only where they are times or memory, with a reason and with a claim."""
    for cell in notebook.cells:
        for tag in set(tags(cell)) - TAGS:
            yield f"{cell.id}: tag {tag!r} isn't one of ours"
        if cell.cell_type != "code":
            continue
        if found := re.search(r"^\s*#\s*(NBVAL|PYTEST_VALIDATE)_\w+", cell.source, re.MULTILINE):
            yield f"{cell.id}: {found[0].strip()} hides from readers of tags"
        reason = cell.metadata.get("ignore_reason", "").strip()
        if "nbval-ignore-output" not in tags(cell):
            if reason:
                yield f"{cell.id}: a reason to ignore the output, which isn't ignored"
            continue
        if not reason:
            yield f"{cell.id}: ignores its output without ignore_reason in the metadata"
        if not any(isinstance(node, ast.Assert) for node in ast.walk(tree(cell))):
            yield f"{cell.id}: ignores its output and asserts nothing"
        if not re.search(r"timing|time|second|memory|peak|bytes|MiB", cell.source):
            yield f"{cell.id}: ignores its output, but measures neither time nor memory"


def has_stable_ids(notebook):
    ids = [cell.id for cell in notebook.cells]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"{name}: an id used twice"
    for name in ids:
        random = re.fullmatch(r"[0-9a-f]{6,}(-[0-9a-f]+)*", name) and re.search(r"\d", name)
        if random or len(name) > 64 or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            yield f"{name}: an id must be readable, lowercase-with-hyphens, at most 64 characters"
    if code(notebook) and code(notebook)[0].id != "setup":
        yield f"{code(notebook)[0].id}: the first code cell must be called setup"


def has_plain_metadata(notebook):
    """Nothing that changes from machine to machine or from run to run."""
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield f"the kernel must be python3, not {notebook.metadata.get('kernelspec')}"
    if notebook.metadata.get("language_info") != {"name": "python"}:
        yield "language_info must be only the name python: versions differ between readers"
    if extra := set(notebook.metadata) - {"kernelspec", "language_info"}:
        yield f"notebook metadata that isn't needed: {sorted(extra)}"
    for cell in notebook.cells:
        if extra := set(cell.metadata) - {"tags", "ignore_reason", "jupyter", "mystnb"}:
            yield f"{cell.id}: cell metadata that isn't needed: {sorted(extra)}"


def is_plain_python(notebook):
    for cell in code(notebook):
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield f"{cell.id}: not plain Python: {error.msg}"


def reads_well_raw(notebook):
    """One title, no level of heading left out, no directive, which Colab and JupyterLab show as it stands."""
    levels = []
    for cell in prose(notebook):
        if not cell.source.strip():
            yield f"{cell.id}: an empty cell"
        text = without_code(cell.source)
        levels += [len(found[1]) for found in re.finditer(r"^(#+) ", text, re.MULTILINE)]
        if found := re.search(r"^\s*(:::|`{3,}\{|~{3,}\{).*", cell.source, re.MULTILINE):
            yield f"{cell.id}: the directive {found[0].strip()!r} reads badly raw"
    if levels[:1] != [1] or levels.count(1) != 1:
        yield f"a chapter begins with its one title; the levels of its headings are {levels}"
    if any(after > before + 1 for before, after in itertools.pairwise(levels)):
        yield f"a level of heading is left out: {levels}"


def tree(cell):
    """The parsed source; nothing of it if it isn't Python, which `is_plain_python` says."""
    try:
        return ast.parse(cell.source)
    except SyntaxError:
        return ast.Module([], [])


# ---------------------------------------------------------------------- what it shows


def has_text_for_every_figure(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if not any(kind.startswith("image/") for kind in data):
                for tag in re.findall(r"<img\b[^>]*>", data.get("text/html", "")):
                    if not re.search(r"""\balt=(["'])(?!\1)""", tag):
                        yield f"{cell.id}: an <img> without alt text"
                continue
            alt = data.get("text/plain", "").strip()
            if alt.startswith("<") or len(alt.split()) < 5:
                yield f"{cell.id}: a figure whose text says nothing: {alt!r}"
            if missing := {"image/svg+xml", "image/png"} - set(data):
                yield f"{cell.id}: a figure without {sorted(missing)}: show it with plots.display"
    for cell in prose(notebook):
        if re.search(r"!\[\s*\]\(", cell.source) or re.search(
            r"<img\b(?![^>]*\balt=[\"'][^\"'])", cell.source
        ):
            yield f"{cell.id}: a picture without alt text"


def without_code(markdown):
    """Markdown without fenced code."""
    return re.sub(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1`*[ ]*$", " ", markdown, flags=re.MULTILINE | re.DOTALL)


def bare_prose(markdown):
    """Only the words: no code, formulas, link targets, citations, comments, tags."""
    text = without_code(markdown)
    text = re.sub(r"\{[\w:]+\}`[^`]*`", " ", text)  # roles
    text = re.sub(r"(`+).+?\1", " ", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"(?<!\\)\$[^$]+?(?<!\\)\$", " ", text)
    text = re.sub(r"\]\([^)]*\)", "] ", text)
    text = re.sub(r"<!--.*?-->|<[^>]+>", " ", text, flags=re.DOTALL)
    return re.sub(r"\bhttps?://\S+|\barXiv:\s*\S+|\bdoi:\s*\S+", " ", text)


# Numbers that name a place, a version or a year, and measure nothing.
NAMED = (
    r"exercises?|sections?|chapters?|tables?|figures?|fig\.|equations?|eq\.|"
    r"version|python|pytorch|torch|numpy|matplotlib"
)
NAMES = re.compile(
    rf"(?i:\b(?:{NAMED})|§+)\s*\(?\d+(?:\.\d+)*(?:\s*(?:,|and|to|or|-|–)\s*\d+(?:\.\d+)+)*"
    r"|^#+\s+\d+(?:\.\d+)*\b"  # a numbered heading
    r"|#\d+\b"  # an issue or a pull request
    r"|\b\d+(?:\.\d+){2,}\b"  # 3.2.2
    r"|(?<![\d.,])(?:19\d\d|20[0-3]\d)(?![.,]?\d)",  # a year
    re.MULTILINE,
)
NUMBER = re.compile(
    r"(?<![\w.])\d{1,3}(?:[,\u202f\u2009]\d{3})+(?:\.\d+)?|(?<![\w.])\d+\.\d+|(?<![\w.])\d{4,}"
)


def plain(text):
    """Without the commas, spaces or underscores that only group digits."""
    return re.sub(r"(?<=\d)[,_\u202f\u2009](?=\d{3}(?!\d))", "", text)


def numbers_in_prose(notebook):
    """Decimals, and integers from 1000, with the cell where they stand."""
    for cell in prose(notebook):
        for found in NUMBER.finditer(NAMES.sub(" ", bare_prose(cell.source))):
            yield cell.id, plain(found[0])


def quotes_only_its_cells(notebook):
    """A number in prose stands in a code cell, or is what a cell's output rounds to."""
    number = re.compile(r"(?<![\w.])\d*\.?\d+(?![\w.]*\d)")
    printed = {n for cell in code(notebook) for text in texts(cell) for n in number.findall(plain(text))}
    written = {n for cell in code(notebook) for n in number.findall(plain(cell.source))}
    for where, quoted in numbers_in_prose(notebook):
        digits = len(quoted.partition(".")[2])
        longer = (n for n in printed if len(n.partition(".")[2]) > digits)
        if quoted not in printed | written and not any(f"{float(n):.{digits}f}" == quoted for n in longer):
            yield f"{where}: {quoted} stands in the prose and in no cell of this page"


# ---------------------------------------------------------------------- exercises


def has_exercises(notebook):
    """Heading, answer, check, solution: the check knows that nothing is answered, the solution is right."""
    cells = list(notebook.cells)
    heading = re.compile(r"^### Exercise (\d+)\.(\d+) · \S.* \((" + "|".join(LEVELS) + r")\)$", re.MULTILINE)
    seen, levels = [], []
    for at, cell in enumerate(cells):
        if cell.cell_type != "markdown" or "### Exercise" not in cell.source:
            continue
        found = heading.search(cell.source)
        if not found:
            yield f"{cell.id}: a heading must read '### Exercise 1.3 · title (warm-up|core|stretch|research)'"
            continue
        name = f"ex-{found[1]}-{found[2]}"
        seen.append((int(found[1]), int(found[2])))
        levels.append(found[3])
        wanted = [f"{name}-{part}" for part in ("answer", "check", "solution")]
        ids = [one.id for one in cells[at + 1 :] if one.cell_type == "code"]
        if [one for one in ids if one.startswith(f"{name}-") and one in wanted] != wanted:
            yield f"{name}: the code cells {wanted} must follow, in this order"
            continue
        answer, check, solution = (one for one in cells if one.id in wanted)
        if answer.outputs:
            yield f"{answer.id}: an answer cell prints nothing before it is answered"
        if not re.search(r"\bNone\b|\.\.\.", answer.source):
            yield f"{answer.id}: leave None or ... for the learner to replace"
        if "checks." not in check.source or "checks." not in solution.source:
            yield f"{name}: check and solution must call the same check"
        told = "".join(texts(check))
        if "Not answered yet" not in told or "Right" in told or "Not yet" in told:
            yield f"{check.id}: its stored output must say 'Not answered yet' and judge nothing"
        if "Right" not in "".join(texts(solution)):
            yield f"{solution.id}: its stored output must say 'Right'"
        if not {"solution", "hide-cell"} <= set(tags(solution)):
            yield f"{solution.id}: needs the tags solution and hide-cell"
    if seen != [(chapter, n) for n, (chapter, _) in enumerate(seen[:1] * len(seen), 1)]:
        yield f"exercises must be numbered in order within the chapter, found {seen}"
    if len(seen) < MIN_EXERCISES:
        yield f"a chapter has at least {MIN_EXERCISES} exercises, found {len(seen)}"
    elif missing := {"warm-up", "research"} - set(levels):
        yield f"exercises go from warm-up to research; missing: {sorted(missing)}"


def redefines(public):
    """Rule: what the library has is never written again on a page.

    Functions and classes: never under a name that the library has. Variables may share a name with a function
    of a room (``scores``), but not with a constant, nor with what this page imports by its own name.
    """

    def rule(notebook):
        trees = [(cell.id, tree(cell)) for cell in code(notebook)]
        imported = {
            alias.asname or alias.name
            for _, page in trees
            for node in ast.walk(page)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("manyheads")
            for alias in node.names
        }
        constants = {name for name in public if name.isupper()}
        for where, page in trees:
            functions, variables = defined(page)
            for name in sorted(functions & public | variables & (imported | constants)):
                yield f"{where}: defines {name}, which src/ has"

    return rule


def defined(node):
    """Functions and classes, and variables, that code leaves behind: nothing from inside functions."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}, set()
    if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return set(), set()
    functions, variables = set(), set()
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        variables.add(node.id)
    for child in ast.iter_child_nodes(node):
        more_functions, more_variables = defined(child)
        functions |= more_functions
        variables |= more_variables
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        return functions | variables, set()
    return functions, variables


RULES = (
    is_plain_python,
    has_run_in_order,
    has_outputs,
    has_no_stray_errors,
    has_no_path_of_a_machine,
    is_compared,
    has_stable_ids,
    has_plain_metadata,
    reads_well_raw,
    has_text_for_every_figure,
    quotes_only_its_cells,
)


def faults(notebook, *more_rules):
    """Everything that is wrong with a notebook, in words."""
    return [fault for rule in (*RULES, *more_rules) for fault in rule(notebook)]
