"""Chapter 9: every row rests on a number from code, on an assertion and on a test that exists."""

import ast
import re
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
import pytest
from transformers import BertConfig, DistilBertConfig, MobileBertConfig

from manyheads import compress, results
from manyheads.bert import load_minilm

ROOT = Path(__file__).parents[2]
VERDICTS = ("True", "Half true", "Partly", "Misleading", "Too strong", "Not shown", "Invented", "False")


@cache
def notebook():
    return nbformat.read(ROOT / "chapters" / "the-verdicts.ipynb", as_version=4)


@cache
def judged():
    """Every call of ``judge``, as it stands in the source: keywords by name, the rest by place."""
    calls = []
    for cell in notebook().cells:
        if cell.cell_type == "code":
            calls += [
                dict(zip(("chinese", "english", "verdict", "number"), node.args, strict=True))
                | {keyword.arg: keyword.value for keyword in node.keywords}
                for node in ast.walk(ast.parse(cell.source))
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "judge"
            ]
    return calls


def shown():
    """The rows as readers see them."""
    outputs = [
        output.data["text/markdown"]
        for cell in notebook().cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    ]
    return [
        [field.strip() for field in row.strip("|").split("|")]
        for table in outputs
        if table.startswith("| the article says")
        for row in table.splitlines()[2:]
    ]


def test_every_row_that_is_judged_is_shown():
    assert len(shown()) == len(judged()) >= 12
    assert len({row[0] for row in shown()}) == len(judged())


@pytest.mark.parametrize("row", shown(), ids=lambda row: row[0].partition("<br>")[2][:40])
def test_each_row_has_two_languages_a_verdict_a_number_a_chapter_and_a_test(row):
    says, verdict, number, chapter, test = row
    chinese, english = says.split("<br>")
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert not re.search(r"[\u4e00-\u9fff]", english)
    assert verdict.startswith(tuple(f"**{word}**: " for word in VERDICTS))
    assert re.search(r"\d", number)
    name = re.fullmatch(r"\[\d\]\(([\w-]+\.ipynb)\)", chapter)[1]
    assert (ROOT / "chapters" / name).exists()
    sentence, file = re.fullmatch(r"\*([\w ]+)\* \(`(\w+)`\)", test).groups()
    tests = ast.parse((ROOT / "tests" / "claims" / f"{file}.py").read_text(encoding="utf-8")).body
    assert f"test_{sentence.replace(' ', '_')}" in {getattr(node, "name", None) for node in tests}


@pytest.mark.parametrize("call", judged(), ids=lambda call: call["english"].value[:40])
def test_numbers_come_from_code_and_verdicts_follow_from_them(call):
    number, because = call["number"], call["because"]
    assert isinstance(number, ast.JoinedStr), "the number must be computed"
    written = "".join(part.value for part in number.values if isinstance(part, ast.Constant))
    assert not re.search(r"(?<![A-Za-z\d])\d", written), f"a number typed by hand: {written}"
    computed = {name.id for part in number.values for name in ast.walk(part) if isinstance(name, ast.Name)}
    decides = {name.id for name in ast.walk(because) if isinstance(name, ast.Name)}
    assert computed & decides, "the verdict must follow from the number that is shown"
    assert any(isinstance(node, ast.Compare) for node in ast.walk(because)), "a comparison can fail"


def test_a_verdict_that_does_not_follow_stops_the_page():
    (source,) = [cell.source for cell in notebook().cells if cell.id == "judge-code"]
    scope = {"tests_of": lambda file: {"it holds"}, "display": None, "Markdown": None}
    exec(compile(source, "judge-code", "exec"), scope)
    row = {"chapter": 2, "test": "test_claims: it holds"}
    assert scope["judge"]("多头", "claim", "True: so", "7", because=True, **row).count("|") == 6
    with pytest.raises(AssertionError, match="no longer say 'True'"):
        scope["judge"]("多头", "claim", "True", "7", because=False, **row)
    with pytest.raises(AssertionError, match="no test that says 'it fails'"):
        scope["judge"]("多头", "claim", "True", "7", because=True, **row | {"test": "test_claims: it fails"})


def test_all_chapters_that_measure_have_a_verdict():
    chapters = {int(re.match(r"\[(\d)\]", row[3])[1]) for row in shown()}
    assert chapters == set(range(1, 9))


# --- Claims that no chapter alone makes -------------------------------------------------------------------


def test_stored_weights_are_what_many_heads_cost_in_memory_and_a_fused_kernel_does_not_pay_it():
    measured = results.load("heads-cost")["settings"]["fixed d_model, n=2048"]
    naive, fused = (measured[path]["peak_bytes"] for path in ("naive", "fused"))
    assert naive == sorted(naive)
    assert 20 < naive[-1] / naive[0] < 64
    assert fused[-1] < 1.1 * fused[0]


def test_a_specialist_for_a_fact_is_common_and_one_for_every_fact_at_once_is_the_exception():
    """A head is a specialist if exactly one of the three facts falls without it."""
    lm = results.load("masked-lm")["settings"]["h=8"]
    whole = {fact: lm["per_seed"][fact] for fact in ("tense", "number", "class")}
    tidy, with_one = 0, dict.fromkeys(whole, 0)
    for seed in range(10):
        falls = {
            fact: [whole[fact][seed] - left > 0.1 for left in lm["without"][fact][seed]] for fact in whole
        }
        alone = [sum(of_head) == 1 for of_head in zip(*falls.values(), strict=True)]
        has = {fact: any(a and f for a, f in zip(alone, falls[fact], strict=True)) for fact in whole}
        tidy += all(has.values())
        with_one = {fact: with_one[fact] + has[fact] for fact in whole}
    assert all(5 < count < 9 for count in with_one.values())
    assert tidy <= 3


def test_more_heads_learn_more_surely_on_some_tasks_and_not_on_others():
    sentences, copying, students = (
        results.load(name)["settings"] for name in ("masked-lm", "induction-from-scratch", "students")
    )
    learnt = [np.sum(np.array(sentences[f"h={h}"]["per_seed"]["number"]) > 0.95) for h in (1, 2, 4, 8)]
    assert learnt == sorted(learnt)
    assert learnt[0] <= 2 < 10 == learnt[-1]
    # when the loss falls
    one, four = (np.argmax(np.array(copying[f"2 layers, h={h}"]["history"]) < 1, 1) for h in (1, 4))
    assert min(copying["2 layers, h=1"]["per_seed"]["accuracy"]) > 0.99
    assert [sum(four > one), len(one)] == [5, 6]
    assert np.ptp([students[f"h={h}"]["mean"]["cosine"] for h in (1, 2, 4, 8, 12)]) < 0.01


def test_no_tinybert_has_fewer_heads_than_its_teacher_and_the_one_with_two_is_another_model():
    """The table of published models, beside the library that runs three of them."""
    shapes = {model.name: (model.n_layers, model.n_heads, model.d_model) for model in compress.PUBLISHED}
    bert, distil, mobile = BertConfig(), DistilBertConfig(), MobileBertConfig()
    assert shapes["BERT-base"] == (bert.num_hidden_layers, bert.num_attention_heads, bert.hidden_size)
    assert shapes["DistilBERT"] == (distil.n_layers, distil.n_heads, distil.dim)
    assert shapes["MobileBERT"] == (
        mobile.num_hidden_layers,
        mobile.num_attention_heads,
        mobile.true_hidden_size,
    )
    assert {shapes[name][1] for name in shapes if name.startswith("TinyBERT")} == {bert.num_attention_heads}
    assert [name for name, (_, n_heads, _) in shapes.items() if n_heads <= 2] == ["BERT-Tiny"]


@pytest.mark.models
def test_the_published_minilm_is_the_one_that_the_book_runs():
    (published,) = [model for model in compress.PUBLISHED if model.name == "MiniLM-L6"]
    layers = [block.attention for block in load_minilm().stack.blocks]
    assert (len(layers), {layer.n_heads for layer in layers}) == (published.n_layers, {published.n_heads})
    assert {layer.d_model for layer in layers} == {published.d_model}


def test_a_third_of_real_heads_look_mostly_at_empty_tokens():
    counts = results.load("bert-census")["settings"]["400 sentences"]["counts"]
    n_heads = sum(kind["n"] for kind in counts.values())
    assert n_heads / 4 < counts["sink"]["low"] <= counts["sink"]["high"] < 0.4 * n_heads
