"""Each task against a slow, independent reading of what it promises."""

import math
from collections import Counter
from itertools import product

import pytest
import torch

from manyheads.data import digits, photo
from manyheads.tasks import NOUNS, WORDS, Lookup, Nearest, Sentences, Staircase, in_words, left_over

TASKS = [Staircase(), Staircase(ordinary=True), Lookup(), Nearest(), Sentences()]


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(drawn):
    inputs, target = drawn
    return torch.cat([x.double().flatten() for x in (*inputs, target)])


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_seed_gives_the_same_examples_and_another_seed_others(task):
    assert torch.equal(flat(task.draw(stream(3), 11)), flat(task.draw(stream(3), 11)))
    assert not torch.equal(flat(task.draw(stream(3), 11)), flat(task.draw(stream(5), 11)))


def test_left_over_is_zero_for_the_target_and_one_for_silence():
    target = torch.tensor([3.0, -4.0])
    assert left_over(target, target) == 0
    assert left_over(torch.zeros(2), target) == 1
    assert left_over(torch.tensor([3.0, 0.0]), target) == pytest.approx(16 / 25)


def test_the_staircase_asks_for_the_four_vectors_before_each_token():
    task = Staircase()
    (query, key, value), target = task.draw(stream(), 3)
    for example, token, back, i in product(range(3), range(12), range(4), range(6)):
        wanted = value[example, (token - 1 - back) % 12, i]
        assert target[example, token, 6 * back + i] == wanted
    assert torch.equal(query, key)
    assert torch.equal(query[0], query[1])  # positions say nothing about contents
    assert not query[..., :6].any()
    assert not value[..., 6:].any()


def test_the_ordinary_staircase_shows_both_to_both():
    (query, _, value), target = Staircase().draw(stream(), 3)
    (x,), same_target = Staircase(ordinary=True).draw(stream(), 3)
    assert torch.equal(x, query + value)
    assert torch.equal(target, same_target)


@pytest.mark.parametrize(("n_heads", "least"), [(1, 0.75), (2, 0.5), (3, 0.25), (4, 0), (8, 0), (24, 0)])
def test_the_staircase_falls_by_a_quarter_a_head(n_heads, least):
    assert Staircase().theory(n_heads) == least


def test_lookup_asks_for_the_values_of_the_named_keys():
    (query, pairs), target = Lookup().draw(stream(), 17)
    for example in range(17):
        book = {}
        for pair in pairs[example]:
            (key,), (value,) = pair[:8].nonzero().T.tolist()[0], pair[8:16].nonzero().T.tolist()[0]
            book[key] = value
        assert sorted(book) == list(range(8))
        named = [query[example, 0, 8 * slot : 8 * slot + 8].argmax().item() for slot in range(4)]
        assert len(set(named)) == 4
        assert [book[key] for key in named] == target[example].tolist()
    assert query.sum() == 17 * 4
    assert pairs.sum() == 17 * 8 * 2


def test_lookup_scores_the_right_answer_one_and_guesses_at_chance():
    task = Lookup()
    _, target = task.draw(stream(), 2000)
    right = torch.nn.functional.one_hot(target, 8).double().flatten(1)[:, None]
    assert task.score(right, target) == {"accuracy": 1}
    assert task.loss(50 * right, target) < 1e-12
    guess = torch.rand(right.shape, generator=stream(1))
    assert task.score(guess, target)["accuracy"] == pytest.approx(task.chance, abs=0.015)


def test_lookup_expects_of_one_head_the_commonest_of_four_values():
    commonest = [Counter(draw).most_common(1)[0][1] / 4 for draw in product(range(8), repeat=4)]
    assert Lookup().theory(1) == pytest.approx(sum(commonest) / len(commonest))
    expected = [Lookup().theory(n_heads) for n_heads in (1, 2, 3, 4, 8)]
    assert expected == sorted(expected)
    assert expected[3] == expected[4] == 1


def test_nearest_asks_for_the_vector_with_the_largest_cosine():
    (query, vectors), target = Nearest().draw(stream(), 13)
    for example in range(13):
        cosines = [torch.nn.functional.cosine_similarity(query[example, 0], v, 0) for v in vectors[example]]
        best = max(range(8), key=cosines.__getitem__)
        assert torch.equal(target[example, 0], vectors[example, best])
    assert torch.allclose(vectors.norm(dim=-1), torch.ones((), dtype=torch.float64))


def read(sentence):
    """Find the parts of a sentence by its words alone."""
    words = in_words(sentence).split()
    adverb = words.pop(0 if words[0] in ("today", "yesterday") else -1)
    the, subject, near, the_too, attractor, verb, adjective = words
    assert (the, near, the_too) == ("the", "near", "the")
    return adverb, subject, attractor, verb, adjective


def is_animal(noun):
    return any(noun.startswith(animal) for animal in NOUNS[0])


def is_plural(noun):
    return noun not in (*NOUNS[0], *NOUNS[1])


def test_sentences_keep_to_their_grammar():
    (sentences,), facts = Sentences().draw(stream(), 400)
    masked_words = Counter()
    for sentence, (masked, tense, number, kind, first) in zip(sentences, facts.tolist(), strict=True):
        adverb, subject, attractor, verb, adjective = read(sentence)
        assert (in_words(sentence).split()[0] == adverb) == first
        masked_words[WORDS[masked]] += 1
        if verb == "[MASK]":
            right = {("today", False): "is", ("today", True): "are"}
            right |= {("yesterday", False): "was", ("yesterday", True): "were"}
            assert WORDS[masked] == right[adverb, is_plural(subject)]
            assert tense == (adverb == "yesterday")
            assert number == (is_plural(subject) if is_plural(subject) != is_plural(attractor) else -1)
            assert kind == -1
            assert (adjective in ("happy", "hungry")) == is_animal(subject)
        else:
            assert adjective == "[MASK]"
            assert (WORDS[masked] in ("happy", "hungry")) == is_animal(subject)
            assert kind == (not is_animal(subject) if is_animal(subject) != is_animal(attractor) else -1)
            assert tense == number == -1
    assert len(masked_words) == 8  # four verbs, four adjectives
    assert min(masked_words.values()) > 30


def test_sentences_score_the_right_word_one_and_the_attractors_word_zero():
    task = Sentences()
    (sentences,), facts = task.draw(stream(), 3000)
    right = torch.nn.functional.one_hot(facts[:, 0], len(WORDS)).double()
    assert task.score(right, facts) == {"tense": 1, "number": 1, "class": 1}

    fooled = torch.zeros_like(right)
    for i, sentence in enumerate(sentences):
        adverb, _, attractor, verb, _ = read(sentence)
        verbs = ("is", "are") if adverb == "today" else ("was", "were")
        adjective = "happy" if is_animal(attractor) else "rusty"
        fooled[i, WORDS.index(verbs[is_plural(attractor)] if verb == "[MASK]" else adjective)] = 1
    assert task.score(fooled, facts) == {"tense": 1, "number": 0, "class": 0}

    fits = torch.tensor([[word in ("is", "are", "was", "were") for word in WORDS]])
    fits = torch.where(
        facts[:, 1:2] >= 0, fits, torch.tensor([[word in ("happy", "rusty") for word in WORDS]])
    )
    guess = torch.rand(fits.shape, generator=stream(1)) * fits
    assert list(task.score(guess, facts).values()) == pytest.approx([task.chance] * 3, abs=0.05)

    silent = torch.nn.functional.one_hot(torch.full((3000,), WORDS.index("the")), len(WORDS)).double()
    assert task.score(silent, facts) == {"tense": 0, "number": 0, "class": 0}


def test_the_photo_has_three_colours_between_zero_and_one():
    picture = photo()
    assert picture.shape == (427, 640, 3)
    assert picture.dtype == torch.float64
    assert 0 <= picture.min() < 0.1 < 0.9 < picture.max() <= 1
    assert torch.equal(photo(12), picture[::12, ::12])


def test_the_photo_is_the_one_that_scikit_learn_gives():
    from sklearn.datasets import load_sample_image

    assert torch.equal(photo(), torch.from_numpy(load_sample_image("china.jpg") / 255.0))


def test_the_digits_are_those_of_scikit_learn_dealt_out_once():
    from sklearn.datasets import load_digits

    train, test = digits()
    assert (len(train.labels), len(test.labels)) == (1297, 500)
    theirs = load_digits()
    both = torch.cat([train.images, test.images]).flatten(1) * 16
    labels = torch.cat([train.labels, test.labels])
    ours = Counter((*map(int, row), int(label)) for row, label in zip(both.tolist(), labels, strict=True))
    wanted = zip(theirs.data.tolist(), theirs.target, strict=True)
    assert ours == Counter((*map(int, row), int(label)) for row, label in wanted)
    assert torch.equal(digits()[1].labels, test.labels)  # the same split each time
    assert test.labels.bincount().min() > 30


def test_pictures_are_drawn_from_the_set_and_scored():
    train, _ = digits()
    (images,), labels = train.draw(stream(), 50)
    places = [int((train.images == image).flatten(1).all(1).nonzero()[0]) for image in images]
    assert torch.equal(train.labels[places], labels)
    right = torch.nn.functional.one_hot(labels, 10).double()
    assert train.score(right, labels) == {"accuracy": 1}
    assert train.score(-right, labels) == {"accuracy": 0}
    assert train.loss(100 * right, labels) < 1e-9
    assert train.loss(torch.zeros_like(right), labels) == pytest.approx(math.log(10))
    assert train.chance == 0.1
