"""The sentences, reactions and names of chapter 5 are what they claim to be."""

import math
from itertools import chain

import numpy as np
import pytest
import torch

from manyheads import bert, heads
from manyheads.bootstrap import interval, resampled
from manyheads.data import news
from manyheads.experiments import bert_census, bert_templates, rxnmapper

# ---------------------------------------------------------------------- sentences


def test_every_two_nouns_stand_in_both_orders():
    made = list(
        bert_templates.sentences("the {subject} , not the {distractor} , {verb} {adjective}", ("a", "b", "c"))
    )
    assert [(one["subject"], one["distractor"]) for one in made] == [
        ("a", "b"), ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")
    ]  # fmt: skip
    assert made[3]["text"] == "the c , not the a , seemed sad"
    assert made[2]["text"] == "the a , not the c , seemed sad"


def test_the_two_lists_of_nouns_share_none_and_half_of_the_templates_put_the_subject_first_and_far():
    first, second = bert_templates.NOUNS
    assert not set(first) & set(second)
    far = 0
    for name, template in bert_templates.TEMPLATES.items():
        words = template.split()
        subject, distractor, verb = (
            words.index(f"{{{place}}}") for place in ("subject", "distractor", "verb")
        )
        assert name.startswith("far") == (abs(verb - subject) > abs(verb - distractor)), name
        assert name.startswith("far") == (subject < distractor), name
        far += name.startswith("far")
    assert far == len(bert_templates.TEMPLATES) / 2


@pytest.mark.parametrize("asker", ["adjective", "near"])
def test_points_reads_the_row_of_the_asker_and_the_columns_of_the_nouns(asker):
    model = bert.load_minilm(torch.float64)
    template = "Near the {distractor} , the {subject} {verb} {adjective} ."
    subject, distractor = bert_templates.points(model, template, ("cat", "dog", "king"), asker)
    for i, one in enumerate(bert_templates.sentences(template, ("cat", "dog", "king"))):
        ids, _ = model.tokenize([one["text"]])
        words = model.words(ids[0])
        for layer, weights in enumerate(model.trace(ids)[1].weights):
            row = weights[0, :, words.index(one.get(asker, asker))]
            assert (row[:, words.index(one["subject"])] - subject[i, layer]).abs().max() < 1e-12
            assert (row[:, words.index(one["distractor"])] - distractor[i, layer]).abs().max() < 1e-12


def test_nouns_of_several_tokens_are_refused():
    with pytest.raises(ValueError, match=r"a noun must be one token.*others than axolotl"):
        bert_templates.points(
            bert.load_minilm(), "The {subject} {verb} {adjective} {distractor}", ("cat", "axolotl"), "verb"
        )


# ---------------------------------------------------------------------- samples and names


def test_the_bootstrap_gives_the_bounds_of_the_normal_law():
    values = np.random.default_rng(1).normal(3, 2, size=(401, 2))
    low, high = interval(values)
    error = values.std(0) / math.sqrt(401)
    assert low == pytest.approx(values.mean(0) - 1.96 * error, abs=0.1 * error.max())
    assert high == pytest.approx(values.mean(0) + 1.96 * error, abs=0.1 * error.max())
    assert resampled(values, 7).shape == (7, 2)
    assert interval([5.0, 5.0, 5.0]) == (5, 5)


def test_a_paired_interval_sees_what_two_single_ones_hide():
    rng = np.random.default_rng(2)
    hard, small = rng.normal(0, 1, size=150), rng.normal(0.05, 0.1, size=150)
    one, other = interval(hard), interval(hard + small)
    assert one[1] > other[0]
    assert interval(small)[0] > 0


def test_news_are_300_texts_of_many_sentences():
    texts = news()
    assert len(texts) == 300
    sentences = list(chain(*texts))
    assert len(sentences) > 2000
    assert sum(text[-1] in '.?!"' for text in sentences) > 0.99 * len(sentences)


def test_heads_are_named_by_what_takes_over_half_of_their_weight():
    nothing = dict.fromkeys(("previous", "next", "first", "separator", "punctuation", "same", "entropy"), 0.1)
    cases = [
        ({"first": 0.3, "separator": 0.21}, "sink"),
        ({"first": 0.3, "separator": 0.19}, "mixed"),
        ({"previous": 0.51}, "previous"),
        ({"next": 0.51}, "next"),
        ({"punctuation": 0.6}, "punctuation"),
        ({"same": 0.9}, "same"),
        ({"entropy": 0.81}, "broad"),
        ({"entropy": 0.79}, "mixed"),
    ]
    shares = {name: np.array([(nothing | case)[name] for case, _ in cases]) for name in nothing}
    assert bert_census.kinds(shares).tolist() == [name for _, name in cases]


def test_habits_of_one_sentence_are_those_of_loops_over_its_words():
    model = bert.load_minilm(torch.float64)
    text = "Yes, the king slept and the cat ate."
    shares, sinks = bert_census._habits(model, text)
    ids, _ = model.tokenize([text])
    words, (_, trace) = model.words(ids[0]), model.trace(ids)
    n = len(words)
    for layer, head in ((0, 2), (2, 6), (5, 11)):
        weights = trace.weights[layer][0, head]
        inner = range(1, n - 1)
        commas = sum(weights[q, k].item() for q in inner for k in range(n) if words[k] in ",.")
        assert shares["punctuation"][layer, head] == pytest.approx(commas / len(inner))
        back = sum(weights[q, q - 1].item() for q in inner)
        assert shares["previous"][layer, head] == pytest.approx(back / len(inner))
        spread = sum(-w * math.log(w) for q in inner for w in weights[q].tolist() if w > 0)
        assert shares["entropy"][layer, head] == pytest.approx(spread / len(inner) / math.log(n))
    block = model.stack.blocks[3]
    arrives = heads.contributions(block.attention, trace.seen[3], trace.weights[3])[0, :, 1:-1]
    assert sinks[0, 0, 3] == pytest.approx(trace.weights[3][0, :, 1:-1, 0].mean().item())
    assert sinks[1, 1, 3] == pytest.approx((arrives[..., -1].sum(-1) / arrives.sum((-2, -1))).mean().item())


# ---------------------------------------------------------------------- reactions


def bonds(tokens, atom):
    """Read SMILES of chains with one-atom branches: pairs of atoms that are bound, and double bonds."""
    found, open_at, last, double = set(), [], None, False
    for token, number in zip(tokens, atom, strict=True):
        if number >= 0:
            if last is not None:
                found.add((*sorted((last, number)), double))
            last, double = number, False
        elif token == "(":
            open_at.append(last)
        elif token == ")":
            last = open_at.pop()
        elif token == "=":
            double = True
        else:
            assert token == "."
            last = None
    assert not open_at
    return found


@pytest.mark.parametrize("family", rxnmapper.FAMILIES)
def test_a_reaction_breaks_one_bond_and_makes_one_and_no_atom_could_be_another(family):
    _, leaving, begin = rxnmapper.FAMILIES[family]
    random = np.random.default_rng(1)
    ways = set()
    for _ in range(60):
        tokens, atom = rxnmapper.reaction(family, random)
        arrow = tokens.index(">>")
        element = dict(zip(atom, tokens, strict=True))
        before, after = bonds(tokens[:arrow], atom[:arrow]), bonds(tokens[arrow + 1 :], atom[arrow + 1 :])
        ((a, b, _),), ((c, d, _),) = before - after, after - before
        assert {element[a], element[b]} == {"C", leaving}
        assert {element[c], element[d]} == {"C", begin}
        assert {a, b} & {c, d}
        product = [i for i in atom[arrow + 1 :] if i >= 0]
        reactants = [i for i in atom[:arrow] if i >= 0]
        assert len(set(product)) == len(product)
        assert len(set(reactants)) == len(reactants) == len(product) + 1
        assert all(element[i] == tokens[j] for j, i in enumerate(atom) if i >= 0)
        colour = {i: element[i] for i in product}  # refined until each atom differs from every other
        for _ in product:
            near = {i: sorted((colour[a + b - i], d) for a, b, d in after if i in (a, b)) for i in product}
            names = {
                each: f"{n}" for n, each in enumerate(sorted({f"{colour[i]}{near[i]}" for i in product}))
            }
            colour = {i: names[f"{colour[i]}{near[i]}"] for i in product}
        assert len(set(colour.values())) == len(product), "".join(tokens)
        ways.add((atom[1] < atom[3], product[0] < product[-1]))
    assert len(ways) > 1


def test_the_right_atom_is_found_by_a_model_that_knows_and_by_chance_as_often_as_chance_says(monkeypatch):
    tokens, atom = rxnmapper.reaction("ester", np.random.default_rng(0))
    arrow, n = tokens.index(">>"), len(tokens) + 2

    class Knows:
        """Its first head looks where the atom was, its second at the first atom of all."""

        def tokenize(self, texts):
            assert texts == ["".join(tokens)]
            return torch.zeros(1, n, dtype=torch.long), None

        def trace(self, ids):
            weights = torch.zeros(1, 2, n, n)
            for i, number in enumerate(atom):
                if i > arrow and number >= 0:
                    weights[0, 0, i + 1, 1 + atom.index(number)] = 1
                    weights[0, 1, i + 1, 1] = 1
            return None, type("Trace", (), {"weights": [weights]})()

    found, (any_atom, same_element) = rxnmapper.finds_the_atom(Knows(), tokens, atom)
    n_product = sum(number >= 0 for number in atom[arrow:])
    assert found.tolist() == [[1, pytest.approx(1 / n_product)]]
    assert any_atom == 1 / (n_product + 1)
    assert any_atom < same_element < 1
