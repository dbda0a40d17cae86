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


BOTH = pytest.mark.parametrize("attend", [reference.attention, reference.attend_vectorised])


@BOTH
def test_what_is_hidden_changes_nothing_whatever_it_holds(attend):
    query, key, value = draw(3, 5), draw(7, 5, seed=1), draw(7, 2, seed=2)
    mask = draw(3, 7, seed=3) > -0.5
    mask[:, 4] = False
    wanted = attend(query, key, value, mask)
    for broken in (math.nan, math.inf, -math.inf):
        key[4], value[4] = broken, broken
        for found, right in zip(attend(query, key, value, mask), wanted, strict=True):
            np.testing.assert_array_equal(found, right)


def test_the_loops_hide_what_only_some_may_see():
    query, key, value, mask = draw(7, 5), draw(7, 5, seed=1), draw(7, 2, seed=2), np.tri(7, dtype=bool)
    wanted, _ = reference.attention(query, key, value, mask)
    value[6] = math.nan
    found, _ = reference.attention(query, key, value, mask)
    np.testing.assert_array_equal(found[:6], wanted[:6])
    assert np.isnan(found[6]).all()


@BOTH
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32])
def test_integers_are_numbers_too(attend, dtype):
    for query, key, value in (
        (np.eye(2, dtype=dtype), np.eye(2), np.eye(2)),
        (np.eye(2, dtype=dtype),) * 3,
        (np.eye(2), np.eye(2, dtype=dtype), np.eye(2, dtype=dtype)),
    ):
        mix, weights = attend(query, key, value)
        np.testing.assert_allclose(weights, [[0.6697615, 0.3302385], [0.3302385, 0.6697615]], atol=1e-7)
        np.testing.assert_allclose(mix, weights, atol=1e-7)
        assert mix.dtype == weights.dtype == np.float64
    large = np.full((1, 4), 100, dtype)  # 4 · 100² is too large for eight bits
    np.testing.assert_array_equal(attend(large, np.vstack([large, large - 99]), np.eye(2))[1], [[1, 0]])
    with pytest.raises(TypeError, match="real numbers, got complex128, float64 and float64"):
        attend(np.eye(2, dtype=complex), np.eye(2), np.eye(2))


def test_halves_are_widened_before_their_scores_overflow():
    query, key = np.full((1, 64), 100, np.float16), np.repeat(np.array([[110], [90]], np.float16), 64, 1)
    mix, weights = reference.attend_vectorised(query, key, np.eye(2, dtype=np.float16))
    np.testing.assert_array_equal(weights, [[1, 0]])
    np.testing.assert_array_equal(mix, [[1, 0]])
    assert mix.dtype == np.float32


@BOTH
def test_each_row_has_its_own_softmax_whatever_the_others_hold(attend):
    query, key, value = draw(3, 5), draw(7, 5, seed=1), draw(7, 2, seed=2)
    for large in (1e3, 1e6, 1e300):
        mix, weights = attend(np.vstack([query, large * query[:1]]), key, value)
        np.testing.assert_array_equal(weights[:3], attend(query, key, value)[1])
        np.testing.assert_array_equal(mix[:3], attend(query, key, value)[0])
        assert weights[3].max() == 1 == weights[3].sum()


@BOTH
def test_a_hidden_key_weighs_nothing_however_low_the_others_score(attend):
    query, key, value = np.full((2, 4), -1e3), np.full((3, 4), 1e3), draw(3, 2)
    mix, weights = attend(query, key, value, np.array([[True, False, True], [False, False, False]]))
    np.testing.assert_array_equal(weights, [[0.5, 0, 0.5], [0, 0, 0]])
    np.testing.assert_allclose(mix, [(value[0] + value[2]) / 2, [0, 0]])


@BOTH
def test_a_mask_that_is_not_boolean_is_refused(attend):
    query = key = value = np.eye(4)
    for mask in (np.triu(np.full((4, 4), -np.inf), 1), np.tri(4), np.tri(4, dtype=int), [[0, 1, 1, 1]] * 4):
        with pytest.raises(
            TypeError, match=r"must be boolean, True = may look, got (float|int)64.*mask == 0"
        ):
            attend(query, key, value, mask)
    wanted = attend(query, key, value, np.tri(4, dtype=bool))[1]
    np.testing.assert_array_equal(attend(query, key, value, np.tri(4, dtype=bool).tolist())[1], wanted)


@BOTH
def test_shapes_that_do_not_fit_are_told(attend):
    for shapes in (((3, 5), (7, 4), (7, 2)), ((3, 5), (7, 5), (6, 2)), ((5,), (7, 5), (7, 2))):
        with pytest.raises(ValueError, match=r"must fit, got query \((3, )?5.* key \(7, \d\) and"):
            attend(*map(np.zeros, shapes))
    for shape in ((7, 3), (2, 3, 7), (4,)):
        with pytest.raises(ValueError, match=rf"= \(3, 7\), got \({str(shape)[1:-1]}\)"):
            attend(np.zeros((3, 5)), np.zeros((7, 5)), np.zeros((7, 2)), np.ones(shape, bool))


def test_the_loops_take_one_head():
    with pytest.raises(ValueError, match=r"two axes, got query \(2, 3, 5\).*attend_vectorised"):
        reference.attention(np.zeros((2, 3, 5)), np.zeros((2, 7, 5)), np.zeros((2, 7, 2)))
    with pytest.raises(ValueError, match="at least one score"):
        reference.softmax([])
    x, w = np.zeros((3, 4)), np.zeros((2, 4, 5))
    with pytest.raises(
        ValueError, match=r"w_k must have shape \(head, d_model, d_head\) = \(2, 4, d_head\), got"
    ):
        reference.multi_head_attention(x, w, w[:1], w, w.swapaxes(1, 2))
