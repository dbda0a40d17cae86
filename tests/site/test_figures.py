"""The figures that can be turned, in a real browser: their numbers are the library's, everyone can turn them.

What holds for every page is tested in ``test_site``.
"""

import functools
import gzip
import itertools
import math
import random
import re
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
import torch
from pages import MAX_BYTES, MAX_REQUESTS, ROOT, WIDTHS, barriers

from manyheads import bert, compress, cost, heads, reference, results, tasks
from manyheads.attention import attention_weights
from manyheads.bootstrap import interval

QUERY, SOFTMAX = ("self-attention", "mh-query"), ("self-attention", "mh-softmax")
SPLIT, COST = ("splitting-into-heads", "mh-split"), ("what-heads-cost", "mh-cost")
STAIRCASE = ("what-one-head-cannot-do", "mh-heads[data-sweep=staircase]")
LOOKUP = ("what-one-head-cannot-do", "mh-heads[data-sweep=lookup]")
PRUNE = ("heads-on-small-machines", "mh-prune")
FIGURES = (QUERY, SOFTMAX, SPLIT, STAIRCASE, LOOKUP, COST, PRUNE)
CHAPTERS = sorted({chapter for chapter, _ in FIGURES})


AS_LOADED = """async () => {  // each figure as the page's file has it: the script builds it once more
    const page = new DOMParser().parseFromString(await (await fetch(location.pathname)).text(), 'text/html');
    const fresh = page.querySelectorAll('.live');
    document.querySelectorAll('.live').forEach((figure, i) => figure.replaceWith(fresh[i]));
    scrollTo(0, 0);
}"""


@pytest.fixture(scope="module")
def chapter_of(open_for_all, served):
    """The page of a chapter: to load it takes seconds, so the tests share it."""
    return functools.cache(lambda chapter: open_for_all(f"{served}chapters/{chapter}.html"))


@pytest.fixture
def turn(chapter_of):
    """Give a figure as if its page had just been loaded; returns the page and the figure."""

    def turn(figure, theme="light", width=1280):
        chapter, element = figure
        page = chapter_of(chapter)
        page.emulate_media(media="screen", color_scheme=theme, forced_colors="none")
        page.set_viewport_size({"width": width, "height": 800 if width > 800 else 844})
        page.mouse.move(0, 0)
        page.evaluate(AS_LOADED)
        page.faults.clear()
        return page, page.locator(element)

    return turn


def slide(figure, name, value):
    """Move a slider as a reader does: the browser tells the figure."""
    slider = figure.get_by_role("slider", name=name, exact=True)
    slider.evaluate("(it, to) => { it.value = to; it.dispatchEvent(new Event('input')); }", str(value))


def choose(figure, name):
    figure.get_by_role("radio", name=name, exact=True).check()


def number(text):
    return float(re.search(r"-?\d*\.?\d+", text.replace("\u2212", "-").replace(",", ""))[0])


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d*\.?\d+", text.replace("\u2212", "-"))]


def rows(table):
    """The text of a table's body, a list a row."""
    return table.evaluate(
        "(table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )


def run_cells(chapter, *ids):
    """Run cells of a chapter and return the names they leave behind: the figure shows the same example."""
    space = {"np": np, "math": math, "reference": reference, "print": lambda *_, **__: None}
    exec("from fractions import Fraction", space)
    notebook = nbformat.read(ROOT / "chapters" / f"{chapter}.ipynb", 4)
    sources = {cell.id: cell.source for cell in notebook.cells}
    for name in ids:
        exec(sources[name], space)
    return space


# ---------------------------------------------------------------------- chapter 1: a query among keys


def test_a_moved_query_attends_as_the_reference_does(turn):
    chapter = run_cells("self-attention", "pencil-vectors")
    key, value = chapter["key"], chapter["value"]
    page, figure = turn(QUERY)
    for query in itertools.product((-2, -0.75, 0, 0.4, 1, 1.95), repeat=2):
        slide(figure, "asks about feeling", query[0])
        slide(figure, "asks about sitting", query[1])
        scaled = np.array([query]) * math.sqrt(2)  # the pencil doesn't divide by √d_head
        mix, weights = reference.attention(scaled, key, value)
        exact = figure.evaluate("(it) => it.attend(it.query)")
        assert np.allclose(exact["scores"], key @ query, rtol=0, atol=1e-12)
        assert np.allclose(exact["weights"], weights[0], rtol=0, atol=1e-12)
        assert np.allclose(exact["mix"], mix[0], rtol=0, atol=1e-12)
        *words, last = rows(figure.locator("table"))
        for row, score, weight, what in zip(words, key @ query, weights[0], value, strict=True):
            assert number(row[1]) == pytest.approx(score, abs=0.0051)
            assert number(row[3]) == pytest.approx(weight, abs=0.00051)
            assert numbers(row[4]) == what.tolist()
        assert numbers(last[4]) == pytest.approx(mix[0], abs=0.0051)
    assert not page.faults


def test_the_name_of_the_query_can_be_read_wherever_it_is(turn):
    """It stays within the drawing, off the axes, and off the end of the arrow that it names."""
    _, figure = turn(QUERY)
    where = """(it) => {
        const box = (what) => {
            const { left, right, top, bottom } = what.getBoundingClientRect();
            return [left, top, right, bottom];
        };
        const drawing = it.querySelector('svg'), all = (what) => [...drawing.querySelectorAll(what)];
        return [drawing, ...['text.orange', '.ring', '.axis'].flatMap(all)].map(box);
    }"""
    for query in itertools.product((-2, -1, 0, 0.5, 1, 2), repeat=2):
        slide(figure, "asks about feeling", query[0])
        slide(figure, "asks about sitting", query[1])
        drawing, (left, top, right, bottom), *others = figure.evaluate(where)
        assert drawing[0] <= left < right <= drawing[2], query
        assert drawing[1] <= top + 2 < bottom - 2 <= drawing[3], query
        for x0, y0, x1, y1 in others:  # letters fill the middle of their line
            assert right <= x0 + 1 or x1 - 1 <= left or bottom - 3 <= y0 or y1 <= top + 3, query


def test_each_word_can_ask(turn):
    chapter = run_cells("self-attention", "pencil-vectors", "projections", "self-attention-by-hand")
    _, figure = turn(QUERY)
    for word, mix in zip(chapter["words"], chapter["mix"], strict=True):
        figure.get_by_role("button", name=f"as {word}").click()
        assert numbers(rows(figure.locator("table"))[-1][4]) == pytest.approx(mix, abs=0.0051)


def place(figure, query):
    """Where a query is drawn on the screen."""
    box = figure.locator("svg").first.bounding_box()
    unit = 70 * box["width"] / 320
    return box["x"] + box["width"] / 2 + unit * query[0], box["y"] + box["height"] / 2 - unit * query[1]


def test_the_query_is_dragged_by_mouse(turn):
    page, figure = turn(QUERY)
    figure.scroll_into_view_if_needed()
    page.mouse.move(*place(figure, (1, 0)))
    page.mouse.down()
    page.mouse.move(*place(figure, (0.5, 1)), steps=4)
    page.mouse.move(*place(figure, (-1, 1.5)), steps=4)
    page.mouse.up()
    assert figure.evaluate("(it) => it.query") == pytest.approx([-1, 1.5], abs=0.051)
    page.mouse.move(*place(figure, (1, 1)))  # let go: it stays
    assert figure.evaluate("(it) => it.query") == pytest.approx([-1, 1.5], abs=0.051)
    page.mouse.click(*place(figure, (2, -2)))
    assert figure.evaluate("(it) => it.query") == pytest.approx([2, -2], abs=0.051)


def test_the_query_is_dragged_by_finger_and_the_page_still_scrolls(browser, served):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{served}chapters/self-attention.html")
    figure = page.locator("mh-query")
    figure.locator("svg").first.scroll_into_view_if_needed()
    finger = context.new_cdp_session(page)

    def swipe(start, end):
        steps = [[a + (b - a) * i / 6 for a, b in zip(start, end, strict=True)] for i in range(7)]
        for kind, (x, y) in [
            ("touchStart", steps[0]),
            *(("touchMove", at) for at in steps[1:]),
        ]:
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    before = page.evaluate("scrollY")
    swipe(place(figure, (1, 0)), place(figure, (-0.5, 1.5)))
    assert figure.evaluate("(it) => it.query") == pytest.approx([-0.5, 1.5], abs=0.11)
    assert page.evaluate("scrollY") == before
    page.touchscreen.tap(*place(figure, (1.5, -1)))
    page.wait_for_function("document.querySelector('mh-query').query[0] > 1")
    assert figure.evaluate("(it) => it.query") == pytest.approx([1.5, -1], abs=0.051)
    swipe(place(figure, (-1.5, -1.5)), place(figure, (-1.5, 1)))  # not on the arrow: the page moves
    page.wait_for_function(f"scrollY > {before}")
    assert figure.evaluate("(it) => it.query") == pytest.approx([1.5, -1], abs=0.051)
    context.close()


# ---------------------------------------------------------------------- chapter 1: softmax saturates


def normals(seed):
    """Mulberry32, then Box and Muller: the same random numbers once more."""

    def uniform():
        nonlocal seed
        seed = (seed + 0x6D2B79F5) % 2**32
        mixed = (seed ^ seed >> 15) * (1 | seed) % 2**32
        mixed ^= (mixed + (mixed ^ mixed >> 7) * (61 | mixed)) % 2**32
        return (mixed ^ mixed >> 14) / 2**32

    while True:
        yield math.sqrt(-2 * math.log(1 - uniform())) * math.cos(2 * math.pi * uniform())


def test_the_weights_of_random_keys_are_those_of_the_library(turn):
    page, figure = turn(SOFTMAX)
    now = """(it) => ({
        weights: it.attend(2 ** it.log2Width, 2 ** it.log2Factor).weights,
        bars: [...it.querySelectorAll('.bars i')].map((bar) => parseFloat(bar.style.height) / 100),
        said: [...it.querySelectorAll('tbody tr')].map((row) => row.cells[1].textContent),
    })"""
    for seed, powers in ((1, range(11)), (2, (0, 5, 10))):
        drawn = torch.tensor(list(itertools.islice(normals(seed), 65 * 1024)), dtype=torch.float64)
        assert max(abs(drawn.mean()), abs(drawn.std() - 1)) < 0.02
        query, keys = drawn[:1024], drawn[1024:].reshape(64, 1024)
        for power, log2_factor in itertools.product(powers, (None, -5, -2.5, 0, 1)):
            d_head, scale = 2**power, None if log2_factor is None else 2**log2_factor
            weights = attention_weights(query[None, :d_head], keys[:, :d_head], scale=scale)[0]
            entropy = torch.special.entr(weights).sum().item() / math.log(2)
            response = (weights * (1 - weights)).sum().item()
            slide(figure, "d_head", power)
            if scale is None:
                choose(figure, "divided by √d_head")
            else:
                slide(figure, "factor", log2_factor)
            found = figure.evaluate(now)
            assert np.allclose(found["weights"], weights, rtol=0, atol=1e-9)
            assert np.allclose(found["bars"], weights, rtol=0, atol=1e-5)
            wanted = [weights.max().item(), entropy, response]
            assert [number(text) for text in found["said"][1:]] == pytest.approx(wanted, abs=0.00051)
        figure.get_by_role("button", name="Draw other numbers").click()
    assert not page.faults


def test_the_factor_follows_the_width_until_it_is_set(turn):
    _, figure = turn(SOFTMAX)
    factor = figure.get_by_role("slider", name="factor")
    slide(figure, "d_head", 10)
    assert factor.get_attribute("aria-valuetext") == "1/32"
    spread = number(rows(figure.locator("table"))[2][1])
    choose(figure, "not divided")
    assert factor.get_attribute("aria-valuetext") == "1"
    assert number(rows(figure.locator("table"))[2][1]) < 1 < 5 < spread
    slide(figure, "factor", -2)
    assert figure.get_by_role("radio", name="times my factor").is_checked()
    slide(figure, "d_head", 2)
    assert factor.get_attribute("aria-valuetext") == "1/4"
    choose(figure, "not divided")
    assert factor.get_attribute("aria-valuetext") == "1"


def test_every_score_stands_at_its_place(turn):
    _, figure = turn(SOFTMAX)
    now = """(it) => ({
        scores: it.attend(2 ** it.log2Width, 2 ** it.log2Factor).scores,
        drawn: [...it.querySelectorAll('.ticks i')].map((tick) => parseFloat(tick.style.left)),
        levels: [...it.querySelectorAll('.scores span')].map((one) => one.textContent),
        places: [...it.querySelectorAll('.scores span')].map((one) => parseFloat(one.style.left)),
    })"""
    reaches = set()
    for power, rule in itertools.product(
        (0, 6, 10), ("divided by √d_head", "not divided", "times my factor")
    ):
        slide(figure, "d_head", power)
        choose(figure, rule)
        if rule == "times my factor":
            slide(figure, "factor", 1)
        found = figure.evaluate(now)
        levels = [number(text) for text in found["levels"]]
        drawn = np.interp(
            found["scores"], levels, found["places"]
        )  # beyond the axis it would stay at its end
        assert np.allclose(found["drawn"], drawn, rtol=0, atol=0.01)
        said = figure.locator(".scores").get_attribute("aria-label")
        assert said.endswith(f"from minus {levels[-1]:.0f} to {levels[-1]:.0f}.")
        reaches.add(levels[-1])
    assert len(reaches) >= 3


# ---------------------------------------------------------------------- chapter 2: walk a token through


@pytest.fixture(scope="session")
def pencil():
    return run_cells("splitting-into-heads", "pencil-project", "pencil-attend", "pencil-output")


def in_table(table):
    return {row[0]: [number(cell) for cell in row[1:] if re.search(r"\d", cell)] for row in rows(table)}


@pytest.mark.parametrize("token", [0, 1])
def test_the_walk_is_that_of_the_pencil(turn, pencil, token):
    page, figure = turn(SPLIT)
    choose(figure, str(token))
    matrices = {"queries": pencil["w_q"], "keys": pencil["w_k"], "values": pencil["w_v"]}
    for (many, matrix), one in zip(matrices.items(), ("query", "key", "value"), strict=True):
        choose(figure, many)
        shown = in_table(figure.locator("table"))
        assert shown[one] == (pencil["x"] @ matrix)[token].tolist()
        for c, row in enumerate(matrix):
            assert shown[f"coordinate {c}"] == [pencil["x"][token, c], *row]

    figure.get_by_role("button", name="Next →").click()  # cut
    shown = in_table(figure.locator("table"))
    assert shown[f"query of token {token}"] == pencil["q"][token].tolist()
    for t in (0, 1):
        assert shown[f"key of token {t}"] == pencil["k"][t].tolist()
        assert shown[f"value of token {t}"] == pencil["v"][t].tolist()

    figure.get_by_role("button", name="Next →").click()  # look
    for i, table in enumerate(figure.locator("table").all()):
        mine = slice(2 * i, 2 * i + 2)
        three = pencil["three"] * pencil["q"][[token], mine]
        mix, weights = reference.attention(three, pencil["k"][:, mine], pencil["v"][:, mine])
        *keys, last = rows(table)
        assert [number(row[3]) for row in keys] == pytest.approx(weights[0], abs=0.0051)
        assert numbers(last[4]) == pytest.approx(mix[0])

    figure.get_by_role("button", name="Next →").click()  # merge
    mixes = np.concatenate([mix[token] for mix in pencil["mixes"]])
    assert in_table(figure.locator("table"))["mix"] == pytest.approx(mixes)

    figure.get_by_role("button", name="Next →").click()  # output
    cells = rows(figure.locator("table"))
    assert [[number(cell) for cell in row[1:]] for row in cells[:4]] == pytest.approx(
        np.column_stack([mixes, pencil["w_o"]])
    )
    for row, brought in zip(cells[4:], [*pencil["brought_home"], pencil["concatenated"]], strict=True):
        assert [number(cell) for cell in row[2:]] == pytest.approx(brought[token])
    assert not page.faults


def looks(weights):
    return "at both tokens alike" if weights[0] == weights[1] else f"most at token {int(np.argmax(weights))}"


@pytest.mark.parametrize("token", [0, 1])
def test_what_the_walk_concludes_is_what_it_shows(turn, pencil, token):
    _, figure = turn(SPLIT)
    choose(figure, str(token))
    said = figure.locator(".sentence")
    choose(figure, "2 Cut")
    words = r"The (.*), \((.*)\), becomes \((.*)\) for .* \((.*)\) for"
    name, *found = re.match(words, said.inner_text()).groups()
    whole, left, right = map(numbers, found)
    assert left != right  # both heads would get the same: nobody could see the cut
    assert whole == left + right == in_table(figure.locator("table"))[name]
    choose(figure, "3 Look")
    heads_look = []
    for mine in (slice(0, 2), slice(2, 4)):
        three = pencil["three"] * pencil["q"][[token], mine]
        weights = reference.attention(three, pencil["k"][:, mine], pencil["v"][:, mine])[1][0].round(12)
        heads_look.append(looks(weights))
    assert heads_look[0] != heads_look[1]
    wanted = f"Head 0 looks {heads_look[0]}, head 1 {heads_look[1]}. One head could do only"
    assert wanted in said.inner_text()


def test_the_focus_stays_at_both_ends_of_the_walk(turn):
    page, figure = turn(SPLIT)
    for name, last in (("Next →", "5 Output"), ("← Back", "1 Project")):
        button = figure.get_by_role("button", name=name)
        button.focus()
        for _ in range(6):
            page.keyboard.press("Enter")
        assert figure.get_by_role("radio", name=last).is_checked()
        assert button.evaluate("(it) => it === document.activeElement")
        assert button.get_attribute("aria-disabled") == "true"
        assert figure.locator("[aria-disabled=true]").count() == 1


def test_a_coordinate_of_the_token_is_none_of_the_output(turn):
    _, figure = turn(SPLIT)
    choose(figure, "coordinate 2")
    for step in ("2 Cut", "4 Merge"):
        choose(figure, step)
        assert figure.get_by_role("radio", name="coordinate 2").is_checked()
    choose(figure, "5 Output")
    assert figure.get_by_role("radio", name="all").is_checked()
    assert figure.get_by_role("radio", name="coordinate").count() == 0
    choose(figure, "output 2")
    assert figure.locator(".sentence").inner_text().startswith("Coordinate 2 of the output is")
    choose(figure, "1 Project")
    assert figure.get_by_role("radio", name="all").is_checked()
    choose(figure, "head 1")  # a head stays the same head
    choose(figure, "5 Output")
    assert figure.get_by_role("radio", name="head 1").is_checked()


def lit(figure):
    """True where a cell with a number is lit, row by row; cells that hold only = are left out."""
    return figure.locator("tbody tr").evaluate_all(
        "(all) => all.map((row) => [...row.querySelectorAll('td[class]')].map((td) => td.matches('.lit')))"
    )


def test_what_is_lit_is_what_is_touched(turn):
    _, figure = turn(SPLIT)
    yes, no = True, False
    choose(figure, "head 1")
    # columns of W_Q, all of the token
    assert lit(figure) == [[yes, no, no, yes, yes]] * 4 + [[no, no, yes, yes]]
    choose(figure, "coordinate 2")
    rows_of_w_q = [[no] * 5, [no] * 5, [yes] * 5, [no] * 5]
    assert lit(figure) == [*rows_of_w_q, [no, yes, no, yes]]  # row 2 of W_Q is 0 1 0 1
    choose(figure, "5 Output")
    choose(figure, "output 2")
    assert [row[1:] for row in lit(figure)[:4]] == [[no, no, yes, no]] * 4  # a column of W_O
    choose(figure, "head 1")
    assert lit(figure)[:4] == [[no] * 5] * 2 + [[yes] * 5] * 2  # rows of W_O
    assert lit(figure)[4:] == [[no] * 4, [yes] * 4, [no] * 4]


# ---------------------------------------------------------------------- chapter 3: choose the heads

TASKS = {
    STAIRCASE: ("staircase", tasks.Staircase(), "left_over"),
    LOOKUP: ("lookup", tasks.Lookup(), "accuracy"),
}


def training(setting):
    """How the figure calls the training of a stored setting."""
    more = " with an MLP" if setting.get("d_ff") else ""
    more += " with scores that see contents" if setting.get("ordinary") else ""
    return f"{setting['steps']} steps{more}"


@pytest.mark.parametrize("figure", TASKS)
def test_every_stored_run_can_be_seen(turn, figure):
    name, task, score = TASKS[figure]
    page, figure = turn(figure)
    settings = results.load(name)["settings"]
    for setting, stored in settings.items():
        heads = str(stored["setting"]["n_heads"])
        choose(figure, heads)
        choose(figure, training(stored["setting"]))
        seeds = stored["per_seed"][score]
        said = figure.locator(".sentence").inner_text()
        width = task.d_model // int(heads)
        assert re.match(rf"{heads} heads? of width {width} after {training(stored['setting'])}:", said)
        average, n_seeds, lowest, highest, *rest = numbers(said.split(": ")[1])
        assert n_seeds == len(seeds)
        assert [average, lowest, highest] == pytest.approx(
            [np.mean(seeds), min(seeds), max(seeds)], abs=0.00051
        )
        attention = np.array(stored["attention"])
        if name == "staircase":
            back = np.arange(12)[:, None] - np.arange(1, 5)  # (query, steps back)
            attention = np.take_along_axis(attention, np.tile(back % 12, (len(attention), 1, 1)), 2).mean(1)
            least = task.theory(int(heads))
            if "content" in setting:
                assert "theorem" not in said
            elif least:
                assert number(said.split("no less than")[1]) == pytest.approx(least, abs=0.0051)
            else:
                assert "counts heads and not their width, forbids nothing" in said
        else:
            assert rest == [pytest.approx(task.chance, abs=0.0005)]
            assert "Chance gives" in said
        shown = [[number(cell) for cell in row[1:5]] for row in rows(figure.locator("table").last)]
        assert np.allclose(shown, attention, rtol=0, atol=0.00501)
    listed = rows(figure.locator("table").first)
    assert len(listed) == len(settings)
    for row, stored in zip(listed, settings.values(), strict=True):
        seeds = stored["per_seed"][score]
        assert numbers(row[-1]) == pytest.approx(seeds, abs=0.00051)
        assert numbers(row[-2].replace("±", " ")) == pytest.approx(
            [np.mean(seeds), np.std(seeds, ddof=1)], abs=0.00051
        )
    assert not page.faults


def test_each_seed_is_drawn_at_its_height(turn):
    for figure, (name, _, score) in TASKS.items():
        _, element = turn(figure)
        settings = results.load(name)["settings"]
        seeds = [s for name, stored in settings.items() if "," not in name for s in stored["per_seed"][score]]
        dots = element.locator(".chart .seed")
        heights = dots.evaluate_all("(all) => all.map((dot) => +dot.getAttribute('cy'))")
        slope, start = np.polyfit(seeds, heights, 1)
        assert slope < -100
        assert np.allclose(heights, start + slope * np.array(seeds), rtol=0, atol=0.01)


def test_the_dashed_line_is_what_theory_or_chance_says(turn):
    for figure, (name, task, score) in TASKS.items():
        _, element = turn(figure)
        settings = [one for one in results.load(name)["settings"].items() if "," not in one[0]]
        means = element.locator(".chart .mean").get_attribute("d").replace("M", "").split("L")
        heights = [float(point.split(",")[1]) for point in means]
        slope, start = np.polyfit([np.mean(one["per_seed"][score]) for _, one in settings], heights, 1)
        bound = element.locator(".chart .bound").get_attribute("d")
        drawn = [float(y) for y in re.findall(r"M\S+ ([\d.]+)", bound)]
        wanted = [task.theory(one["setting"]["n_heads"]) for _, one in settings]
        wanted = wanted if name == "staircase" else [task.chance]
        assert np.allclose(drawn, start + slope * np.array(wanted), rtol=0, atol=0.01)
        key = element.locator(".signs").inner_text()
        assert ("lower bound" if name == "staircase" else "chance") in key


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("figure", TASKS)
def test_the_controls_stay_where_they_are(turn, figure, width):
    """Nothing jumps away under the pointer; a training stays chosen where a run of it is stored."""
    name, _, _ = TASKS[figure]
    _, figure = turn(figure, width=width)
    stored = [one["setting"] for one in results.load(name)["settings"].values()]
    places = """(it) => [...it.querySelectorAll('label, .chart, .signs')].map((one) =>
        one.getBoundingClientRect().top - it.getBoundingClientRect().top)"""
    before, words = figure.evaluate(places), figure.locator(".signs", has_text="chosen training")
    for n_heads in dict.fromkeys(setting["n_heads"] for setting in stored):
        choose(figure, str(n_heads))
        offered = {training(setting) for setting in stored if setting["n_heads"] == n_heads}
        trainings = figure.get_by_role("group", name="training").locator("label")
        able = {one.inner_text() for one in trainings.all() if one.locator("input").is_enabled()}
        assert able == offered
        assert trainings.count() == len({training(setting) for setting in stored})
        for one in offered:
            choose(figure, one)
            assert figure.evaluate(places) == pytest.approx(before, abs=0.1)
            squares = figure.locator(".chart .extra").count()
            assert squares == (0 if one == "600 steps" else 6)
            assert words.locator("span").last.is_visible() == bool(squares)
    if name == "lookup":
        choose(figure, "16")
        choose(figure, "2400 steps")
        choose(figure, "32")
        assert figure.get_by_role("radio", name="2400 steps", exact=True).is_checked()
        choose(figure, "8")
        assert figure.get_by_role("radio", name="600 steps", exact=True).is_checked()


def test_the_maps_are_those_that_were_stored(turn):
    _, figure = turn(STAIRCASE)
    for n in (2, 24):
        choose(figure, str(n))
        stored = np.array(results.load("staircase")["settings"][f"h={n}"]["attention"])
        drawn = np.zeros_like(stored)
        maps = figure.locator("figure svg").evaluate_all(
            "(all) => all.map((svg) => [...svg.querySelectorAll('.look')]"
            ".map((path) => [path.getAttribute('d'), +path.getAttribute('fill-opacity')]))"
        )
        for head, paths in enumerate(maps):
            for d, opacity in paths:
                for column, row in re.findall(r"M(\d+) (\d+)", d):
                    drawn[head, int(row), int(column)] = opacity
        assert np.abs(drawn - stored).max() <= 1 / 24 + 1e-9  # the nearest of 12 shades
    # the outline runs where a cell that is to be copied meets one that isn't, or the edge
    back = (np.arange(12)[:, None] - np.arange(12)) % 12  # (query, key)
    wanted = np.pad((back >= 1) & (back <= 4), 1)
    down = {(s, t) for t, s in np.argwhere(wanted[1:-1, 1:] != wanted[1:-1, :-1])}
    right = {(s, t) for t, s in np.argwhere(wanted[1:, 1:-1] != wanted[:-1, 1:-1])}
    outline = re.findall(r"M(\d+) (\d+)([vh])1", figure.locator(".wanted").first.get_attribute("d"))
    inner = {(int(x), int(y), way) for x, y, way in outline}
    all_edges = {(x, y, "v") for x, y in down} | {(x, y, "h") for x, y in right}
    assert inner == {edge for edge in all_edges if edge[0] < 12 and edge[1] < 12}  # the frame has the rest


def test_a_click_into_the_chart_chooses(turn):
    page, figure = turn(LOOKUP)
    chart = figure.locator("svg.chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.click(box["x"] + 0.95 * box["width"], box["y"] + 0.5 * box["height"])
    assert figure.get_by_role("radio", name="32", exact=True).is_checked()
    assert figure.locator(".sentence").inner_text().startswith("32 heads of width 1")


# ---------------------------------------------------------------------- chapter 4: what heads cost


def bills(d_model, n_heads, n_kv_heads, d_head, n_tokens, n_layers, width, bias):
    shape = (d_model, n_heads, n_kv_heads, d_head)
    each = {
        "parameters": cost.parameters(*shape, bias=bias),
        "flops": cost.matmul_flops(*shape, n_query=n_tokens),
        "softmax": cost.softmax_operations(n_heads, n_query=n_tokens),
        "weights": cost.weights_bytes(n_heads, n_query=n_tokens, bytes_per_number=width),
    }
    cache = cost.kv_cache_bytes(*shape, n_tokens=n_tokens, n_layers=n_layers, bytes_per_number=width)
    return {name: n_layers * bill for name, bill in each.items()} | {"cache": cache}


def test_the_calculator_counts_as_the_library_does(turn):
    _, figure = turn(COST)
    draw = random.Random(0)
    cases = []
    names = ("dModel", "nHeads", "nKvHeads", "dHead", "nTokens", "nLayers", "bytes", "bias")
    for _ in range(300):
        n_kv_heads = draw.choice([1, 2, 3, 8, 13])
        shape = (
            draw.randint(1, 16384),
            n_kv_heads * draw.choice([1, 2, 5, 16]),
            n_kv_heads,
            draw.randint(1, 1024),
        )
        others = (draw.randint(1, 2**20), draw.randint(1, 130), draw.choice([1, 2, 4]), draw.random() < 0.5)
        cases.append(dict(zip(names, (*shape, *others), strict=True)))
    counted = figure.evaluate(
        """(it, cases) => cases.map((sizes) => Object.fromEntries(
            Object.entries(it.constructor.count(sizes)).map(([name, bill]) => [name, String(bill)])))""",
        cases,
    )
    for case, found in zip(cases, counted, strict=True):
        assert {name: int(bill) for name, bill in found.items()} == bills(*case.values())


def shown_bills(figure):
    exact = [int(text.replace(",", "")) for text in figure.locator("td .exact").all_text_contents()]
    return dict(zip(("parameters", "flops", "softmax", "weights", "cache"), exact, strict=True))


PRESETS = {
    "BERT-base": (768, 12, 12, 64, 512, 12, 4, True),
    "GPT-2": (768, 12, 12, 64, 1024, 12, 4, True),
    "ViT-B/16": (768, 12, 12, 64, 197, 12, 4, True),
    "TinyBERT-4": (312, 12, 12, 26, 512, 4, 4, True),
    "Llama 3 8B": (4096, 32, 8, 128, 8192, 32, 2, False),
}


def test_models_are_counted_and_heads_can_be_moved(turn):
    page, figure = turn(COST)
    for name, sizes in PRESETS.items():
        choose(figure, name)
        assert shown_bills(figure) == bills(*sizes)
        single = bills(sizes[0], 1, 1, sizes[0], *sizes[4:])
        for bill, text in zip(single, figure.locator(".factor").all_text_contents(), strict=True):
            factor = bills(*sizes)[bill] / single[bill]
            assert (text == "the same") == (factor == 1)
            assert factor == 1 or number(text) == pytest.approx(factor, rel=0.005)
    d_model, _, _, _, *rest = PRESETS["Llama 3 8B"]
    slide(figure, "heads", 4)  # the fifth divisor of 4096: 16, and still four queries to a K/V head
    assert shown_bills(figure) == bills(d_model, 16, 4, 256, *rest)
    slide(figure, "K/V heads", 0)
    assert shown_bills(figure) == bills(d_model, 16, 1, 256, *rest)
    assert not figure.get_by_role("radio", name="Llama 3 8B").is_checked()
    choose(figure, "fixed")
    figure.get_by_label("d_head", exact=True).fill("100")
    figure.get_by_label("dtype").select_option("float32")
    figure.get_by_label("biases").check()
    assert shown_bills(figure) == bills(d_model, 16, 1, 100, *rest[:2], 4, True)
    assert figure.locator(".factor").all_text_contents()[2:4] == ["× 16", "× 16"]
    assert not page.faults


def test_numbers_that_cannot_be_are_named(turn):
    _, figure = turn(COST)
    tokens, height = figure.get_by_label("tokens"), figure.bounding_box()["height"]
    for wrong in ("", "0", "-3", "2.5", "99999999"):
        tokens.fill(wrong)
        said = figure.get_by_role("alert")
        assert said.inner_text() == "tokens must be a whole number from 1 to 1,048,576."
        assert tokens.get_attribute("aria-invalid") == "true"
        assert tokens.get_attribute("aria-describedby") == said.get_attribute("id")
        # the bills before stay in sight, and out of the way of who can't see how pale they are
        assert figure.locator("table").is_visible()
        assert figure.locator("[inert] table").count() == 1
        assert figure.locator(".sentence").text_content() == ""
        assert figure.bounding_box()["height"] == pytest.approx(height, abs=1)
    tokens.fill("7")
    assert figure.locator(".problem").text_content() == ""
    assert tokens.get_attribute("aria-describedby") is None
    assert figure.locator("[inert]").count() == 0
    assert shown_bills(figure) == bills(768, 12, 12, 64, 7, 12, 4, True)
    width = figure.get_by_label("d_model", exact=True)
    width.fill("7")  # on the way to 720: only 1 and 7 divide it
    assert shown_bills(figure) == bills(7, 7, 7, 1, 7, 12, 4, True)
    width.fill("720")
    assert shown_bills(figure) == bills(720, 12, 12, 60, 7, 12, 4, True)


def test_the_sentence_says_who_shares_keys_and_values(turn):
    _, figure = turn(COST)
    said = figure.locator(".sentence")
    assert said.inner_text().startswith("12 heads of width 64, each with its own keys and values, cost ")
    slide(figure, "K/V heads", 0)
    assert said.inner_text().startswith("12 heads of width 64, sharing 1 key/value head, cost ")
    slide(figure, "K/V heads", 2)
    assert said.inner_text().startswith("12 heads of width 64, sharing 3 key/value heads, cost ")
    slide(figure, "heads", 0)
    assert said.inner_text().startswith("1 head of width 768 costs ")


def test_the_numbers_of_heads_are_told(turn):
    _, figure = turn(COST)
    for width in (768, 769, 7):
        figure.get_by_label("d_model", exact=True).fill(str(width))
        wanted = [n for n in range(1, 129) if width % n == 0]
        said = figure.get_by_text("Numbers of heads that divide d_model, up to 128:").inner_text()
        assert numbers(said.split(":")[1].removesuffix(".")) == wanted
        assert figure.get_by_role("slider", name="heads", exact=True).is_disabled() == (len(wanted) == 1)


def test_a_bar_reaches_as_far_as_its_scale_says(turn):
    _, figure = turn(COST)
    least, one, most = figure.locator(".scale span").all_text_contents()
    assert (least, one) == (f"1/{most}", "1")
    slide(figure, "K/V heads", 0)
    bars = figure.locator(".factor")
    ends = bars.evaluate_all(
        "(all) => all.map((it) => ['--from', '--to'].map((end) => +it.style.getPropertyValue(end)))"
    )
    for text, (start, end) in zip(bars.all_text_contents(), ends, strict=True):
        factor = 1 if text == "the same" else number(text)
        assert start + end == pytest.approx(math.log(factor, int(most)), abs=0.002)
        assert min(abs(start), abs(end)) == 0


# ---------------------------------------------------------------------- chapter 8: take heads away

RULES = (
    "6 heads a layer",
    "2 heads a layer",
    "1 head a layer",
    "no attention",
    "4 of 6 layers",
    "3 of 6 layers",
)


def stored_models():
    """All models of chapter 8: (ranking or rule, heads removed) → name, scores before and after training."""
    few = results.load("keep-few")["settings"]
    rankings = results.load("prune-rankings")["settings"]
    models = {}
    for ranking in ("gradient", "leave one out", "norm of W_o", "random"):
        runs = [one for name, one in rankings.items() if name.rstrip(" 0123456789") == ranking]
        for i, n in enumerate(runs[0]["setting"]["removed"]):
            scores = np.mean([1 / np.array(one["ranks"][i]) for one in runs], 0)
            name = {0: "intact", 72: "no attention"}.get(
                n, "12 heads in all" if (ranking, n) == ("gradient", 60) else None
            )
            models[ranking, n] = (name, scores)
    for n in (0, 72):
        models["random", n] = models["gradient", n]
    for name in RULES:
        models[name, None] = (name, 1 / np.array(few[name]["ranks"]))
    models["int8", None] = ("int8", 1 / np.array(results.load("int8")["settings"]["int8"]["ranks"]))
    trained = {name: np.mean(1 / np.array(one["ranks_trained"]), 0) for name, one in few.items()}
    return {choice: (name, scores, trained.get(name)) for choice, (name, scores) in models.items()}, trained[
        "intact"
    ]


def test_every_stored_model_can_be_chosen(turn):
    page, figure = turn(PRUNE)
    models, trained_intact = stored_models()
    timed = results.load("prune-time")["settings"]["128 tokens"]
    rankings = [
        one for one in results.load("prune-rankings")["settings"].values() if "ranking" in one["setting"]
    ]
    removed = rankings[0]["setting"]["removed"]
    intact = models["gradient", 0][1]
    numbers_of = figure.locator("table").first

    def spread(scores, other):
        return [*bounds(scores), *bounds(scores - other)]

    def bounds(values):
        return [values.mean(), *interval(values)]

    for (choice, n), (name, before, after) in models.items():
        choose(figure, choice)
        if n is not None:
            slide(figure, "heads removed", removed.index(n))
        cut, trained, file, time = [" ".join(row[1:]) for row in rows(numbers_of)]
        if name == "intact":
            assert numbers(cut) == pytest.approx(bounds(before), abs=0.00051)
        else:
            assert numbers(cut) == pytest.approx(spread(before, intact), abs=0.00051), (choice, n)
            if after is None:
                assert trained == "not trained "
            else:
                assert numbers(trained) == pytest.approx(spread(after, trained_intact), abs=0.00051)
        size = (
            timed["bytes"][name]
            if name
            else timed["bytes"]["intact"] - 4 * n * (cost.parameters(384, 12) - 384) // 12
        )
        assert numbers(file) == pytest.approx([size / 1e6, size / timed["bytes"]["intact"]], abs=0.0501)
        assert numbers(file)[1] == pytest.approx(size / timed["bytes"]["intact"], abs=0.00501)
        said = figure.locator(".sentence").inner_text()
        if name:
            assert numbers(time) == pytest.approx(timed["times"][name], abs=0.00501)
            assert "not measured" not in said
        else:
            assert time == "not measured "
            assert "its time was not measured" in said
        if choice == "random" and not name:
            lots = [one for one in rankings if one["setting"]["ranking"].startswith("random")]
            each = [np.mean(1 / np.array(one["ranks"][removed.index(n) - 1])) for one in lots]
            assert numbers(said.split("The lots lie")[1])[:2] == pytest.approx(
                [min(each), max(each)], abs=0.0006
            )
    assert not page.faults


def test_the_bytes_are_those_of_models_with_heads_removed(turn):
    _, figure = turn(PRUNE)
    minilm = bert.load_minilm()
    importance = results.load("prune-rankings")["settings"]["leave one out"]["importance"]
    shown = figure.evaluate("(it) => it.models")
    for model in shown:
        if model.get("ranking") == "leave one out":
            gates = heads.keep_best(torch.tensor(importance), 72 - model["removed"])
            small = compress.remove_heads(minilm, gates)
            assert model["bytes"] == 4 * sum(p.numel() for p in small.parameters())
            assert model["kept"] == ["".join(map(str, gate.int().tolist())) for gate in gates]
    dropped = [i for i, row in enumerate(shown[-2]["kept"]) if not row]
    kept = results.load("keep-few")["settings"]["3 of 6 layers"]["setting"]["layers"]
    assert shown[-2]["name"] == "3 of 6 layers"
    assert sorted([*dropped, *kept]) == list(range(6))


def test_the_heads_that_are_left_are_drawn(turn):
    _, figure = turn(PRUNE)
    picture = figure.get_by_role("img", name="Heads that are left")
    assert picture.locator(".stays").count() == 12
    choose(figure, "2 heads a layer")
    said = picture.get_attribute("aria-label")
    best = np.argsort(results.load("prune-rankings")["settings"]["gradient"]["importance"], 1)[:, -2:]
    assert [sorted(map(int, row.split())) for row in re.findall(r"layer \d: ([\d ]+)", said)] == np.sort(
        best, 1
    ).tolist()
    choose(figure, "3 of 6 layers")
    assert picture.locator(".stays").count() == 36
    assert picture.get_by_text("the whole layer is gone").count() == 3
    choose(figure, "random")
    assert "six lots" in picture.text_content()


def test_each_model_is_drawn_at_its_place(turn):
    page, figure = turn(PRUNE)
    models, _ = stored_models()
    times = results.load("prune-time")["settings"]["128 tokens"]["times"]
    choose(figure, "norm of W_o")
    line = numbers(figure.locator(".chart .mean").get_attribute("d").replace("M", " ").replace("L", " "))
    wanted = [(n, before.mean()) for (choice, n), (_, before, _) in models.items() if choice == "norm of W_o"]
    for drawn, exact in zip((line[::2], line[1::2]), zip(*wanted, strict=True), strict=True):
        slope, start = np.polyfit(exact, drawn, 1)
        assert np.allclose(drawn, start + slope * np.array(exact), rtol=0, atol=0.05)
    choose(figure, "time")
    assert figure.locator(".chart .mean").count() == 0
    at = figure.evaluate("(it) => it.shown.map((model) => [model.name, it.x(model)])")
    assert {name for name, _ in at} == times.keys() - {"2 heads a layer, masked"}
    slope, start = np.polyfit([times[name][0] for name, _ in at], [x for _, x in at], 1)
    assert np.allclose(
        [x for _, x in at], [start + slope * times[name][0] for name, _ in at], rtol=0, atol=0.01
    )
    assert not page.faults


def kinds(drawing):
    """The kinds of marks in a drawing: a line is known by its class, a point by its shape too."""
    found = drawing.locator(".mean, .other, .band, .interval, .trained, .cut").evaluate_all(
        "(all) => all.map((it) => [it.classList[0], it.matches('.cut') ? it.tagName : ''].join(' ').trim())"
    )
    return set(found)


@pytest.mark.parametrize("against", ["heads", "size", "time"])
def test_the_key_tells_what_is_drawn(turn, against):
    _, figure = turn(PRUNE)
    choose(figure, against)
    for choice in ("4 of 6 layers", "leave one out"):
        choose(figure, choice)
        # a square on the line of its ranking needs no words
        drawn = kinds(figure.locator("svg.chart")) - ({"cut rect"} if against != "time" else set())
        said = figure.locator(".signs")
        assert kinds(said) == drawn
        assert ("interval" in drawn) == (choice == "4 of 6 layers" or against != "time")
        assert said.get_by_text("the other rankings").count() == (against != "time")
        assert said.get_by_text("by a ranking").count() == (against == "time")


@pytest.mark.parametrize("width", [1280, 390])
def test_models_are_named_where_there_is_room(turn, width):
    _, figure = turn(PRUNE, width=width)
    assert figure.locator("title", has_text="3 of 6 layers, after a short training").count() == 1
    choose(figure, "time")
    times = results.load("prune-time")["settings"]["128 tokens"]["times"]
    for choice in ("gradient", "3 of 6 layers", "int8"):
        choose(figure, choice)
        names = figure.locator("svg.chart .name, svg.chart .blue")
        assert set(names.all_text_contents()) == times.keys() - {"2 heads a layer, masked"}
        taken = figure.locator("svg.chart").evaluate(
            """(chart) => [...chart.querySelectorAll('.name, .blue, .cut, .trained')].map((it) => {
                const { left, right, top, bottom } = it.getBoundingClientRect(), text = it.tagName === 'text';
                // letters fill the middle of their line; a mark may touch another one
                return [text, left, right, top + (text ? 3 : 0), bottom - (text ? 3 : 0), it.textContent];
            })"""
        )
        edge = figure.bounding_box()
        for one, two in itertools.combinations(taken, 2):
            apart = one[1] >= two[2] or two[1] >= one[2] or one[3] >= two[4] or two[3] >= one[4]
            assert apart or not (one[0] or two[0]), (one, two)
        assert all(edge["x"] < left and right < edge["x"] + edge["width"] for _, left, right, *_ in taken)


def test_the_number_of_heads_stays_while_a_rule_is_chosen(turn):
    _, figure = turn(PRUNE)
    for choice in ("int8", "random", "3 of 6 layers", "norm of W_o"):
        choose(figure, choice)
    assert figure.locator(".sentence").inner_text().startswith("60 heads removed by norm of W_o:")
    assert figure.get_by_role("slider").get_attribute("aria-valuetext") == "60"


def test_the_axis_is_announced(turn):
    _, figure = turn(PRUNE)
    axes = {"size": "size of the file, in MB", "time": "time, as a share of the intact model's"}
    for choice, axis in axes.items():
        choose(figure, choice)
        assert figure.locator(".sentence").inner_text().endswith(f"The chart sets MRR against {axis}.")
        assert figure.locator("svg.chart").get_attribute("aria-label").startswith(f"MRR against {axis}:")
        assert figure.locator("svg.chart").get_by_text(axis).count() == 1


def test_a_click_into_the_chart_chooses_a_model(turn):
    page, figure = turn(PRUNE)
    choose(figure, "size")
    chart = figure.locator("svg.chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    x, y = figure.evaluate(
        "(it) => { const model = it.models.at(-1); return [it.x(model), it.y(model.before.mrr[0])]; }"
    )
    scale = box["width"] / 340
    page.mouse.click(box["x"] + scale * x, box["y"] + scale * y)
    assert figure.get_by_role("radio", name="int8").is_checked()
    assert figure.locator(".sentence").inner_text().startswith("Int8: the MRR is")
    choose(figure, "leave one out")
    assert not figure.get_by_role("radio", name="int8").is_checked()


def test_what_the_interval_cannot_tell_apart_is_said(turn):
    _, figure = turn(PRUNE)
    models, _ = stored_models()
    intact, told = models["gradient", 0][1], set()
    for choice, n in (*((rule, None) for rule in (*RULES, "int8")), ("gradient", 12), ("leave one out", 12)):
        choose(figure, choice)
        if n:
            slide(figure, "heads removed", 1)
        low, high = interval(models[choice, n][1] - intact)
        said = figure.locator(".sentence").inner_text().partition("After a short")[0]
        assert ("can't tell it from the intact model" in said) == (low <= 0 <= high), (choice, n)
        assert ("below the intact model" in said) == (high < 0)
        told.add((low <= 0 <= high, models[choice, n][1].mean() < intact.mean()))
    assert told == {(False, True), (True, True), (True, False)}  # below, perhaps below, perhaps above


# ---------------------------------------------------------------------- everyone can turn them


def states(page, chapter):
    """Go through what a figure can look like; its first look is the first state."""
    yield "as it opens"
    if chapter == "self-attention":
        slide(page.locator("mh-query"), "asks about feeling", -2)
        slide(page.locator("mh-softmax"), "d_head", 10)
        choose(page.locator("mh-softmax"), "not divided")
        yield "saturated"
    elif chapter == "splitting-into-heads":
        choose(page.locator("mh-split"), "head 1")
        for step in ("2 Cut", "3 Look", "5 Output"):
            choose(page.locator("mh-split"), step)
            yield step
    elif chapter == "what-one-head-cannot-do":
        for figure in page.locator("mh-heads").all():
            choose(figure, "1")
            figure.get_by_role("radio").last.check()
        yield "one head, another run"
    elif chapter == "heads-on-small-machines":
        for choices in (("leave one out",), ("3 of 6 layers", "time"), ("int8", "size")):
            for name in choices:
                choose(page.locator("mh-prune"), name)
            yield " ".join(choices)
    else:
        choose(page.locator("mh-cost"), "Llama 3 8B")
        yield "another model"
        page.get_by_label("layers").fill("0")
        yield "wrong"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_figures_are_open_to_everyone(open_page, served, chapter):
    page = open_page(f"{served}chapters/{chapter}.html")
    page.evaluate("document.querySelectorAll('.live details').forEach((fold) => (fold.open = true))")
    # the figures alone: the page around them has its own test
    page.evaluate("document.querySelector('article').replaceChildren(...document.querySelectorAll('.live'))")
    for state in states(page, chapter):
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 844})
            assert not barriers(page, ".live"), (state, width)
        page.set_viewport_size({"width": 360, "height": 844})
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider == 0, f"{state}: the page is {wider} pixels wider than the screen"
        for box in page.locator(".live, .stage").all():
            assert box.evaluate("(it) => it.scrollWidth <= it.clientWidth"), f"{state}: wider than its frame"
    assert not page.faults


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure[1])
def test_the_keyboard_is_enough(turn, figure):
    """Tab reaches each control, shows where it is, and arrows move it; what changes is announced in words."""
    page, element = turn(figure)
    controls = element.locator("input:not([type=radio]), input:checked, select, button, summary")
    element.evaluate(
        "(it) => { const before = document.createElement('button'); it.before(before); before.focus(); }"
    )
    where = """(it) => {
        const here = document.activeElement, shown = here.type === 'radio' ? here.nextElementSibling : here;
        return [it.contains(here), getComputedStyle(shown).outlineStyle, here.type];
    }"""
    reached, outlined, moved = 0, 0, False
    sentence = element.locator(".sentence").inner_text()
    while True:
        page.keyboard.press("Tab")
        here = element.evaluate(where)
        if not here[0]:
            break
        reached += 1
        outlined += here[1] != "none"
        if not moved and here[2] in ("range", "radio"):
            page.keyboard.press("ArrowRight")
            moved = True
            assert element.locator(".sentence").inner_text() != sentence
    wanted = controls.evaluate_all(
        "(all) => all.filter((one) => !one.disabled && one.checkVisibility()).length"
    )
    assert reached == outlined >= wanted > 0
    heard = element.locator(".heard")
    assert heard.get_attribute("aria-live") == "polite"
    page.wait_for_timeout(600)
    assert heard.text_content() == element.locator(".sentence").text_content() != sentence


def luminance(color):
    """Relative luminance by WCAG, of a color as the browser computes it."""
    parts = [int(n) / 255 for n in re.findall(r"\d+", color)[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_focus_stands_out_on_a_choice(turn, theme):
    page, figure = turn(PRUNE, theme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for chosen, radio in ((True, ":checked"), (False, "[value=int8]")):
        figure.locator(f"input{radio}").first.focus()
        page.keyboard.press("Shift")  # a key makes the focus visible
        ring, ground = figure.locator(f"input{radio} + span").first.evaluate(
            "(it) => [getComputedStyle(it).outlineColor, getComputedStyle(it).backgroundColor]"
        )
        low, high = sorted([luminance(ring), luminance(ground if chosen else paper)])
        assert (high + 0.05) / (low + 0.05) >= 3


def test_the_colours_of_the_reader_keep_every_sign(turn):
    """Where the system sets all colours: what is chosen, how much is filled, and whose a number is."""
    look = """(it) => {
        const { backgroundColor, backgroundImage } = getComputedStyle(it);
        return [backgroundColor, backgroundImage];
    }"""
    for figure in (LOOKUP, SPLIT):
        page, element = turn(figure)
        page.emulate_media(forced_colors="active")
        chosen, other = (
            element.locator(f"input{state} + span").first.evaluate(look)
            for state in (":checked", ":not(:checked)")
        )
        assert chosen[0] != other[0]
        if figure == LOOKUP:
            assert "gradient" in element.locator(".slots i").first.evaluate(look)[1]
        else:
            mine, theirs = (element.locator(f"td.h{head}").first.evaluate(look)[0] for head in (0, 1))
            assert mine != theirs


def test_motion_respects_the_reader(browser, served):
    for motion, name in (("reduce", "none"), ("no-preference", "move-apart")):
        context = browser.new_context(reduced_motion=motion)
        page = context.new_page()
        page.goto(f"{served}chapters/splitting-into-heads.html")
        figure = page.locator("mh-split")
        choose(figure, "2 Cut")
        cell = figure.locator("td.h1").first
        assert cell.evaluate("(it) => getComputedStyle(it).animationName") == name
        choose(figure, "head 0")  # the same step again: nothing moves
        assert cell.evaluate("(it) => getComputedStyle(it).animationName") == "none"
        context.close()


def test_without_javascript_the_words_and_the_static_twins_are_there(browser, served, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for chapter, element in FIGURES:
        page.goto(f"{served}chapters/{chapter}.html")
        figure = page.locator(element)
        assert figure.inner_text().startswith("On the website of this book, where JavaScript runs,")
        assert figure.locator("button, input, svg").count() == 0
        assert page.locator(".figure svg").count() > 0
    context.close()


def test_paper_shows_the_static_twins_only(turn):
    page, figure = turn(COST)
    page.emulate_media(media="print")
    assert not figure.is_visible()
    assert page.locator(".figure svg").first.is_visible()


# ---------------------------------------------------------------------- what a page loads


def scripts(site, page):
    return set(
        re.findall(
            r'src="[^"]*_static/figures/(\w+)\.js', (site / f"{page}.html").read_text(encoding="utf-8")
        )
    )


def test_a_figure_is_loaded_on_its_page_only(site):
    for chapter in CHAPTERS:
        elements = {re.match(r"mh-(\w+)", element)[1] for name, element in FIGURES if name == chapter}
        assert scripts(site, f"chapters/{chapter}") == {"figure", *elements}
    assert scripts(site, "search") == set()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_page_with_figures_is_light_and_asks_nobody_else(open_page, served, site, chapter):
    page = open_page(f"{served}chapters/{chapter}.html")
    assert not page.faults
    asked = {url for url in page.addresses if url.startswith("http")}
    assert all(url.startswith(served) for url in asked)
    files = [site / unquote(urlsplit(url).path).removeprefix(f"/{site.name}/") for url in asked]
    weight = sum(len(gzip.compress(file.read_bytes())) for file in files)
    print(f"{chapter}: {weight / 1000:.0f} kB in {len(asked)} requests")
    assert weight <= MAX_BYTES
    assert len(asked) <= MAX_REQUESTS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_figures_turn_from_the_disk(open_page, site, chapter):
    page = open_page((site / "chapters" / f"{chapter}.html").as_uri())
    for name, element in FIGURES:
        if name == chapter:
            figure = page.locator(element)
            before = figure.locator(".sentence").inner_text()
            figure.locator("input[type=radio]:not(:checked), input[type=range]").first.press("ArrowRight")
            assert figure.locator(".sentence").inner_text() != before
    assert not page.faults
    assert all(url.startswith((site.as_uri(), "data:")) for url in page.addresses)
