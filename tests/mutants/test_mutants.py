"""The laws see what they are for: bugs that people really write, planted one at a time, and each is caught.

Each mutant replaces one piece of ``attention.py`` that occurs exactly once, so that a mutant that no longer
fits the code fails loudly instead of testing nothing.
"""

import inspect
from functools import partial

import pytest
import torch
from laws import ATTEND, CASES, FACTS, LAYERS
from planted import first_broken, load

from manyheads import attention

SOURCE = inspect.getsource(attention)

# name: (what stands in attention.py, what a bug puts there)
MUTANTS = {
    # scores and softmax
    "no scale": ("scale = query.shape[-1] ** -0.5 if", "scale = 1.0 if"),
    "scale by d_head": ("query.shape[-1] ** -0.5", "query.shape[-1] ** -1.0"),
    "scale by the number of keys": ("query.shape[-1] ** -0.5", "key.shape[-2] ** -0.5"),
    "scale upside down": ("(query * scale)", "(query / scale)"),
    "own scale forgotten on the fused path": (", causal, scale=scale\n", ", causal\n"),
    "softmax over the queries": ("return scores.softmax(-1)", "return scores.softmax(-2)"),
    "softmax over the queries without gradients": ("torch.softmax(scores, -1,", "torch.softmax(scores, -2,"),
    "exp without a sum": ("return scores.softmax(-1)", "return scores.exp()"),
    "no gradient through the keys": ("@ key.transpose(-2, -1)", "@ key.detach().transpose(-2, -1)"),
    # masks
    "mask inverted in the open": ("scores.masked_fill(~mask, torch", "scores.masked_fill(mask, torch"),
    "mask inverted in the fused path": (
        "mask = torch.atleast_2d(mask)",
        "mask = ~torch.atleast_2d(mask)",
    ),
    "mask ignored in the fused path": (
        "mask = torch.atleast_2d(mask)",
        "mask = torch.atleast_2d(torch.ones_like(mask))",
    ),
    "mask multiplies the scores": (
        "scores.masked_fill(~mask, torch.finfo(scores.dtype).min)",
        "scores * mask",
    ),
    "masked after the softmax only": (
        "scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)",
        "pass",
    ),
    "1e-9 for -1e9": ("torch.finfo(scores.dtype).min", "1e-9"),
    "-inf, so that a blind query gets NaN": (
        "torch.finfo(scores.dtype).min)\n    return _softmax(scores).masked_fill(~mask, 0.0)",
        "-torch.inf)\n    return _softmax(scores)",
    ),
    "a blind query looks at everything in the fused path": (
        "mix if mask is None else mix.masked_fill(blind, 0.0)",
        "mix",
    ),
    "only what is blind in every query counts as blind": ("~mask.any(-1, keepdim=True)", "~mask.any()"),
    "a blind query looks at everything": (
        "return _softmax(scores).masked_fill(~mask, 0.0)",
        "return _softmax(scores)",
    ),
    "a mask of one axis": ("torch.atleast_2d(mask)", "mask"),
    "causal forgotten in the open": (
        "mask, causal = past if mask is None else mask & past, False",
        "mask, causal = mask, False",
    ),
    "causal forgotten beside a mask": (
        "past if mask is None else mask & past",
        "past if mask is None else mask",
    ),
    "causal or mask, not both": ("else mask & past", "else mask | past"),
    "causal that hides the present": (".tril(n_key - n_query)", ".tril(n_key - n_query - 1)"),
    "causal that sees one step ahead": (".tril(n_key - n_query)", ".tril(n_key - n_query + 1)"),
    "causal upside down": (".tril(n_key - n_query)", ".triu(n_key - n_query)"),
    "causal from the first key": (".tril(n_key - n_query)", ".tril()"),
    "causal with a cache left to torch": (
        " or mask is not None or n_query != n_key)",
        " or mask is not None)",
    ),
    "padding off by one": ("device=lengths.device) < lengths", "device=lengths.device) <= lengths"),
    "mask of a batch taken for one of heads": (
        "mask = mask.unsqueeze(-3) if mask.ndim > 1 else mask",
        "mask = mask",
    ),
    # dropout
    "dropped weights returned": (
        "return F.dropout(weights, dropout, training=dropout > 0) @ value, weights",
        "return (left := F.dropout(weights, dropout, dropout > 0)) @ value, left",
    ),
    "dropout forgotten in the open": ("training=dropout > 0", "training=False"),
    "dropout forgotten in the fused path": ("mask, dropout, causal, scale", "mask, 0.0, causal, scale"),
    "dropout also after training": (
        "if self.training else 0.0\n        mix, weights = _pair(\n            attend(q",
        "if True else 0.0\n        mix, weights = _pair(\n            attend(q",
    ),
    "inputs dropped, not weights": (
        "return F.dropout(weights, dropout, training=dropout > 0) @ value, weights",
        "return weights @ F.dropout(value, dropout, training=True), weights",
    ),
    # splitting and merging
    "split without transpose": (
        "return x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)",
        "return x.reshape(*x.shape[:-2], n_heads, x.shape[-2], -1)",
    ),
    "heads interleaved": (
        "x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)",
        "x.unflatten(-1, (-1, n_heads)).movedim(-1, -3)",
    ),
    "merge without transpose": (
        "return x.transpose(-3, -2).flatten(-2)",
        "return x.reshape(*x.shape[:-3], x.shape[-2], -1)",
    ),
    "heads added, not laid side by side": ("return x.transpose(-3, -2).flatten(-2)", "return x.sum(-3)"),
    "axes of length 1 lost": ("    )[(0,) * len(axes)]", "    ).squeeze()"),
    # projections
    "W_o forgotten": ("out = self.out_proj(merge_heads(mix))", "out = merge_heads(mix)"),
    "W_o transposed": (
        "out = self.out_proj(merge_heads(mix))",
        "out = F.linear(merge_heads(mix), self.out_proj.weight.T, self.out_proj.bias)",
    ),
    "bias of W_o forgotten": (
        "out = self.out_proj(merge_heads(mix))",
        "out = F.linear(merge_heads(mix), self.out_proj.weight)",
    ),
    "k and v swapped": ("attend(q, k, v, mask", "attend(q, v, k, mask"),
    "q and k swapped": ("q, k, v = packed.split", "k, q, v = packed.split"),
    "q and k swapped in one head": ("query, key, value = F.linear(x", "key, query, value = F.linear(x"),
    "projections in another order in cross-attention": (
        "(query, key, value), weights, biases)",
        "(query, key, value), weights[::-1], biases)",
    ),
    "bias forgotten in cross-attention": (
        "(None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.split(self.widths)",
        "(None,) * 3",
    ),
    "cross-attention takes its values from the query": (
        "value = key if value is None",
        "value = query if value is None",
    ),
    "own values ignored": (
        "map(F.linear, (query, key, value), weights",
        "map(F.linear, (query, key, key), weights",
    ),
    "every head as wide as the model": ("self.d_head = d_model // n_heads if", "self.d_head = d_model if"),
    "weights start at zero": (
        "nn.init.xavier_uniform_(torch.empty(d_out, d_in))",
        "torch.zeros(d_out, d_in)",
    ),
    # shared K/V heads and single heads
    "K/V heads dealt out in turn": (
        "x.repeat_interleave(self.n_heads // self.n_kv_heads, -3)",
        "torch.cat([x] * (self.n_heads // self.n_kv_heads), -3)",
    ),
    "a head with another head's keys": (
        "i_kv = i * self.n_kv_heads // self.n_heads",
        "i_kv = i % self.n_kv_heads",
    ),
    "a head with its values for keys": (
        "self.n_heads + i_kv, self.n_heads + self.n_kv_heads + i_kv)",
        "self.n_heads + self.n_kv_heads + i_kv, self.n_heads + i_kv)",
    ),
    "a head with rows, not columns, of W_o": (
        "self.out_proj.weight.unflatten(1, (self.n_heads, -1))[:, i]",
        "self.out_proj.weight.unflatten(1, (-1, self.n_heads))[..., i]",
    ),
    "every head brings an output bias": ("        one.out_proj.bias = None\n", ""),
    "a head that shares memory with the layer": (
        "one.out_proj.weight.copy_(self.out_proj.weight.unflatten(1, (self.n_heads, -1))[:, i])",
        "one.out_proj.weight.data = self.out_proj.weight.data.unflatten(1, (self.n_heads, -1))[:, i]",
    ),
    # errors
    "inputs unchecked": ("    _check(query, key, value, mask)\n", ""),
    "float masks taken": ("if mask.dtype != torch.bool:", "if False:"),
    "mask may enlarge the scores": ("m in (1, s) for m, s", "1 in (m, s) or m == s for m, s"),
    "uneven split taken": ("if d_head is None and d_model % n_heads:", "if False:"),
    "uneven sharing taken": ("if n_heads % n_kv_heads:", "if False:"),
    "head counted from the end": ("if not 0 <= i < self.n_heads:", "if not i < self.n_heads:"),
    "one head too many": ("if not 0 <= i < self.n_heads:", "if not 0 <= i <= self.n_heads:"),
}
SEEN_BY_SHAPES = {
    "mask of a batch taken for one of heads",
    "heads added, not laid side by side",
    "cross-attention takes its values from the query",
}


def checks():
    """Name and call of every fact, then of every law on every case."""
    yield from ((fact.__name__, fact) for fact in FACTS)
    for law in ATTEND + LAYERS:
        yield from ((law.__name__, partial(law, case=case)) for case in CASES)


def shapes_are_right(module):
    """All that many tests of attention look at."""
    x, context, width = torch.randn(2, 4, 12), torch.randn(2, 6, 12), 12
    layer = module.MultiHeadAttention(width, 3)
    assert layer(x).shape == layer(x, causal=True).shape == layer(x, context).shape == (2, 4, width)
    assert layer(x, context, return_weights=True)[1].shape == (2, 3, 4, 6)
    assert layer(x, mask=torch.ones(2, 4, 4, dtype=torch.bool)).shape == (2, 4, width)
    assert module.SelfAttention(width)(x).shape == (2, 4, width)


def test_the_laws_hold_for_the_unchanged_copy():
    assert first_broken(load(SOURCE), checks()) is None
    shapes_are_right(load(SOURCE))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch(name):
    old, new = MUTANTS[name]
    assert SOURCE.count(old) == 1, (
        f"this mutant no longer fits attention.py: {old!r} occurs {SOURCE.count(old)} times"
    )
    mutant = load(SOURCE.replace(old, new))
    assert first_broken(mutant, checks()) is not None, "no law sees this bug"
    assert (first_broken(mutant, [("shapes", shapes_are_right)]) is not None) == (name in SEEN_BY_SHAPES)


def test_a_test_of_shapes_sees_almost_nothing():
    """At the sizes that people choose nearly every bug keeps the shapes, as the test above has just shown."""
    assert MUTANTS.keys() > SEEN_BY_SHAPES
    assert len(MUTANTS) >= 30
    assert len(SEEN_BY_SHAPES) < len(MUTANTS) / 10
