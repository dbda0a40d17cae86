"""The claims of chapter 6, one test each, named as the sentence, from stored sweeps or computed exactly."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from manyheads import bootstrap, cost, results, training
from manyheads.experiments import induction_from_scratch, runner
from manyheads.transformer import RotaryAttention

load = cache(results.load)


def settings(name):
    return load(name)["settings"]


def every(name, setting, score):
    """The score of every seed."""
    return np.array(settings(name)[setting]["per_seed"][score])


def of_texts(setting, score):
    return np.array(settings("sink")[setting]["per_text"][score])


def habit(name):
    """The share of each head's weight, (seed, layer, head)."""
    return np.array(settings("induction-heads")["nonsense, twice"]["scores"][name])


def lost(setting, score="repeated"):
    """What is lost without some heads, seed by seed."""
    return every("induction-ablation", setting, score) - every("induction-ablation", "all heads", score)


def lost_on_news(removed):
    whole = every("induction-ablation", "news, all heads", "loss")
    return every("induction-ablation", f"news, without 8 {removed}", "loss") - whole


# --- The sink --------------------------------------------------------------------------------------------

STARTS = ["<|endoftext|> first", "the text's first word first"]


@pytest.mark.parametrize("start", STARTS)
def test_about_half_of_a_decoders_weight_lies_on_the_first_token_whichever_it_is(start):
    weight = of_texts(start, "weight")
    assert weight.mean() == pytest.approx(0.48, abs=0.05)
    assert weight.min() > 0.25


@pytest.mark.parametrize("start", STARTS)
def test_the_sink_brings_half_of_what_its_weight_promises_and_over_four_times_an_even_share(start):
    assert (of_texts(start, "brought") < 0.7 * of_texts(start, "weight")).all()
    assert of_texts(start, "brought").mean() == pytest.approx(of_texts(start, "weight").mean() / 2, abs=0.04)
    even = np.mean([1 / (query + 1) for query in range(1, 65)])
    assert of_texts(start, "brought").mean() > 4 * even


@pytest.mark.parametrize("start", STARTS)
def test_a_decoder_is_lost_without_its_sink_and_not_without_another_token(start):
    whole, no_first, no_sixth = (of_texts(start, name) for name in ("whole", "no_first", "no_sixth"))
    low, _ = bootstrap.interval(no_first - whole)
    assert low > 1.5
    assert np.abs(no_sixth - whole).mean() < 0.1


@pytest.mark.parametrize("start", STARTS)
def test_a_window_is_of_use_only_if_the_first_token_stays_in_it(start):
    whole, window, with_first = (of_texts(start, name) for name in ("whole", "window", "window_and_first"))
    assert bootstrap.interval(window - with_first)[0] > 1.5
    assert (window - whole).mean() > 5 * (with_first - whole).mean() > 0


# --- Heads that look back --------------------------------------------------------------------------------


def test_smollm2_goes_on_with_nonsense_that_it_has_read_once():
    first, repeated = (every("induction-heads", "nonsense, twice", half) for half in ("first", "repeated"))
    assert first.min() > math.log(49_152)  # worse than holding all words for equally likely
    assert repeated.max() < 3


@pytest.mark.parametrize("name", ["previous", "induction"])
def test_the_same_few_heads_look_back_on_every_seed(name):
    shares = habit(name)
    best = set(np.argsort(-shares.mean(0), axis=None)[:8])
    assert all(len(best & set(np.argsort(-one, axis=None)[:8])) >= 6 for one in shares)
    assert (shares.mean(0) > 0.5).sum() <= 10
    assert shares.std(0, ddof=1).max() < 0.15


def test_the_strongest_previous_token_head_stands_just_before_the_induction_heads():
    layer, head = np.unravel_index(habit("previous").mean(0).argmax(), (30, 9))
    assert (layer, head) == (16, 0)
    assert habit("previous")[:, layer, head].min() > 0.8
    assert np.argwhere(habit("induction").mean(0) > 0.3)[:, 0].min() == layer + 1


def test_eight_induction_heads_of_270_carry_the_repetition_and_eight_others_do_not():
    induction = lost("without 8 induction")
    for control in ("without 8 random", "without 8 same layers"):
        assert induction.min() > 3 * lost(control).max()
        assert lost(control).mean() < 1
    saved = [every("induction-ablation", "all heads", half) for half in ("first", "repeated")]
    assert induction.mean() / np.subtract(*saved).mean() == pytest.approx(0.8, abs=0.05)
    assert np.abs(lost("without 8 induction", "first")).max() < 0.5


def test_the_induction_heads_were_tested_on_other_seeds_than_they_were_found_on():
    assert not set(load("induction-ablation")["seeds"]) & set(load("induction-heads")["seeds"])
    best = np.argsort(-habit("induction").mean(0), axis=None)[:8]
    off = settings("induction-ablation")["without 8 induction"]["off"]
    assert off == [[list(divmod(int(i), 9)) for i in best]] * 8
    for control in ("random", "same layers"):
        draws = settings("induction-ablation")[f"without 8 {control}"]["off"]
        assert len({str(draw) for draw in draws}) > 4
        for draw in draws:
            assert len({tuple(head) for head in draw}) == 8
            assert not {tuple(head) for head in draw} & {tuple(head) for head in off[0]}
            if control == "same layers":
                assert sorted(layer for layer, _ in draw) == sorted(layer for layer, _ in off[0])


def test_one_previous_token_head_blinds_the_induction_heads():
    looks = {
        name: every("induction-ablation", name, "looks")
        for name in settings("induction-ablation")
        if "news" not in name
    }
    assert settings("induction-ablation")["without 1 previous"]["off"] == [[[16, 0]]] * 8
    assert looks["all heads"].min() > 0.6
    assert looks["without 1 previous"].max() < 0.25
    assert looks["without 8 random"].min() > 0.5
    assert lost("without 1 previous").min() > lost("without 8 same layers").max()
    assert (lost("without 8 induction") - lost("without 1 previous")).mean() > 4  # there are other paths


def test_on_news_induction_heads_are_hardly_missed_and_previous_token_heads_are():
    assert np.abs(lost_on_news("induction")).max() < 0.1
    assert lost_on_news("previous").min() > 0.3


def test_query_heads_that_share_keys_and_values_have_like_habits():
    random = np.random.default_rng(1)
    for name in ("previous", "induction", "first"):
        mean = habit(name).mean(0)

        def between_groups(scores):
            apart = scores - scores.mean(1, keepdims=True)
            return 3 * (apart.reshape(30, 3, 3).mean(2) ** 2).sum() / (apart**2).sum()

        shuffled = [between_groups(random.permuted(mean, axis=1)) for _ in range(500)]
        assert np.mean(shuffled) == pytest.approx(0.25, abs=0.02)
        assert between_groups(mean) > np.quantile(shuffled, 0.95)


@pytest.mark.models
def test_a_stored_score_comes_back_when_it_is_measured_again():
    again = runner.measure("induction-heads", "nonsense, twice", seeds=[0])
    assert again["per_seed"]["repeated"][0] == pytest.approx(
        every("induction-heads", "nonsense, twice", "repeated")[0], abs=0.01
    )
    for name, shares in again["scores"].items():
        np.testing.assert_allclose(shares[0], habit(name)[0], atol=0.005)


# --- Learnt from nothing ---------------------------------------------------------------------------------


def test_pairs_can_only_be_known_from_the_sequence_itself():
    task = induction_from_scratch.Pairs()
    (said,), target = task.draw(training.stream(5), 400)
    for sequence, wanted in zip(said.tolist(), target.tolist(), strict=True):
        pairs = dict(zip(sequence[:8:2], sequence[1:8:2], strict=True))
        assert len({*pairs, *pairs.values()}) == 8
        assert wanted[:8] == [-100] * 8
        assert wanted[8::2] == [pairs[word] for word in sequence[8::2]] == sequence[9::2]
        assert wanted[9::2] == [-100] * 8
    guess = torch.nn.functional.one_hot(said[:, 1:2].expand(-1, 24), 16).double()
    assert task.score(guess, target)["accuracy"] == pytest.approx(task.chance, abs=0.03)


ONE_LAYER = ["1 layer, h=1", "1 layer, h=4", "1 layer, h=4, 2x training"]
TWO_LAYERS = ["2 layers, h=1", "2 layers, h=4"]


@pytest.mark.parametrize("setting", ONE_LAYER)
def test_one_layer_does_not_learn_what_stood_beside_a_word_however_many_its_heads(setting):
    assert every("induction-from-scratch", setting, "accuracy").max() < induction_from_scratch.Pairs().chance


@pytest.mark.parametrize("setting", TWO_LAYERS)
def test_two_layers_learn_it_on_every_seed_and_one_head_in_each_is_enough(setting):
    assert every("induction-from-scratch", setting, "accuracy").min() > 0.99


@pytest.mark.parametrize("setting", TWO_LAYERS)
def test_a_previous_token_head_and_an_induction_head_come_of_themselves(setting):
    for head, least in (("previous", 0.6), ("induction", 0.9)):
        assert every("induction-from-scratch", setting, head).min() > least
        assert every("induction-from-scratch", "1 layer, h=4", head).max() < 0.25


@pytest.mark.parametrize("setting", TWO_LAYERS)
def test_induction_comes_suddenly_after_a_plateau(setting):
    for loss in np.array(settings("induction-from-scratch")[setting]["history"]):  # one entry a 20 steps
        leaves, arrives = (loss < 2.4).argmax(), (loss < 0.5).argmax()
        assert leaves >= 8
        assert arrives - leaves <= 12


# --- Shared keys and values ------------------------------------------------------------------------------


def test_three_kv_heads_for_nine_query_heads_keep_a_third_and_one_a_ninth():
    held = {}
    for g in (9, 3, 1):
        layer, kept = RotaryAttention(63, 9, g, 10, bias=False), {}
        layer.read_on(torch.zeros(1, 5, 63), kept)
        layer.read_on(torch.zeros(1, 1, 63), kept)
        held[g] = sum(part.nbytes for part in kept.values())
        assert held[g] == cost.kv_cache_bytes(63, 9, g, 10, n_tokens=6)
    assert held[9] == 3 * held[3] == 9 * held[1]
    stored = settings("decode-time")["one layer"]
    for n in stored["setting"]["n_tokens"]:
        formula = [cost.kv_cache_bytes(576, 9, g, n_tokens=n - 1) for g in (9, 3, 1)]
        assert stored[str(n)]["cache_bytes"] == formula


def test_a_cache_saves_time_and_the_more_the_longer_the_text():
    medians = [times[0] for times in settings("decode-time")["SmolLM2"]["times"]]
    assert medians == sorted(medians)
    assert medians[-1] > 4


def test_what_sharing_saves_grows_with_the_text_in_a_decoder_and_shrinks_in_an_encoder():
    stored = settings("decode-time")["one layer"]
    for shared in (1, 2):  # three K/V heads, one
        decoder, encoder = (
            [stored[str(n)][use]["times"][shared][0] for n in stored["setting"]["n_tokens"]]
            for use in ("decoder", "encoder")
        )
        assert decoder[-1] < 0.75 * encoder[-1]
        assert decoder[-1] < decoder[0] - 0.1
        assert encoder[0] < encoder[-1] < 1
