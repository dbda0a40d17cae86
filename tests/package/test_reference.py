"""The loops that the other tests believe agree with torch, with a pencil, and with their fast twin."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from manyheads import reference

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_softmax_gives_the_pencil_numbers():
    np.testing.assert_allclose(
        reference.softmax([math.log(1), math.log(2), math.log(3)]), [1 / 6, 2 / 6, 3 / 6], **TIGHT
    )
    assert reference.softmax([0.0, -math.inf]) == [1.0, 0.0]
    assert reference.softmax([1000.0, 1000.0]) == [0.5, 0.5]
    assert reference.softmax([-math.inf, -math.inf]) == [0.0, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_softmax_refuses_scores_without_an_answer(bad):
    with pytest.raises(ValueError, match=rf"finite or -inf, got \[0\.0, {bad}\]"):
        reference.softmax([0.0, bad])


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=7))
def test_softmax_agrees_with_torch(scores):
    wanted = torch.tensor(scores, dtype=torch.float64).softmax(0).numpy()
    np.testing.assert_allclose(reference.softmax(scores), wanted, **TIGHT)


def test_attention_on_a_page_of_arithmetic():
    query = np.array([[2.0, 0.0, 0.0, 0.0]])  # d_head = 4, so scores are halved
    key = np.zeros((3, 4))
    key[:, 0] = np.log([1, 2, 3])
    mix, weights = reference.attention(query, key, np.array([[6.0], [12.0], [0.0]]))
    np.testing.assert_allclose(weights, [[1 / 6, 2 / 6, 3 / 6]], **TIGHT)
    np.testing.assert_allclose(mix, [[5.0]], **TIGHT)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_agrees_with_torch(masked):
    query, key, value = draw(5, 11), draw(7, 11, seed=1), draw(7, 3, seed=2)
    mask = draw(5, 7, seed=3) > 0 if masked else None
    if masked:
        mask[2] = False
    mix, weights = reference.attention(query, key, value, mask)
    theirs = [torch.from_numpy(x) for x in (query, key, value)]
    wanted = F.scaled_dot_product_attention(*theirs, None if mask is None else torch.from_numpy(mask))
    np.testing.assert_allclose(mix, wanted.numpy(), **TIGHT)
    np.testing.assert_allclose(weights.sum(1), 1 if mask is None else mask.any(1), **TIGHT)
    if masked:
        assert (weights[~mask] == 0).all()
        assert (mix[2] == 0).all()


@pytest.mark.parametrize("crosses", [False, True])
def test_multi_head_attention_agrees_with_torch(crosses):
    n_heads, d_head = 3, 5
    d_model = n_heads * d_head
    theirs = torch.nn.MultiheadAttention(d_model, n_heads, bias=False, batch_first=True).double()
    w_q, w_k, w_v = (
        w.detach().T.reshape(d_model, n_heads, d_head).transpose(0, 1).numpy()
        for w in theirs.in_proj_weight.chunk(3)
    )
    w_o = theirs.out_proj.weight.detach().T.reshape(n_heads, d_head, d_model).numpy()
    x = draw(7, d_model)
    context = draw(11, d_model, seed=1) if crosses else x
    mask = draw(7, len(context), seed=2) > -0.5
    mask[:, 0] = True
    out, weights = reference.multi_head_attention(x, w_q, w_k, w_v, w_o, mask, context if crosses else None)
    other = torch.from_numpy(context)[None]
    wanted, wanted_weights = theirs(
        torch.from_numpy(x)[None], other, other, attn_mask=torch.from_numpy(~mask), average_attn_weights=False
    )
    np.testing.assert_allclose(out, wanted[0].detach().numpy(), **TIGHT)
    np.testing.assert_allclose(weights, wanted_weights[0].detach().numpy(), **TIGHT)


@given(
    leading=st.lists(st.integers(1, 3), max_size=2),
    sizes=st.tuples(*[st.integers(1, 5)] * 4),
    mask=st.sampled_from(["none", "full", "shared", "keys"]),
    dtype=st.sampled_from([np.float64, np.float32]),
    seed=st.integers(0, 99),
)
def test_without_loops_it_is_the_same(leading, sizes, mask, dtype, seed):
    n_query, n_key, d_head, d_value = sizes
    query = draw(*leading, n_query, d_head, seed=seed).astype(dtype)
    key = draw(*leading, n_key, d_head, seed=seed + 1).astype(dtype)
    value = draw(*leading, n_key, d_value, seed=seed + 2).astype(dtype)
    shape = {"none": None, "full": (*leading, n_query, n_key), "shared": (n_query, n_key), "keys": (n_key,)}[
        mask
    ]
    allowed = None if shape is None else draw(*shape, seed=seed + 3) > 0  # some queries may look at nothing
    before = [x.copy() for x in (query, key, value)]
    mix, weights = reference.attend_vectorised(query, key, value, allowed)
    assert mix.dtype == weights.dtype == dtype
    everywhere = np.broadcast_to(True if allowed is None else allowed, weights.shape)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else TIGHT
    for at in np.ndindex(*leading):
        wanted, wanted_weights = reference.attention(query[at], key[at], value[at], everywhere[at])
        np.testing.assert_allclose(mix[at], wanted, **tolerance)
        np.testing.assert_allclose(weights[at], wanted_weights, **tolerance)
    for old, new in zip(before, (query, key, value), strict=True):
        np.testing.assert_array_equal(old, new)
