"""Laws of heads that are looked at, gated and cut out, and bugs in ``heads`` and ``compress`` that they see.

Truth comes from loops over heads: a layer's output is the sum of its heads through their slices of W_o, so
without a head it is the sum of the others, whether that head is silent or gone.
"""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from laws import Case, near, says, side_by_side, slices
from planted import first_broken, load
from torch import nn

from manyheads import attention, compress, heads
from manyheads.attention import MultiHeadAttention

IN_HEADS, IN_COMPRESS = [], []
PLAIN = Case(leading=(2,), n_query=5, n_key=5, n_kv_heads=3, group=1, d_head=7, d_model=11)
SHARED = Case(leading=(2,), n_query=5, n_key=5, n_kv_heads=3, group=2, d_head=7, d_model=11, seed=1)


def law(kind):
    def keep(function):
        kind.append(function)
        return function

    return keep


def sum_of(layer, case, x, kept):
    """What the layer gives with some of its heads only, each written out."""
    every = torch.ones(*case.leading, case.n_query, case.n_query, dtype=torch.bool)
    silent = case.filled(MultiHeadAttention(case.d_model, case.n_heads, case.n_kv_heads, case.d_head))
    silent.load_state_dict(layer.state_dict())
    with torch.no_grad():
        for i in set(range(case.n_heads)) - set(kept):
            silent.out_proj.weight[:, i * case.d_head : (i + 1) * case.d_head] = 0
    return side_by_side(silent, case, x, x, every)


def two_layers():
    """A model of two attention layers with different numbers of heads."""
    layers = [PLAIN.layer(attention), SHARED.layer(attention)]
    return nn.Sequential(*layers), layers


def look():
    """Weights of two heads over four tokens that anybody can check."""
    return torch.tensor([
        [[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25]],
        [[0, 1.0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.5, 0, 0, 0.5]],
    ], dtype=torch.float64)  # fmt: skip


# ---------------------------------------------------------------------- gates


@law(IN_HEADS)
def a_gate_is_a_factor_on_one_head(heads):
    for case in (PLAIN, SHARED):
        layer, x = case.layer(attention), case.tokens()[0]
        gates = torch.tensor([0.5, 0.0, 1.0, 2.0, 0.0, 1.0], dtype=torch.float64)[: case.n_heads]
        found = torch.func.functional_call(layer, heads.gated(layer, [gates]), (x,))
        wanted = layer.out_proj.bias + sum(gate * layer.head(i)(x) for i, gate in enumerate(gates))
        near(found, wanted, slack=4)
        kept = [i for i in range(case.n_heads) if i != 1]
        off = torch.ones(case.n_heads, dtype=torch.float64)
        off[1] = 0
        near(
            torch.func.functional_call(layer, heads.gated(layer, [off]), (x,)),
            sum_of(layer, case, x, kept),
            slack=4,
        )


@law(IN_HEADS)
def gates_belong_to_layers_in_their_order(heads):
    model, (first, second) = two_layers()
    assert list(heads.attention_layers(model).values()) == [first, second]
    assert list(heads.attention_layers(first).values()) == [first]
    gates = [torch.tensor([1.0, 0, 1]).double(), torch.tensor([0.0, 1, 1, 1, 0, 1]).double()]
    x = PLAIN.tokens()[0]
    middle = sum_of(first, PLAIN, x, [0, 2])
    wanted = sum_of(second, SHARED, middle, [1, 2, 3, 5])
    near(torch.func.functional_call(model, heads.gated(model, gates), (x,)), wanted, slack=4)
    twice = nn.ModuleList([first, first])
    assert len(heads.attention_layers(twice)) == 1
    with says(ValueError, r"\[3, 6\] heads", r"\[6, 3\] gates"):
        heads.gated(model, gates[::-1])


@law(IN_HEADS)
def a_gate_has_the_gradient_of_its_head(heads):
    layer, x = PLAIN.layer(attention), PLAIN.tokens()[0]
    gates = torch.ones(3, dtype=torch.float64, requires_grad=True)
    out = torch.func.functional_call(layer, heads.gated(layer, [gates]), (x,))
    (found,) = torch.autograd.grad(out.square().sum(), gates)
    near(found, torch.stack([(2 * out * layer.head(i)(x)).sum() for i in range(3)]), slack=100)


# ---------------------------------------------------------------------- looks


@law(IN_HEADS)
def entropy_and_distance_are_what_a_pencil_says(heads):
    near(heads.entropy(look()), [[0, math.log(2), 0, math.log(4)], [0, 0, 0, math.log(2)]])
    near(heads.mean_distance(look()), [[0, 0.5, 1, 1.5], [1, 1, 1, 1.5]])
    corners = torch.tensor([[0, 0], [0, 3], [4, 0], [4, 3]])
    near(heads.mean_distance(look(), corners), [[0, 1.5, 5, 3], [3, 5, 3, 2.5]])


@law(IN_HEADS)
def patterns_are_what_their_names_say(heads):
    words = ["[CLS]", "the", "cat", ",", "the", "[SEP]"]
    found = {name: pattern.int().tolist() for name, pattern in heads.patterns(words).items()}
    n = range(6)
    assert found == {
        "previous": [[int(k == q - 1) for k in n] for q in n],
        "next": [[int(k == q + 1) for k in n] for q in n],
        "first": [[int(k == 0) for k in n] for q in n],
        "separator": [[int(k == 5) for k in n] for q in n],
        "punctuation": [[int(k == 3) for k in n] for q in n],
        "same": [[int(words[k] == words[q]) for k in n] for q in n],
    }


@law(IN_HEADS)
def a_share_speaks_of_the_queries_that_could_follow(heads):
    previous = torch.ones(4, 4, dtype=torch.bool).tril(-1) & ~torch.ones(4, 4, dtype=torch.bool).tril(-2)
    near(heads.share(look(), previous), [(0.5 + 1 + 0.25) / 3, 0])  # the first token has no previous one
    near(heads.share(2 * look(), previous), [(0.5 + 1 + 0.25) / 3, 0])


@law(IN_HEADS)
def contributions_are_lengths_of_what_arrives(heads):
    for case in (PLAIN, SHARED):
        layer, x = case.layer(attention), case.tokens()[0]
        _, weights = layer(x, return_weights=True)
        found = heads.contributions(layer, x, weights)
        for i, (matrices, biases, w_o) in enumerate(slices(layer, case)):
            brought = F.linear(x, matrices[2], biases[2]) @ w_o.T  # (batch, key, d_model)
            arrives = weights[:, i, :, :, None] * brought[:, None]  # (batch, query, key, d_model)
            near(found[:, i], arrives.norm(dim=-1), slack=4)


# ---------------------------------------------------------------------- importance


@law(IN_HEADS)
def importance_by_gradient_is_the_mean_size_of_the_slope(heads):
    model, _ = two_layers()
    slopes = [torch.tensor([1.0, -2, 0.5]).double(), torch.tensor([0, 1, -1, 3, 0, 0]).double()]

    def loss(gates, example):
        return example * sum(
            (slope * gate.square()).sum() / 2 for slope, gate in zip(slopes, gates, strict=True)
        )

    for found, slope in zip(heads.by_gradient(model, loss, [1.0, -3.0]), slopes, strict=True):
        near(found, 2 * slope.abs())
    with says(ValueError, "at least one", "got none"):
        heads.by_gradient(model, loss, [])


@law(IN_HEADS)
def leave_one_out_is_how_far_the_score_falls(heads):
    model, _ = two_layers()
    worth = [torch.tensor([1.0, -2, 0.5]).double(), torch.tensor([0, 1, -1, 3, 0, 0]).double()]

    def score(gates):
        return sum((value * gate).sum() for value, gate in zip(worth, gates, strict=True)).item()

    for found, value in zip(heads.leave_one_out(model, score), worth, strict=True):
        near(found, value)
    kept, scores = heads.exhaustive(model, score, layer=0)
    assert kept.tolist() == [[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)]
    near(scores, kept @ worth[0] + worth[1].sum())


@law(IN_HEADS)
def the_best_heads_are_those_of_the_whole_model(heads):
    importance = [torch.tensor([3.0, 1, 2]), torch.tensor([5.0, 0, 2, 1, 1, 1])]
    assert [kept.tolist() for kept in heads.keep_best(importance, 3)] == [[1, 0, 1], [1, 0, 0, 0, 0, 0]]
    assert sum(kept.sum() for kept in heads.keep_best(importance, 9)) == 9
    for wrong in (-1, 10):
        with says(ValueError, "9 heads", f"got {wrong}"):
            heads.keep_best(importance, wrong)


# ---------------------------------------------------------------------- heads that are gone


@law(IN_COMPRESS)
def without_a_head_a_layer_is_the_sum_of_the_others(compress):
    for case, kept in (
        (PLAIN, [0, 2]),
        (PLAIN, [1]),
        (SHARED, [1, 3, 4]),
        (SHARED, [2, 3]),
        (SHARED, [0, 1, 4, 5]),
    ):
        layer, x = case.layer(attention), case.tokens()[0]
        gates = torch.zeros(case.n_heads)
        gates[kept] = 1
        small = compress.remove_heads(layer, [gates])
        near(small(x), sum_of(layer, case, x, kept), slack=4)
        _, weights = layer(x, return_weights=True)
        near(small(x, return_weights=True)[1], weights[:, kept], slack=4)
        n_kv = len({head // case.group for head in kept})
        assert (small.n_heads, small.n_kv_heads) == (len(kept), n_kv)
        wanted = (2 * len(kept) + 2 * n_kv) * 7 * 11 + (len(kept) + 2 * n_kv) * 7 + 11
        assert sum(p.numel() for p in small.parameters()) == wanted
        assert layer.n_heads == case.n_heads  # the whole one is as it was
        near(layer(x), sum_of(layer, case, x, range(case.n_heads)), slack=4)


@law(IN_COMPRESS)
def heads_are_removed_from_the_layer_that_lost_them(compress):
    model, (first, second) = two_layers()
    gates = [torch.tensor([1.0, 0, 1]), torch.tensor([0.0, 1, 1, 0, 0, 0])]
    x = PLAIN.tokens()[0]
    small = compress.remove_heads(model, gates)
    wanted = sum_of(second, SHARED, sum_of(first, PLAIN, x, [0, 2]), [1, 2])
    near(small(x), wanted, slack=4)


@law(IN_COMPRESS)
def a_layer_without_heads_gives_its_bias(compress):
    layer, x = PLAIN.layer(attention), PLAIN.tokens()[0]
    none = compress.remove_heads(layer, [torch.zeros(3)])
    near(none(x), layer.out_proj.bias.expand_as(x))
    out, weights = none(x, return_weights=True)
    near(out, layer.out_proj.bias.expand_as(x))
    assert weights.shape == (2, 0, 5, 5)
    model, (first, second) = two_layers()
    small = compress.remove_heads(model, [torch.zeros(3), torch.ones(6)])
    near(small(x), second(first.out_proj.bias.expand_as(x)), slack=4)


@law(IN_COMPRESS)
def what_cannot_be_removed_says_so(compress):
    with says(ValueError, r"\[3\] heads", r"\[4\] gates"):
        compress.remove_heads(PLAIN.layer(attention), [torch.ones(4)])
    with says(ValueError, "nothing in between"):
        compress.remove_heads(PLAIN.layer(attention), [torch.tensor([1.0, 0.5, 1.0])])
    with says(ValueError, "as many query heads", r"\[2, 1\]"):
        compress.remove_heads(SHARED.layer(attention), [torch.tensor([1.0, 1, 0, 1, 0, 0])])


@law(IN_COMPRESS)
def losses_are_the_formulas_of_their_papers(compress):
    draw = PLAIN.draws()
    student, teacher = draw(3, 5), draw(3, 5)
    p, q = ((x / 3).softmax(-1) for x in (teacher, student))
    near(compress.soft_targets(student, teacher, 3.0), 9 * (p * (p / q).log()).sum(-1).mean())
    cosines = [torch.dot(a, b) / a.norm() / b.norm() for a, b in zip(student, teacher, strict=True)]
    near(compress.directions(student, teacher), 1 - torch.stack(cosines).mean())
    one, other = draw(2, 3, 5, 5), draw(2, 3, 5, 5)
    real = torch.arange(5) < torch.tensor([[5], [3]])
    near(compress.attention_maps(one, other), (one - other).square().mean())
    parts = [(one - other)[0].flatten(), (one - other)[1, :, :3, :3].flatten()]
    near(compress.attention_maps(one, other, real), torch.cat(parts).square().mean())
    x, y = draw(2, 5, 7), draw(2, 5, 7)
    near(compress.hidden_states(x, y, real), torch.cat([(x - y)[0], (x - y)[1, :3]]).square().mean())
    layer, tokens = PLAIN.layer(attention), PLAIN.tokens()[0]
    near(compress.attention_scores(layer, tokens).softmax(-1), layer(tokens, return_weights=True)[1])
    with says(ValueError, "as many heads", "student has 2", "teacher 3"):
        compress.attention_maps(one[:, :2], other)


# ---------------------------------------------------------------------- the bugs

BUGS_OF_HEADS = {
    "gates dealt out in turn": ("repeat_interleave(layer.d_head)", "repeat(layer.d_head)"),
    "gates inverted": ("w_o * gate.to", "w_o * (1 - gate).to"),
    "gates of another layer": (
        "zip(layers.items(), gates, strict=True)",
        "zip(layers.items(), gates[::-1], strict=False)",
    ),
    "gates unchecked": (
        'if wanted != found:\n        raise ValueError(f"each head needs one gate',
        'if False:\n        raise ValueError(f"each head needs one gate',
    ),
    "every part taken for attention": (
        "if isinstance(part, MultiHeadAttention)",
        'if hasattr(part, "weight")',
    ),
    "entropy in bits": (
        "special.entr(weights).sum(-1)",
        "special.entr(weights).sum(-1) / 0.6931471805599453",
    ),
    "entropy over the queries": ("special.entr(weights).sum(-1)", "special.entr(weights).sum(-2)"),
    "distance squared": (".square().sum(-1).sqrt()", ".square().sum(-1)"),
    "distance along the streets": (
        "(places[:, None] - places).square().sum(-1).sqrt()",
        "(places[:, None] - places).abs().sum(-1)",
    ),
    "previous and next swapped": (
        '"previous": step == -1, "next": step == 1',
        '"previous": step == 1, "next": step == -1',
    ),
    "step from key to query": (
        "torch.arange(n) - torch.arange(n)[:, None]",
        "torch.arange(n)[:, None] - torch.arange(n)",
    ),
    "[SEP] forgotten": ('word == "[SEP]"', 'word == "[CLS]"'),
    "letters taken for punctuation": ("all(not c.isalnum()", "any(not c.isalnum()"),
    "share over all queries": (
        "asked = weights[..., pattern.any(-1), :]\n    return (asked * pattern[pattern.any(-1)])",
        "asked = weights\n    return (asked * pattern)",
    ),
    "share not scaled": (".sum((-2, -1)) / asked.sum((-2, -1))", ".sum((-2, -1)) / asked.shape[-2]"),
    "contributions without W_o": ("(value @ w_o.mT).norm(dim=-1)", "value.norm(dim=-1)"),
    "contributions without weights": ("return weights * (value", "return torch.ones_like(weights) * (value"),
    "contributions of the queries": (".norm(dim=-1)[..., None, :]", ".norm(dim=-1)[..., :, None]"),
    "contributions of keys": ("layer.project(seen)[2]", "layer.project(seen)[1]"),
    "contributions through another head's W_o": (
        "unflatten(1, (layer.n_heads, -1)).movedim(1, 0)",
        "unflatten(1, (-1, layer.n_heads)).movedim(2, 0)",
    ),
    "slopes that cancel": ("torch.stack(of_layer).abs().mean(0)", "torch.stack(of_layer).mean(0).abs()"),
    "slopes added": ("torch.stack(of_layer).abs().mean(0)", "torch.stack(of_layer).abs().sum(0)"),
    "slopes at gates of 0": (
        "return [layer.out_proj.weight.new_ones(layer.n_heads)",
        "return [layer.out_proj.weight.new_zeros(layer.n_heads)",
    ),
    "gain for loss": ("of_layer[head] = whole - score(gates)", "of_layer[head] = score(gates) - whole"),
    "heads left out one after the other": (
        "            gates = all_on(model)\n            gates[layer][head] = 0",
        "            gates = all_on(model) if head == 0 else gates\n            gates[layer][head] = 0",
    ),
    "subsets read backwards": (">> torch.arange(n_heads) & 1", ">> torch.arange(n_heads).flip(0) & 1"),
    "the least important kept": ("argsort(descending=True", "argsort(descending=False"),
    "as many heads as there are not": ("if not 0 <= n <= len(flat):", "if False:"),
}
BUGS_OF_COMPRESS = {
    "the heads that should stay are removed": ("gate.nonzero().flatten()", "(1 - gate).nonzero().flatten()"),
    "heads removed from the model itself": ("model = copy.deepcopy(model)\n    pairs", "pairs"),
    "keys of another head": (
        "key = [layer.n_heads + head for head in serving]",
        "key = [layer.n_heads + i for i in range(len(serving))]",
    ),
    "values taken for keys": (
        "*key, *(start + layer.n_kv_heads for start in key)",
        "*(start + layer.n_kv_heads for start in key), *key",
    ),
    "K/V heads of query heads": (
        "serving = {head // served: 0 for head in kept}",
        "serving = {head % layer.n_kv_heads: 0 for head in kept}",
    ),
    "columns from the first": (
        "columns = rows[: len(kept) * layer.d_head]",
        "columns = list(range(len(kept) * layer.d_head))",
    ),
    "bias of the projections left whole": (
        "layer.in_proj_bias = _part(layer.in_proj_bias, rows, 0)",
        "layer.in_proj_bias = _part(layer.in_proj_bias, rows[::-1], 0)",
    ),
    "rows interleaved": (
        "for start in starts for row in range(layer.d_head)]",
        "for row in range(layer.d_head) for start in starts]",
    ),
    "uneven sharing taken": ("if len(set(serving.values())) > 1:", "if False:"),
    "half a head taken": ("if not all(((gate == 0) | (gate == 1)).all() for gate in gates):", "if False:"),
    "nothing where no head is left": ("return NoHeads(layer.out_proj.bias)", "return NoHeads()"),
    "small layers not put in": ("if child in small:", "if False:"),
    "one layer's heads in all": (
        "setattr(part, name, small[child])",
        "setattr(part, name, next(iter(small.values())))",
    ),
    "no T²": ("return temperature**2 * (log_teacher", "return (log_teacher"),
    "teacher and student swapped": (
        "(log_teacher.exp() * (log_teacher - log_student))",
        "(log_student.exp() * (log_student - log_teacher))",
    ),
    "cosine, not its distance": ("return 1 - F.cosine_similarity", "return F.cosine_similarity"),
    "filling counted": ("square.mean() if real is None else square[real].mean()", "square.mean()"),
    "filling counted as keys": (
        "real[..., :, None] & real[..., None, :]",
        "real[..., :, None] & torch.ones_like(real[..., None, :])",
    ),
    "scores without scale": ("query @ key.mT * layer.d_head**-0.5", "query @ key.mT"),
    "any number of heads compared": ("if student.shape[-3] != teacher.shape[-3]:", "if False:"),
}


def checks(laws):
    return ((law.__name__, law) for law in laws)


@pytest.mark.parametrize(("module", "laws"), [(heads, IN_HEADS), (compress, IN_COMPRESS)])
def test_the_laws_hold(module, laws):
    for law in laws:
        law(module)
    assert first_broken(load(inspect.getsource(module)), checks(laws)) is None


@pytest.mark.parametrize("bug", BUGS_OF_HEADS)
def test_a_bug_in_looking_at_heads_is_seen(bug):
    is_seen(heads, BUGS_OF_HEADS[bug], IN_HEADS)


@pytest.mark.parametrize("bug", BUGS_OF_COMPRESS)
def test_a_bug_in_removing_heads_is_seen(bug):
    is_seen(compress, BUGS_OF_COMPRESS[bug], IN_COMPRESS)


def is_seen(module, bug, laws):
    old, new = bug
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"this bug no longer fits: {old!r} occurs {source.count(old)} times"
    assert first_broken(load(source.replace(old, new)), checks(laws)) is not None, "no law sees this bug"
