"""The claims of chapter 7, one test each, named as the sentence."""

from functools import cache

import numpy as np
import pytest
import torch

from manyheads import results
from manyheads.bootstrap import interval
from manyheads.data import digits, square_photo
from manyheads.experiments import vit_distance
from manyheads.experiments.convolution import SOBEL
from manyheads.vit import cut, load_vit_small

load = cache(results.load)


def setting(name, which):
    return load(name)["settings"][which]


def accuracy(data, which, part="test"):
    """Of every seed."""
    return np.array(setting(data, which)["per_seed"][part])


@cache
def real():
    return load_vit_small(torch.float64)


def distance(which="trained"):
    """Share of looking everywhere alike: (photo, layer, head)."""
    stored = setting("vit-distance", which)
    return np.array(stored["distance"]) / stored["uniform"]


def spread(which="trained"):
    """Over how many of 256 patches: (photo, layer, head)."""
    return np.array(setting("vit-distance", which)["spread"])


def looks_everywhere():
    """Heads that pass both tests: (layer, head)."""
    return (distance().mean(0) > 0.9) & (spread().mean(0) > 128)


def small_distances(h=(4, 8)):
    """Of the small models, the same unit: a list of (seed, layer, head)."""
    return [np.array(setting(d, f"h={n}")["distance"]) for d in ("vit-digits", "vit-mnist") for n in h]


# ---------------------------------------------------------------------- patches


def test_a_digit_of_8_by_8_pixels_is_16_tokens_of_4_numbers_read_row_by_row():
    digit = digits()[0].images[0]
    rows = [digit[0, r : r + 2, c : c + 2].flatten() for r in range(0, 8, 2) for c in range(0, 8, 2)]
    assert torch.equal(cut(digit, 2), torch.stack(rows))


def test_the_number_of_heads_changes_no_number_of_parameters():
    for data in ("vit-digits", "vit-mnist"):
        assert len({s["parameters"] for s in load(data)["settings"].values()}) == 1


# ---------------------------------------------------------------------- digits


@pytest.mark.parametrize("data", ["vit-digits", "vit-mnist"])
def test_one_head_reads_new_digits_worse_than_four_or_more(data):
    one = accuracy(data, "h=1")
    assert len(one) >= 6
    for h in (4, 8, 16):
        many = accuracy(data, f"h={h}")
        assert many.mean() - one.mean() > 0.01
        assert interval(many - one)[0] > 0  # the same seeds, paired


@pytest.mark.parametrize("data", ["vit-digits", "vit-mnist"])
def test_from_four_heads_on_more_heads_change_less_than_the_seeds_do(data):
    means = [accuracy(data, f"h={h}").mean() for h in (4, 8, 16)]
    spread = np.mean([accuracy(data, f"h={h}").std(ddof=1) for h in (4, 8, 16)])
    assert max(means) - min(means) < 1.5 * spread


def test_one_head_learns_more_slowly_four_times_the_training_takes_it_past_sixteen_heads():
    assert accuracy("vit-digits", "h=1, 4x training").mean() > accuracy("vit-digits", "h=16").mean()
    gap = accuracy("vit-digits", "h=16") - accuracy("vit-digits", "h=1")
    after = accuracy("vit-digits", "h=16, 4x training") - accuracy("vit-digits", "h=1, 4x training")
    assert after.mean() < gap.mean() / 2


def test_with_the_same_long_training_sixteen_heads_still_lead_on_every_seed():
    one, sixteen = (accuracy("vit-digits", f"h={h}, 4x training") for h in (1, 16))
    assert (sixteen > one).all()
    for h in (1, 16):
        assert accuracy("vit-digits", f"h={h}, 4x training", "train").min() > 0.99
    assert accuracy("vit-digits", "h=1, 8x training").max() < sixteen.min()


# ---------------------------------------------------------------------- local and global


def test_there_are_at_least_twenty_photos():
    assert len(setting("vit-distance", "trained")["photos"]) >= 20


def test_in_layers_1_to_5_local_and_global_heads_stand_side_by_side():
    far = distance().mean(0)
    assert (far[1:6].min(1) < 0.4).all()
    assert (far[1:6].max(1) > 0.75).all()
    of_farthest = np.take_along_axis(spread().mean(0), far.argmax(1)[:, None], 1)[1:6]
    assert (of_farthest > 100).all()


def test_in_layers_2_to_4_heads_that_keep_near_stand_beside_one_that_looks_everywhere():
    near = np.array(setting("vit-distance", "trained")["near"]).mean(0) > 0.5
    both = near.any(1) & looks_everywhere().any(1)
    assert both.nonzero()[0].tolist() == [2, 3, 4]


def test_seven_heads_look_everywhere_and_eleven_over_a_hundred_patches():
    assert looks_everywhere().sum() == 7
    assert ((distance().mean(0) > 0.9) & (spread().mean(0) > 100)).sum() == 11


def test_a_large_distance_is_not_enough_one_head_looks_far_and_at_a_few_patches():
    head = distance().mean(0)[0].argmax()
    assert head == 5
    assert distance()[:, 0, head].mean() > 0.9
    assert (spread()[:, 0, head] < 10).sum() == 17


def test_the_difference_is_no_matter_of_the_photos():
    far = distance()
    for layer in range(1, 6):
        near, wide = far.mean(0)[layer].argmin(), far.mean(0)[layer].argmax()
        assert interval(far[:, layer, near])[1] < interval(far[:, layer, wide])[0]


def test_beyond_layer_4_no_head_keeps_half_its_weight_within_3_by_3_patches():
    near = np.array(setting("vit-distance", "trained")["near"]).mean(0)
    assert near[5:].max() < 0.45
    assert (near[1:5].max(1) > 0.6).all()


def test_in_the_untrained_twin_every_head_looks_everywhere_alike():
    assert abs(distance("untrained").mean(0) - 1).max() < 0.01
    assert spread("untrained").mean(0).min() > 240


def test_a_handful_of_72_heads_keep_half_their_weight_within_3_by_3_patches():
    near = np.array(setting("vit-distance", "trained")["near"])
    assert 5 <= (near.mean(0) > 0.5).sum() <= 8
    assert near.mean(0).max() > 0.75


@pytest.mark.models
def test_the_stored_distances_are_those_of_the_model():
    trace = real().trace(square_photo("coffee"))[1]
    stored = setting("vit-distance", "trained")
    wanted = np.array(stored["distance"])[stored["photos"].index("coffee")]
    np.testing.assert_allclose(14 * vit_distance.patch_distance(trace), wanted, atol=0.01)
    weights = torch.stack(trace.weights)[..., 1:, 1:].numpy()
    weights = weights / weights.sum(-1, keepdims=True)
    patches = np.exp(-(weights * np.log(weights.clip(1e-300))).sum(-1)).mean(-1)
    wanted = spread()[stored["photos"].index("coffee")]
    np.testing.assert_allclose(patches, wanted, atol=0.051)


# ---------------------------------------------------------------------- the null on digits


def test_no_small_model_has_a_local_head():
    assert all((found > 0.75).all() for found in small_distances())


def test_heads_of_small_models_lie_far_closer_together_than_those_of_the_real_one():
    within = distance().mean(0)[1:6].std(-1, ddof=1).mean()
    assert max(found.std(-1, ddof=1).mean() for found in small_distances()) < within / 4


# ---------------------------------------------------------------------- convolutions


def product(layer, head):
    """W_V W_O, as PyTorch keeps matrices: (d_model, d_model)."""
    one = real().stack.blocks[layer].attention.head(head).requires_grad_(False)
    return one.out_proj.weight @ one.in_proj_weight[128:]


def test_some_heads_look_exactly_one_step_away_in_each_of_four_directions():
    pattern = np.array(setting("vit-distance", "trained")["pattern"])
    steps = {"right": (3, 4), "left": (3, 2), "below": (4, 3), "above": (2, 3)}
    assert all(pattern[..., r, c].max() > 0.6 for r, c in steps.values())


def test_in_no_layer_heads_look_at_more_than_three_different_places():
    pattern = np.array(setting("vit-distance", "trained")["pattern"]).reshape(12, 6, 49)
    for layer in pattern:
        assert len({head.argmax() for head in layer if head.max() > 0.25}) <= 3


@pytest.mark.models
def test_two_heads_that_look_up_and_down_do_not_subtract():
    above, below = product(3, 4), product(3, 1)
    assert abs((above * below).sum() / above.norm() / below.norm()) < 0.05


@pytest.mark.models
def test_heads_that_look_one_step_away_hardly_subtract_from_what_is_there():
    pattern = np.array(setting("vit-distance", "trained")["pattern"]).reshape(12, 6, 49)
    away = (pattern.max(-1) > 0.25) & (pattern.argmax(-1) != 24)
    assert away.sum() == 7
    minus = -torch.eye(384, dtype=torch.float64)
    for layer, head in np.argwhere(away):
        brings = product(layer, head)
        assert abs((brings * minus).sum() / brings.norm() / minus.norm()) < 0.12


# ---------------------------------------------------------------------- edges


def edges(which):
    stored = setting("vit-edges", which)
    return np.array(stored["correlation"]).mean(0), stored["level"]


def readable(pattern):
    """Share of a pattern on grey that a fixed linear read-out gets from a token."""
    matrix = real().embedding.weight.T
    wanted = pattern.expand(3, 14, 14).flatten() / 3
    gains = torch.linalg.lstsq(matrix, wanted[:, None]).solution[:, 0]
    return 1 - (matrix @ gains - wanted).square().sum() / wanted.square().sum()


@pytest.mark.models
def test_tokens_hold_edges_before_any_head_has_looked():
    sobel = torch.zeros(14, 14, dtype=torch.float64)
    sobel[5:8, 5:8] = SOBEL
    assert readable(sobel) > 0.97


@pytest.mark.models
def test_tokens_hold_nearly_any_grey_pattern():
    noise = torch.randn(20, 14, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert min(map(readable, noise)) > 0.85


def test_most_heads_follow_or_flee_edges_beyond_chance():
    r, level = edges("edges")
    assert (r > level).sum() > 36
    assert (r < -level).sum() > 7
    assert 0.05 < level < 0.2


def test_contrast_says_it_as_well():
    edge, contrast = edges("edges")[0], edges("contrast")[0]
    assert np.corrcoef(edge.ravel(), contrast.ravel())[0, 1] > 0.95
    assert (abs(contrast) > abs(edge)).sum() > 36


def test_edges_of_the_patch_itself_say_more_than_those_of_its_neighbours():
    neighbours = np.array(setting("vit-edges", "edges")["neighbours"])
    assert (abs(edges("edges")[0]) > abs(neighbours)).sum() > 60


def test_no_head_cares_about_the_direction_of_edges():
    assert abs(edges("uprightness")[0]).max() < 0.2
    assert abs(edges("edges")[0]).max() > 0.6


def test_even_untrained_heads_are_beyond_chance_but_weakly():
    r, level = edges("edges, untrained")
    assert (abs(r) > level).sum() > 3
    assert abs(r).max() < 0.25
