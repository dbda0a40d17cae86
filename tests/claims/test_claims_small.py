"""The claims of chapter 8, one test each, named as the sentence: from stored sweeps, or from the model."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.func import functional_call
from transformers import DistilBertConfig, MobileBertConfig

from manyheads import bert, compress, heads, results
from manyheads.bootstrap import interval
from manyheads.experiments import retrieval


def settings(name):
    return results.load(name)["settings"]


def found_at(ranks):
    """1 / rank, so that the mean over the first axis left is an MRR."""
    return 1 / np.array(ranks)


def pruned(ranking, n):
    one = settings("prune-rankings")[ranking]
    return found_at(one["ranks"][one["setting"]["removed"].index(n)])


def evenly(n_heads):
    """Right after the cut, with as many heads in each layer, chosen by leave one out."""
    one = settings("prune-rankings")["as many a layer, by leave one out"]
    return found_at(one["ranks"][one["setting"]["a_layer"].index(n_heads)])


def by_lot(n):
    """Mean over the random lots, for each query."""
    return np.mean([pruned(f"random {draw}", n) for draw in range(6)], 0)


def cut(name):
    return found_at(settings("keep-few")[name]["ranks"])


def trained(name):
    """Mean over the runs, for each query."""
    return found_at(settings("keep-few")[name]["ranks_trained"]).mean(0)


def alone(half, what):
    return np.ravel(settings("prune-rankings")[f"each head alone, {half} half"][what])


def size(part):
    return sum(p.numel() for p in part.parameters())


@pytest.fixture(scope="module")
def minilm():
    return bert.load_minilm()


# --- What small models did with heads --------------------------------------------------------------------


def test_a_student_that_learns_attention_maps_has_as_many_heads_as_its_teacher():
    teacher = torch.zeros(12, 5, 5)
    assert compress.attention_maps(torch.zeros(12, 5, 5), teacher) == 0
    for n_heads in (1, 2, 4):
        with pytest.raises(ValueError, match=f"student has {n_heads}, the teacher 12"):
            compress.attention_maps(torch.zeros(n_heads, 5, 5), teacher)


def test_distilbert_keeps_twelve_heads_and_mobilebert_has_four_by_design():
    """The published shapes, as the library that runs these models knows them."""
    assert (DistilBertConfig().n_heads, DistilBertConfig().n_layers) == (12, 6)
    mobile = MobileBertConfig()
    assert (mobile.num_attention_heads, mobile.num_hidden_layers, mobile.true_hidden_size) == (4, 24, 128)


# --- Masking and removing ---------------------------------------------------------------------------------


@pytest.mark.models
def test_removing_heads_gives_what_masking_gives_with_fewer_parameters(minilm):
    gates = torch.zeros(6, 12)
    gates[:, [3, 8]] = 1
    small = compress.remove_heads(minilm, gates)
    ids, mask = minilm.tokenize(["The cat that was sitting on the mat looked happy.", "Rain."])
    masked = functional_call(minilm, heads.gated(minilm, gates), (ids, mask))
    assert (small(ids, mask) - masked)[mask].abs().max() < 1e-5
    assert size(small) < size(minilm)
    assert sum(p.numel() for p in heads.gated(minilm, gates).values()) == 6 * 384**2  # nothing is saved


@pytest.mark.models
def test_attention_is_a_sixth_of_the_model_and_ten_of_twelve_heads_are_an_eighth(minilm):
    attention = sum(map(size, heads.attention_layers(minilm).values()))
    assert attention / size(minilm) == pytest.approx(0.16, abs=0.005)
    assert size(minilm.word) / size(minilm) == pytest.approx(0.52, abs=0.01)
    gates = torch.zeros(6, 12)
    gates[:, :2] = 1
    saved = 1 - size(compress.remove_heads(minilm, gates)) / size(minilm)
    assert saved == pytest.approx(0.131, abs=0.001)


def test_a_mask_saves_no_time_and_a_knife_does():
    times = {name: each[0] for name, each in settings("prune-time")["128 tokens"]["times"].items()}
    assert times["2 heads a layer, masked"] > 0.9
    assert times["2 heads a layer"] < 0.85
    assert times["no attention"] <= times["1 head a layer"] + 0.05
    assert times["1 head a layer"] < times["6 heads a layer"] < 0.95


# --- Which heads -----------------------------------------------------------------------------------------


def test_the_task_is_far_above_chance():
    whole = pruned("gradient", 0)
    assert whole.mean() == pytest.approx(0.72, abs=0.03)
    assert retrieval.chance(len(whole)) < 0.04


def test_no_head_of_minilm_matters_much_alone():
    for half in ("first", "second"):
        assert np.abs(alone(half, "mrr")).max() < 0.04
        assert 20 < (alone(half, "loss") < 0).sum() < 45  # without these the model is better off


def test_without_a_layers_attention_only_the_last_layer_is_missed():
    for half in ("first", "second"):
        one = settings("prune-rankings")[f"each head alone, {half} half"]
        falls = one["mrr_whole"] - np.array(one["mrr_without_layer"])
        assert falls.argmax() == 5
        assert falls[5] > 0.08 > 0.04 > falls[:5].max()


def test_a_smooth_loss_finds_the_same_heads_on_other_texts_and_ranks_do_so_less():
    again = {
        what: spearmanr(alone("first", what), alone("second", what)).statistic for what in ("loss", "mrr")
    }
    assert again["loss"] > 0.6
    assert again["mrr"] < 0.45


def test_the_gradient_finds_heads_that_move_the_output_not_heads_that_help():
    importance = np.ravel(settings("prune-rankings")["gradient"]["importance"])
    for half in ("first", "second"):
        assert spearmanr(importance, alone(half, "moved")).statistic > 0.75
        assert abs(spearmanr(importance, alone(half, "loss")).statistic) < 0.25


def test_with_its_sign_the_slope_knows_what_helps_and_keeps_more_with_60_heads_removed_only():
    importance = np.ravel(settings("prune-rankings")["signed gradient"]["importance"])
    for half in ("first", "second"):
        assert spearmanr(importance, alone(half, "loss")).statistic > 0.6
        assert abs(spearmanr(importance, alone(half, "moved")).statistic) < 0.25
    assert interval(pruned("signed gradient", 60) - pruned("gradient", 60))[0] > 0
    for n in (12, 24, 36, 48):
        low, high = interval(pruned("signed gradient", n) - pruned("gradient", n))
        assert low < 0 < high
    for n in (12, 24, 36, 48, 60):
        low, high = interval(pruned("signed gradient", n) - pruned("leave one out", n))
        assert low < 0 < high


def test_of_a_dozen_heads_we_cannot_see_that_they_are_missed_and_of_two_dozen_we_can():
    whole = pruned("gradient", 0)
    for ranking in ("gradient", "leave one out"):
        low, high = interval(whole - pruned(ranking, 12))
        assert low < 0 < high
        for n in (24, 36, 48, 60):
            assert interval(whole - pruned(ranking, n))[0] > 0


def test_gradient_and_leave_one_out_beat_chance_and_the_norm_does_not():
    for ranking in ("gradient", "leave one out"):
        assert interval(pruned(ranking, 36) - by_lot(36))[0] > 0
    assert interval(pruned("norm of W_o", 24) - by_lot(24))[1] < 0
    for n in (12, 36, 48, 60):
        assert interval(pruned("norm of W_o", n) - by_lot(n))[0] < 0


def test_leave_one_out_keeps_more_than_the_gradient_when_few_heads_are_left():
    assert interval(pruned("leave one out", 60) - pruned("gradient", 60))[0] > 0


def test_on_a_small_layer_greedy_and_leave_one_out_find_the_best_heads_and_the_gradient_sometimes_does_not():
    scores = {name: np.array(each) for name, each in settings("prune-lookup")["h=8"]["per_seed"].items()}
    misses = {
        way: np.array([scores[f"best {n}"] - scores[f"{way} {n}"] for n in range(1, 8)])  # (kept, seed)
        for way in ("greedy", "leave one out", "gradient", "random")
    }
    assert misses["greedy"].max() < 0.02
    assert misses["leave one out"].max() < 0.02
    worst = misses["gradient"].max(0)
    assert worst.max() > 0.1
    assert (worst < 0.02).sum() >= 3  # on most seeds it is as good as the others
    assert misses["random"][3].min() > 0.2


# --- Bits -------------------------------------------------------------------------------------------------


@pytest.mark.models
def test_one_byte_a_weight_is_a_quarter_of_the_size_and_no_loss_that_can_be_seen(minilm):
    one = settings("int8")["int8"]
    assert one["bytes"] < 0.27 * 4 * size(minilm)
    low, high = interval(found_at(one["ranks"]) - pruned("gradient", 0))
    assert low < 0 < high
    assert high - low < 0.08


# --- Few heads, few layers ----------------------------------------------------------------------------------


def test_one_head_a_layer_is_no_better_than_no_attention_at_all():
    for scores in (cut, trained):
        low, high = interval(scores("1 head a layer") - scores("no attention"))
        assert low < 0 < high
        assert high < 0.06


def test_chosen_by_leave_one_out_neither_one_nor_two_heads_a_layer_are_surely_better_than_none():
    for n_heads in (1, 2):
        low, high = interval(evenly(n_heads) - cut("no attention"))
        assert low < 0 < high


def test_two_heads_a_layer_are_far_from_intact_and_barely_ahead_of_none():
    for scores in (cut, trained):
        assert interval(scores("intact") - scores("2 heads a layer"))[0] > 0.03
        assert (scores("2 heads a layer") - scores("no attention")).mean() < 0.08
        assert (scores("intact") - scores("2 heads a layer")).mean() > 0.07


def test_no_attention_at_all_still_finds_texts():
    assert interval(cut("no attention"))[0] > 10 * retrieval.chance(150)


def test_twelve_heads_anywhere_beat_two_in_every_layer_by_leave_one_out_and_not_by_gradient():
    assert interval(pruned("leave one out", 60) - evenly(2))[0] > 0
    for scores in (cut, trained):
        low, high = interval(scores("12 heads in all") - scores("2 heads a layer"))
        assert low < 0 < high


def test_a_short_training_returns_about_half_of_what_was_lost():
    whole = pruned("gradient", 0).mean()
    for name in ("2 heads a layer", "1 head a layer", "no attention", "12 heads in all", "3 of 6 layers"):
        lost = whole - cut(name).mean()
        assert 0.35 < (trained(name).mean() - cut(name).mean()) / lost < 0.65
        assert interval(trained(name) - cut(name))[0] > 0
    low, high = interval(trained("intact") - cut("intact"))
    assert low < 0 < high  # what lost nothing gains nothing


def test_half_of_the_heads_are_missed_after_the_training_too():
    assert interval(trained("intact") - trained("6 heads a layer"))[0] > 0.01


def test_at_about_equal_time_fewer_layers_beat_fewer_heads():
    times = {name: each[0] for name, each in settings("prune-time")["128 tokens"]["times"].items()}
    for layers, few_heads in (("4 of 6 layers", "2 heads a layer"), ("3 of 6 layers", "no attention")):
        assert times[layers] < times[few_heads] + 0.1
        for scores in (cut, trained):
            assert interval(scores(layers) - scores(few_heads))[0] > 0


def students(name, score="cosine"):
    return np.array(settings("students")[name]["per_seed"][score])


def test_small_students_learn_the_same_with_one_head_and_with_twelve():
    means = [students(f"h={h}").mean() for h in (1, 2, 4, 8, 12)]
    assert max(means) - min(means) < 0.01
    assert len({settings("students")[f"h={h}"]["parameters"] for h in (1, 2, 4, 8, 12)}) == 1


def test_in_a_short_training_a_student_without_attention_is_ahead():
    for h in (1, 2, 4, 8, 12):
        assert (students("h=0") > students(f"h={h}")).all()


def test_after_four_times_the_training_the_lead_of_no_attention_is_half_as_large():
    short = students("h=0") - students("h=12")
    longer = students("h=0, 4x training") - students("h=12, 4x training")
    assert (longer > 0).all()
    assert 0.3 < longer.mean() / short.mean() < 0.6
    mrr = students("h=0, 4x training", "mrr") - students("h=12, 4x training", "mrr")
    assert abs(mrr.mean()) < mrr.std(ddof=1) / np.sqrt(6)


def test_attention_maps_add_a_very_little_to_a_student_with_as_many_heads():
    added = students("h=12, with maps") - students("h=12")
    assert (added > 0).all()
    assert added.mean() < 0.01
    assert abs((students("h=12, with maps", "mrr") - students("h=12", "mrr")).mean()) < 0.02
