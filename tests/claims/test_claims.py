"""The book's claims, one test each, named as the sentence: computed exactly, or read from the stored sweeps.

Tolerances are such that a wrong result breaks them: several standard deviations of what was measured, yet far
less than the distance to the opposite claim.
"""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from manyheads import cost, reference, results
from manyheads.attention import MultiHeadAttention, SelfAttention, attend, attention_weights, merge_heads
from manyheads.experiments import convolution
from manyheads.experiments.kernels import KernelHeads
from manyheads.experiments.masked_lm import needed_heads
from manyheads.tasks import Lookup, Staircase
from manyheads.training import stream

load = cache(results.load)


def settings(name):
    return load(name)["settings"]


def every(name, setting, score):
    """The score of every seed."""
    return np.array(settings(name)[setting]["per_seed"][score])


def mean(name, setting, score):
    return every(name, setting, score).mean()


def layer(d_model=12, n_heads=3, **options):
    torch.manual_seed(0)
    made = MultiHeadAttention(d_model, n_heads, **options).double().requires_grad_(False)
    for bias in (made.in_proj_bias, made.out_proj.bias):
        bias.normal_()
    return made


def tokens(n=7, d_model=12, seed=1):
    return torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- Chapters 1 and 2: what a head is --------------------------------------------------------------------


def test_each_output_is_an_average_of_the_values_with_weights_that_sum_to_one():
    query, key, value = tokens(5), tokens(7, seed=2), tokens(7, seed=3)
    mix, weights = attend(query, key, value, return_weights=True)
    assert torch.allclose(weights.sum(-1), torch.ones(5, dtype=torch.float64))
    assert (weights > 0).all()
    np.testing.assert_allclose(mix, weights.numpy() @ value.numpy(), atol=1e-12)
    assert (mix <= value.amax(0)).all()
    assert (mix >= value.amin(0)).all()


def test_without_the_scale_wider_heads_look_at_one_token_only():
    entropy = {}
    for d_head in (4, 64, 1024):
        draws = torch.randn(2, 200, 8, d_head, generator=stream(0), dtype=torch.float64)
        for scale in (None, 1.0):
            weights = attention_weights(*draws, scale=scale)
            entropy[d_head, scale] = torch.special.entr(weights).sum(-1).mean().item() / math.log(8)
    assert entropy[4, None] == pytest.approx(entropy[1024, None], abs=0.05)
    assert entropy[1024, None] > 0.75
    assert entropy[4, 1.0] > entropy[64, 1.0] > entropy[1024, 1.0]
    assert entropy[1024, 1.0] < 0.06


def test_attention_does_not_know_the_order_of_its_tokens():
    x, order = tokens(), torch.tensor([3, 0, 6, 2, 5, 1, 4])
    assert torch.allclose(layer()(x)[order], layer()(x[order]), atol=1e-12)


def test_a_masked_token_changes_nothing():
    x, changed = tokens(), tokens()
    changed[4] = 100.0
    mask = torch.arange(7) != 4
    one, other = layer()(x, mask=mask), layer()(changed, mask=mask)
    kept = [0, 1, 2, 3, 5, 6]
    assert torch.allclose(one[kept], other[kept], atol=1e-12)
    assert not torch.allclose(layer()(x)[kept], layer()(changed)[kept])


def test_self_attention_is_cross_attention_to_oneself():
    x, context = tokens(), tokens(5, seed=2)
    assert torch.allclose(layer()(x), layer()(x, x.clone(), x.clone()), atol=1e-12)
    assert not torch.allclose(layer()(x), layer()(x, context))


def test_one_head_is_self_attention():
    many = layer(n_heads=1)
    one = SelfAttention(12).double()
    one.load_state_dict(many.state_dict())
    assert torch.allclose(many(tokens()), one(tokens()), atol=1e-12)


def test_multi_head_attention_is_the_sum_of_single_heads():
    many, x = layer(), tokens()
    heads = sum(many.head(i)(x) for i in range(3)) + many.out_proj.bias
    assert (heads - many(x)).abs().max() < 1e-14


def test_concatenating_and_multiplying_by_w_o_is_adding_up():
    many, x = layer(), tokens()
    q, k, v = many.project(x)
    mix = attend(q, k, v)
    slices = many.out_proj.weight.unflatten(1, (3, 4))  # (d_model, head, d_head)
    added = sum(mix[i] @ slices[:, i].T for i in range(3))
    assert (merge_heads(mix) @ many.out_proj.weight.T - added).abs().max() < 1e-14


def test_loops_in_numpy_give_what_the_layer_gives():
    many, x = layer(bias=True), tokens()
    many.in_proj_bias.zero_()
    many.out_proj.bias.zero_()
    w_q, w_k, w_v = (w.unflatten(0, (3, 4)).mT.numpy() for w in many.in_proj_weight.chunk(3))
    w_o = many.out_proj.weight.T.unflatten(0, (3, 4)).numpy()
    output, _ = reference.multi_head_attention(x.numpy(), w_q, w_k, w_v, w_o)
    np.testing.assert_allclose(many(x), output, atol=1e-13)


def test_every_head_reads_the_whole_vector():
    many, x = layer(), tokens()
    for i, channel in ((i, c) for i in range(3) for c in range(12)):
        changed = x.clone()
        changed[:, channel] += 1
        assert not torch.allclose(many.head(i)(x), many.head(i)(changed))


def test_the_packed_projection_mixes_no_heads():
    many, x = layer(), tokens()
    before = [many.head(i)(x) for i in range(3)]
    for rows in many.in_proj_weight.chunk(3):
        rows[4:8] = 0  # the rows of head 1 in W_Q, W_K and W_V
    after = [many.head(i)(x) for i in range(3)]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_narrow_single_heads_in_a_stack_are_one_layer_of_many_heads():
    """One after the other, each reads the first half of a doubled stream and adds to the second."""
    many, x = layer(), tokens()
    stream_of_both = torch.cat([x, torch.zeros_like(x)], -1)
    for i in range(3):
        narrow, head = SelfAttention(24, 4).double().requires_grad_(False), many.head(i)
        narrow.in_proj_weight.zero_()[:, :12] = head.in_proj_weight
        narrow.in_proj_bias.copy_(head.in_proj_bias)
        narrow.out_proj.weight.zero_()[12:] = head.out_proj.weight
        narrow.out_proj.bias.zero_()
        stream_of_both = stream_of_both + narrow(stream_of_both)
    assert (stream_of_both[:, 12:] + many.out_proj.bias - many(x)).abs().max() < 1e-14


# --- Chapter 4: what heads cost ---------------------------------------------------------------------------

HEADS = (1, 2, 4, 8, 16, 32, 64)


def test_parameters_do_not_depend_on_the_number_of_heads():
    for n_heads in HEADS:
        ours, torchs = MultiHeadAttention(512, n_heads), torch.nn.MultiheadAttention(512, n_heads)
        assert sum(p.numel() for p in ours.parameters()) == 1_050_624
        assert sum(p.numel() for p in torchs.parameters()) == 1_050_624
        assert cost.parameters(512, n_heads) == 1_050_624


def test_heads_of_a_fixed_width_cost_parameters():
    sizes = [cost.parameters(512, n_heads, d_head=64, bias=False) for n_heads in HEADS]
    assert sizes == [n_heads * sizes[0] for n_heads in HEADS]
    made = MultiHeadAttention(512, 16, d_head=64, bias=False)
    assert sum(p.numel() for p in made.parameters()) == sizes[HEADS.index(16)]


def test_more_heads_are_no_more_matrix_work_but_more_weights_to_store():
    flops = {cost.matmul_flops(512, n_heads, n_query=2048) for n_heads in HEADS}
    assert flops == {2 * 2048 * 4 * 512**2 + 4 * 2048**2 * 512}
    stored = [cost.weights_bytes(n_heads, n_query=2048) for n_heads in HEADS]
    assert stored == [4 * n_heads * 2048**2 for n_heads in HEADS]
    softmax = [cost.softmax_operations(n_heads, n_query=2048) for n_heads in HEADS]
    assert softmax == [n_heads * softmax[0] for n_heads in HEADS]


def test_many_heads_and_one_wide_head_cache_the_same_bytes_and_shared_heads_fewer():
    cached = [cost.kv_cache_bytes(512, *heads, n_tokens=1) for heads in ((8,), (1,), (8, 2), (8, 1))]
    assert cached == [4096, 4096, 1024, 512]
    _, key, value = MultiHeadAttention(512, 8).project(torch.zeros(1, 512))
    assert key.nbytes + value.nbytes == 4096


# --- Chapter 3: the staircase -----------------------------------------------------------------------------


def test_no_pattern_of_one_average_a_head_copies_more_than_its_share():
    """Whatever the heads look at, and with the best read-out of all, h of four vectors is the most."""
    task = Staircase()
    (_, _, content), target = task.draw(stream(0), 3000)
    for n_heads in (1, 2, 3, 4):
        for seed in range(5):
            patterns = torch.rand(n_heads, 12, generator=stream(seed), dtype=torch.float64)
            patterns[:, 4:] *= seed % 2  # every other time, only the four wanted tokens are looked at
            patterns = patterns / patterns.sum(-1, keepdim=True)
            back = torch.stack([content[:, -1 - k, :6] for k in range(12)], 1)  # as the first token sees them
            averages = torch.einsum("hk,bkc->bhc", patterns, back).flatten(1)
            best = averages @ torch.linalg.lstsq(averages, target[:, 0]).solution
            missed = ((best - target[:, 0]).square().sum() / target[:, 0].square().sum()).item()
            assert missed > task.theory(n_heads) - 0.01
            if seed % 2 == 0:
                assert missed == pytest.approx(task.theory(n_heads), abs=0.01)


def test_one_head_copies_one_of_four_vectors_and_no_more():
    assert every("staircase", "h=1", "left_over") == pytest.approx(0.75, abs=0.002)


def test_each_further_head_copies_one_more_vector():
    for n_heads, left in ((2, 0.5), (3, 0.25), (4, 0.0)):
        assert every("staircase", f"h={n_heads}", "left_over") == pytest.approx(left, abs=0.003)


def test_heads_of_one_number_cannot_point_though_there_are_enough_of_them():
    assert settings("staircase")["h=24"]["theory"] == 0
    assert every("staircase", "h=12", "left_over") == pytest.approx(0.12, abs=0.08)
    assert every("staircase", "h=24", "left_over") == pytest.approx(0.6, abs=0.05)


def test_longer_training_mends_heads_of_two_numbers_and_not_heads_of_one():
    assert (every("staircase", "h=12, 4x training", "left_over") < 0.01).all()
    assert (every("staircase", "h=24, 4x training", "left_over") > 0.4).all()


def test_with_another_value_matrix_for_each_token_one_head_would_copy_all_four():
    """The staircase needs one matrix: contents in channels of their own survive an even average."""
    content = torch.randn(100, 4, generator=stream(0), dtype=torch.float64)
    alike = content.new_zeros(4, 1)
    average = attend(alike[:1], alike, torch.diag_embed(content))
    assert torch.allclose(4 * average.squeeze(1), content)


def test_where_scores_see_content_and_values_their_places_one_head_beats_the_bound():
    assert every("staircase", "h=1, scores see content", "left_over") == pytest.approx(0.71, abs=0.02)


def test_scores_that_see_content_beat_the_bound_only_with_values_that_tell_their_places():
    """Bessel: a head hands over as many numbers as a content has, however its weights come about."""

    def missed(scores, places):
        weights = scores.softmax(-1)
        average = (weights * content).sum(-1, keepdim=True)
        brought = torch.cat([average, torch.ones_like(average), *([weights] if places else [])], 1)
        guess = brought @ torch.linalg.lstsq(brought, content, driver="gelsd").solution
        return ((guess - content).square().sum() / content.square().sum()).item()

    content = torch.randn(20_000, 4, generator=stream(1), dtype=torch.float64)
    bound = Staircase().theory(1)
    for scores in (0.03 * content, content, 50 * content, -content.square()):
        assert missed(scores, places=False) > bound - 0.01
    assert missed(0.03 * content, places=True) < 0.01 < bound


def test_a_head_of_one_number_cannot_look_alike_four_steps_back_from_everywhere():
    """Its largest weight lies on one of two tokens, and two are among the four before of 8 of 12 at most."""
    before = [{(t - back) % 12 for back in (1, 2, 3, 4)} for t in range(12)]
    assert max(sum(bool(seen & {a, b}) for seen in before) for a in range(12) for b in range(a)) == 8
    query, key = torch.randn(2, 12, 1, generator=stream(0), dtype=torch.float64)
    assert len(set((query @ key.T).argmax(-1).tolist())) <= 2


# --- Chapter 3: lookup -------------------------------------------------------------------------------------


def test_lookup_has_the_same_parameters_for_every_number_of_heads():
    assert {s["parameters"] for s in settings("lookup").values() if not s["setting"]["d_ff"]} == {4224}


def test_one_head_finds_what_the_commonest_of_four_values_would():
    theory = Lookup().theory(1)
    assert theory == pytest.approx(0.412, abs=0.001)
    for setting in ("h=1", "h=1, 4x training"):
        assert every("lookup", setting, "accuracy") == pytest.approx(theory, abs=0.015)


def test_one_head_weighs_the_four_named_keys_alike():
    assert settings("lookup")["h=1"]["attention"] == [pytest.approx([0.23] * 4, abs=0.05)]


def test_four_heads_find_all_four_values_each_its_own():
    assert (every("lookup", "h=4", "accuracy") > 0.97).all()
    assert (every("lookup", "h=8", "accuracy") > 0.97).all()
    first_seed = np.array(settings("lookup")["h=4"]["attention"])
    assert sorted(first_seed.argmax(1)) == [0, 1, 2, 3]
    assert (first_seed.max(1) > 0.7).all()


def test_too_few_heads_and_too_many_both_lose():
    one, two, four, eight, sixteen, all_32 = (
        mean("lookup", f"h={h}", "accuracy") for h in (1, 2, 4, 8, 16, 32)
    )
    assert one + 0.1 < two < four - 0.1
    assert eight - 0.1 > sixteen > all_32 + 0.1


def test_sixteen_heads_only_learn_more_slowly_but_heads_of_one_number_stay_behind():
    assert (every("lookup", "h=16", "accuracy") < 0.95).all()
    assert (every("lookup", "h=16, 4x training", "accuracy") > 0.99).all()
    assert (every("lookup", "h=32, 4x training", "accuracy") < 0.75).all()


def test_heads_of_one_number_can_answer_everything_by_hand():
    """Four heads a slot, each for two keys, and one that looks evenly, which is subtracted three times."""
    layer = MultiHeadAttention(32, 32).double().requires_grad_(False)
    for parameter in layer.parameters():
        parameter.zero_()
    numbers = torch.linspace(-1, 1, 8, dtype=torch.float64)
    for head in range(17):
        layer.in_proj_weight[64 + head, 8:16] = numbers
        if head < 16:
            slot, key = head // 4, 2 * (head % 4)
            for sign, one in ((1, key), (-1, key + 1)):
                layer.in_proj_weight[head, 8 * slot + one] = 60 * sign
                layer.in_proj_weight[32 + head, one] = sign
            layer.out_proj.weight[8 * slot : 8 * slot + 8, head] = numbers
    layer.out_proj.weight[:, 16] = -3 * numbers.repeat(4)
    layer.out_proj.bias[:] = -numbers.repeat(4).square() / 2
    inputs, target = Lookup().draw(stream(5), 2000)
    assert Lookup().score(layer(*inputs), target)["accuracy"] == 1


def test_slightly_uneven_weights_and_a_linear_reader_beat_even_ones_in_the_lookup():
    # of shape (case, slot, value)
    named = torch.eye(8, dtype=torch.float64)[torch.cartesian_prod(*[torch.arange(8)] * 4)]
    average = (named * torch.tensor([1.005, 1, 1, 1])[:, None]).sum(1)
    later = average * 1.02 ** torch.arange(8)
    found = [(later if slot else average).argmax(-1) == named[:, slot].argmax(-1) for slot in range(4)]
    share = torch.stack(found).double().mean()
    assert share == pytest.approx(0.494, abs=0.001)
    assert share > Lookup().theory(1) + 0.05


def test_two_heads_can_find_more_than_two_averages_say_one_by_one():
    assert mean("lookup", "h=2", "accuracy") > Lookup().theory(2) + 0.05
    assert (every("lookup", "h=2, 4x training", "accuracy") < 0.95).all()


def test_a_nonlinear_read_out_takes_more_from_one_average():
    linear, mlp = (every("lookup", setting, "accuracy") for setting in ("h=1", "h=1, MLP"))
    assert (mlp > linear + 0.1).all()
    longer = every("lookup", "h=1, MLP, 4x training", "accuracy")
    assert longer.mean() > mlp.mean() + 0.05
    assert (longer < 0.97).all()


# --- Chapter 3: types --------------------------------------------------------------------------------------


def test_one_average_keeps_two_facts_of_different_types():
    for weights in ("equal", "unequal"):
        assert settings("types")[f"different types, {weights} weights"]["alike"] == [1, 1]


def test_one_even_average_of_two_facts_of_one_type_forgets_which_was_which():
    found = settings("types")["same type, equal weights"]
    both_or_a_coin = 1 / 8 + 7 / 8 / 2
    assert found["alike"] == found["any"] == [both_or_a_coin, both_or_a_coin] == [0.5625, 0.5625]


def test_uneven_weights_save_one_fact_of_the_same_type_and_leave_chance_for_the_other():
    assert settings("types")["same type, unequal weights"]["alike"] == [1, 1 / 8]


def test_other_readers_find_more_in_an_uneven_average():
    found = settings("types")["same type, unequal weights"]
    assert found["ordered"] == [0.5625, 0.5625]
    assert found["any"] == [1, 1]


# --- Chapter 3: nearest neighbour --------------------------------------------------------------------------


def test_one_wide_head_finds_the_nearest_vector_better_than_many_narrow_ones():
    left = [every("nearest", f"h={h}", "left_over") for h in (1, 2, 4, 8, 16)]
    for fewer, more in pairwise(left):
        assert fewer.max() < more.min()
    assert left[0] == pytest.approx(0.124, abs=0.01)
    assert left[1] == pytest.approx(0.593, abs=0.02)
    assert left[4] == pytest.approx(0.745, abs=0.01)
    assert len({settings("nearest")[f"h={h}"]["parameters"] for h in (1, 2, 4, 8, 16)}) == 1


def test_longer_training_halves_what_one_wide_head_misses_and_hardly_moves_two_narrower_ones():
    assert every("nearest", "h=1, 4x training", "left_over") == pytest.approx(0.062, abs=0.005)
    assert every("nearest", "h=2, 4x training", "left_over") == pytest.approx(0.588, abs=0.02)


def test_one_head_built_by_hand_finds_the_nearest_vector_as_well_as_one_likes():
    left = [mean("nearest", f"by hand, β={beta}", "left_over") for beta in (10, 100, 1000, 10000)]
    for blunt, sharp in pairwise(left):
        assert sharp < blunt / 5
    assert left[2] == pytest.approx(0.002, abs=0.001)


# --- Chapter 3: convolution --------------------------------------------------------------------------------


def test_nine_heads_are_a_convolution():
    assert settings("convolution")["nine heads"]["largest_error"] < 1e-13


def test_one_head_is_a_box_blur():
    assert settings("convolution")["box blur, h=1"]["largest_error"] < 1e-14


def test_one_head_is_no_sobel_filter_and_two_are():
    one, two = settings("convolution")["Sobel, h=1"], settings("convolution")["Sobel, h=2"]
    assert 0.9 < one["left_over"] < 1
    assert two["left_over"] < 1e-25
    kernel = sum(gain * np.array(weights) for gain, weights in zip(two["gains"], two["weights"], strict=True))
    assert (kernel == convolution.SOBEL.numpy()).all()


def test_no_single_head_comes_nearer_to_sobel_than_the_stored_one():
    """Heads are averages: whatever a head looks at, and with the best gain and bias, it leaves no less."""
    from manyheads.data import photo
    from manyheads.tasks import left_over

    grey = photo(4).mean(-1)
    wanted = torch.nn.functional.conv2d(grey[None, None], convolution.SOBEL[None, None])[0, 0].flatten()
    stored = torch.tensor(settings("convolution")["Sobel, h=1"]["weights"], dtype=torch.float64)
    random = torch.rand(40, 3, 3, generator=stream(0), dtype=torch.float64) ** 4
    candidates = torch.cat([stored, random / random.sum((1, 2), keepdim=True)])
    left = []
    for mix in convolution.relative_heads(grey, candidates).flatten(1):
        columns = torch.stack([mix, torch.ones_like(mix)], 1)
        left.append(left_over(columns @ torch.linalg.lstsq(columns, wanted).solution, wanted).item())
    assert left[0] <= min(left) + 1e-9
    assert left[0] > 0.9


def test_random_kernels_need_nine_heads_and_fewer_come_near_the_eckart_young_bound():
    kernels = []
    for seed in load("kernels")["seeds"]:
        torch.manual_seed(seed)
        kernels.append(KernelHeads(1).kernel.numpy())
    energy = np.linalg.svd(np.array(kernels), compute_uv=False) ** 2  # (seed, 9)
    for n_heads in (1, 2, 3, 5, 7):
        bound, fitted = (every("kernels", f"h={n_heads}", score) for score in ("bound", "left_over"))
        np.testing.assert_allclose(bound, energy[:, n_heads:].sum(1) / energy.sum(1), rtol=1e-4)
        assert (fitted > bound).all()
        assert (fitted < bound + 0.1).all()
        assert bound.min() > 0.03
    assert (every("kernels", "h=9", "left_over") < 1e-20).all()


def test_one_head_more_makes_up_for_weights_of_one_sign():
    for n_heads in range(1, 9):
        lists = torch.randn(9, n_heads, generator=stream(n_heads), dtype=torch.float64)
        even = torch.full((9, 1), 1 / 9, dtype=torch.float64)
        heads = torch.cat([even, even + 0.02 * lists], 1)
        assert (heads > 0).all()
        assert torch.allclose(heads @ torch.linalg.lstsq(heads, lists).solution, lists)
    for fewer, more in ((1, 2), (2, 3)):
        assert (every("kernels", f"h={more}", "left_over") < every("kernels", f"h={fewer}", "bound")).all()


# --- Chapter 3: rank ---------------------------------------------------------------------------------------


def test_a_head_of_one_number_has_two_favourites_at_most():
    assert (every("rank", "d_head=1", "targets") == 2).all()
    assert (every("rank", "d_head=2", "targets") > 2).all()


def test_two_numbers_are_enough_for_any_permutation():
    assert (every("rank", "d_head=2, keys on a circle", "largest_error") < 1e-15).all()


# --- Chapter 3: the small masked language model ------------------------------------------------------------

FACTS = ("tense", "number", "class")


def learnt(setting, fact):
    return every("masked-lm", setting, fact) > 0.95


def test_eight_heads_learn_every_fact_of_the_sentence_on_every_seed():
    for fact in FACTS:
        assert learnt("h=8", fact).all()


def test_more_heads_learn_the_facts_more_reliably():
    for fact in FACTS:
        counts = [learnt(f"h={h}", fact).sum() for h in (1, 2, 4, 8)]
        assert counts == sorted(counts)
        assert counts[0] < counts[2]
    assert learnt("h=1", "number").sum() <= 3
    assert learnt("h=4", "number").sum() >= 9


def test_one_head_learns_number_late_and_unreliably_but_not_never():
    soon, late = (learnt(setting, "number").sum() for setting in ("h=1", "h=1, 3x training"))
    assert soon < late < 10


def needed(setting):
    """For each seed the heads that each fact needs alone."""
    return {fact: needed_heads(settings("masked-lm")[setting], fact) for fact in FACTS}


def test_specialist_heads_appear_on_many_seeds_not_on_all():
    heads = needed("h=4")
    tense_only = [bool(t - n) for t, n in zip(heads["tense"], heads["number"], strict=True)]
    number_only = [bool(n - t) for t, n in zip(heads["tense"], heads["number"], strict=True)]
    both = [t and n for t, n in zip(tense_only, number_only, strict=True)]
    assert 6 <= sum(tense_only) < 10
    assert sum(number_only) >= 6
    assert 5 <= sum(both) < 10


def test_some_heads_are_duplicates_and_some_are_idle():
    heads = needed("h=4")
    assert sum(len(needed) > 1 for needed in heads["number"]) >= 3
    idle = [{0, 1, 2, 3} - set().union(*each) for each in zip(*heads.values(), strict=True)]
    assert sum(map(bool, idle)) >= 3


def test_one_head_hardly_ever_learns_three_facts_at_once_and_eight_heads_always_do():
    worst = {
        name: np.min([every("masked-lm", name, fact) for fact in FACTS], 0) for name in settings("masked-lm")
    }
    learnt_all = {name: (scores > 0.9).sum() for name, scores in worst.items()}
    assert learnt_all["h=1"] == 0
    assert learnt_all["h=1, 3x training"] <= 2
    assert learnt_all["h=8"] == 10
