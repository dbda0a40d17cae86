"""What chapter 5 says about the heads of BERT and of a chemist, one test a sentence."""

from functools import cache

import numpy as np
import pytest
import torch
from torch.func import functional_call

from manyheads import bert, heads
from manyheads.experiments import bert_templates, rxnmapper
from manyheads.experiments.runner import measure
from manyheads.results import load

ARTICLE = "The cat that was sitting on the mat looked happy."
FAR = [name for name in bert_templates.TEMPLATES if name.startswith("far")]
NEAR = [name for name in bert_templates.TEMPLATES if name.startswith("near")]
SEARCH, TEST = [0, 1, 4, 5], [2, 3, 6, 7]  # templates, two far and two near in each half


@cache
def minilm():
    return bert.load_minilm(torch.float64)


@cache
def looked_at(text=ARTICLE):
    """Words, and weights (layer, head, query, key)."""
    ids, _ = minilm().tokenize([text])
    return minilm().words(ids[0]), torch.cat(minilm().trace(ids)[1].weights)


def weight(asks, wanted, text=ARTICLE):
    words, weights = looked_at(text)
    return weights[:, :, words.index(asks), words.index(wanted)]


def templates(key, asker="verb"):
    """Of shape (template, layer, head), or with the list of nouns as second axis."""
    return np.array([found[asker][key] for found in load("bert-templates")["settings"].values()])


def right(asker="verb"):
    return templates("right", asker).mean(1)


def census():
    return load("bert-census")["settings"]["400 sentences"]


def chemistry(family, key="right"):
    return np.array(load("rxnmapper")["settings"][family][key])


# ---------------------------------------------------------------------- the article's sentence


@pytest.mark.models
def test_the_sentence_has_13_tokens_and_72_maps():
    words, weights = looked_at()
    assert " ".join(words) == "[CLS] the cat that was sitting on the mat looked happy . [SEP]"
    assert weights.shape == (6, 12, 13, 13)


@pytest.mark.models
def test_happy_looks_most_at_looked_in_four_heads_and_the_strongest_is_a_previous_token_head():
    words, weights = looked_at()
    top = weights[:, :, words.index("happy")].argmax(-1) == words.index("looked")
    assert top.sum() == 4
    assert weight("happy", "looked").argmax() == 2  # L0H2
    assert weight("happy", "looked")[0, 2] > 0.995
    assert census()["shares"]["previous"][0][2] > 0.995


@pytest.mark.models
def test_sitting_looks_at_cat_strongly_in_one_head_only():
    strong = weight("sitting", "cat").flatten().sort(descending=True)
    assert strong.indices[0] == 5 * 12 + 11  # L5H11
    assert strong.values[0].item() == pytest.approx(0.79, abs=0.005)
    assert strong.values[1] < 0.3


@pytest.mark.models
def test_no_head_connects_cat_and_sitting_in_both_directions():
    assert torch.minimum(weight("cat", "sitting"), weight("sitting", "cat")).max() < 0.2


@pytest.mark.models
def test_on_the_average_of_all_heads_happy_looks_at_cls_and_hardly_at_the_cat():
    assert weight("happy", "[CLS]").mean().item() == pytest.approx(0.586, abs=0.001)
    assert weight("happy", "cat").mean().item() == pytest.approx(0.029, abs=0.001)


@pytest.mark.models
def test_every_token_but_happy_looks_most_at_the_cat_in_l5h11_and_happy_more_than_at_any_other_word():
    words, weights = looked_at()
    most = weights[5, 11].argmax(-1)
    most[words.index("happy")] = weights[5, 11, words.index("happy"), 1:-2].argmax() + 1  # of the words
    assert (most == words.index("cat")).all()
    assert weights[5, 11, words.index("happy")].argmax() == 0


@pytest.mark.models
def test_the_beautiful_head_still_looks_at_the_cat_when_the_mat_sits():
    swapped = "The mat that was sitting on the cat looked happy."
    assert weight("sitting", "cat", swapped)[5, 11].item() == pytest.approx(0.63, abs=0.01)
    assert weight("sitting", "mat", swapped)[5, 11] < 0.15


@pytest.mark.models
def test_the_beautiful_head_moves_the_sentence_more_than_any_other():
    model = minilm()
    ids, _ = model.tokenize([ARTICLE])
    whole, turned = model(ids).mean(1)[0], torch.zeros(6, 12)
    for i, j in np.ndindex(6, 12):
        gates = torch.ones(6, 12)
        gates[i, j] = 0
        without = functional_call(model, heads.gated(model, gates), (ids,)).mean(1)[0]
        turned[i, j] = 1 - torch.cosine_similarity(whole, without, dim=0)
    assert turned.argmax() == 5 * 12 + 11
    assert turned[5, 11] > 20 * turned.median()


# ---------------------------------------------------------------------- templates


def test_there_are_1440_sentences_of_which_half_put_the_subject_far():
    stored = load("bert-templates")["settings"]
    assert sum(found["n_sentences"] for found in stored.values()) == 1440
    assert len(FAR) == len(NEAR) == 4
    assert list(stored) == FAR + NEAR


def test_the_beautiful_head_is_a_coin_on_new_sentences():
    assert right()[:, 5, 11] == pytest.approx(0.53, abs=0.06)
    assert right()[:, 5, 11].mean() == pytest.approx(0.52, abs=0.02)
    assert right("adjective")[:, 5, 11].mean() == pytest.approx(0.51, abs=0.02)


@pytest.mark.models
def test_the_beautiful_head_is_a_coin_too_when_the_one_who_sits_is_asked():
    for nouns in bert_templates.NOUNS:
        subject, other = bert_templates.points(
            minilm(), bert_templates.TEMPLATES["far: sat near"], nouns, "sitting"
        )
        assert (subject > other)[:, 5, 11].double().mean().item() == pytest.approx(0.53, abs=0.02)


def test_the_beautiful_head_chooses_the_same_noun_when_subject_and_distractor_change_places():
    assert templates("same_noun")[:, 5, 11].min() > 0.8
    assert templates("same_noun")[:, 5, 11].mean() > 0.9


@pytest.mark.models
def test_the_beautiful_head_has_one_order_of_nouns_in_different_templates():
    orders = []
    for template in ("far: sat near", "near: it slept"):
        nouns = bert_templates.NOUNS[0]
        found = bert_templates.points(minilm(), bert_templates.TEMPLATES[template], nouns, "verb")
        chosen = dict.fromkeys(nouns, 0)
        made = bert_templates.sentences(bert_templates.TEMPLATES[template], nouns)
        for one, subject, other in zip(made, *(of[:, 5, 11] for of in found), strict=True):
            chosen[one["subject" if subject > other else "distractor"]] += 1
        assert max(chosen, key=chosen.get) == "monkey"
        assert min(chosen, key=chosen.get) == "child"
        orders.append(list(chosen.values()))
    assert np.corrcoef(orders)[0, 1] > 0.95


def test_the_average_of_all_heads_looks_at_the_nearer_noun():
    mean = dict(zip(FAR + NEAR, templates("mean_of_heads"), strict=True))
    assert all(mean[name] > 0.95 for name in NEAR)
    assert all(mean[name] < 0.1 for name in FAR if name != "far: it saw")
    assert mean["far: it saw"] == pytest.approx(0.47, abs=0.03)


def test_l4h10_leans_to_the_subject_in_seven_templates_and_away_from_it_in_one():
    of = dict(zip(FAR + NEAR, right()[:, 4, 10], strict=True))
    assert np.mean([of[name] for name in FAR]) == pytest.approx(0.93, abs=0.01)  # the subject comes first
    assert np.mean([of[name] for name in NEAR]) == pytest.approx(0.65, abs=0.01)
    assert of.pop("near: it slept") < 0.35
    assert min(of.values()) > 0.65
    assert templates("at_subject")[:, 4, 10].mean() == pytest.approx(0.0125, abs=0.001)


def test_no_head_of_72_is_a_subject_head_in_every_template():
    assert right().min(0).max() < 0.65


def test_the_best_head_on_one_template_is_perfect_there_and_a_coin_elsewhere():
    each = templates("right").reshape(8, 2, 72)
    for k in range(8):
        best = np.flatnonzero(each[k, 0] == each[k, 0].max())
        others = [other for other in range(8) if other != k]
        assert each[k, 0, best].mean() > 0.97
        assert each[k, 1, best].mean() > 0.96
        assert 0.4 < each[others, 1][:, best].mean() < 0.6


def test_those_who_are_right_on_one_far_template_like_the_first_noun_or_look_at_the_next_token():
    each = templates("right").reshape(8, 2, 72)
    for k, name in enumerate(FAR):
        best = each[k, 0].argmax()
        assert best == {"far: it saw": 20, "far: with": 20}.get(name, 28)  # L1H8, L2H4
    first = np.r_[each[:4], 1 - each[4:]].mean(1)  # how often the first noun is preferred
    assert first[:, 28].min() > 0.85
    assert census()["kind"][1][8] == "next"


def test_the_best_heads_chosen_fairly_are_a_coin_on_the_other_templates():
    each, chosen, tested = templates("right").reshape(8, 2, 72), [], []
    for search, test in ((SEARCH, TEST), (TEST, SEARCH)):
        for nouns in (0, 1):
            chosen.append(each[search, nouns].mean(0).argmax())
            tested.append(each[test, 1 - nouns].mean(0)[chosen[-1]])
    assert sorted(chosen) == [20, 20, 37, 58]  # L1H8 twice, L3H1, L4H10
    assert min(tested) < 0.3
    assert max(tested) < 0.75
    assert np.mean(tested) == pytest.approx(0.48, abs=0.01)


@pytest.mark.models
def test_counting_alone_lets_eight_heads_hit_any_pair_of_ten_words():
    choice = looked_at()[1].flatten(0, 1)[:, 1:11, 1:11].clone()
    choice.diagonal(dim1=1, dim2=2).fill_(-1)
    hits = torch.stack([(choice.argmax(-1) == key).sum(0) for key in range(10)], 1)
    assert hits.sum() / 90 == 8
    words = looked_at()[0][1:11]
    assert hits[words.index("sitting"), words.index("cat")] == 8


@pytest.mark.models
def test_a_template_made_again_gives_its_stored_numbers():
    again = measure("bert-templates", "far: it saw")
    stored = load("bert-templates")["settings"]["far: it saw"]
    for asker in ("verb", "adjective"):
        np.testing.assert_allclose(again[asker]["right"], stored[asker]["right"], atol=1e-9)
        np.testing.assert_allclose(again[asker]["at_subject"], stored[asker]["at_subject"], atol=1e-9)


# ---------------------------------------------------------------------- census


def test_24_heads_are_sinks_10_broad_35_mixed_and_three_have_a_job_of_their_own():
    counts = {name: one["n"] for name, one in census()["counts"].items()}
    assert counts == {"sink": 24, "broad": 10, "mixed": 35, "previous": 1, "next": 1, "punctuation": 1}
    kind = np.array(census()["kind"])
    assert [kind[0, 2], kind[1, 8], kind[3, 11]] == ["previous", "next", "punctuation"]
    assert (kind[0] == "broad").sum() == 9


def test_the_census_is_steady():
    assert census()["counts"]["sink"]["low"] >= 20
    assert census()["halves_agree"] >= 69
    assert (np.array(census()["same_kind"]) >= 0.95).sum() >= 68


def test_cls_takes_much_weight_and_gives_little():
    weights, arrives = (census()["sink"][what]["first"] for what in ("weights", "contributions"))
    assert weights["mean"] == pytest.approx(0.387, abs=0.005)
    assert arrives["mean"] == pytest.approx(0.040, abs=0.003)
    assert weights["low"] > 9 * census()["even_share"]
    assert arrives["mean"] == pytest.approx(census()["even_share"], abs=0.003)


def test_no_head_looks_at_the_same_word_for_half_of_its_weight():
    assert np.max(census()["shares"]["same"]) < 0.5


# ---------------------------------------------------------------------- chemistry


def test_one_head_finds_the_right_atom_in_nine_of_ten_cases_in_kinds_it_was_not_chosen_on():
    found = np.mean([chemistry(family) for family in ("amide", "ester")], 0)
    layer, head = np.unravel_index(found.argmax(), found.shape)
    assert head == 5
    for family in ("ether", "amine", "thioether"):
        assert chemistry(family)[layer, head] == pytest.approx(0.91, abs=0.04)
        assert chemistry(family, "low")[layer, head] > 0.85


@pytest.mark.parametrize("family", rxnmapper.FAMILIES)
def test_all_other_heads_in_all_layers_stay_far_behind(family):
    assert np.delete(chemistry(family), 5, 1).max() < 0.45
    assert chemistry(family)[6:, 5].min() > 0.85
    chance = load("rxnmapper")["settings"][family]["chance"]
    assert chance["any atom"] == pytest.approx(0.09, abs=0.01)
    assert 0.2 < chance["same element"] < 0.4


@pytest.mark.models
def test_the_specialist_follows_when_the_product_is_written_the_other_way_round():
    model, random = bert.load_rxnmapper(torch.float64), np.random.default_rng(5)
    for _ in range(5):
        tokens, atom = rxnmapper.reaction("amide", random)
        arrow = tokens.index(">>")
        pieces = [(token, number) for token, number in zip(tokens, atom, strict=True)]
        before, after = pieces[:arrow], pieces[arrow + 1 :]
        first, dot, second = (before[: tokens.index(".")], [(".", -1)], before[tokens.index(".") + 1 :])
        shares = []
        for one in ([*first, *dot, *second], [*second, *dot, *first]):
            again, numbers = zip(*one, pieces[arrow], *after, strict=True)
            found, _ = rxnmapper.finds_the_atom(model, list(again), list(numbers))
            shares.append(found[10, 5].item())
        assert min(shares) > 0.8
