"""What surrounds attention obeys its laws, and the laws catch the bugs that people write there."""

import inspect
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import near
from planted import first_broken, load
from stack_laws import LAWS, filled

from manyheads import transformer
from manyheads.transformer import RotaryAttention

SOURCE = inspect.getsource(transformer)

# name: (what stands in transformer.py, what a bug puts there)
MUTANTS = {
    # feed-forward layers
    "no bend": ("self.activation(self.up(x))", "self.up(x)"),
    "own bend ignored": ("self.activation = activation", "self.activation = F.gelu"),
    "another bend by default": ("= F.gelu):", "= F.relu):"),
    "gate and up swapped": ("F.silu(self.gate(x)) * self.up(x)", "self.gate(x) * F.silu(self.up(x))"),
    "a sigmoid gate": ("F.silu(self.gate(x))", "self.gate(x).sigmoid()"),
    "gate added": ("F.silu(self.gate(x)) * self.up(x)", "F.silu(self.gate(x)) + self.up(x)"),
    "a gate with a bias": (
        "self.gate, self.up = nn.Linear(d_model, d_ff, bias=False)",
        "self.gate, self.up = nn.Linear(d_model, d_ff)",
    ),
    # rotation
    "rotation backwards": (
        "one * cos - two * sin, two * cos + one * sin",
        "one * cos + two * sin, two * cos - one * sin",
    ),
    "a mirror, not a rotation": ("two * cos + one * sin", "two * cos - one * sin"),
    "neighbours paired": ("one, two = x.chunk(2, -1)", "one, two = x[..., ::2], x[..., 1::2]"),
    "planes that slow down twice as fast": ("-planes / len(planes)", "-2 * planes / len(planes)"),
    "planes that turn ever faster": ("(-planes / len(planes))", "(planes / len(planes))"),
    "planes counted from 1": (
        "torch.arange(x.shape[-1] // 2,",
        "torch.arange(1, x.shape[-1] // 2 + 1,",
    ),
    "base ignored": ("double() * base **", "double() * 10_000.0 **"),
    "angles in half the digits": (
        "dtype=torch.float64)\n    angles = positions[:, None].double()",
        "dtype=x.dtype)\n    angles = positions[:, None].to(x.dtype)",
    ),
    "odd widths taken": ("if x.shape[-1] % 2:", "if False:"),
    # rotary attention
    "values rotated": (
        "        return q, k, v\n",
        "        return q, k, rotate(v, torch.arange(start, start + v.shape[-2]), self.base)\n",
    ),
    "keys not rotated": ("q, k = (\n            rotate(x", "q, _ = (\n            rotate(x"),
    "queries not rotated": ("q, k = (\n            rotate(x", "_, k = (\n            rotate(x"),
    "base of the layer forgotten": (", device=x.device), self.base)", ", device=x.device))"),
    "every piece starts at 0": ("torch.arange(start, start + x.shape[-2]", "torch.arange(x.shape[-2]"),
    "positions counted backwards": (
        "torch.arange(start, start + x.shape[-2], device=x.device)",
        "torch.arange(start, start + x.shape[-2], device=x.device).flip(0)",
    ),
    # reading on
    "start forgotten": ("self.project(x, start=start)", "self.project(x)"),
    "start one too late": ('start = cache["key"].shape[-2] if', 'start = cache["key"].shape[-2] + 1 if'),
    "start counts heads": ('start = cache["key"].shape[-2] if', 'start = cache["key"].shape[-3] if'),
    "the past forgotten": (
        "torch.cat([cache[name], tensor], -2) if start else tensor",
        "tensor",
    ),
    "the past after the present": ("[cache[name], tensor], -2", "[tensor, cache[name]], -2"),
    "keys and values swapped in the cache": ('("key", "value"), new', '("value", "key"), new'),
    "the values of the keys": (
        'attend(q, cache["key"], cache["value"]',
        'attend(q, cache["key"], cache["key"]',
    ),
    "the future of a piece seen": (" if n_query > 1 else None\n", " if False else None\n"),
    "the present unseen": (
        "causal_mask(n_query, start + n_query)",
        "causal_mask(n_query, start + n_query).roll(-1, -1)",
    ),
    "the causal mask of the group forgotten": (".repeat(shared, 1)", ".repeat_interleave(shared, 0)"),
    "a cache that is repeated for every query head": (
        "            tensor = tensor[..., ::shared, :, :]  # (..., K/V head, token, d_head)\n",
        "",
    ),
    "K/V heads dealt out in turn": ("tensor[..., ::shared, :, :]", "tensor[..., : self.n_kv_heads, :, :]"),
    "query heads dealt out in turn": (
        "q.unflatten(-3, (self.n_kv_heads, shared)).flatten(",
        "q.unflatten(-3, (shared, self.n_kv_heads)).transpose(-4, -3).flatten(",
    ),
    "heads and queries of a group mixed up": (
        "mix.unflatten(-2, (shared, n_query)).flatten(-4, -3)",
        "mix.unflatten(-2, (n_query, shared)).transpose(-3, -2).flatten(-4, -3)",
    ),
    "W_o forgotten": ("return self.out_proj(merge_heads(mix))", "return merge_heads(mix)"),
    # blocks
    "norm order swapped": ("        if self.norm_first:\n", "        if not self.norm_first:\n"),
    "attention reads tokens as they are": (
        "return self.norm_attention(x) if self.norm_first else x",
        "return x",
    ),
    "attention always reads normalised tokens": (
        "return self.norm_attention(x) if self.norm_first else x",
        "return self.norm_attention(x)",
    ),
    "norms swapped": (
        "self.norm_attention, self.norm_feed_forward = norms",
        "self.norm_feed_forward, self.norm_attention = norms",
    ),
    "what came in forgotten": ("x = x + mixed\n", "x = mixed\n"),
    "what attention found forgotten": ("x = x + mixed\n", "x = x\n"),
    "what came in forgotten, norm first": (
        "return x + self.feed_forward(self.norm_feed_forward(x))",
        "return self.feed_forward(self.norm_feed_forward(x))",
    ),
    "what came in forgotten, sum first": (
        "self.norm_feed_forward(x + self.feed_forward(x))",
        "self.norm_feed_forward(self.feed_forward(x))",
    ),
    "norm on the wrong branch, norm first": (
        "return x + self.feed_forward(self.norm_feed_forward(x))",
        "return (x := self.norm_feed_forward(x)) + self.feed_forward(x)",
    ),
    "norm on the wrong branch, sum first": (
        "self.norm_feed_forward(x + self.feed_forward(x))",
        "x + self.norm_feed_forward(self.feed_forward(x))",
    ),
    "norm after attention forgotten": ("        x = self.norm_attention(x)\n", ""),
    "a block that ignores its mask": (
        "self.attention(self.seen(x), mask=mask, causal=causal)",
        "self.attention(self.seen(x), causal=causal)",
    ),
    "a block that looks ahead": (
        "self.attention(self.seen(x), mask=mask, causal=causal)",
        "self.attention(self.seen(x), mask=mask)",
    ),
    # stacks
    "the last norm forgotten": (
        "            x = block(x, mask, causal=causal)\n        return self.norm(x)",
        "            x = block(x, mask, causal=causal)\n        return x",
    ),
    "a last norm that nobody asked for": (
        "nn.Identity() if norm is None",
        "nn.LayerNorm(30).double() if norm is None",
    ),
    "the mask for the first block only": (
        "x = block(x, mask, causal=causal)",
        "x, mask = block(x, mask, causal=causal), None",
    ),
    "causal for the first block only": (
        "x = block(x, mask, causal=causal)",
        "x, causal = block(x, mask, causal=causal), False",
    ),
    "traced before the norm": ("return self.norm(x), Trace(", "return x, Trace("),
    "a trace without the mask": (
        "block.attention(seen[-1], mask=mask, causal=causal,",
        "block.attention(seen[-1], causal=causal,",
    ),
    "a trace that looks ahead": (
        "block.attention(seen[-1], mask=mask, causal=causal,",
        "block.attention(seen[-1], mask=mask,",
    ),
    "a trace of what came in, not of what is seen": (
        "seen.append(block.seen(x))\n            mixed, of_heads = block.attention(seen[-1]",
        "seen.append(x)\n            mixed, of_heads = block.attention(block.seen(x)",
    ),
    "a trace without its beginning": (
        "hidden, seen, weights = [x], [], []",
        "hidden, seen, weights = [], [], []",
    ),
    "a trace of what attention found": ("hidden.append(x)\n", "hidden.append(mixed)\n"),
    "weights averaged over the heads": (
        "weights.append(of_heads)",
        "weights.append(of_heads.mean(-3, keepdim=True).expand_as(of_heads))",
    ),
    "one cache for all blocks": (
        "cache.extend({} for _ in self.blocks)",
        "cache.extend([{}] * len(self.blocks))",
    ),
    "the last norm forgotten in reading on": (
        "of_block))\n        return self.norm(x)",
        "of_block))\n        return x",
    ),
    "reads on without the norm before": (
        "block.attention.read_on(block.seen(x), of_block)",
        "block.attention.read_on(x, of_block)",
    ),
    "any cache taken": ("if len(cache) != len(self.blocks):", "if False:"),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law):
    law(transformer)


def test_the_laws_hold_for_the_unchanged_copy():
    assert first_broken(load(SOURCE), checks()) is None


def checks():
    return ((law.__name__, law) for law in LAWS)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch(name):
    old, new = MUTANTS[name]
    assert SOURCE.count(old) == 1, (
        f"this mutant no longer fits transformer.py: {old!r} occurs {SOURCE.count(old)} times"
    )
    assert first_broken(load(SOURCE.replace(old, new)), checks()) is not None, "no law sees this bug"


@st.composite
def reading(draw):
    """Sizes of a layer, and how a sequence is cut into pieces."""
    few = partial(draw, st.integers(1, 3))
    n_kv_heads, group, half = few(), few(), few()
    pieces = draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    return {"n_heads": n_kv_heads * group, "n_kv_heads": n_kv_heads, "d_head": 2 * half}, pieces


@given(reading(), st.integers(0, 1000))
def test_any_sequence_read_on_in_any_pieces_is_the_sequence_read_at_once(case, seed):
    sizes, pieces = case
    layer = filled(RotaryAttention(7, base=20.0, **sizes), seed)
    x = torch.randn(2, sum(pieces), 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kept = {}
    read = torch.cat([layer.read_on(piece, kept) for piece in x.split(pieces, -2)], -2)
    near(read, layer(x, causal=True))
    assert kept["key"].shape == (2, sizes["n_kv_heads"], sum(pieces), sizes["d_head"])
