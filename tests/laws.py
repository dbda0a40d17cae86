"""The laws of attention: each a sentence that the chapters teach, each a function of the module to judge.

Taking the module as an argument lets ``test_mutants`` ask the same laws about broken copies.
A *law* holds for every :class:`Case` and is called ``law(attention, case)``; a *fact* holds once and is
called ``fact(attention)``. Truth comes from NumPy loops, from torch and from counting, never from
``attention.py`` itself.
"""

import dataclasses
import itertools
import math
import warnings
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from manyheads import reference, timing

ATTEND, LAYERS, FACTS = [], [], []  # laws of the function, laws of the layers, facts
MASKS = ("none", "causal", "padding", "random", "shared", "blind", "causal and padding")
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}


@dataclasses.dataclass(frozen=True)
class Case:
    """One set of sizes; each axis has its own prime, so that no two can be mistaken for each other."""

    leading: tuple[int, ...] = (2,)
    n_query: int = 5
    n_key: int = 7
    n_kv_heads: int = 3
    group: int = 1  # query heads that share one K/V head
    d_head: int = 11
    d_value: int = 17
    d_model: int = 13
    mask: str = "none"
    dtype: torch.dtype = torch.float64
    seed: int = 0

    @property
    def n_heads(self):
        return self.n_kv_heads * self.group

    def draws(self):
        generator = torch.Generator().manual_seed(self.seed)
        return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(self.dtype)

    def qkv(self, grad=False):
        """Queries, keys and values for one head: (*leading, query | key, d_head | d_value)."""
        draw = self.draws()
        shapes = ((self.n_query, self.d_head), (self.n_key, self.d_head), (self.n_key, self.d_value))
        return [draw(*self.leading, *shape).requires_grad_(grad) for shape in shapes]

    def tokens(self):
        """The sequence that asks and the sequence that it looks at: (*leading, token, d_model)."""
        draw = self.draws()
        return draw(*self.leading, self.n_query, self.d_model), draw(*self.leading, self.n_key, self.d_model)

    def masked(self):
        """The mask as a user would pass it, and whether to ask for ``causal``."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        full = (*self.leading, self.n_query, self.n_key)
        mask = None
        if self.mask in ("random", "blind"):
            mask = torch.rand(full, generator=generator) < 0.6
            mask[..., 0] |= ~mask.any(-1)  # every query may look at something, ...
        if self.mask == "blind":
            mask[..., -1, :] = False  # ... except where blindness is the point
        if self.mask == "shared":
            mask = torch.rand(full[-2:], generator=generator) < 0.6
            mask[..., 0] |= ~mask.any(-1)
        if "padding" in self.mask:
            lengths = torch.randint(0, self.n_key + 1, (*self.leading, 1, 1), generator=generator)
            mask = torch.arange(self.n_key) < lengths
        return mask, self.mask.startswith("causal")

    def allowed(self):
        """Which query may look at which key, spelled out: bool (*leading, query, key)."""
        mask, causal = self.masked()
        full = (*self.leading, self.n_query, self.n_key)
        allowed = torch.ones(full, dtype=torch.bool) if mask is None else mask.expand(full).clone()
        if causal:
            for i, j in itertools.product(range(self.n_query), range(self.n_key)):
                if j > i + self.n_key - self.n_query:  # the last query is the last key's token
                    allowed[..., i, j] = False
        return allowed

    def self_looking(self):
        """The same case for a sequence that looks at itself."""
        return dataclasses.replace(self, n_key=self.n_query)

    def layer(self, attention, **changes):
        """A layer with random weights *and biases*."""
        sizes = {"n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads, "d_head": self.d_head} | changes
        return self.filled(attention.MultiHeadAttention(self.d_model, **sizes))

    def filled(self, layer):
        draw = self.draws()
        layer = layer.to(self.dtype)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(draw(*parameter.shape) / math.sqrt(self.d_model))
        return layer


CASES = (
    *(Case(mask=mask, seed=seed) for seed, mask in enumerate(MASKS)),
    Case(leading=(), n_kv_heads=2, group=3, mask="blind", seed=10),
    Case(leading=(3, 2), n_kv_heads=1, group=2, mask="causal", seed=11),
    Case(leading=(1,), n_query=7, mask="padding", seed=12),
    Case(n_query=1, mask="random", dtype=torch.float32, seed=13),
)


def law(kind):
    def keep(function):
        kind.append(function)
        return function

    return keep


def fact(function):
    FACTS.append(function)
    return function


def near(found, wanted, case=None, slack=1.0):
    """Two tensors or arrays agree in shape and in every number."""
    dtype = torch.float64 if case is None else case.dtype
    found, wanted = (
        x.detach().double() if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64)
        for x in (found, wanted)
    )
    assert found.shape == wanted.shape, f"shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
    tolerance = TOLERANCE[dtype] * slack
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def numpy(tensor):
    return tensor.detach().double().numpy()


def by_hand(query, key, value, allowed):
    """Mix and weights from the NumPy loops, one leading index at a time."""
    mix = np.zeros((*query.shape[:-1], value.shape[-1]))
    weights = np.zeros(allowed.shape)
    query, key, value, allowed = (numpy(query), numpy(key), numpy(value), allowed.numpy())
    for at in np.ndindex(query.shape[:-2]):
        mix[at], weights[at] = reference.attention(query[at], key[at], value[at], allowed[at])
    return mix, weights


def slices(layer, case):
    """W_q, W_k, W_v, their biases and W_o of each query head, cut out of the packed matrices row by row."""
    n, n_kv, d = case.n_heads, case.n_kv_heads, case.d_head
    heads = []
    for i in range(n):
        first = (i, n + i // case.group, n + n_kv + i // case.group)
        rows = [slice(at * d, (at + 1) * d) for at in first]
        heads.append(
            (
                [layer.in_proj_weight[row] for row in rows],
                [layer.in_proj_bias[row] for row in rows],
                layer.out_proj.weight[:, i * d : (i + 1) * d],
            )
        )
    return heads


def side_by_side(layer, case, x, context, allowed):
    """Single heads, each written out in torch, summed through the slices of W_o."""
    out = layer.out_proj.bias.double()
    for weights, biases, w_o in slices(layer, case):
        q, k, v = (
            (t @ w.T + b).double() for t, w, b in zip((x, context, context), weights, biases, strict=True)
        )
        scores = torch.einsum("...ic,...jc->...ij", q, k) / math.sqrt(case.d_head)
        powers = (scores - scores.amax(-1, keepdim=True)).exp() * allowed
        shares = powers / powers.sum(-1, keepdim=True).clamp_min(1e-300)
        out = out + shares @ v @ w_o.double().T
    return out


def pushed(out, seed=5):
    """One number whose gradient sees every output differently."""
    generator = torch.Generator().manual_seed(seed)
    return (out * torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)).sum()


# ---------------------------------------------------------------------- attend


@law(ATTEND)
def attend_is_the_sum_written_out_by_hand(attention, case):
    query, key, value = case.qkv()
    mask, causal = case.masked()
    mix, weights = by_hand(query, key, value, case.allowed())
    near(attention.attend(query, key, value, mask, causal=causal), mix, case)
    found, found_weights = attention.attend(query, key, value, mask, causal=causal, return_weights=True)
    near(found, mix, case)
    near(found_weights, weights, case)
    assert found.dtype == found_weights.dtype == case.dtype


@law(ATTEND)
def without_gradients_the_numbers_are_the_same_and_the_inputs_untouched(attention, case):
    query, key, value = case.qkv()
    mask, causal = case.masked()
    before = [x.clone() for x in (query, key, value)]
    wanted = by_hand(query, key, value, case.allowed())
    with torch.no_grad():
        found = attention.attend(query, key, value, mask, causal=causal, return_weights=True)
    for ours, theirs in zip(found, wanted, strict=True):
        near(ours, theirs, case)
    for old, new in zip(before, (query, key, value), strict=True):
        assert torch.equal(old, new)


@law(ATTEND)
def the_fused_path_and_the_open_path_agree_in_value_and_gradient(attention, case):
    mask, causal = case.masked()
    blind = ~case.allowed().any(-1)
    found = []
    for return_weights in (False, True):
        query, key, value = case.qkv(grad=True)
        mix = attention.attend(query, key, value, mask, causal=causal, return_weights=return_weights)
        mix = mix[0] if return_weights else mix
        assert (mix[blind] == 0).all()
        gradients = torch.autograd.grad(pushed(mix), (query, key, value))
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert (gradients[0][blind] == 0).all()
        found.append((mix, *gradients))
    for fused, in_the_open in zip(*found, strict=True):
        near(fused, in_the_open, case, slack=4)


@law(ATTEND)
def a_masked_position_changes_nothing_in_value_or_gradient(attention, case):
    mask, causal = case.masked()
    allowed = case.allowed()
    for return_weights, i in itertools.product((False, True), range(case.n_query)):
        query, key, value = case.qkv(grad=True)
        hidden = ~allowed[..., i, :, None]  # from query i

        def row(key, value, query=query, return_weights=return_weights, i=i):
            found = attention.attend(query, key, value, mask, causal=causal, return_weights=return_weights)
            return (found[0] if return_weights else found)[..., i, :]

        out = row(key, value)
        near(row(torch.where(hidden, 3 - 2 * key, key), torch.where(hidden, 99.0, value)), out, case)
        for gradient in torch.autograd.grad(pushed(out), (key, value)):
            assert (gradient[hidden.expand_as(gradient)] == 0).all()
        assert (gradient[~hidden.expand_as(gradient)] != 0).all()  # what may be looked at does count


@law(ATTEND)
def a_key_hidden_from_all_changes_nothing_whatever_it_holds(attention, case):
    mask, causal = case.masked()
    hidden = ~case.allowed().any(-2)[..., None]  # (..., key, 1)
    query, key, value = case.qkv(grad=True)
    for return_weights in (False, True):

        def run(key, value, query=query, return_weights=return_weights):
            found = attention.attend(query, key, value, mask, causal=causal, return_weights=return_weights)
            return found if return_weights else (found,)

        wanted = run(key, value)
        slopes = torch.autograd.grad(pushed(wanted[0]), (query, key, value))
        for broken in (math.nan, math.inf, -math.inf):
            held = [torch.where(hidden, broken, x).detach().requires_grad_() for x in (key, value)]
            found = run(*held)
            for ours, theirs in zip(found, wanted, strict=True):
                near(ours, theirs, case)
            for ours, theirs in zip(
                torch.autograd.grad(pushed(found[0]), (query, *held)), slopes, strict=True
            ):
                near(ours, theirs, case, slack=4)


@law(ATTEND)
def what_one_query_sees_may_reach_the_others_but_no_other_sequence(attention, case):
    """The rule for a key that is hidden from some queries only, as in the docstring of ``attend``."""
    if not case.leading or case.leading[0] == 1:
        return
    mask, causal = case.masked()
    query, key, value = case.qkv()
    for return_weights, spoiled in itertools.product((False, True), (0, 1)):
        held = [key.clone(), value.clone()]
        held[spoiled][0] = math.nan
        found = attention.attend(query, *held, mask, causal=causal, return_weights=return_weights)
        found = found[0] if return_weights else found
        near(found[1:], attention.attend(query, key, value, mask, causal=causal)[1:], case)


@law(ATTEND)
def one_set_of_queries_may_ask_many_sequences(attention, case):
    query, key, value = case.qkv()
    mask = case.allowed()
    asks = query[(0,) * len(case.leading)]  # (query, d_head), the same for all
    for asked in (asks, asks[(None,) * len(case.leading)]):
        for return_weights in (False, True):
            found = attention.attend(asked, key, value, mask, return_weights=return_weights)
            wanted = attention.attend(asks.expand_as(query), key, value, mask, return_weights=return_weights)
            for ours, theirs in zip(found, wanted, strict=True):
                near(ours, theirs, case)


@law(ATTEND)
def no_score_is_too_low_for_a_hidden_key_to_weigh_nothing(attention, case):
    """A mask that adds some large negative number lets hidden keys in where what may be seen scores lower."""
    query, key, value = case.qkv()
    mask, causal = case.masked()
    allowed = case.allowed()
    low = 200 if case.dtype == torch.float16 else 3e3
    query = torch.full_like(query, low)
    key = torch.where(allowed.any(-2)[..., None], -low, low).to(case.dtype).expand_as(key)
    mix, weights = attention.attend(query, key, value, mask, causal=causal, return_weights=True)
    near(weights, allowed.double() / allowed.sum(-1, keepdim=True).clamp_min(1), case)
    near(attention.attend(query, key, value, mask, causal=causal), mix, case)


@law(ATTEND)
def a_scale_of_nothing_means_even_weights(attention, case):
    query, key, value = case.qkv()
    mask, causal = case.masked()
    allowed = case.allowed()
    mix, weights = attention.attend(query, key, value, mask, causal=causal, scale=0.0, return_weights=True)
    near(weights, allowed.double() / allowed.sum(-1, keepdim=True).clamp_min(1), case)
    near(attention.attend(query, key, value, mask, causal=causal, scale=0.0), mix, case)


@law(ATTEND)
def many_at_once_are_one_by_one_without_gradients_too(attention, case):
    """``softmax(out=)`` knows neither vmap nor derivatives forward; the numbers must come all the same."""
    query, key, value = case.qkv()
    allowed = case.allowed()

    def weights(query, key, allowed):
        return attention.attend(query, key, key, allowed, return_weights=True)[1]

    def run(query):
        return attention.attend(query, key, value, allowed, return_weights=True)[0]

    mix, wanted = attention.attend(query, key, value, allowed, return_weights=True)
    with torch.no_grad():
        if case.leading:
            near(torch.func.vmap(weights)(query, key, allowed), wanted, case)
        slope = torch.ones_like(query)
        with warnings.catch_warnings():  # torch's own, about how it keeps its forward derivatives
            warnings.simplefilter("ignore", DeprecationWarning)
            out, forward = torch.func.jvp(run, (query,), (slope,))
    near(out, mix, case)
    query = query.requires_grad_()
    (backward,) = torch.autograd.grad(pushed(run(query)), query)
    near(pushed(forward), (backward * slope).sum(), case, slack=30)


@law(ATTEND)
def rows_of_weights_sum_to_one_even_with_dropout(attention, case):
    query, key, value = case.qkv()
    mask, causal = case.masked()
    torch.manual_seed(case.seed)
    _, weights = attention.attend(query, key, value, mask, causal=causal, dropout=0.5, return_weights=True)
    near(weights.double().sum(-1), case.allowed().any(-1).double(), case)
    assert (weights[~case.allowed()] == 0).all()


@law(ATTEND)
def order_of_keys_is_nothing_and_order_of_queries_is_the_order_of_outputs(attention, case):
    query, key, value = case.qkv()
    mask = case.allowed()
    generator = torch.Generator().manual_seed(case.seed)
    of_queries = torch.randperm(case.n_query, generator=generator)
    of_keys = torch.randperm(case.n_key, generator=generator)
    for return_weights in (False, True):
        before = attention.attend(query, key, value, mask, return_weights=return_weights)
        after = attention.attend(
            query[..., of_queries, :],
            key[..., of_keys, :],
            value[..., of_keys, :],
            mask[..., of_queries, :][..., of_keys],
            return_weights=return_weights,
        )
        if return_weights:
            near(after[1], before[1][..., of_queries, :][..., of_keys], case)
            before, after = before[0], after[0]
        near(after, before[..., of_queries, :], case)


@law(ATTEND)
def attend_agrees_with_torch(attention, case):
    query, key, value = case.qkv()
    mask, causal = case.masked()
    for scale in (None, 0.3):
        wanted = F.scaled_dot_product_attention(query, key, value, case.allowed(), scale=scale)
        near(attention.attend(query, key, value, mask, causal=causal, scale=scale), wanted, case, slack=2)
        mix, _ = attention.attend(query, key, value, mask, causal=causal, scale=scale, return_weights=True)
        near(mix, wanted, case, slack=2)


@law(ATTEND)
def the_last_queries_alone_see_what_they_saw_among_all(attention, case):
    query, key, value = case.self_looking().qkv()
    everything = attention.attend(query, key, value, causal=True)
    for n_last, return_weights in itertools.product(range(1, case.n_query + 1), (False, True)):
        last = attention.attend(
            query[..., -n_last:, :], key, value, causal=True, return_weights=return_weights
        )
        near(last[0] if return_weights else last, everything[..., -n_last:, :], case)


@law(ATTEND)
def splitting_then_merging_is_the_identity(attention, case):
    x = case.draws()(*case.leading, case.n_query, case.n_heads * case.d_head)
    split = attention.split_heads(x, case.n_heads)
    assert split.shape == (*case.leading, case.n_heads, case.n_query, case.d_head)
    assert torch.equal(attention.merge_heads(split), x)
    for i in range(case.n_heads):  # head i holds its own numbers of each token, in their order
        assert torch.equal(split[..., i, :, :], x[..., i * case.d_head : (i + 1) * case.d_head])
    assert split.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()  # no copy


# ---------------------------------------------------------------------- layers


@law(LAYERS)
def one_head_is_the_sum_written_out_by_hand(attention, case):
    case = case.self_looking()
    x, _ = case.tokens()
    mask, causal = case.masked()
    layer = case.filled(attention.SelfAttention(case.d_model, case.d_head))
    q, k, v = (
        x @ w.T + b for w, b in zip(layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
    )
    mix, weights = by_hand(q, k, v, case.allowed())
    wanted = mix @ numpy(layer.out_proj.weight).T + numpy(layer.out_proj.bias)
    near(layer(x, mask, causal=causal), wanted, case, slack=4)
    out, found = layer(x, mask, causal=causal, return_weights=True)
    near(out, wanted, case, slack=4)
    near(found, weights, case, slack=4)


@law(LAYERS)
def many_heads_are_the_sum_written_out_by_hand(attention, case):
    mask, causal = case.masked()
    x, context = case.tokens()
    layer = attention.MultiHeadAttention(case.d_model, case.n_heads, case.n_kv_heads, case.d_head, bias=False)
    layer = case.filled(layer)
    # of shape (q+k+v heads, d_model, d_head)
    rows = layer.in_proj_weight.unflatten(0, (-1, case.d_head)).transpose(1, 2)
    w_q, w_k, w_v = rows.split((case.n_heads, case.n_kv_heads, case.n_kv_heads))
    w_k, w_v = (w[[i // case.group for i in range(case.n_heads)]] for w in (w_k, w_v))
    w_o = layer.out_proj.weight.T.unflatten(0, (case.n_heads, case.d_head))  # (head, d_head, d_model)
    out, weights = layer(x, context, mask=mask, causal=causal, return_weights=True)
    near(layer(x, context, mask=mask, causal=causal), out, case, slack=4)
    for at in np.ndindex(case.leading):
        wanted, wanted_weights = reference.multi_head_attention(
            numpy(x[at]), *map(numpy, (w_q, w_k, w_v, w_o)), case.allowed()[at].numpy(), numpy(context[at])
        )
        near(out[at], wanted, case, slack=4)
        near(weights[at], wanted_weights, case, slack=4)


@law(LAYERS)
def many_heads_are_single_heads_side_by_side_in_value_and_gradient(attention, case):
    for context_differs in (False, True):
        here = case if context_differs else case.self_looking()
        mask, causal = here.masked()
        layer = here.layer(attention)
        x, context = (t.requires_grad_() for t in here.tokens())
        seen = (x, context) if context_differs else (x, x)
        wanted = side_by_side(layer, here, *seen, here.allowed())
        inputs = (*dict.fromkeys(seen), *layer.parameters())
        wanted_gradients = torch.autograd.grad(pushed(wanted), inputs)
        for return_weights in (False, True):
            arguments = seen if context_differs else (x,)
            out = layer(*arguments, mask=mask, causal=causal, return_weights=return_weights)
            out = out[0] if return_weights else out
            near(out, wanted, here, slack=4)
            for found, right in zip(torch.autograd.grad(pushed(out), inputs), wanted_gradients, strict=True):
                near(found, right, here, slack=20)


@law(LAYERS)
def each_head_taken_out_is_a_layer_of_its_own(attention, case):
    case = case.self_looking()
    mask, causal = case.masked()
    x, _ = case.tokens()
    layer = case.layer(attention)
    layer.dropout = 0.0
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    out, weights = layer(x, mask=mask, causal=causal, return_weights=True)
    total = layer.out_proj.bias
    for i in range(case.n_heads):
        head = layer.head(i)
        part, of_head = head(x, mask, causal=causal, return_weights=True)
        near(of_head, weights[..., i, :, :], case, slack=4)
        total = total + part
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.zero_()  # copies: the layer must not notice
    near(total, out, case, slack=4)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


@law(LAYERS)
def permuting_the_tokens_permutes_the_outputs(attention, case):
    case = case.self_looking()
    x, _ = case.tokens()
    order = torch.randperm(case.n_query, generator=torch.Generator().manual_seed(case.seed))
    mask = case.allowed()
    shuffled = mask[..., order, :][..., order]
    for layer in (case.layer(attention), case.filled(attention.SelfAttention(case.d_model, case.d_head))):
        near(layer(x[..., order, :], mask=shuffled), layer(x, mask=mask)[..., order, :], case, slack=4)


@law(LAYERS)
def many_heads_with_one_head_are_self_attention(attention, case):
    case = case.self_looking()
    mask, causal = case.masked()
    x, _ = case.tokens()
    one = case.filled(attention.SelfAttention(case.d_model, case.d_head))
    many = attention.MultiHeadAttention(case.d_model, 1, d_head=case.d_head).to(case.dtype)
    many.load_state_dict(one.state_dict())
    near(many(x, mask=mask, causal=causal), one(x, mask, causal=causal), case)
    out, weights = many(x, mask=mask, causal=causal, return_weights=True)
    wanted, wanted_weights = one(x, mask, causal=causal, return_weights=True)
    near(out, wanted, case)
    near(weights.squeeze(-3), wanted_weights, case)


@law(LAYERS)
def a_mask_may_name_its_heads_or_serve_them_all(attention, case):
    x, context = case.tokens()
    layer = case.layer(attention)
    allowed = case.allowed()
    wanted = layer(x, context, mask=allowed)
    each = allowed.unsqueeze(-3).expand(*case.leading, case.n_heads, case.n_query, case.n_key)
    near(layer(x, context, mask=each), wanted, case)
    for i in range(case.n_heads):  # hide everything from head i only: the layer without that head
        hidden = each.clone()
        hidden[..., i, :, :] = False
        _, weights = layer(x, context, mask=hidden, return_weights=True)
        assert (weights[..., i, :, :] == 0).all()
        others = [j for j in range(case.n_heads) if j != i]
        near(weights[..., others, :, :].double().sum(-1), each[..., others, :, :].any(-1).double(), case)
    keys = allowed.reshape(-1, case.n_key)[0]  # one row for everybody
    near(layer(x, context, mask=keys), layer(x, context, mask=keys.expand_as(allowed)), case)


@law(LAYERS)
def agrees_with_torch_multihead_attention(attention, case):
    """Their masks are the inverse of ours, their average over heads is not ours, their blind rows are NaN."""
    here = dataclasses.replace(case, group=1, d_model=case.n_kv_heads * case.d_head, leading=(2,))
    theirs = here.filled(nn.MultiheadAttention(here.d_model, here.n_heads, batch_first=True))
    ours = attention.MultiHeadAttention(here.d_model, here.n_heads).to(here.dtype)
    ours.load_state_dict(theirs.state_dict())
    x, context = here.tokens()
    allowed = here.allowed()
    allowed[..., 0] |= ~allowed.any(-1)
    forbidden = (~allowed).repeat_interleave(here.n_heads, 0)
    wanted, wanted_weights = theirs(x, context, context, attn_mask=forbidden, average_attn_weights=False)
    near(ours(x, context, mask=allowed), wanted, here, slack=4)
    out, weights = ours(x, context, mask=allowed, return_weights=True)
    near(out, wanted, here, slack=4)
    near(weights, wanted_weights, here, slack=4)
    # Values of their own, and the padding mask under its other name.
    values = context.flip(-1)
    padding = allowed[:, :1]
    wanted, _ = theirs(x, context, values, key_padding_mask=~padding[:, 0], need_weights=False)
    near(ours(x, context, values, mask=padding), wanted, here, slack=4)
    # A sequence that looks at itself.
    wanted, _ = theirs(x, x, x, need_weights=False)
    near(ours(x), wanted, here, slack=4)


@law(LAYERS)
def shared_keys_and_values_agree_with_torch(attention, case):
    mask, causal = case.masked()
    x, context = case.tokens()
    layer = case.layer(attention)
    widths = [n * case.d_head for n in (case.n_heads, case.n_kv_heads, case.n_kv_heads)]
    weights, biases = layer.in_proj_weight.split(widths), layer.in_proj_bias.split(widths)
    q, k, v = (
        (t @ w.T + b).unflatten(-1, (-1, case.d_head)).movedim(-2, -3)
        for t, w, b in zip((x, context, context), weights, biases, strict=True)
    )
    mix = F.scaled_dot_product_attention(q, k, v, case.allowed().unsqueeze(-3), enable_gqa=True)
    wanted = layer.out_proj(mix.movedim(-3, -2).flatten(-2))
    near(layer(x, context, mask=mask, causal=causal), wanted, case, slack=4)


# ---------------------------------------------------------------------- facts


@fact
def pencil_numbers(attention):
    """Scores log 1, log 2, log 3 give 1/6, 2/6, 3/6."""
    query = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    key = torch.zeros(3, 4, dtype=torch.float64)
    key[:, 0] = 2 * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).log()  # √d_head = 2 undoes the 2
    value = torch.tensor([[6.0, 0.0], [0.0, 6.0], [6.0, 6.0]], dtype=torch.float64)
    mix, weights = attention.attend(query, key, value, return_weights=True)
    near(weights, [[1 / 6, 2 / 6, 3 / 6]])
    near(mix, [[4.0, 5.0]])
    near(attention.attend(query, key, value), [[4.0, 5.0]])
    near(attention.attention_weights(query, key), [[1 / 6, 2 / 6, 3 / 6]])
    near(attention.attention_weights(query, key, scale=1.0), [[1 / 14, 4 / 14, 9 / 14]])
    only_two = torch.tensor([True, True, False])
    near(attention.attention_weights(query, key, only_two), [[1 / 3, 2 / 3, 0.0]])
    near(attention.attend(query, key, value, only_two), [[2.0, 4.0]])


@fact
def huge_scores_stay_finite(attention):
    query, key = torch.full((1, 1), 1e4), torch.tensor([[1e3], [1e3], [-1e3]])
    for mask in (None, torch.tensor([True, True, False])):
        mix, weights = attention.attend(query, key, key, mask, return_weights=True)
        near(weights, [[0.5, 0.5, 0.0]])
        near(mix, [[1e3]])


@fact
def float16_holds_the_weights_of_scores_that_it_cannot_hold(attention):
    query = torch.full((1, 1, 64), 100.0).half()
    key = torch.stack([torch.full((64,), 110.0), torch.full((64,), 90.0)])[None].half()  # 88000 and 72000
    value = torch.eye(2)[None].half()
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            mix, weights = attention.attend(query, key, value, return_weights=True)
            near(weights, [[[1.0, 0.0]]])
            near(mix, [[[1.0, 0.0]]])
            near(attention.attend(query, key, value), [[[1.0, 0.0]]])
    assert weights.dtype == mix.dtype == torch.float16
    exact = attention.attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), return_weights=True)
    assert {x.dtype for x in exact} == {torch.bfloat16}


@fact
def values_come_from_the_value_whatever_the_others_are(attention):
    case = Case(n_query=7, n_key=7)
    layer, (x, other) = case.layer(attention), case.tokens()
    for query, key, value in itertools.product((x, other), repeat=3):
        wanted = layer(*(given.clone() for given in (query, key, value)))  # no two are one object
        near(layer(query, key, value), wanted)
    near(layer(x, other), layer(x, other, other))


@fact
def a_layer_may_ask_many_padded_sequences_the_same(attention):
    layer = attention.MultiHeadAttention(12, 2).double()
    asks, read = (torch.randn(*shape, 12, dtype=torch.float64) for shape in ((1, 3), (5, 7)))
    mask = attention.padding_mask([7, 3, 1, 5, 2], 7)
    wanted = [layer(asks[0], read[i, :n]) for i, n in enumerate([7, 3, 1, 5, 2])]
    for asked in (asks, asks[0]):
        for given in (mask, mask[:, None].expand(5, 2, 3, 7)):
            near(layer(asked, read, mask=given), torch.stack(wanted))
            near(layer(asked, read, mask=given, return_weights=True)[0], torch.stack(wanted))


@fact
def everything_runs_where_there_are_shapes_and_no_numbers(attention):
    """On the device ``meta``, and makes no tensor elsewhere: a device fault shows without a GPU."""

    class OnlyMeta(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor):
                assert found.is_meta, f"{function} made a tensor on {found.device}"
            return found

    with torch.device("meta"):
        layer, one = attention.MultiHeadAttention(12, 6, 2), attention.SelfAttention(12)
        x, lengths = torch.empty(2, 5, 12), torch.empty(2, dtype=torch.int64)
    with OnlyMeta():
        padding, past = attention.padding_mask(lengths, 5), attention.causal_mask(5, device="meta")
        for mask, causal, return_weights in itertools.product(
            (None, padding, past), (False, True), (False, True)
        ):
            for of in (layer, one, layer.head(5)):
                found = of(x, mask=mask, causal=causal, return_weights=return_weights)
                assert (found[0] if return_weights else found).shape == (2, 5, 12)


@fact
def the_open_path_adds_one_square_of_scores_and_with_gradients_two(attention):
    n, d_head = 512, 8
    square = 4 * n * n
    query, key, value = torch.randn(3, n, d_head)
    for grad, squares in ((False, 1), (True, 2)):
        with torch.set_grad_enabled(grad):
            peak = timing.peak_memory(lambda: attention.attend(query, key, value, return_weights=True))
        assert squares * square <= peak < (squares + 0.2) * square


@fact
def a_blind_query_gets_zeros_even_from_a_kernel_that_knows_no_such_query(attention):
    """torch's kernels for GPUs give it some average, or NaN (seen in 2.11): here one like them stands in."""

    def kernel(query, key, value, mask, *_, **__):
        scores = query @ key.mT * query.shape[-1] ** -0.5
        return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value

    query, key, value = (t.requires_grad_() for t in torch.randn(3, 2, 3, 5, dtype=torch.float64))
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    wanted, _ = attention.attend(query, key, value, mask, return_weights=True)
    with mock.patch.object(F, "scaled_dot_product_attention", kernel):
        found = attention.attend(query, key, value, mask)
    near(found, wanted)
    slopes = (torch.autograd.grad(mix.square().sum(), (query, key, value)) for mix in (found, wanted))
    for one, other in zip(*slopes, strict=True):
        near(one, other)


@fact
def the_causal_mask_is_the_past_and_the_present(attention):
    assert attention.causal_mask(3).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert attention.causal_mask(2, 5).int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert attention.causal_mask(3).dtype == torch.bool


@fact
def the_padding_mask_keeps_the_real_tokens(attention):
    mask = attention.padding_mask(torch.tensor([0, 2, 3]), 3)
    assert mask.int().tolist() == [[[0, 0, 0]], [[1, 1, 0]], [[1, 1, 1]]]
    assert mask.dtype == torch.bool


@fact
def gradients_are_the_slopes(attention):
    case = Case(leading=(), n_query=2, n_key=3, n_kv_heads=1, group=2, d_head=2, d_value=2, d_model=3)
    mask = torch.tensor([[True, False, True], [False, False, False]])  # the second query is blind
    for return_weights in (False, True):
        # The fused kernel has a gradient, but no gradient of the gradient; neither is asked for here.
        assert torch.autograd.gradcheck(
            lambda *qkv, return_weights=return_weights: attention.attend(
                *qkv, mask, return_weights=return_weights
            ),
            case.qkv(grad=True),
        )
    layer = case.layer(attention)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    x, context = (t.requires_grad_() for t in case.tokens())
    for return_weights in (False, True):

        def output(x, context, *parameters, return_weights=return_weights):
            arguments = (x, context, context, mask)
            return torch.func.functional_call(
                layer,
                dict(zip(names, parameters, strict=True)),
                arguments,
                {"return_weights": return_weights},
            )

        assert torch.autograd.gradcheck(output, (x, context, *parameters))


@fact
def weights_are_as_many_for_every_number_of_heads(attention):
    d_model = 12
    for n_heads in (1, 2, 3, 4, 6, 12):
        layer = attention.MultiHeadAttention(d_model, n_heads)
        assert sum(p.numel() for p in layer.parameters()) == 4 * d_model**2 + 4 * d_model
        bare = attention.MultiHeadAttention(d_model, n_heads, bias=False)
        assert sum(p.numel() for p in bare.parameters()) == 4 * d_model**2
        for n_kv_heads in (n for n in range(1, n_heads + 1) if n_heads % n == 0):
            shared = attention.MultiHeadAttention(d_model, n_heads, n_kv_heads, bias=False)
            kept = 2 * d_model**2 + 2 * d_model**2 * n_kv_heads // n_heads
            assert sum(p.numel() for p in shared.parameters()) == kept
    one = attention.SelfAttention(d_model)
    assert sum(p.numel() for p in one.parameters()) == 4 * d_model**2 + 4 * d_model
    narrow = attention.SelfAttention(d_model, 5, bias=False)
    assert sum(p.numel() for p in narrow.parameters()) == 4 * d_model * 5


@fact
def a_new_layer_is_ready_to_learn(attention):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(60, 4)
    for layer in (attention.MultiHeadAttention(60, 4), attention.SelfAttention(60)):
        assert layer.state_dict().keys() == theirs.state_dict().keys()
        for name, parameter in layer.named_parameters():
            assert parameter.shape == theirs.get_parameter(name).shape
            assert parameter.requires_grad
        spread, wanted = layer.in_proj_weight.std(), theirs.in_proj_weight.std()
        torch.testing.assert_close(spread, wanted, rtol=0.05, atol=0)
        assert (layer.in_proj_bias == 0).all()


@fact
def no_bias_means_no_bias(attention):
    x = torch.zeros(2, 3, 12)
    for layer in (attention.MultiHeadAttention(12, 3, bias=False), attention.SelfAttention(12, bias=False)):
        assert {name for name, _ in layer.named_parameters()} == {"in_proj_weight", "out_proj.weight"}
        assert (layer(x) == 0).all()
    case = Case(d_model=12, d_head=4)
    layer = case.filled(attention.MultiHeadAttention(12, 3, bias=False))
    x, context = case.tokens()
    near(sum(layer.head(i)(x) for i in range(3)), layer(x))
    near(layer(x, context), layer(x, context, context))


@fact
def dropout_drops_weights_each_on_its_own_and_keeps_their_mean(attention):
    query, key, _ = Case(n_query=50, n_key=70).qkv()
    # so that the mix is the weights that are left
    value = torch.eye(70, dtype=torch.float64).expand(2, -1, -1)
    weights = attention.attend(query, key, value)
    for return_weights in (False, True):
        torch.manual_seed(0)
        left = attention.attend(query, key, value, dropout=0.3, return_weights=return_weights)
        left = left[0] if return_weights else left
        kept = left != 0
        near(left[kept], weights[kept] / 0.7)
        for share in (kept.double().mean(), kept[:, 3].double().mean(), kept[..., 3].double().mean()):
            assert abs(share - 0.7) < 0.2
        assert abs(kept.double().mean() - 0.7) < 0.02


@fact
def layers_drop_only_while_they_are_trained(attention):
    for layer in (
        attention.MultiHeadAttention(12, 3, dropout=0.5).double(),
        attention.SelfAttention(12, dropout=0.5).double(),
    ):
        x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for return_weights in (False, True):
            torch.manual_seed(0)
            first, second = (layer(x, return_weights=return_weights) for _ in range(2))
            if return_weights:
                near(first[1], second[1])  # weights are shown before dropout
                first, second = first[0], second[0]
            assert not torch.allclose(first, second)
        if hasattr(layer, "head"):  # a head taken out drops nothing, as its docstring says
            one = layer.head(1).train()
            near(one(x), one(x))
        layer.eval()
        near(layer(x), layer(x))
        near(layer(x), layer(x, return_weights=True)[0])
        silent = type(layer)(12, **({"n_heads": 3} if hasattr(layer, "n_heads") else {})).double()
        silent.load_state_dict(layer.state_dict())
        near(layer(x), silent(x))
        layer.train()


@fact
def many_models_at_once_are_models_one_by_one(attention):
    case = Case(d_model=12, d_head=4)
    x, _ = case.tokens()
    layers = [
        dataclasses.replace(case, seed=seed).filled(attention.MultiHeadAttention(12, 3)) for seed in range(3)
    ]
    parameters, buffers = torch.func.stack_module_state(layers)

    def run(parameters, buffers):
        return torch.func.functional_call(
            layers[0], (parameters, buffers), (x,), {"causal": True, "return_weights": True}
        )[0]

    together = torch.func.vmap(run)(parameters, buffers)
    near(together, torch.stack([layer(x, causal=True) for layer in layers]))


def says(error, *words):
    """The message names the rule and the numbers of this call."""
    return pytest.raises(error, match=".*".join(words))


@fact
def an_uneven_split_says_so(attention):
    with says(ValueError, "d_model must be divisible by n_heads", "10 / 3", "leaves 1", "d_head"):
        attention.MultiHeadAttention(10, 3)
    with says(ValueError, "n_heads must be divisible by n_kv_heads", "6 / 4", "leaves 2"):
        attention.MultiHeadAttention(12, 6, 4)
    with says(ValueError, "width must be divisible by n_heads", "11 / 4", "leaves 3"):
        attention.split_heads(torch.zeros(2, 3, 11), 4)
    assert attention.MultiHeadAttention(10, 3, d_head=5)(torch.zeros(1, 2, 10)).shape == (1, 2, 10)


@fact
def heads_are_counted_from_one_and_named_from_zero(attention):
    for wrong in ((0,), (-2,), (3, 0), (3, -3)):
        name = "n_heads" if len(wrong) == 1 else "n_kv_heads"
        with says(ValueError, f"{name} is counted from 1, got {name}={wrong[-1]}"):
            attention.MultiHeadAttention(12, *wrong)
    with says(ValueError, "n_heads is counted from 1", "n_heads=0"):
        attention.split_heads(torch.zeros(2, 3, 12), 0)
    with says(ValueError, "d_head is counted from 1", "d_head=0"):
        attention.MultiHeadAttention(12, 3, d_head=0)
    with says(ValueError, "d_head is counted from 1", "d_head=-1"):
        attention.SelfAttention(12, -1)
    for call in (
        lambda: attention.MultiHeadAttention(64, 64 / 16),
        lambda: attention.split_heads(torch.zeros(3, 64), 64 / 16),
    ):
        with says(TypeError, "n_heads is counted and must be an int, got 4.0"):
            call()
    with says(TypeError, "n_query is counted and must be an int, got 2.0"):
        attention.causal_mask(2.0)
    layer = attention.MultiHeadAttention(np.int64(12), np.int32(3))
    assert (type(layer.d_head), layer.d_head) == (int, 4)
    layer = attention.MultiHeadAttention(12, 3)
    for i in (-1, 3):
        with says(IndexError, "heads run from 0 to 2", f"got {i}$"):
            layer.head(i)
    with says(TypeError, "i is counted and must be an int, got 1.0"):
        layer.head(1.0)


@fact
def a_dropout_that_is_no_share_says_so(attention):
    x = torch.zeros(3, 12)
    for wrong in (10, -0.1, math.nan):
        for call in (
            lambda wrong=wrong: attention.attend(x, x, x, dropout=wrong),
            lambda wrong=wrong: attention.SelfAttention(12, dropout=wrong),
            lambda wrong=wrong: attention.MultiHeadAttention(12, 3, dropout=wrong),
        ):
            with says(ValueError, "dropout is a share and lies between 0 and 1", f"got dropout={wrong}"):
                call()


@fact
def what_is_no_tensor_of_floating_point_says_so(attention):
    x = torch.zeros(2, 5, 12)
    layers = attention.MultiHeadAttention(12, 3), attention.SelfAttention(12)
    calls = {
        "query": [lambda wrong: attention.attend(wrong, x, x), layers[0]],
        "key": [lambda wrong: attention.attend(x, wrong, x), lambda wrong: layers[0](x, wrong)],
        "value": [lambda wrong: attention.attend(x, x, wrong), lambda wrong: layers[0](x, x, wrong)],
        "x": [layers[1], lambda wrong: attention.split_heads(wrong, 3), attention.merge_heads],
    }
    for name, call in [(name, call) for name, of in calls.items() for call in of]:
        for wrong, kind in ((x.tolist(), "list"), (x.numpy(), "ndarray"), (None, "NoneType")):
            if wrong is None and name in ("key", "value"):
                continue  # left out
            with says(TypeError, f"{name} must be a torch tensor, got {kind}", f"as_tensor.{name}."):
                call(wrong)
        if call is not attention.merge_heads:
            with says(ValueError, name, r"shape .*\(12,\)"):
                call(torch.zeros(12))
    with says(ValueError, r"x must have shape .*head", r"got \(5, 12\)"):
        attention.merge_heads(x[0])
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with says(TypeError, "one floating-point dtype", str(dtype), "float32"):
            attention.attend(*[x.to(dtype)] * 3)
    for wrong in itertools.permutations([x, x, x.double()]):
        with says(TypeError, "one floating-point dtype", "got .*float64"):
            attention.attend(*wrong)
    for layer in layers:
        with says(TypeError, "dtype of the layer's weights, torch.float32, got torch.float64", r"layer.to"):
            layer(x.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x.bfloat16()).dtype == torch.bfloat16
    with says(
        ValueError, "leading axes of query, key and value must broadcast", r"\(2, 5, 12\), \(3, 5, 12\)"
    ):
        attention.attend(x, torch.zeros(3, 5, 12), torch.zeros(3, 5, 12))


@fact
def mismatched_widths_say_so(attention):
    q, k, v = torch.zeros(2, 5, 4), torch.zeros(2, 7, 4), torch.zeros(2, 7, 3)
    with says(ValueError, "one width", "d_head=4", "d_head=6"):
        attention.attend(q, torch.zeros(2, 7, 6), v)
    with says(ValueError, "each key needs a value", "7 keys and 5 values"):
        attention.attend(q, k, v[:, :5])
    for layer in (attention.MultiHeadAttention(12, 3), attention.SelfAttention(12)):
        with says(ValueError, "d_model=12", r"\(2, 5, 4\)"):
            layer(q)
    layer = attention.MultiHeadAttention(12, 3)
    x = torch.zeros(2, 5, 12)
    with says(ValueError, "last axis of key", "d_model=12", r"\(2, 7, 4\)"):
        layer(x, k)
    with says(ValueError, "last axis of value", "d_model=12", r"\(2, 7, 3\)"):
        layer(x, torch.zeros(2, 7, 12), v)


@fact
def a_wrong_mask_says_so(attention):
    q, k = torch.zeros(2, 5, 4), torch.zeros(2, 7, 4)
    for return_weights in (False, True):
        for dtype in (torch.float32, torch.int64):
            with says(TypeError, "mask must be boolean, True = may look", str(dtype), "mask.bool()"):
                attention.attend(q, k, k, torch.ones(5, 7, dtype=dtype), return_weights=return_weights)
        for shape in ((7, 5), (3, 5, 7), (2, 1, 5, 7), (5, 1, 7)):
            with says(ValueError, r"broadcast to the scores .*= \(2, 5, 7\)", f"got .{str(shape)[1:-1]}"):
                attention.attend(q, k, k, torch.ones(shape, dtype=torch.bool), return_weights=return_weights)
        with says(ValueError, r"= \(1, 5, 7\)", r"got \(2, 5, 7\)"):  # the mask must not enlarge the scores
            mask = torch.ones(2, 5, 7, dtype=torch.bool)
            attention.attend(q[:1], k[:1], k[:1], mask, return_weights=return_weights)
    x = torch.zeros(2, 5, 12)
    layers = attention.MultiHeadAttention(12, 3), attention.SelfAttention(12)
    with says(ValueError, r"\(2, 3, 5, 5\)", r"got \(2, 4, 5, 5\)"):
        layers[0](x, mask=torch.ones(2, 4, 5, 5, dtype=torch.bool))
    for layer in layers:  # the shape that was passed, as nn.MultiheadAttention takes it
        with says(ValueError, r"\(2, 5, 5\)", r"got \(6, 5, 5\)", r"mask.unflatten\(0, \(batch, n_heads"):
            layer(x, mask=torch.ones(6, 5, 5, dtype=torch.bool))
    takes = (
        *(lambda mask, layer=layer: layer(x, mask=mask) for layer in layers),
        lambda mask: attention.attend(x, x, x, mask),
        lambda mask: attention.attend(x, x, x, mask, return_weights=True),
        lambda mask: attention.attention_weights(x, x, mask),
    )
    for take in takes:
        for wrong, kind in ((np.tri(5, dtype=bool), "ndarray"), ([[True] * 5] * 5, "list"), (True, "bool")):
            with says(TypeError, f"mask must be a torch tensor, got {kind}", r"torch.as_tensor\(mask\)"):
                take(wrong)
        with says(TypeError, "mask must be boolean", "int64"):
            take(torch.ones(5, 5, dtype=torch.int64))


@fact
def impossible_masks_say_so(attention):
    with says(ValueError, "at least as many keys as queries", "n_query=4", "n_key=3"):
        attention.causal_mask(4, 3)
    with says(ValueError, "at least as many keys as queries", "n_query=4", "n_key=3"):
        attention.attend(torch.zeros(4, 2), torch.zeros(3, 2), torch.zeros(3, 2), causal=True)
    for lengths in ([1, 4], [-1, 2]):
        for given in (lengths, torch.tensor(lengths)):
            with says(ValueError, "between 0 and n_key=3", r"\[-?1, \d\]"):
                attention.padding_mask(given, 3)
    for wrong, shape in ((torch.ones(2, 4, dtype=torch.int64), r"\(2, 4\)"), (3, r"\(\)")):
        with says(
            ValueError, r"lengths have shape \(batch,\)", f"got {shape}", r"mask.bool\(\)\[:, None, :\]"
        ):
            attention.padding_mask(wrong, 4)
    for wrong in ([1.0, 2.0], [True, False]):
        with says(TypeError, "lengths are counted and must be integers"):
            attention.padding_mask(torch.tensor(wrong), 4)
    with says(ValueError, "n_key is counted from 1, got n_key=0"):
        attention.padding_mask([0], 0)
