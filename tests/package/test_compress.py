"""Removed for good is silenced, for fewer numbers; what a student is told is what the formulas say."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from manyheads import compress, cost, heads
from manyheads.attention import MultiHeadAttention
from manyheads.training import stream
from manyheads.transformer import Block, FeedForward, RotaryAttention, Stack

D_MODEL, D_HEAD, N_HEADS, N_TOKENS = 13, 3, (5, 7, 2), 11


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def stack(norm_first=False, bias=True, n_heads=N_HEADS, **options):
    torch.manual_seed(0)

    def block(n):
        attention = MultiHeadAttention(D_MODEL, n, d_head=D_HEAD, bias=bias, **options)
        norms = nn.LayerNorm(D_MODEL), nn.LayerNorm(D_MODEL)
        return Block(attention, FeedForward(D_MODEL, 17), norms, norm_first=norm_first)

    made = Stack([block(n) for n in n_heads]).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # no bias is zero, no norm is plain
    return made


def gates(*rows):
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


SOME = [[1, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0, 1], [0, 1]]
CUTS = {
    "some of each": SOME,
    "one layer loses all": [SOME[0], [0] * 7, SOME[2]],
    "all lose all": [[0] * n for n in N_HEADS],
    "none is lost": [[1] * n for n in N_HEADS],
}


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cut", CUTS)
def test_removing_is_masking(cut, bias, norm_first):
    whole, open_ = stack(norm_first, bias), gates(*CUTS[cut])
    small = compress.remove_heads(whole, open_)
    x, mask = draw(2, N_TOKENS, D_MODEL), torch.rand(2, N_TOKENS, N_TOKENS, generator=stream(3)) > 0.3
    for options in ({}, {"mask": mask}, {"causal": True}):
        masked = functional_call(whole, heads.gated(whole, open_), (x,), options)
        torch.testing.assert_close(small(x, **options), masked, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cut", CUTS)
def test_removing_is_masking_in_the_gradient(cut):
    """Of the input, and of every parameter that is left."""
    whole, open_ = stack(), gates(*CUTS[cut])
    small = compress.remove_heads(whole, open_)
    x = draw(N_TOKENS, D_MODEL).requires_grad_()
    loss = functional_call(whole, heads.gated(whole, open_), (x,)).square().sum()
    of_x, *of_whole = torch.autograd.grad(loss, [x, *whole.parameters()])
    of_x_small, *of_small = torch.autograd.grad(small(x).square().sum(), [x, *small.parameters()])
    torch.testing.assert_close(of_x_small, of_x, rtol=0, atol=1e-9)

    slopes = stack()  # with gradients for parameters, cut down in the same way
    with torch.no_grad():
        for parameter, gradient in zip(slopes.parameters(), of_whole, strict=True):
            parameter.copy_(gradient)
    wanted = compress.remove_heads(slopes, open_).parameters()
    torch.testing.assert_close(of_small, [p.detach() for p in wanted], rtol=0, atol=1e-9)
    assert all(
        gradient.abs().max() > 1e-6
        for p, gradient in zip(small.parameters(), of_small, strict=True)
        if p.ndim > 1
    )


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_removed_costs_nothing(bias):
    small = compress.remove_heads(stack(bias=bias), gates(*CUTS["one layer loses all"]))
    counts = [sum(p.numel() for p in block.attention.parameters()) for block in small.blocks]
    kept = [cost.parameters(D_MODEL, n, d_head=D_HEAD, bias=bias) if n else D_MODEL * bias for n in (3, 0, 1)]
    assert counts == kept
    assert [type(block.attention).__name__ for block in small.blocks][1] == "NoHeads"


def test_what_is_left_is_an_ordinary_layer_again():
    """It can be pruned again, gated again, and shows the weights of the heads that stayed."""
    whole, x = stack(), draw(N_TOKENS, D_MODEL)
    once = compress.remove_heads(whole, gates(*SOME))
    assert [len(gate) for gate in heads.all_on(once)] == [3, 2, 1]
    twice = compress.remove_heads(once, gates([0, 1, 0], [1, 0], [1]))
    at_once = compress.remove_heads(whole, gates([0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0, 0], [0, 1]))
    torch.testing.assert_close(twice(x), at_once(x), rtol=0, atol=1e-13)
    of_first = compress.remove_heads(whole, gates(*SOME)).trace(x)[1].weights[0]
    torch.testing.assert_close(of_first, whole.trace(x)[1].weights[0][[0, 3, 4]], rtol=0, atol=1e-13)


def test_a_layer_without_heads_is_asked_like_any_other():
    layer = compress.remove_heads(stack().blocks[0].attention, gates([0] * 5))
    query, key = draw(2, 5, D_MODEL), draw(2, 7, D_MODEL)
    out, weights = layer(query, key, return_weights=True)
    assert torch.equal(out, stack().blocks[0].attention.out_proj.bias.expand(2, 5, D_MODEL))
    assert weights.shape == (2, 0, 5, 7)
    silent = compress.remove_heads(stack(bias=False).blocks[0].attention, gates([0] * 5))
    assert torch.equal(silent(query), torch.zeros(2, 5, D_MODEL, dtype=torch.float64))


@pytest.mark.parametrize(
    "row", [[1, 0, 1, 0, 1, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 1, 1]]
)
@pytest.mark.parametrize("kind", [MultiHeadAttention, RotaryAttention])
def test_shared_key_and_value_heads_go_when_nobody_asks_them(row, kind):
    torch.manual_seed(0)
    whole = kind(D_MODEL, 6, 2, 4).double()
    x = draw(N_TOKENS, D_MODEL)
    masked = functional_call(whole, heads.gated(whole, gates(row)), (x,))
    served = [sum(row[:3]), sum(row[3:])]
    if 0 in served or served[0] == served[1]:
        small = compress.remove_heads(whole, gates(row))
        assert type(small) is kind
        torch.testing.assert_close(small(x), masked, rtol=0, atol=1e-13)
        n_kv_heads = sum(n > 0 for n in served)
        counted = cost.parameters(D_MODEL, sum(row), n_kv_heads, 4)
        assert sum(p.numel() for p in small.parameters()) == counted
    else:
        with pytest.raises(ValueError, match=r"must serve as many query heads.*leaves \[2, 1\]"):
            compress.remove_heads(whole, gates(row))


def test_a_decoder_reads_on_with_the_heads_that_are_left():
    torch.manual_seed(0)
    whole = RotaryAttention(D_MODEL, 6, 2, 4).double().requires_grad_(False)
    small, x, cache = compress.remove_heads(whole, gates([0, 1, 1, 1, 1, 0])), draw(N_TOKENS, D_MODEL), {}
    steps = torch.cat([small.read_on(part, cache) for part in x.split(3)])
    torch.testing.assert_close(steps, small(x, causal=True), rtol=0, atol=1e-12)


def test_the_model_itself_stays_as_it_was():
    whole = stack()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    small = compress.remove_heads(whole, gates(*SOME))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert whole.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())


def test_frozen_stays_frozen_and_thawed_stays_thawed():
    for wanted in (True, False):
        whole = stack().requires_grad_(wanted)
        small = compress.remove_heads(whole, gates(*CUTS["one layer loses all"]))
        assert {p.requires_grad for p in small.parameters()} == {wanted}


def test_a_layer_used_twice_is_cut_once():
    shared = stack(n_heads=(5,)).blocks[0]
    twice = Stack([shared, shared])
    small, x = compress.remove_heads(twice, gates([0, 1, 0, 1, 0])), draw(N_TOKENS, D_MODEL)
    masked = functional_call(shared, heads.gated(shared, gates([0, 1, 0, 1, 0])), (x,))
    masked = functional_call(shared, heads.gated(shared, gates([0, 1, 0, 1, 0])), (masked,))
    torch.testing.assert_close(small(x), masked, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1] * 5, [1] * 7], r"have \[5, 7, 2\] heads, got \[5, 7\] gates"),
        ([[1] * 5, [1] * 7, [1] * 3], r"got \[5, 7, 3\] gates"),
        ([[1] * 5, [1] * 7, [1, 0.5]], "nothing in between"),
    ],
)
def test_wrong_gates_are_told_the_rule(rows, message):
    with pytest.raises(ValueError, match=message):
        compress.remove_heads(stack(), gates(*rows))


# --- Layers -----------------------------------------------------------------------------------------------


def test_keeping_layers_is_running_only_those():
    whole, x = stack(), draw(N_TOKENS, D_MODEL)
    small = compress.keep_layers(whole, [0, 2])
    torch.testing.assert_close(small(x), whole.blocks[2](whole.blocks[0](x)), rtol=0, atol=1e-13)
    assert len(whole.blocks) == 3
    assert torch.equal(compress.keep_layers(whole, [])(x), x)
    model = nn.ModuleDict({"inside": whole})
    assert len(compress.keep_layers(model, [1])["inside"].blocks) == 1


@pytest.mark.parametrize("kept", [[3], [2, 0], [1, 1], [-1]])
def test_layers_that_are_not_there_are_refused(kept):
    with pytest.raises(IndexError, match="blocks run from 0 to 2"):
        compress.keep_layers(stack(), kept)


@pytest.mark.parametrize("n", [0, 2])
def test_layers_are_dropped_from_one_stack(n):
    with pytest.raises(ValueError, match=f"the model has {n}"):
        compress.keep_layers(nn.ModuleList(stack() for _ in range(n)), [0])


# --- Distillation -------------------------------------------------------------------------------------------


def test_soft_targets_by_hand():
    """Teacher ln 4 against 0, student even: at T = 1 the divergence is .8 ln 1.6 + .2 ln .4."""
    teacher, student = torch.tensor([[math.log(4), 0.0]]), torch.tensor([[1.0, 1.0]])
    by_hand = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    assert compress.soft_targets(student, teacher, 1.0) == pytest.approx(by_hand, rel=1e-5)
    # at T = 2 the teacher says 2 : 1
    by_hand = 4 * (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3))
    assert compress.soft_targets(student, teacher, 2.0) == pytest.approx(by_hand, rel=1e-5)
    assert compress.soft_targets(teacher, teacher) == pytest.approx(0, abs=1e-7)
    assert compress.soft_targets(student.repeat(7, 1), teacher.repeat(7, 1), 2.0) == pytest.approx(by_hand)


def test_soft_targets_agree_with_torch():
    student, teacher = draw(7, 5), draw(7, 5, seed=2)
    for temperature in (0.5, 1.0, 3.0):
        logs = [(x / temperature).log_softmax(-1) for x in (student, teacher)]
        theirs = nn.functional.kl_div(*logs, reduction="batchmean", log_target=True) * temperature**2
        assert compress.soft_targets(student, teacher, temperature) == pytest.approx(theirs.item(), rel=1e-10)


def test_the_factor_keeps_the_gradient_when_the_temperature_rises():
    sizes = []
    for temperature in (50.0, 100.0):
        student, teacher = draw(3, 5).requires_grad_(), draw(3, 5, seed=2)
        sizes.append(
            torch.autograd.grad(compress.soft_targets(student, teacher, temperature), student)[0].norm()
        )
    assert sizes[0] == pytest.approx(sizes[1].item(), rel=0.05)


def test_directions_by_hand():
    student = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    teacher = torch.tensor([[1.0, 0.0], [0.0, -5.0]])
    assert compress.directions(student, teacher) == pytest.approx(1 - (0.6 - 1) / 2)
    assert compress.directions(7 * teacher, teacher) == pytest.approx(0, abs=1e-6)


def test_hidden_states_by_hand():
    student = torch.tensor([[[1.0, 2.0], [5.0, 5.0]]])
    teacher = torch.tensor([[[0.0, 4.0], [5.0, 7.0]]])
    assert compress.hidden_states(student, teacher) == pytest.approx((1 + 4 + 0 + 4) / 4)
    real = torch.tensor([[True, False]])
    assert compress.hidden_states(student, teacher, real) == pytest.approx((1 + 4) / 2)


def test_attention_maps_by_hand():
    """Two heads, three tokens, the last only fills up: its row and its column don't count."""
    student, teacher = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    teacher[0, 0, 0, 1], teacher[0, 1, 1, 1], teacher[0, 1, 0, 2], teacher[0, 0, 2, 0] = 2, 3, 100, 100
    real = torch.tensor([[True, True, False]])
    assert compress.attention_maps(student, teacher, real) == pytest.approx((4 + 9) / 8)
    assert compress.attention_maps(student, teacher) == pytest.approx((4 + 9 + 20_000) / 18)
    layers = [torch.stack([one, one]) for one in (student, teacher)]  # an axis more changes no mean
    assert compress.attention_maps(*layers, real) == pytest.approx((4 + 9) / 8)


def test_attention_maps_name_the_numbers_of_heads_that_do_not_match():
    with pytest.raises(ValueError, match=r"head by head.* student has 2, the teacher 12"):
        compress.attention_maps(torch.zeros(1, 2, 3, 3), torch.zeros(1, 12, 3, 3))


def test_scores_are_what_the_softmax_sees():
    layer, x = stack().requires_grad_(False).blocks[1].attention, draw(2, N_TOKENS, D_MODEL)
    weights = layer(x, return_weights=True)[1]
    torch.testing.assert_close(compress.attention_scores(layer, x).softmax(-1), weights, rtol=0, atol=1e-13)
    q, k, _ = layer.project(x)
    by_hand = (q[1, 4, 3] * k[1, 4, 8]).sum() / math.sqrt(D_HEAD)
    assert compress.attention_scores(layer, x)[1, 4, 3, 8] == pytest.approx(by_hand.item())


@pytest.mark.parametrize(
    ("loss", "shapes", "message"),
    [
        (compress.soft_targets, ((2, 3), (2, 5)), r"logits .* \(2, 3\).* \(2, 5\)"),
        (compress.directions, ((2, 3), (2, 5)), "vectors must have one shape"),
        (compress.hidden_states, ((2, 3, 5), (2, 3, 7)), "projection to the teacher's width"),
        (compress.attention_maps, ((2, 3, 5, 5), (2, 3, 7, 7)), "attention maps must have one shape"),
    ],
)
def test_what_cannot_be_compared_says_so(loss, shapes, message):
    with pytest.raises(ValueError, match=message):
        loss(*(torch.zeros(shape) for shape in shapes))


def test_temperature_is_positive():
    with pytest.raises(ValueError, match="positive, got 0"):
        compress.soft_targets(torch.zeros(1, 2), torch.zeros(1, 2), 0)


def test_distilling_is_a_plain_loop():
    teacher, batches = nn.Linear(5, 3).double(), draw(7, 11, 5).unbind()

    def loss(student, x):
        return (student(x) - teacher(x).detach()).square().mean()

    torch.manual_seed(0)
    student = nn.Linear(5, 3).double()
    student.bias.requires_grad_(False)
    plain = nn.Linear(5, 3).double()
    plain.load_state_dict(student.state_dict())
    history = compress.distil(student, loss, batches, lr=0.1)
    optimizer, losses = torch.optim.Adam([plain.weight], 0.1), []
    for step, x in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 7)
        losses.append(loss(plain, x))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert history == pytest.approx([one.item() for one in losses], rel=1e-10)
    torch.testing.assert_close(student.weight, plain.weight, rtol=0, atol=1e-12)
    assert torch.equal(student.bias, plain.bias)


def test_a_pruned_stack_gets_nearer_to_its_teacher():
    teacher = stack().requires_grad_(False)
    student = compress.remove_heads(teacher, gates(*SOME)).requires_grad_()
    x = draw(32, N_TOKENS, D_MODEL)

    def loss(student, rows):
        return compress.hidden_states(student(x[rows]), teacher(x[rows]))

    compress.distil(student, loss, [slice(0, 24)] * 60, lr=1e-2)
    unseen = slice(24, 32)
    before = compress.hidden_states(
        compress.remove_heads(teacher, gates(*SOME))(x[unseen]), teacher(x[unseen])
    )
    assert loss(student, unseen) < 0.7 * before
