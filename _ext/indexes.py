"""Two pages that list what the book holds, made anew with it: its figures and its experiments.

``figure-index`` reads the notebooks; ``experiment-index`` reads ``manyheads.experiments`` and what it stored.
"""

import ast
import base64
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import theme_figures
from docutils import nodes
from live_figures import ELEMENT
from PIL import Image
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from manyheads import results
from manyheads.experiments import runner

THUMB = (360, 240)  # pixels, twice what is shown
SLIDERS = (
    '<svg viewBox="0 0 48 32" aria-hidden="true"><path d="M4 8h40M4 16h40M4 24h40"/>'
    '<circle cx="32" cy="8" r="3.5"/><circle cx="14" cy="16" r="3.5"/><circle cx="25" cy="24" r="3.5"/></svg>'
)


Cells = list[dict[str, Any]]  # of a notebook


def source(cell: dict[str, Any]) -> str:
    """Return what a cell holds."""
    return "".join(cell["source"])


def parse_figures(cells: Cells) -> Iterator[tuple[str, str, str, str | None]]:
    """Yield each figure: the heading above, the id of its cell, what it shows, its PNG if it stands still."""
    heading = ""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            for line in source(cell).splitlines():
                if found := re.match(r"#+ (.+)", line):
                    heading = found[1]
            if ELEMENT.search(source(cell)):
                words = re.sub(r"<[^>]+>|\s+", " ", source(cell)).partition(": ")[2].strip()
                yield heading, cell["id"], words[0].upper() + words[1:], None
        for output in cell.get("outputs", []):
            if "image/svg+xml" in output.get("data", {}):
                words = " ".join("".join(output["data"]["text/plain"]).split())
                yield heading, cell["id"], words, output["data"]["image/png"]


def first_sentence(words: str) -> str:
    """Return what a description says first."""
    return re.match(r".+?[.;](?= |$)", words)[0].rstrip(";.") + "."


def render_thumbnail(png: str) -> str:
    """Return a small picture that is part of the page: it needs no request."""
    picture, small = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    picture.thumbnail(THUMB, Image.Resampling.LANCZOS)
    picture.save(small, "webp", quality=55, method=6)
    data = base64.b64encode(small.getvalue()).decode()
    width, height = (side // 2 for side in picture.size)
    return f'<img alt="" width="{width}" height="{height}" src="data:image/webp;base64,{data}">'


def parse_sweeps(cells: Cells) -> set[str]:
    """Return the names of the sweeps that a notebook reads: given to a call, listed for a loop, or drawn."""
    names = set()
    for cell in cells:
        names.update(sweep for _, _, sweep in ELEMENT.findall(source(cell)))
        if cell["cell_type"] != "code":
            continue
        for node in ast.walk(ast.parse(source(cell))):
            within = getattr(node, "args", None) or getattr(node, "elts", None)
            if isinstance(within, list):
                names.update(part.value for part in within if isinstance(part, ast.Constant))
    return names & set(runner.NAMES)


def render_time(seconds: float) -> str:
    """Render a time as people say it: 0.4 s, 17 s, 7 min, 1 h 31 min."""
    if seconds < 0.01:
        return "less than 0.01 s"
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def render_count(number: int, thing: str) -> str:
    """Render how many there are: 1 seed, 2 seeds."""
    return f"{number} {thing}{'s'[: number != 1]}"


class Index(SphinxDirective):
    """What both share: the pages in their order, sections, links."""

    def pages(self) -> Iterator[tuple[str, Cells]]:
        """Yield the pages of the book in their order, each with its cells."""
        for page in (self.config.root_doc, *self.config.external_site_map.root.child_files()):
            self.env.note_dependency(self.env.doc2path(page))
            yield page, theme_figures.parse_cells(self.env, page)

    def parse_text(self, text: str) -> list[nodes.Node]:
        """Parse a line of text."""
        return self.state.inline_text(text, self.lineno)[0]

    def section(self, anchor: str, title: str, *content: nodes.Node) -> nodes.section:
        """Make a section with an address of its own."""
        return nodes.section("", nodes.title("", "", *self.parse_text(title)), *content, ids=[anchor])

    def link(self, page: str) -> addnodes.pending_xref:
        """Make a link to a page, in the words of its title."""
        text, about = nodes.inline(), {"refdomain": "std", "reftype": "doc", "refexplicit": False}
        return addnodes.pending_xref(
            "", text, reftarget=f"/{page}", refdoc=self.env.docname, refwarn=True, **about
        )


class FigureIndex(Index):
    """Every figure of every notebook, below the title of its chapter."""

    def run(self) -> list[nodes.Node]:
        """Make a section a chapter."""
        return [
            self.section(f"in-{page.rpartition('/')[2]}", re.match("# (.+)", source(cells[0]))[1], gallery)
            for page, cells in self.pages()
            if (gallery := nodes.container("", *self.entries(page, cells), classes=["gallery"])).children
        ]

    def entries(self, page: str, cells: Cells) -> Iterable[nodes.Node]:
        """Yield the figures of a chapter."""
        for heading, cell_id, words, png in parse_figures(cells):
            address = f"{page.rpartition('/')[2]}.html#{theme_figures.figure_id(cell_id)}"
            turnable = [] if png else [nodes.inline("", "to turn", classes=["turnable"])]
            picture = f'<div class="thumb">{render_thumbnail(png) if png else SLIDERS}</div>'
            link = nodes.reference("", "", *self.parse_text(heading), refuri=address, internal=True)
            title = nodes.paragraph("", "", link, nodes.Text(" "), *turnable)
            said = nodes.paragraph("", first_sentence(words))
            yield nodes.container("", nodes.raw("", picture, format="html"), title, said, classes=["entry"])


class ExperimentIndex(Index):
    """Every sweep: its question, what it took, how to make it again, and who reads it."""

    def run(self) -> list[nodes.Node]:
        """Make a section a sweep."""
        read = [(page, parse_sweeps(cells) | self.quoted(page)) for page, cells in self.pages()]
        sweeps = {name: results.load(name) for name in runner.NAMES}
        total = render_time(sum(sweep["cpu_s"] for sweep in sweeps.values()))
        sums = f"There are {len(sweeps)} experiments. On one thread they took {total} of CPU time."
        sections = (
            self.entry(name, sweep, [page for page, names in read if name in names])
            for name, sweep in sweeps.items()
        )
        return [nodes.paragraph("", sums), *sections]

    def quoted(self, page: str) -> set[str]:
        """Return the sweeps whose numbers a page of words quotes: it gives their commands."""
        file = Path(self.env.doc2path(page))
        text = file.read_text(encoding="utf-8") if file.suffix == ".md" else ""
        return set(re.findall(r"manyheads\.experiments ([\w-]+)", text))

    def entry(self, name: str, sweep: dict[str, Any], pages: list[str]) -> nodes.section:
        """Make the section of a sweep."""
        settings, seeds = (
            render_count(len(sweep["settings"]), "setting"),
            render_count(len(sweep["seeds"]), "seed"),
        )
        times = f"{render_time(sweep['cpu_s'])} of CPU time, {render_time(sweep['duration_s'])} by the clock"
        file = nodes.literal("", f"{name}.json")
        where = {"reftarget": f"/src/manyheads/measured/{name}.json", "refdoc": self.env.docname}
        readers = [part for page in pages for part in (nodes.Text(", "), self.link(page))][1:]
        facts = {
            "Size": [nodes.Text(f"{settings}, {seeds if sweep['seeds'] else 'no seeds'}")],
            "Took": [nodes.Text(times)],
            "Numbers": [addnodes.download_reference("", "", file, **where)],
            "Read by": readers or [nodes.Text("no chapter yet")],
        }
        listed = nodes.definition_list(classes=["facts"])
        for fact, said in facts.items():
            words = nodes.definition("", nodes.paragraph("", "", *said))
            listed += nodes.definition_list_item("", nodes.term("", fact), words)
        # a line may end between two words, not at the dashes of "--again"
        words = " ".join(f"<span>{word}</span>" for word in sweep["command"].split())
        listing = f'<div class="highlight-bash"><div class="highlight"><pre>{words}</pre></div></div>'
        command = nodes.raw("", listing, format="html")
        question = nodes.paragraph("", sweep["question"])
        return self.section(f"experiment-{name}", name, question, listed, command)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the two directives with Sphinx."""
    app.add_directive("figure-index", FigureIndex)
    app.add_directive("experiment-index", ExperimentIndex)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
