"""Importance of heads against finite differences, loops, and the truth that all subsets give."""

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call

from manyheads import heads
from manyheads.attention import MultiHeadAttention
from manyheads.tasks import Lookup
from manyheads.training import fit, scores, stream


class TwoLayers(nn.Module):
    """Layers with different numbers of heads, primes all."""

    def __init__(self):
        super().__init__()
        self.first = MultiHeadAttention(11, 5, d_head=3)
        self.second = MultiHeadAttention(11, 3, d_head=7)

    def forward(self, x):
        x = x + self.first(x)
        return x + self.second(x)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TwoLayers().double().requires_grad_(False)


@pytest.fixture
def examples():
    return torch.randn(13, 7, 11, generator=stream(1), dtype=torch.float64)


def loss_of(model):
    def loss(gates, example):
        return functional_call(model, heads.gated(model, gates), example).square().mean()

    return loss


def with_gate(model, layer, head, value):
    gates = heads.all_on(model)
    gates[layer][head] = value
    return gates


def every_head(model):
    return [(layer, head) for layer, gates in enumerate(heads.all_on(model)) for head in range(len(gates))]


def test_gates_of_one_change_nothing(model, examples):
    gates = heads.all_on(model)
    assert [len(one) for one in gates] == [5, 3]
    assert torch.equal(functional_call(model, heads.gated(model, gates), examples), model(examples))


def test_by_gradient_is_the_mean_size_of_finite_differences(model, examples):
    loss, step = loss_of(model), 1e-5
    found = heads.by_gradient(model, loss, examples)
    for layer, head in every_head(model):
        up, down = (with_gate(model, layer, head, 1 + sign * step) for sign in (1, -1))
        slopes = torch.stack([(loss(up, x) - loss(down, x)) / (2 * step) for x in examples])
        assert found[layer][head] == pytest.approx(slopes.abs().mean().item(), rel=1e-6)


def test_by_gradient_takes_the_size_before_the_mean():
    """Two examples that pull a gate to either side don't cancel."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(3, 1).double().requires_grad_(False)
    layer.in_proj_bias.normal_()
    x = torch.randn(5, 3, dtype=torch.float64)

    def loss(gates, sign):
        return sign * functional_call(layer, heads.gated(layer, gates), x).sum()

    one_way = heads.by_gradient(layer, loss, [1.0])
    assert one_way[0] > 1e-3
    assert torch.allclose(heads.by_gradient(layer, loss, [1.0, -1.0])[0], one_way[0])


def test_by_gradient_wants_an_example(model):
    with pytest.raises(ValueError, match="at least one"):
        heads.by_gradient(model, loss_of(model), [])


def test_by_gradient_leaves_the_model_alone(model, examples):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    heads.by_gradient(model, loss_of(model), examples)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_leave_one_out_is_a_loop_that_zeroes_slices_by_hand(model, examples):
    def score(gates):
        return -float(loss_of(model)(gates, examples))

    found = heads.leave_one_out(model, score)
    whole = -model(examples).square().mean()
    for layer, head in every_head(model):
        torch.manual_seed(0)
        cut = TwoLayers().double().requires_grad_(False)
        attention = (cut.first, cut.second)[layer]
        attention.out_proj.weight.unflatten(1, (attention.n_heads, -1))[:, head] = 0
        assert found[layer][head] == pytest.approx(float(whole + cut(examples).square().mean()), abs=1e-12)


@pytest.mark.parametrize("layer", [0, 1])
def test_exhaustive_is_a_loop_over_all_combinations(model, examples, layer):
    def score(gates):
        return float(loss_of(model)(gates, examples))

    kept, found = heads.exhaustive(model, score, layer)
    n_heads = (5, 3)[layer]
    assert kept.shape == (2**n_heads, n_heads)
    rows = {tuple(row.nonzero().flatten().tolist()): value for row, value in zip(kept, found, strict=True)}
    assert len(rows) == 2**n_heads
    for size in range(n_heads + 1):
        for combination in itertools.combinations(range(n_heads), size):
            gates = heads.all_on(model)
            gates[layer] = torch.tensor([float(i in combination) for i in range(n_heads)]).double()
            assert rows[combination] == pytest.approx(score(gates), rel=1e-12)


def test_exhaustive_refuses_more_than_it_can_do():
    with pytest.raises(ValueError, match=r"2\^17 subsets are too many"):
        heads.exhaustive(MultiHeadAttention(17, 17), lambda gates: 0.0)


def test_keep_best_opens_the_most_important_gates_wherever_they_are():
    importance = [torch.tensor([0.3, -1.0, 0.2]), torch.tensor([0.9, 0.1])]
    assert [gate.tolist() for gate in heads.keep_best(importance, 2)] == [[1, 0, 0], [1, 0]]
    assert [gate.tolist() for gate in heads.keep_best(importance, 4)] == [[1, 0, 1], [1, 1]]
    assert sum(gate.sum() for gate in heads.keep_best(importance, 0)) == 0
    assert all(gate.all() for gate in heads.keep_best(importance, 5))


@pytest.mark.parametrize("n", [-1, 6])
def test_keep_best_says_how_many_there_are(n):
    with pytest.raises(ValueError, match=f"there are 5 heads, .* got {n}"):
        heads.keep_best([torch.zeros(3), torch.zeros(2)], n)


@pytest.fixture(scope="module")
def lookup():
    """A lookup layer of eight heads, trained a little: enough for heads to differ."""
    task = Lookup()
    layer = fit(lambda: MultiHeadAttention(task.d_model, 8), task, seeds=[0], steps=150).models[0]
    return task, layer.requires_grad_(False)


def test_on_a_trained_layer_the_three_agree_with_the_exhaustive_truth_where_they_must(lookup):
    task, layer = lookup
    inputs, target = task.draw(stream(5), 256)

    def score(gates):
        output = functional_call(layer, heads.gated(layer, gates), inputs)
        return float(task.score(output, target)["accuracy"])

    kept, found = heads.exhaustive(layer, score)
    assert found[-1] == score(heads.all_on(layer))
    assert found[0] < found[-1]
    (falls,) = heads.leave_one_out(layer, score)
    for head, fall in enumerate(falls):
        assert fall == pytest.approx(float(found[-1] - found[2**8 - 1 - 2**head]), abs=1e-12)
    best = found[kept.sum(1) == 4].max()
    ranked = score(heads.keep_best([falls], 4))
    assert found[kept.sum(1) == 4].mean() < ranked <= best


def test_the_truth_of_the_whole_layer_is_what_the_sweep_scores(lookup):
    task, layer = lookup

    def score(gates):
        cut = MultiHeadAttention(task.d_model, 8).double().requires_grad_(False)
        cut.load_state_dict(layer.state_dict() | heads.gated(layer, gates))
        return scores(task, [cut])["accuracy"][0]

    assert score(heads.all_on(layer)) == scores(task, [layer])["accuracy"][0]
    assert score([torch.zeros(8)]) < 0.2  # only the bias of W_o is left: about chance
