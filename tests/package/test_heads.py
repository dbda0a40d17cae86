"""What is said of heads agrees with loops, hand numbers and finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, vmap

from manyheads import heads
from manyheads.attention import MultiHeadAttention
from manyheads.transformer import RotaryAttention


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(**options):
    torch.manual_seed(0)
    made = MultiHeadAttention(15, 3, d_head=7, **options).double().requires_grad_(False)
    for bias in (made.in_proj_bias, made.out_proj.bias):
        if bias is not None:
            bias.copy_(drawn(*bias.shape))
    return made


# ---------------------------------------------------------------------- gates


def test_a_gate_of_0_takes_a_head_out_of_the_sum():
    many, x = layer(), drawn(2, 5, 15)
    for gates in ([1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0], [0.25, -2, 1]):
        gates = torch.tensor(gates, dtype=torch.float64)
        found = functional_call(many, heads.gated(many, gates[None]), (x,))
        by_head = sum(gate * many.head(i)(x) for i, gate in enumerate(gates)) + many.out_proj.bias
        assert (found - by_head).abs().max() < 1e-14


def test_gates_reach_every_layer_of_a_model_in_its_order():
    first, second, x = layer(), layer(n_kv_heads=1), drawn(5, 15)
    second.out_proj.weight.mul_(-0.5)
    model = nn.Sequential(first, nn.Tanh(), second)
    gates = [torch.tensor([1.0, 0, 1]), torch.tensor([0.0, 1, 1])]
    found = functional_call(model, heads.gated(model, gates), (x,))
    middle = (first.head(0)(x) + first.head(2)(x) + first.out_proj.bias).tanh()
    assert (
        found - second.head(1)(middle) - second.head(2)(middle) - second.out_proj.bias
    ).abs().max() < 1e-14


def test_the_gradient_of_gates_is_that_of_finite_differences():
    many, x = layer(), drawn(2, 5, 15)

    def loss(gates):
        return functional_call(many, heads.gated(many, gates[None]), (x,)).square().sum()

    gates = torch.tensor([1.0, 0.5, -0.2], dtype=torch.float64, requires_grad=True)
    loss(gates).backward()
    for i in range(3):
        step = 1e-6 * torch.eye(3, dtype=torch.float64)[i]
        difference = (loss(gates.detach() + step) - loss(gates.detach() - step)) / 2e-6
        assert gates.grad[i].item() == pytest.approx(difference.item(), rel=1e-7)


def test_many_settings_of_gates_run_at_once():
    many, x = layer(), drawn(5, 15)
    gates = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 1], [0.5, 0, 0]], dtype=torch.float64)

    def output(one):
        return functional_call(many, heads.gated(many, one[None]), (x,))

    assert (vmap(output)(gates) - torch.stack([output(one) for one in gates])).abs().max() < 1e-14


@pytest.mark.parametrize("gates", [torch.ones(2, 3), torch.ones(1, 2), [torch.ones(3), torch.ones(3)], []])
def test_gates_that_do_not_match_are_refused(gates):
    with pytest.raises(ValueError, match=r"the layers have \[3\] heads, got \[.*\] gates"):
        heads.gated(layer(), gates)


def test_layers_are_found_by_name_and_a_shared_one_once():
    shared = layer()
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": shared, "c": nn.ModuleList([layer(), shared])})
    assert list(heads.attention_layers(model)) == ["b", "c.0"]
    assert heads.attention_layers(shared) == {"": shared}


# ---------------------------------------------------------------------- how wide, how far


def test_entropy_is_0_for_one_key_and_ln_n_for_n_alike():
    weights = torch.tensor([[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]], dtype=torch.float64)
    assert heads.entropy(weights).tolist() == pytest.approx([0, math.log(4), math.log(2)])


@given(st.integers(1, 11), st.integers(0, 999))
def test_entropy_is_the_sum_by_hand(n, seed):
    weights = drawn(2, 3, n, seed=seed).mul(3).softmax(-1)
    by_hand = [-sum(w * math.log(w) for w in row) for row in weights.flatten(0, 1).tolist()]
    assert heads.entropy(weights).flatten().tolist() == pytest.approx(by_hand, abs=1e-12)


def test_distance_counts_tokens_to_the_left_and_to_the_right():
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [1, 0, 0]], dtype=torch.float64)
    assert heads.mean_distance(weights).tolist() == pytest.approx([0.75, 0.2, 2])


def test_distance_on_a_grid_is_that_of_a_loop():
    places = torch.tensor([[i, j] for i in range(3) for j in range(5)])
    weights = drawn(2, 15, 15).softmax(-1)
    found = heads.mean_distance(weights, places)
    for head in range(2):
        for query, (i, j) in enumerate(places.tolist()):
            by_hand = sum(
                weights[head, query, key].item() * math.dist((i, j), place)
                for key, place in enumerate(places.tolist())
            )
            assert found[head, query].item() == pytest.approx(by_hand)


# ---------------------------------------------------------------------- patterns

WORDS = ["[CLS]", "the", "cat", ",", "the", "##s", "?!", "[SEP]"]


def chosen(name):
    return {query: row.nonzero().flatten().tolist() for query, row in enumerate(heads.patterns(WORDS)[name])}


def test_patterns_choose_these_keys():
    assert chosen("previous") == {0: [], **{i: [i - 1] for i in range(1, 8)}}
    assert chosen("next") == {7: [], **{i: [i + 1] for i in range(7)}}
    assert chosen("first") == {i: [0] for i in range(8)}
    assert chosen("separator") == {i: [7] for i in range(8)}
    assert chosen("punctuation") == {i: [3, 6] for i in range(8)}
    assert chosen("same") == {0: [0], 1: [1, 4], 2: [2], 3: [3], 4: [1, 4], 5: [5], 6: [6], 7: [7]}


def test_share_is_1_for_a_head_that_does_nothing_else():
    n = len(WORDS)
    for pattern in heads.patterns(WORDS).values():
        follows = torch.full((n, n), 1 / n).where(
            ~pattern.any(-1, keepdim=True), pattern / pattern.sum(-1, True)
        )
        assert heads.share(follows, pattern).item() == pytest.approx(1)
        assert heads.share(follows * 17, pattern).item() == pytest.approx(1)


def test_share_is_that_of_a_loop_over_queries_that_the_pattern_speaks_of():
    weights = drawn(2, 3, 8, 8).softmax(-1)
    for pattern in heads.patterns(WORDS).values():
        asked = [query for query in range(8) if pattern[query].any()]
        for at in range(2):
            for head in range(3):
                kept = [sum(weights[at, head, q, k].item() for k in range(8) if pattern[q, k]) for q in asked]
                found = heads.share(weights, pattern)[at, head].item()
                assert found == pytest.approx(sum(kept) / len(asked))


def test_share_of_a_pattern_that_chooses_nothing_is_no_number():
    pattern = heads.patterns(["one", "two"])["punctuation"]
    assert heads.share(torch.full((3, 2, 2), 0.5), pattern).isnan().all()


# ---------------------------------------------------------------------- contributions


@pytest.mark.parametrize("options", [{}, {"n_kv_heads": 1}, {"bias": False}], ids=str)
def test_contributions_are_the_lengths_of_what_each_head_carries_from_each_key(options):
    many, x = layer(**options), drawn(2, 5, 15)
    mask = torch.ones(2, 1, 5, dtype=torch.bool)
    mask[1, :, 3:] = False
    _, weights = many(x, mask=mask, return_weights=True)
    found = heads.contributions(many, x, weights)
    for batch in range(2):
        for i in range(3):
            one = many.head(i)
            rows = slice(14, 21)  # the rows of the values, after those of queries and keys
            for key in range(5):
                value = one.in_proj_weight[rows] @ x[batch, key]
                if one.in_proj_bias is not None:
                    value = value + one.in_proj_bias[rows]
                length = (one.out_proj.weight @ value).square().sum().sqrt()
                for query in range(5):
                    by_hand = weights[batch, i, query, key] * length
                    assert found[batch, i, query, key].item() == pytest.approx(by_hand.item(), abs=1e-12)
    assert (found[1, :, :, 3:] == 0).all()


def test_what_heads_carry_adds_up_to_what_the_layer_gives():
    """One key only: then the layer's output is the sum of the three vectors whose lengths are measured."""
    many, x = layer(), drawn(1, 15)
    found = heads.contributions(many, x, torch.ones(3, 1, 1, dtype=torch.float64)).flatten()
    parts = torch.stack([many.head(i)(x)[0] for i in range(3)])
    assert found.tolist() == pytest.approx(parts.norm(dim=-1).tolist())
    assert (parts.sum(0) + many.out_proj.bias - many(x)[0]).abs().max() < 1e-14


def test_contributions_of_rotated_heads_do_not_depend_on_the_place():
    torch.manual_seed(0)
    many = RotaryAttention(15, 3, d_head=4).double().requires_grad_(False)
    weights = torch.ones(3, 5, 5, dtype=torch.float64) / 5
    same = drawn(1, 15).expand(5, 15)
    found = heads.contributions(many, same, weights)
    assert (found - found[:, :1, :1]).abs().max() < 1e-14
