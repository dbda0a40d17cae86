"""The head explorer: what is packed, what its script computes beside PyTorch, and the page in a browser."""

import base64
import copy
import json
import os
import random
import re
import runpy
import shutil
from itertools import chain

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pages import ROOT, THEMES, WIDTHS, barriers, build_without
from torch.func import functional_call

from manyheads import bert, explorer, heads, results
from manyheads.data import news

PAGE = "chapters/explorer"
MAX_FIRST_PICTURE = 13_000_000  # bytes
MAX_FREEZE = 200  # milliseconds

# ---------------------------------------------------------------------- numbers as text


def matrices():
    shapes = st.tuples(st.integers(1, 5), st.sampled_from([64, 192]))
    return shapes.flatmap(lambda shape: arrays(float, shape, elements=st.floats(-9, 9)))


@given(matrices())
def test_rounding_is_off_by_half_a_step_at_most(matrix):
    steps, scales = explorer.quantise(matrix)
    assert np.abs(steps).max() <= 125
    left = steps.reshape(*scales.shape, 64) * scales[..., None]
    assert (np.abs(left - matrix.reshape(left.shape)) <= 0.5001 * scales[..., None]).all()


def test_a_group_that_is_cut_is_refused():
    with pytest.raises(ValueError, match="groups of 64, got 65 columns"):
        explorer.quantise(np.zeros((2, 65)))


@given(matrices())
def test_a_matrix_is_read_as_it_was_written(matrix):
    steps, scales = explorer.quantise(matrix)
    expected = steps.reshape(*scales.shape, 64) * scales[..., None]
    found = explorer.read(explorer.coarse(matrix)).reshape(expected.shape)
    assert np.abs(found - expected).max() <= 125 * scales.max() / 2**15 + 1e-12


@given(arrays(float, st.integers(1, 50), elements=st.floats(-1e4, 1e4)))
def test_a_vector_is_read_as_it_was_written(vector):
    found = explorer.read(explorer.fine(vector))
    assert np.abs(found - vector).max() <= np.abs(vector).max() / 2**15 * 1.001


def test_every_pair_of_steps_has_a_character_that_a_script_can_hold():
    one, other = np.divmod(np.arange(251**2), 251)
    steps = np.stack([one, other], axis=1) - 125
    matrix = np.zeros((1, 64 * 2000))
    matrix[0, : steps.size] = steps.ravel()
    matrix[0, 125::64] = 125  # a scale of 1 in each group
    written = explorer.coarse(matrix)
    assert not re.search('[\ud800-\udfff\\\\"\x00-\x1f\ufeff]', written["steps"])
    assert explorer.read(written) == pytest.approx(matrix.ravel(), abs=1e-2)


# ---------------------------------------------------------------------- the site with its explorer


@pytest.fixture(scope="module")
def data(site):
    return site / "_static" / "explorer" / "data"


@pytest.fixture(scope="module")
def address(site, serve):
    """Over http, under a sub-path."""
    return f"{serve(site.parent)}{site.name}/{PAGE}.html"


@pytest.fixture(scope="module")
def full():
    return bert.load_minilm()


@pytest.fixture(scope="module")
def packed(full):
    return explorer.as_packed(full)


def piece(data, name):
    """What a piece hands over, read without the script."""
    raw = (data / f"{name}.js").read_bytes()
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "ascii")
    called, handed = re.fullmatch(r"explorerPiece\((\"[^\"]+\"),(.*)\);\n", text, re.DOTALL).groups()
    assert json.loads(called) == name
    return json.loads(handed)


def test_the_pieces_hold_the_whole_model(data, packed):
    found = {}
    for name in piece(data, "about")["pieces"]:
        found |= {tensor: explorer.read(written) for tensor, written in piece(data, name).items()}
    shards = sorted(data.glob("words-*.js"), key=lambda path: int(path.stem.split("-")[1]))
    words = [explorer.read(written) for path in shards for written in piece(data, path.stem).values()]
    found["word.weight"] = np.concatenate(words)
    assert found.keys() == packed.state_dict().keys()
    for name, tensor in packed.state_dict().items():
        expected = tensor[: explorer.MAX_TOKENS] if name == "position.weight" else tensor
        assert np.allclose(found[name], expected.flatten().numpy(), rtol=1e-6, atol=0), name


def test_the_command_packs_what_the_site_holds(tmp_path, monkeypatch, capsys, full, data):
    monkeypatch.setattr(bert, "load_minilm", lambda: full)
    monkeypatch.setattr("sys.argv", ["explorer", str(tmp_path)])
    runpy.run_path(explorer.__file__, run_name="__main__")
    packed, built = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (tmp_path, data)
    )
    assert packed == built
    assert float(re.search(r"takes ([\d.]+) MB", capsys.readouterr().out)[1]) <= MAX_FIRST_PICTURE / 1e6


def test_positions_that_no_page_needs_stay_as_they_were(full, packed):
    unused = slice(explorer.MAX_TOKENS, None)
    assert torch.equal(full.position.weight[unused], packed.position.weight[unused])
    assert not torch.equal(full.position.weight, packed.position.weight)


def test_each_head_has_the_kind_that_chapter_5_measured(data):
    census = results.load("bert-census")["settings"]["400 sentences"]["kind"]
    assert piece(data, "about")["kinds"] == census
    named = set(re.findall(r"^    (\w+): \"\1,|^    (sink): \"a sink", script("panels"), re.MULTILINE))
    assert {kind for row in census for kind in row} <= {kind for pair in named for kind in pair}


def script(name):
    return (ROOT / "_ext" / "head_explorer" / f"{name}.js").read_text(encoding="utf-8")


# ---------------------------------------------------------------------- the script beside PyTorch


@pytest.fixture(scope="module")
def loaded(open_for_all, address):
    """A page with its model: to load it takes seconds, so the tests share it."""
    page = open_for_all(address)
    load(page)
    return page


@pytest.fixture
def page(loaded):
    """The shared page, as if it had just been loaded; what goes wrong is a fault of the test."""
    loaded.emulate_media(color_scheme="light")
    loaded.set_viewport_size({"width": 1280, "height": 800})
    loaded.evaluate(
        "(text) => { location.hash = `text=${text}&head=5.11&fresh=${Math.random()}`; }", explorer.FIRST
    )
    loaded.wait_for_timeout(50)
    wait(loaded)
    yield loaded
    faults, loaded.faults[:] = list(loaded.faults), []
    assert not faults


@pytest.fixture(scope="module")
def model(loaded):
    """Runs JavaScript in which ``model`` is the page's."""
    return lambda code, argument=None: loaded.evaluate(
        f"async (given) => {{ const model = document.getElementById('explorer').model; {code} }}", argument
    )


def load(page):
    page.get_by_role("button", name="Load the model").click()
    wait(page)


def wait(page):
    """Until what was asked for is shown."""
    page.wait_for_function("""() => {
        const results = document.querySelector('#explorer .results');
        return !results.hidden && !results.hasAttribute('aria-busy');
    }""")


RANGES = [
    (0x20, 0x7E), (0x00, 0x9F), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x5F4), (0x620, 0x6FF),
    (0x900, 0x97F), (0xE00, 0xE3A), (0x1E00, 0x1FFE), (0x2000, 0x206F), (0x2070, 0x2BFF), (0x3000, 0x30FF),
    (0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFFFD), (0x1F000, 0x1FAFF),
    (0x20000, 0x2A6DF),
]  # fmt: skip
WRITTEN = [
    "", " ", "\t\r\n", "the", "don't", "naïve café", "ÅNGSTRÖM Straße İstanbul ΌΣΟΣ",
    "我喜欢猫。", "日本語のテキスト", "한국어", "👩‍👩‍👧 🙂🏽", "a" * 100, "a" * 101,
    "[CLS] [MASK] [SEP] [cls] [MASK", "x[PAD]y", "\ufffd\u0000", "1,234.56€", "http://a.b/c?d=e&f",
    "word\u00adbreak\u200bzero\u2028line", "antidisestablishmentarianism", "e\u0301 \u0301", "ﬁ ½ ①",
]  # fmt: skip


def strings():
    """More than a thousand: written ones, news, and mixtures of all kinds of characters."""
    chance = random.Random(0)

    def word():
        low, high = chance.choice(RANGES)
        return "".join(chr(chance.randint(low, high)) for _ in range(chance.choice([1, 2, 3, 5, 8, 40])))

    mixed = [
        "".join(word() + chance.choice(["", " ", "-"]) for _ in range(chance.randint(1, 6)))
        for _ in range(1000)
    ]
    return [*WRITTEN, *(text[0] for text in news()[:150]), *mixed]


def test_tokens_are_those_of_the_tokenizer(model, full):
    texts = strings()
    assert len(texts) >= 1000
    found = model("return Promise.all(given.map((text) => model.ask('tokens', text)))", texts)
    expected = full.tokenizer.encode_batch(texts)
    wrong = [
        (text, [word for word, _ in ours], theirs.tokens)
        for text, ours, theirs in zip(texts, found, expected, strict=True)
        if [token for _, token in ours] != theirs.ids
    ]
    assert not wrong, wrong[:3]
    assert all(
        [word for word, _ in ours] == theirs.tokens for ours, theirs in zip(found, expected, strict=True)
    )


def test_every_character_of_the_common_blocks_is_cut_alike(model, full):
    blocks = (*range(0x590), *range(0x1E00, 0x2C00), *range(0x3000, 0xA4D0), *range(0xAC00, 0xD7A4))
    blocks += tuple(range(0x1F300, 0x1FB00))
    words = [f"a{chr(code)}b" for code in blocks]
    texts = [" ".join(words[i : i + 100]) for i in range(0, len(words), 100)]
    found = model("return Promise.all(given.map((text) => model.ask('tokens', text)))", texts)
    expected = [encoded.ids for encoded in full.tokenizer.encode_batch(texts)]
    assert [[token for _, token in text] for text in found] == expected


FORWARD = """
    const letter = (byte) => String.fromCharCode(byte);
    const bytes = (numbers) => btoa(Array.from(new Uint8Array(numbers.buffer), letter).join(''));
    const answers = [];
    for (const [sentence, off] of given) {
        const { ids } = await model.tokens(sentence);
        const { maps, lengths, vector } = await model.forward(ids, new Set(off));
        answers.push([ids, ...[maps, lengths, vector].map(bytes)]);
    }
    return answers;
"""


def forward(model, questions):
    for ids, *arrays_ in model(FORWARD, questions):
        maps, lengths, vector = (
            torch.frombuffer(bytearray(base64.b64decode(one)), dtype=torch.float) for one in arrays_
        )
        n = len(ids)
        yield torch.tensor([ids]), maps.view(6, 12, n, n), lengths.view(6, 12, 1, n), vector


def stated():
    """What the page says of the rounding: the mean and the largest difference of a weight."""
    cells = {cell.id: cell for cell in nbformat.read(ROOT / f"{PAGE}.ipynb", 4).cells}
    said = re.search(r"([\d.]+) on average, ([\d.]+) at most", cells["rounding"].outputs[0].text)
    return float(said[1]), float(said[2])


def test_maps_are_those_of_pytorch(model, full, packed):
    sentences = sorted(chain(*news()), key=len)
    sentences = [text for text in sentences if len(text.split()) >= 5][:200]  # as on the page
    off = []
    for sentence, (ids, maps, _, vector) in zip(
        sentences, forward(model, [(s, []) for s in sentences]), strict=True
    ):
        expected = torch.stack(packed.trace(ids)[1].weights)[:, 0]
        assert (maps - expected).abs().max() < 1e-4, sentence
        out, trace = full.trace(ids)
        assert torch.cosine_similarity(vector, out.mean(1)[0], dim=0) > 0.999
        off.append((maps - torch.stack(trace.weights)[:, 0]).abs().flatten())
    off = torch.cat(off)
    mean, largest = stated()
    assert off.mean() == pytest.approx(mean, abs=0.0001)
    assert off.max() == pytest.approx(largest, abs=0.001)


def test_contributions_are_those_of_pytorch(model, packed):
    ((ids, maps, lengths, _),) = forward(model, [(explorer.FIRST, [])])
    _, trace = packed.trace(ids)
    for layer, block in enumerate(packed.stack.blocks):
        expected = heads.contributions(block.attention, trace.seen[layer], trace.weights[layer])[0]
        assert torch.allclose(maps[layer] * lengths[layer], expected, atol=1e-4)


def test_heads_that_are_off_are_off_as_in_pytorch(model, full, packed):
    chance = random.Random(1)
    cases = [[], list(range(72)), list(range(60, 72)), [head for head in range(72) if head % 12]]
    cases += [chance.sample(range(72), k) for k in (1, 2, 5, 12, 24, 36, 48, 60, 71) for _ in range(2)]
    texts = [chance.choice(explorer.NEIGHBOURS) for _ in cases]
    found = forward(model, list(zip(texts, cases, strict=True)))
    for off, (ids, _, _, vector) in zip(cases, found, strict=True):
        gates = torch.ones(72)
        gates[off] = 0
        near, exact = (
            torch.nn.functional.normalize(out.mean(1)[0], dim=0)
            for of in (packed, full)
            for out in [functional_call(of, heads.gated(of, gates.view(6, 12)), (ids,))]
        )
        assert torch.allclose(vector, near, atol=1e-5), off
        assert vector @ exact > 0.999, off


@pytest.fixture
def other(full, monkeypatch):
    """A model of another shape, and numbers written in another way."""
    other = copy.deepcopy(full)
    other.stack.blocks = other.stack.blocks[:5]
    for part in other.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = 1e-3
    for block in other.stack.blocks:
        block.attention.n_heads = block.attention.n_kv_heads = 3
    encoding = {"GROUP": 48, "LARGEST": 101, "FINEST": 2**13 - 1, "LOWEST": 0x100}
    for name, value in (encoding | {"MAX_TOKENS": 7, "SHARD": 997}).items():
        monkeypatch.setattr(explorer, name, value)
    return other


def test_no_constant_of_the_model_stands_in_a_script(open_page, serve, site, tmp_path, other):
    built = tmp_path / site.name
    shutil.copytree(site, built, copy_function=os.symlink, ignore=shutil.ignore_patterns("data"))
    explorer.pack(other, built / "_static" / "explorer" / "data")
    text = (built / f"{PAGE}.html").read_text(encoding="utf-8")
    (built / f"{PAGE}.html").unlink()  # a link: what it names stays as it is
    text = text.replace('data-layers="6" data-heads="12"', 'data-layers="5" data-heads="3"')
    (built / f"{PAGE}.html").write_text(text, encoding="utf-8")
    page = open_page(f"{serve(tmp_path)}{site.name}/{PAGE}.html")
    load(page)
    assert "The text has 13 tokens; the first 6 and" in page.locator("#explorer .status").inner_text()
    assert page.get_by_role("gridcell").count() == 15
    assert page.get_by_role("heading", name="Layer 4, head 2").is_visible()
    press(page, "Switch L4H2 off")
    assert page.url.endswith("&off=0-0-0-0-4")
    ask = "(asked) => document.getElementById('explorer').model.forward(asked)"
    ids, _ = other.tokenize(["A dog."])
    maps = page.evaluate(f"async (asked) => [...(await ({ask})(asked)).maps]", ids[0].tolist())
    expected = torch.stack(explorer.as_packed(other).trace(ids)[1].weights)[:, 0]
    assert (torch.tensor(maps).view_as(expected) - expected).abs().max() < 1e-4
    assert not page.faults


# ---------------------------------------------------------------------- the page, by mouse and by keyboard


def cosine(page):
    return float(re.search(r"\(cosine\s(-?\d\.\d+)\)", effect(page))[1])


def effect(page):
    return page.locator("#explorer .effect").inner_text()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_timeout(50)
    wait(page)


def head(page, layer, number):
    return page.get_by_role("gridcell").nth(12 * layer + number)


def summary(page):
    return page.locator("#explorer .summary").inner_text()


def test_nothing_is_loaded_before_it_is_asked_for_and_then_little_enough(open_page, address, site):
    page = open_page(address)
    assert not [url for url in page.addresses if "/data/" in url]
    promised = float(re.search(r"([\d.]+) MB", page.locator("#explorer button[type=submit]").inner_text())[1])
    before = len(page.addresses)
    load(page)
    root = address.removesuffix(f"{site.name}/{PAGE}.html")
    loaded = [url for url in page.addresses[before:] if not url.startswith("blob:")]
    sizes = [(site.parent / url.removeprefix(root)).stat().st_size for url in loaded]
    assert sum(sizes) / 1e6 == pytest.approx(promised, abs=0.05)
    assert sum(sizes) <= MAX_FIRST_PICTURE
    assert all(url.startswith((root, "blob:", "data:")) for url in page.addresses)
    assert not page.faults


def test_by_mouse(page):
    assert page.get_by_role("gridcell").count() == 72
    head(page, 0, 2).click()
    assert page.get_by_role("heading", name="Layer 0, head 2").is_visible()
    page.get_by_role("listbox", name="L0H2").get_by_role("option", name="happy").click()
    assert "“happy” looks most at looked 100 %" in summary(page)
    page.get_by_role("radio", name="Matrix").check()
    page.locator("#explorer").get_by_role("application", name="L0H2").click(position={"x": 3, "y": 3})
    assert "“[CLS]” looks" in summary(page)
    page.get_by_role("radio", name="Table").check()
    table = page.get_by_role("table", name="Weights in per cent, L0H2")
    row = table.get_by_role("row", name="happy").get_by_role("cell").all_inner_texts()
    assert row[9] == "100"
    page.get_by_role("radio", name="Contributions").check()
    assert page.get_by_role("table", name="Contributions in per cent, average").is_visible()
    assert cosine(page) == 1
    press(page, "Switch L0H2 off")
    one = cosine(page)
    assert 0.9 < one < 1
    assert "71 of 72" in page.locator("#explorer").inner_text()
    assert "off" in head(page, 0, 2).get_attribute("aria-label")
    press(page, "Switch layer 0 off")
    layer = cosine(page)
    assert layer < one
    press(page, "Keep only L0H2")
    assert effect(page).startswith("1 of 72 heads is on.")
    assert cosine(page) < layer
    press(page, "All heads on")
    assert cosine(page) == 1


def test_by_keyboard(page):
    page.get_by_label("Your sentence").focus()

    def tab_to(role):
        for _ in range(20):
            page.keyboard.press("Tab")
            found, outline = page.evaluate("""() => {
                const at = document.activeElement;
                return [at.getAttribute('role') ?? at.type, getComputedStyle(at).outlineStyle];
            }""")
            if found == role:
                return outline
        raise AssertionError(f"no way to a {role}")

    assert tab_to("gridcell") != "none"
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused).startswith("L5H11")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused).startswith("L4H0")
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")  # there is nothing beyond
    assert page.evaluate(focused).startswith("L4H11")
    assert page.get_by_role("heading", name="Layer 4, head 11").is_visible()
    assert page.evaluate("document.querySelectorAll('[role=gridcell][tabindex=\"0\"]').length") == 1
    page.keyboard.press("Delete")
    page.wait_for_timeout(50)
    wait(page)
    assert "71 of 72" in page.locator("#explorer").inner_text()
    assert page.evaluate(focused).endswith("off")
    page.keyboard.press("Delete")
    tab_to("radio")
    page.keyboard.press("ArrowRight")
    assert "contributions" in page.url
    tab_to("radio")
    page.keyboard.press("ArrowLeft")  # from the first to the last
    assert "view=table" in page.url
    page.keyboard.press("ArrowRight")
    assert tab_to("option") != "none"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert "“cat” looks most at" in summary(page)
    assert page.evaluate("document.activeElement.textContent") == "cat"
    page.keyboard.press("End")
    assert "“[SEP]” looks most at" in summary(page)
    page.keyboard.press("Home")
    assert "“[CLS]” looks most at" in summary(page)
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert "all words together" in summary(page)
    assert page.evaluate("document.activeElement.textContent") == "cat"  # let go, but not left
    page.keyboard.press(" ")
    assert "“cat” looks most at" in summary(page)
    page.keyboard.press("Enter")
    for name in ("Switch L4H11 off", "All heads on"):
        page.get_by_role("button", name=name, exact=True).press("Enter")
    wait(page)
    assert cosine(page) == 1


def test_loading_keeps_the_keyboard_and_says_when_it_is_ready(open_page, address):
    page, held = open_page(address), []
    page.route("**/data/rest.js", lambda route: held.append(route))
    page.get_by_role("button", name="Load the model").press("Enter")
    page.wait_for_function("document.querySelector('#explorer progress').value > 0")
    focused = "document.activeElement.textContent"
    assert page.evaluate(focused).startswith("Load the model")
    assert page.evaluate("document.activeElement.ariaDisabled") == "true"
    page.keyboard.press("Enter")  # to no effect
    for route in held:
        route.continue_()
    wait(page)
    page.wait_for_function("document.activeElement.ariaDisabled !== 'true'")
    assert page.evaluate(focused) == "Look"
    assert page.get_by_role("status").filter(has_text="Ready: 13 tokens, seen by 72 heads.").is_visible()
    assert len([url for url in page.addresses if url.endswith("/rest.js")]) == 1
    assert not page.faults


def test_what_was_computed_for_something_else_is_dimmed_and_its_story_gone(page):
    press(page, "The beautiful head")
    page.evaluate("""() => {
        const { model } = document.getElementById('explorer'), { forward } = model;
        const held = new Promise((go) => { window.letGo = go; });
        model.forward = async (...asked) => { await held; return forward.apply(model, asked); };
    }""")
    results, said = page.locator("#explorer .results"), page.locator("#explorer .status")
    computed = (
        "[...document.querySelectorAll('#explorer :is(canvas, .effect p, .panels, .summary, .nearest)')]"
    )
    faintest = f"Math.min(...{computed}.map((one) => getComputedStyle(one).opacity))"
    page.get_by_role("button", name="… on another sentence").click()
    try:
        assert page.locator("#explorer .story").inner_text() == ""
        assert said.inner_text() == "Computing …"
        assert results.get_attribute("aria-busy") == "true"
        page.wait_for_function(faintest.replace("min", "max") + " < 0.5")
    finally:
        page.evaluate("delete document.getElementById('explorer').model.forward; letGo()")
    wait(page)
    assert said.inner_text() == "Ready: 13 tokens, seen by 72 heads."
    assert "The same head." in page.locator("#explorer .story").inner_text()
    page.wait_for_function(f"{faintest} === 1")
    page.get_by_label("Your sentence").press_sequentially("!")
    assert results.get_attribute("aria-busy") == "true"  # while one types, too
    assert page.locator("#explorer .story").inner_text() == ""
    assert not page.locator("#explorer .stories [aria-pressed=true]").count()
    wait(page)


@pytest.mark.parametrize("width", [1280, 390])
def test_what_a_switch_does_is_seen_beside_the_grid(page, width):
    page.set_viewport_size({"width": width, "height": 800})

    def height(selector):
        return page.evaluate("""(selector) => {
            const { top, bottom } = document.querySelector(selector).getBoundingClientRect();
            return [top, bottom];
        }""", f"#explorer {selector}")  # fmt: skip

    assert height(".switches")[1] - height(".heads")[0] < 800
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(50)
    for layer in (5, 0):  # from above, then from below
        page.evaluate("(down) => scrollTo(0, down)", 0 if layer else 9999)
        head(page, layer, 3).focus()
        page.keyboard.press("Delete")
        page.wait_for_timeout(50)
        wait(page)
        assert "heads are on" in effect(page)
        for thing in (".effect", f"[data-head='{12 * layer + 3}']"):
            top, bottom = height(thing)
            assert 0 <= top < bottom <= 800, (layer, thing)
        assert height(f"[data-head='{12 * layer + 3}']")[1] <= height(".effect")[0]


def test_every_head_is_seen_to_turn_the_vector(page, full, packed):

    def without_each(model):
        ids, _ = model.tokenize([explorer.FIRST])
        intact = model.trace(ids)[0].mean(1)[0].double()
        for off in range(72):
            gates = torch.ones(72)
            gates[off] = 0
            vector = functional_call(model, heads.gated(model, gates.view(6, 12)), (ids,)).mean(1)[0].double()
            yield torch.cosine_similarity(vector, intact, dim=0)

    exact, cosines = torch.stack([*without_each(full)]), torch.stack([*without_each(packed)])
    angles = cosines.acos().rad2deg()
    assert (angles - exact.acos().rad2deg()).abs().max() < 0.15  # what the rounding does to it
    assert (cosines - exact)[cosines > 0.995].abs().max() < 0.0002
    assert cosines.max() < 0.99985  # four digits show them all
    assert 1 < angles.min() < angles.median() < 4  # and most turn it "a few degrees only"
    for off in (angles.argmin().item(), 12 * 4 + 11, 12 * 5 + 3):
        layer, number = divmod(off, 12)
        head(page, layer, number).click()
        press(page, f"Switch L{layer}H{number} off")
        shown = float(re.search(r"turned by ([\d.]+)°", effect(page))[1])
        assert shown == pytest.approx(angles[off].item(), abs=0.06)
        assert cosine(page) == pytest.approx(
            cosines[off].item(), abs=0.0001 if cosines[off] > 0.995 else 0.0006
        )
        press(page, "All heads on")
        assert "turned by 0.0° from" in effect(page)


def test_the_lines_say_what_stands_where_and_what_can_be_done(page):
    for panel in page.locator("#explorer .panel").all():
        left, right = (panel.get_by_text(title, exact=True) for title in ("looks", "is looked at"))
        lists = [one.bounding_box() for one in panel.locator("ul").all()]
        assert [title.bounding_box()["y"] < one["y"] for title, one in zip((left, right), lists, strict=True)]
        assert left.bounding_box()["x"] < lists[0]["x"] + lists[0]["width"] <= right.bounding_box()["x"]
    for view, says in {"Lines": "Choose a word at the left", "Matrix": "walk with the arrow keys"}.items():
        page.get_by_role("radio", name=view).check()
        assert says in page.locator("#explorer .hint").last.inner_text()


def test_a_matrix_by_keyboard(page, packed):
    ids, _ = packed.tokenize([explorer.FIRST])
    words, weights = packed.words(ids[0]), packed.trace(ids)[1].weights[5][0, 11]
    page.get_by_role("radio", name="Matrix").check()
    canvas = page.get_by_role("application", name="L5H11")
    told = page.locator("#explorer .panel").first.get_by_role("status")
    canvas.hover(position={"x": 3, "y": 3})
    canvas.focus()

    def says(q, k):
        weight = f"{weights[q, k]:.0%}".replace("%", " %")
        return told.inner_text() == f"“{words[q]}” looks at “{words[k]}”: {weight}"

    assert says(0, 0)
    for key, q, k in (
        ("ArrowRight", 0, 1),
        ("End", 0, 12),
        ("ArrowRight", 0, 12),
        ("ArrowDown", 1, 12),
        ("Home", 1, 0),
    ):
        page.keyboard.press(key)
        assert says(q, k), key
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert f"“{words[5]}” looks most at cat" in summary(page)
    assert "word=5" in page.url
    assert page.evaluate("document.activeElement.ariaLabel").startswith("L5H11")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert says(5, 2)
    row, cell = (page.locator(f"#explorer .panel:first-child .over .{part}") for part in ("row", "cell"))
    size, (top, middle) = canvas.bounding_box(), (part.bounding_box() for part in (row, cell))
    assert row.evaluate("(row) => row.style.top") == cell.evaluate("(cell) => cell.style.top")
    assert middle["x"] == pytest.approx(size["x"] + size["width"] * 2 / 13, abs=3)
    assert top["width"] == pytest.approx(size["width"], abs=3)
    page.keyboard.press("Enter")
    assert "all words together" in summary(page)
    size = canvas.bounding_box()
    canvas.hover(position={"x": size["width"] - 3, "y": 3})
    assert says(0, 12)


@pytest.mark.parametrize("view", ["Lines", "Matrix"])
def test_both_pictures_stand_at_the_same_height(page, view):
    head(page, 4, 11).click()
    press(page, "Switch L4H11 off")  # its line is now longer than the other's
    page.get_by_role("radio", name=view).check()
    page.wait_for_timeout(50)
    for part in ("h3", ".under", ".under + *"):
        tops = [one.bounding_box()["y"] for one in page.locator(f"#explorer .panel > {part}").all()]
        assert len(tops) == 2
        assert tops[0] == pytest.approx(tops[1], abs=0.5), part


def test_a_chosen_word_is_let_go_when_the_text_is_changed_by_hand(page):
    page.get_by_role("listbox").first.get_by_role("option", name="that").click()
    assert "word=3" in page.url
    page.get_by_label("Your sentence").fill("A dog ran away.")
    press(page, "Look")
    assert "word" not in page.url
    assert "all words together" in summary(page)
    page.evaluate("location.hash = '#text=A+dog+ran+away.&head=5.11&word=3'")
    page.wait_for_timeout(50)
    wait(page)
    assert "“ran” looks most at" in summary(page)  # an address may name one


def test_without_a_word_nothing_is_said_to_look(page):
    page.get_by_label("Your sentence").fill("")
    press(page, "Look")
    assert "no word to read" in page.locator("#explorer .status").inner_text()
    assert summary(page) == ""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_chosen_or_off_shows_without_the_colours_of_the_page(page, theme):
    page.emulate_media(color_scheme=theme, forced_colors="active")
    try:
        press(page, "One head a layer")
        page.get_by_role("listbox").first.get_by_role("option", name="cat").click()

        def filled(selector):
            return page.evaluate(
                "(selector) => getComputedStyle(document.querySelector(selector)).backgroundColor",
                f"#explorer {selector}",
            )

        for chosen, other in (
            (".stories [aria-pressed=true]", ".stories [aria-pressed=false]"),
            (".choice :checked + span", ".choice :not(:checked) + span"),
            ("[role=option][aria-selected=true]", "[role=option][aria-selected=false]"),
        ):
            assert filled(chosen) == filled(".stories [aria-pressed=true]") != filled(other), chosen
        crossed = "getComputedStyle(document.querySelector('#explorer .off'), '::after').backgroundImage"
        assert "gradient" in page.evaluate(crossed)
        share = "getComputedStyle(document.querySelector('#explorer .keys li'), '::before').backgroundColor"
        assert page.evaluate(share) != filled(".choice :not(:checked) + span")
    finally:
        page.emulate_media(color_scheme="light", forced_colors="none")


def test_what_is_drawn_is_what_was_computed(page, packed):
    ids, _ = packed.tokenize([explorer.FIRST])
    weights = torch.stack(packed.trace(ids)[1].weights)[:, 0]
    expected = weights.flatten(0, 1)
    drawn = page.evaluate("""[...document.querySelectorAll('[role=gridcell] canvas')].map((canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return [...data].filter((_, i) => i % 4 === 3);
    })""")
    assert (torch.tensor(drawn) / 255 - expected.flatten(1)).abs().max() < 0.003
    page.get_by_role("radio", name="Table").check()
    cells = page.get_by_role("table", name="average").get_by_role("cell").all_inner_texts()
    mean = 100 * expected.mean(0).flatten()
    assert (torch.tensor([float(cell) for cell in cells]) - mean).abs().max() < 0.51
    page.get_by_role("radio", name="Contributions").check()
    cells = page.get_by_role("table", name="L5H11").get_by_role("cell").all_inner_texts()
    _, trace = packed.trace(ids)
    arriving = heads.contributions(packed.stack.blocks[5].attention, trace.seen[5], trace.weights[5])[0, 11]
    shares = 100 * (arriving / arriving.sum(-1, keepdim=True)).flatten()
    assert (torch.tensor([float(cell) for cell in cells]) - shares).abs().max() < 0.51
    assert (shares - 100 * weights[5, 11].flatten()).abs().max() > 5  # not the weights once more


def test_the_large_view_draws_the_numbers_too(page, packed):
    ids, _ = packed.tokenize([explorer.FIRST])
    weights = packed.trace(ids)[1].weights[5][0, 11]
    panel = page.locator("#explorer .panel").first
    strokes = panel.locator("path").evaluate_all(
        "(all) => all.map((path) => [path.getAttribute('d'), +path.getAttribute('stroke-opacity')])"
    )
    lines = torch.zeros_like(weights)
    for d, opacity in strokes:
        query, key = (int((float(y) - 13) / 26) for y in re.findall(r"(?:M0|L100) ([\d.]+)", d))
        lines[query, key] = opacity
    assert (lines - weights.where(weights >= 0.02, 0)).abs().max() < 0.003
    page.get_by_role("radio", name="Matrix").check()
    alphas = panel.locator("canvas").evaluate("""(canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return [...data].filter((_, i) => i % 4 === 3);
    }""")
    assert (torch.tensor(alphas).view_as(weights) / 255 - weights).abs().max() < 0.003


def test_each_head_says_what_chapter_5_measured(page):
    census = results.load("bert-census")["settings"]["400 sentences"]["kind"]
    for i, cell in enumerate(page.get_by_role("gridcell").all()):
        assert cell.get_attribute("aria-label") == f"L{i // 12}H{i % 12}, {census[i // 12][i % 12]}"
    said = page.locator("#explorer .panel").first.inner_text()
    assert f"Measured in chapter 5: {census[5][11]}" in said


def nearest(page):
    """The table of nearest sentences: {sentence: (cosine now, cosine with all heads on)}, nearest first."""
    table = page.get_by_role("region", name="Nearest sentences").get_by_role("row")
    cells = [row.locator("th, td").all_inner_texts() for row in table.all()[1:]]
    return {sentence: (float(now), float(before)) for _, sentence, now, before in cells}


def test_heads_off_move_the_vector_and_what_is_near(page, full):
    near = full.sentence_vectors(explorer.NEIGHBOURS)
    ids, _ = full.tokenize([explorer.FIRST])
    first = near @ full.sentence_vectors([explorer.FIRST])[0]
    assert list(nearest(page)) == [explorer.NEIGHBOURS[i] for i in first.topk(6).indices]
    before = list(nearest(page))
    for name, closed in (("Switch layer 5 off", range(60, 72)), ("Keep only L5H11", range(71))):
        press(page, name)
        gates = torch.ones(72)
        gates[list(closed)] = 0
        out = functional_call(full, heads.gated(full, gates.view(6, 12)), (ids,))
        vector = torch.nn.functional.normalize(out.mean(1)[0], dim=0)
        shown = nearest(page)
        assert cosine(page) == pytest.approx(
            float(vector @ full.sentence_vectors([explorer.FIRST])[0]), abs=0.002
        )
        for sentence, (now, was) in shown.items():
            i = explorer.NEIGHBOURS.index(sentence)
            assert now == pytest.approx(float(near[i] @ vector), abs=0.0101)
            assert was == pytest.approx(float(first[i]), abs=0.0101)
        press(page, "All heads on")
    assert list(shown) != before
    assert list(nearest(page)) == before


def test_one_head_a_layer_is_the_best_of_chapter_8(page):
    importance = results.load("prune-rankings")["settings"]["gradient"]["importance"]
    press(page, "One head a layer")
    cells = page.get_by_role("gridcell").evaluate_all("(all) => all.map((cell) => cell.matches('.off'))")
    kept = [[head for head in range(12) if not cells[12 * layer + head]] for layer in range(6)]
    assert kept == [[row.index(max(row))] for row in importance]


def test_each_word_of_the_first_sentence_is_one_token(page):
    shown = page.get_by_role("listbox").first.get_by_role("option").all_inner_texts()
    assert shown == ["[CLS]", *explorer.FIRST.lower().removesuffix(".").split(), ".", "[SEP]"]


def test_stories_say_what_the_numbers_say(page, packed):

    def weight(text, layer, number, one, other):
        ids, _ = packed.tokenize([text])
        words = packed.words(ids[0])
        return packed.trace(ids)[1].weights[layer][0, number, words.index(one), words.index(other)].item()

    def said(name):
        press(page, name)
        assert page.get_by_role("button", name=name, exact=True).get_attribute("aria-pressed") == "true"
        return page.locator("#explorer .story").inner_text()

    back = weight(explorer.FIRST, 0, 2, "happy", "looked")
    sink = weight(explorer.FIRST, 2, 7, "cat", "[CLS]")
    subject = weight(explorer.FIRST, 5, 11, "sitting", "cat")
    assert f"{back:.0%}".replace("%", " %") in said("One word back")
    assert f"{sink:.0%}".replace("%", " %") in said("Nothing to say")
    assert f"{subject:.0%}".replace("%", " %") in said("The beautiful head")
    assert min(back, sink, subject) > 0.7
    fails = said("… on another sentence")
    text = page.get_by_label("Your sentence").input_value()
    dogs, picture = (weight(text, 5, 11, "was", word) for word in ("dogs", "picture"))
    assert dogs > 3 * picture
    assert f"{dogs:.0%}".replace("%", " %") in fails
    assert f"{picture:.0%}".replace("%", " %") in fails
    told = said("One head a layer")
    few = cosine(page)
    assert f" {few:.3f}" in told
    told = said("No attention")
    assert f" {cosine(page):.3f}" in told
    assert 0.2 < cosine(page) < few < 0.8


def test_a_view_can_be_shared(page, open_page):
    page.get_by_label("Your sentence").fill("Two dogs & a cat: 100 % friends?")
    press(page, "Look")
    head(page, 3, 9).click()
    press(page, "Switch layer 3 off")
    page.get_by_role("radio", name="Contributions").check()
    page.get_by_role("listbox", name="L3H9").get_by_role("option", name="cat", exact=True).click()
    page.get_by_role("radio", name="Matrix").check()
    other = open_page(page.url)
    assert "Load the model" in other.locator("#explorer .status").inner_text()
    load(other)
    assert other.url == page.url
    assert other.locator(".results").inner_text() == page.locator(".results").inner_text()
    assert other.get_by_label("Your sentence").input_value() == "Two dogs & a cat: 100 % friends?"
    other.evaluate("location.hash = '#text=A+bird&head=99.-7&word=x&measure=no&view=&off=zzz-fff-f'")
    other.wait_for_timeout(50)
    wait(other)
    assert other.get_by_role("heading", name="Layer 5, head 0").is_visible()
    assert not other.faults


BAD = {
    "": "no word to read",
    "   ": "no word to read",
    "cat " * 2500: "2,502 tokens",
    "x" * 10_000: "[UNK]",
    "🙂🙃 👩‍👩‍👧": "[UNK]",
    "我喜欢猫。": "",
    "\x00\x01\ufffd\udc80 caf\u0065\u0301": "",
    "<b>bold</b> <script>alert(1)</script>": "",
}


def test_any_input_gets_a_result_or_a_message(page, full):
    for text, message in BAD.items():
        page.evaluate("""(text) => {
            const field = document.getElementById('explorer-text');
            field.value = text;
            field.dispatchEvent(new Event('input'));
        }""", text)  # fmt: skip
        press(page, "Look")
        assert message in page.locator("#explorer .status").inner_text(), text
        words = full.tokenizer.encode(text.replace("\udc80", "")).tokens
        words = words if len(words) <= 64 else [*words[:63], "[SEP]"]
        shown = page.get_by_role("listbox").first.get_by_role("option").all_inner_texts()
        assert shown == words, text
        assert cosine(page) == 1, text


# ---------------------------------------------------------------------- slow, broken, absent


def test_a_slow_network_shows_its_progress_and_the_last_wish_wins(open_page, address):
    page, held, holding = open_page(address), [], True

    def hold(route):
        if holding:
            held.append(route)
        else:
            route.continue_()

    def let_go():
        nonlocal holding
        holding = False
        while held:
            held.pop().continue_()

    page.route("**/data/stack.blocks.5.*", hold)
    page.get_by_role("button", name="Load the model").click()
    page.wait_for_function("document.querySelector('#explorer progress').value > 0.5")
    assert page.locator("#explorer .results").is_hidden()
    assert page.locator("#explorer progress").is_visible()
    page.get_by_label("Your sentence").fill("A dog.")
    let_go()
    wait(page)
    assert page.get_by_role("listbox").first.get_by_role("option").all_inner_texts() == [
        "[CLS]",
        "a",
        "dog",
        ".",
        "[SEP]",
    ]
    assert page.locator("#explorer progress").is_hidden()
    holding = True
    page.route("**/data/words-*", hold)
    page.get_by_label("Your sentence").fill("The zebra yawned.")
    page.get_by_role("button", name="Look").click()
    page.wait_for_timeout(100)
    page.get_by_label("Your sentence").fill("A cat.")
    page.get_by_role("button", name="Look").click()
    let_go()
    page.get_by_role("option", name="cat").first.wait_for()
    wait(page)
    assert not page.faults


def test_a_piece_that_fails_can_be_asked_for_again(open_page, address):
    page = open_page(address)
    page.route("**/data/rest.js", lambda route: route.abort())
    page.get_by_role("button", name="Load the model").click()
    page.get_by_text("did not arrive").wait_for()
    page.unroute("**/data/rest.js")
    page.get_by_role("button", name="Load the model").click()
    wait(page)
    assert cosine(page) == 1


def test_it_works_from_the_disk(open_page, site):
    page = open_page((site / f"{PAGE}.html").as_uri())
    load(page)
    press(page, "The beautiful head")
    assert "cat 79 %" in summary(page)
    assert "text=The+cat" in page.url
    assert all(url.startswith((site.as_uri(), "blob:", "data:")) for url in page.addresses)
    assert not page.faults


LONG = "The old man who was sitting on the bench near the river said that " * 6


def longest_task(browser, page):
    """Milliseconds of the page's own thread, so that other programs on the machine hardly count."""
    browser.start_tracing(page=page, categories=["toplevel"])
    load(page)
    page.get_by_label("Your sentence").fill(LONG)
    press(page, "Look")
    press(page, "Switch L5H11 off")
    for view in ("Table", "Matrix"):
        page.get_by_role("radio", name=view).check()
        page.wait_for_timeout(500)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    runs = [e for e in events if e["name"].endswith("RunTask") and "tdur" in e]
    return max(e["tdur"] / 1000 for e in runs if threads.get((e["pid"], e["tid"])) == "CrRendererMain")


@pytest.mark.alone
def test_the_page_never_freezes(browser, open_page, address):
    """The best of three, as below: neighbours on the processor slow a thread's own time, too."""
    found = []
    while len(found) < 3 and not (found and found[-1] <= MAX_FREEZE):
        found.append(longest_task(browser, open_page(address)))
    print(f"longest task of the page: {min(found):.0f} ms")
    assert 1 < min(found) <= MAX_FREEZE


@pytest.mark.alone
def test_thirteen_tokens_take_two_seconds_at_most(page):
    """The least of three tries, since other programs also take time."""

    def seconds():
        return page.evaluate("""async () => {
            const { model } = document.getElementById('explorer'), start = performance.now();
            const { ids } = await model.tokens('The cat that was sitting on the mat looked happy.');
            await model.forward(ids);
            return (performance.now() - start) / 1000;
        }""")

    found = [seconds() for _ in range(3)]
    print(f"13 tokens: {min(found):.2f} s")
    assert min(found) <= 2


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_open_to_everyone(page, width, picture):
    page.set_viewport_size({"width": width, "height": 844})
    press(page, "One head a layer")
    for view in ("Lines", "Matrix", "Table"):
        page.get_by_role("radio", name=view).check()
        for theme in THEMES if picture else ():
            page.emulate_media(color_scheme=theme)
            page.wait_for_timeout(300)  # colours have come to rest
            picture(page.locator("#explorer"), f"explorer-{view.lower()}-{width}-{theme}")
        page.evaluate("scrollTo(0, 0)")  # so that what stays in sight lies on nothing
        assert not barriers(page, "#explorer")
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over == 0
    boxes = [cell.bounding_box() for cell in page.get_by_role("gridcell").all()[:12]]
    assert min(min(box["width"], box["height"]) for box in boxes) >= 24  # a finger's least, WCAG 2.5.8


def test_it_follows_the_theme(page):
    colour = """() => {
        const canvas = document.querySelector('[role=gridcell] canvas');
        return canvas.toDataURL();
    }"""
    light = page.evaluate(colour)
    page.get_by_role("button", name="Dark theme").click()
    page.wait_for_function(f"(light) => ({colour})() !== light", arg=light)
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate(colour) == light
    page.evaluate("localStorage.clear()")  # the system's theme again


def test_without_javascript_the_page_says_so_and_keeps_its_picture(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.get_by_text("in a browser with JavaScript").is_visible()
    assert page.locator(".figure svg").is_visible()
    context.close()


def test_the_scripts_can_be_read(open_page, address):
    page = open_page(address)
    for name in ("bert.js", "explorer.js"):
        link = page.locator(f"article a[href$='{name}']")
        source = page.request.get(link.evaluate("(link) => link.href"))
        assert source.text() == script(name.removesuffix(".js"))


def test_without_the_model_the_book_is_built_and_says_what_is_missing(tmp_path, open_page):
    built = build_without(bert.MINILM.folder, PAGE, tmp_path)
    page = open_page((built / f"{PAGE}.html").as_uri())
    assert page.get_by_text("make models").is_visible()
    assert page.locator(".figure svg").is_visible()
    assert not page.locator("#explorer button").count()
    assert not page.faults
