"""Each measure of chapter 7 against a slow, independent reading of what it promises."""

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel
from scipy.stats import spearmanr

from manyheads import data
from manyheads.experiments import vit_digits, vit_distance, vit_edges
from manyheads.transformer import Trace


def weights(*shape, seed=0):
    drawn = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.sum(-1, keepdim=True)


def test_patches_alone_share_the_weight_that_they_had():
    w = weights(2, 3, 10, 10)
    found = vit_distance.between_patches(w)
    assert torch.allclose(found.sum(-1), torch.ones(2, 3, 9, dtype=torch.float64))
    assert torch.allclose(found[0, 0, 4, 5] / found[0, 0, 4, 6], w[0, 0, 5, 6] / w[0, 0, 5, 7])


def test_distance_is_the_mean_over_weights_of_how_far_patches_lie_apart():
    w = weights(2, 3, 10, 10)  # a picture of 3 × 3 patches
    wanted = np.zeros((2, 3))
    for i, j in np.ndindex(2, 3):
        for q, k in np.ndindex(9, 9):
            apart = np.hypot(q // 3 - k // 3, q % 3 - k % 3)
            wanted[i, j] += float(w[i, j, q + 1, k + 1] / w[i, j, q + 1, 1:].sum()) * apart / 9
    found = vit_distance.patch_distance(Trace([], [], list(w)))
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_a_head_that_looks_everywhere_alike_looks_as_far_as_two_random_patches_lie_apart():
    drawn = np.random.default_rng(0).integers(0, 16, (2, 2, 200_000))
    assert vit_distance.uniform_distance(16) == pytest.approx(
        np.hypot(*(drawn[0] - drawn[1])).mean(), rel=0.01
    )
    assert vit_distance.uniform_distance(1) == 0
    assert vit_distance.uniform_distance(2) == pytest.approx((0 + 1 + 1 + 2**0.5) / 4)


def test_a_relative_pattern_finds_the_neighbour_that_a_head_looks_at():
    """Each patch of 9 × 9 looks one row up and two columns right, where there is such a patch."""
    w = torch.zeros(81, 81, dtype=torch.float64)
    for row, column in np.ndindex(9, 9):
        w[9 * row + column, 9 * max(row - 1, 0) + min(column + 2, 8)] = 1
    wanted = torch.zeros(7, 7, dtype=torch.float64)
    wanted[3 - 1, 3 + 2] = 1
    assert torch.equal(vit_distance.relative_pattern(w), wanted)
    even = torch.full((81, 81), 1 / 81, dtype=torch.float64)
    assert torch.allclose(
        vit_distance.relative_pattern(even), torch.full((7, 7), 1 / 81, dtype=torch.float64)
    )


def test_edges_are_those_of_scipy_in_each_patch():
    picture = data.square_photo("chelsea")
    grey = picture.mean(0).numpy()
    upright, level = (sobel(grey, axis=axis, mode="nearest") for axis in (1, 0))
    by_patch = [
        a.reshape(16, 14, 16, 14).mean((1, 3)) for a in (np.hypot(upright, level), abs(upright), abs(level))
    ]
    np.testing.assert_allclose(vit_edges.edges(picture), by_patch[0], atol=1e-12)
    np.testing.assert_allclose(
        vit_edges.uprightness(picture), (by_patch[1] - by_patch[2]) / (by_patch[1] + by_patch[2]), atol=1e-9
    )
    np.testing.assert_allclose(
        vit_edges.contrast(picture), grey.reshape(16, 14, 16, 14).std((1, 3)), atol=1e-9
    )


def test_stripes_have_a_direction_and_a_plain_picture_has_no_edges():
    stripes = (torch.arange(224) // 3 % 2).double().expand(3, 224, 224)  # upright ones
    assert (vit_edges.uprightness(stripes) == 1).all()
    assert (vit_edges.uprightness(stripes.mT) == -1).all()
    plain = torch.full((3, 224, 224), 0.3, dtype=torch.float64)
    for measure in vit_edges.MAPS.values():
        assert measure(plain).abs().max() < 1e-7


def test_correlation_is_spearmans_for_every_move():
    one, other = weights(2, 5, 7), weights(2, 5, 7, seed=1).round(decimals=1)  # the second has ties
    found = vit_edges.correlation_when_moved(one, other)
    for i, down, right in ((0, 0, 0), (1, 2, 0), (0, 0, 3), (1, 4, 6)):
        moved = np.roll(other[i].numpy(), (down, right), (0, 1))
        wanted = spearmanr(one[i].numpy().ravel(), moved.ravel()).statistic
        assert found[i, down, right] == pytest.approx(wanted, abs=1e-12)


@pytest.fixture
def planted(monkeypatch):
    """Weights in which head 0 follows edges, head 1 flees them, and five others look anywhere."""
    names = list(data.PHOTOS)[:6]
    monkeypatch.setattr(data, "PHOTOS", {name: data.PHOTOS[name] for name in names})
    got = weights(6, 1, 7, 16, 16)
    strong = torch.stack([vit_edges.edges(data.square_photo(name)) for name in names])
    got[:, 0, 0], got[:, 0, 1] = strong + 0.01 * got[:, 0, 0], -strong
    monkeypatch.setattr(vit_edges, "received", lambda trained: got)


def test_a_planted_preference_is_found_and_no_other(planted):
    found = vit_edges.preference("edges", trained=True, draws=400)
    mean = found["correlation"].mean(0)[0]
    assert mean[0] > 0.9
    assert mean[1] < -0.99
    assert (mean[2:].abs() < found["level"]).all()
    assert 0.1 < found["level"] < 0.9
    assert found["neighbours"][0, 0] < mean[0] - 0.1


@pytest.mark.parametrize("n_heads", [1, 4, 16])
def test_the_number_of_heads_changes_no_number_of_parameters(n_heads):
    model = vit_digits.small_vit(2, n_heads)
    assert sum(p.numel() for p in model.parameters()) == 18_218
    assert model.vit.stack.blocks[0].attention.n_heads == n_heads


def test_learning_digits_beats_chance_and_measures_every_head():
    found = vit_digits.from_scratch("digits", n_heads=2, steps=150, seeds=[0, 1])
    assert min(found["per_seed"]["test"]) > 0.3
    assert [tuple(one.shape) for one in found["distance"]] == [(2, 2)] * 2
    assert all(0.3 < one.min() < one.max() < 1.3 for one in found["distance"])


def test_the_untrained_twin_has_the_shape_of_the_real_model_and_is_the_same_each_time():
    twin, again = vit_distance.real_vit(trained=False), vit_distance.real_vit(trained=False)
    real = vit_distance.real_vit(trained=True)
    assert torch.equal(twin.embedding.weight, again.embedding.weight)
    ours, theirs = (
        {name: p.shape for name, p in model.named_parameters() if name != "position"}
        for model in (twin, real)
    )
    assert ours == theirs
