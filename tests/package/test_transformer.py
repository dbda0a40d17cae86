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

# name: (what stands in transformer.py, what a bug puts there, a law that must see it)
MUTANTS = {
    # feed-forward layers
    "no bend": ("self.activation(self.up(x))", "self.up(x)", "feed_forward_is_the_sum_written_out_by_hand"),
    "own bend ignored": (
        "self.activation = activation",
        "self.activation = F.gelu",
        "feed_forward_is_the_sum_written_out_by_hand",
    ),
    "another bend by default": ("= F.gelu):", "= F.relu):", "feed_forward_is_the_sum_written_out_by_hand"),
    "gate and up swapped": (
        "F.silu(self.gate(x)) * self.up(x)",
        "self.gate(x) * F.silu(self.up(x))",
        "gated_feed_forward_is_the_sum_written_out_by_hand",
    ),
    "a sigmoid gate": (
        "F.silu(self.gate(x))",
        "self.gate(x).sigmoid()",
        "gated_feed_forward_is_the_sum_written_out_by_hand",
    ),
    "gate added": (
        "F.silu(self.gate(x)) * self.up(x)",
        "F.silu(self.gate(x)) + self.up(x)",
        "gated_feed_forward_is_the_sum_written_out_by_hand",
    ),
    "a gate with a bias": (
        "self.gate, self.up = nn.Linear(d_model, d_ff, bias=False)",
        "self.gate, self.up = nn.Linear(d_model, d_ff)",
        "gated_feed_forward_is_the_sum_written_out_by_hand",
    ),
    # rotation
    "rotation backwards": (
        "one * cos - two * sin, two * cos + one * sin",
        "one * cos + two * sin, two * cos - one * sin",
        "rotation_is_a_product_of_complex_numbers",
    ),
    "a mirror, not a rotation": (
        "two * cos + one * sin",
        "two * cos - one * sin",
        "rotation_is_a_product_of_complex_numbers",
    ),
    "neighbours paired": (
        "one, two = x.chunk(2, -1)",
        "one, two = x[..., ::2], x[..., 1::2]",
        "rotation_is_a_product_of_complex_numbers",
    ),
    "planes that slow down twice as fast": (
        "-planes / len(planes)",
        "-2 * planes / len(planes)",
        "rotation_is_a_product_of_complex_numbers",
    ),
    "planes that turn ever faster": (
        "(-planes / len(planes))",
        "(planes / len(planes))",
        "rotation_is_a_product_of_complex_numbers",
    ),
    "planes counted from 1": (
        "torch.arange(x.shape[-1] // 2,",
        "torch.arange(1, x.shape[-1] // 2 + 1,",
        "rotation_is_a_product_of_complex_numbers",
    ),
    "base ignored": (
        "double() * base **",
        "double() * 10_000.0 **",
        "rotation_is_a_product_of_complex_numbers",
    ),
    "angles in half the digits": (
        "dtype=torch.float64)\n    angles = positions[:, None].double()",
        "dtype=x.dtype)\n    angles = positions[:, None].to(x.dtype)",
        "angles_of_far_positions_are_exact_in_single_precision_too",
    ),
    "odd widths taken": ("if x.shape[-1] % 2:", "if False:", "an_odd_width_says_so"),
    # rotary attention
    "values rotated": (
        "        return q, k, v\n",
        "        return q, k, rotate(v, torch.arange(start, start + v.shape[-2]), self.base)\n",
        "rotary_attention_turns_queries_and_keys_and_shares_keys_and_values_as_torch_does",
    ),
    "keys not rotated": (
        "q, k = (\n            rotate(x",
        "q, _ = (\n            rotate(x",
        "rotary_attention_turns_queries_and_keys_and_shares_keys_and_values_as_torch_does",
    ),
    "queries not rotated": (
        "q, k = (\n            rotate(x",
        "_, k = (\n            rotate(x",
        "rotary_attention_turns_queries_and_keys_and_shares_keys_and_values_as_torch_does",
    ),
    "base of the layer forgotten": (
        ", device=x.device), self.base)",
        ", device=x.device))",
        "rotary_attention_turns_queries_and_keys_and_shares_keys_and_values_as_torch_does",
    ),
    "every piece starts at 0": (
        "torch.arange(start, start + x.shape[-2]",
        "torch.arange(x.shape[-2]",
        "rotary_attention_turns_queries_and_keys_and_shares_keys_and_values_as_torch_does",
    ),
    "positions counted backwards": (
        "torch.arange(start, start + x.shape[-2], device=x.device)",
        "torch.arange(start, start + x.shape[-2], device=x.device).flip(0)",
        "rotary_attention_turns_queries_and_keys_and_shares_keys_and_values_as_torch_does",
    ),
    # reading on
    "start forgotten": (
        "self.project(x, start=start)",
        "self.project(x)",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "start one too late": (
        'start = cache["key"].shape[-2] if',
        'start = cache["key"].shape[-2] + 1 if',
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "start counts heads": (
        'start = cache["key"].shape[-2] if',
        'start = cache["key"].shape[-3] if',
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "the past forgotten": (
        "torch.cat([cache[name], tensor], -2) if start else tensor",
        "tensor",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "the past after the present": (
        "[cache[name], tensor], -2",
        "[tensor, cache[name]], -2",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "keys and values swapped in the cache": (
        '("key", "value"), new',
        '("value", "key"), new',
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "the values of the keys": (
        'attend(q, cache["key"], cache["value"]',
        'attend(q, cache["key"], cache["key"]',
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "the future of a piece seen": (
        " if n_query > 1 else None\n",
        " if False else None\n",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "the present unseen": (
        "causal_mask(n_query, start + n_query)",
        "causal_mask(n_query, start + n_query).roll(-1, -1)",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "the causal mask of the group forgotten": (
        ".repeat(shared, 1)",
        ".repeat_interleave(shared, 0)",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "a cache that is repeated for every query head": (
        "            tensor = tensor[..., ::shared, :, :]  # (..., K/V head, token, d_head)\n",
        "",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "K/V heads dealt out in turn": (
        "tensor[..., ::shared, :, :]",
        "tensor[..., : self.n_kv_heads, :, :]",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "query heads dealt out in turn": (
        "q.unflatten(-3, (self.n_kv_heads, shared)).flatten(",
        "q.unflatten(-3, (shared, self.n_kv_heads)).transpose(-4, -3).flatten(",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "heads and queries of a group mixed up": (
        "mix.unflatten(-2, (shared, n_query)).flatten(-4, -3)",
        "mix.unflatten(-2, (n_query, shared)).transpose(-3, -2).flatten(-4, -3)",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    "W_o forgotten": (
        "return self.out_proj(merge_heads(mix))",
        "return merge_heads(mix)",
        "what_is_read_on_is_what_is_read_at_once",
    ),
    # blocks
    "norm order swapped": (
        "        if self.norm_first:\n",
        "        if not self.norm_first:\n",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "attention reads tokens as they are": (
        "return self.norm_attention(x) if self.norm_first else x",
        "return x",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "attention always reads normalised tokens": (
        "return self.norm_attention(x) if self.norm_first else x",
        "return self.norm_attention(x)",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "norms swapped": (
        "self.norm_attention, self.norm_feed_forward = norms",
        "self.norm_feed_forward, self.norm_attention = norms",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "what came in forgotten": (
        "x = x + mixed\n",
        "x = mixed\n",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "what attention found forgotten": (
        "x = x + mixed\n",
        "x = x\n",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "what came in forgotten, norm first": (
        "return x + self.feed_forward(self.norm_feed_forward(x))",
        "return self.feed_forward(self.norm_feed_forward(x))",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "what came in forgotten, sum first": (
        "self.norm_feed_forward(x + self.feed_forward(x))",
        "self.norm_feed_forward(self.feed_forward(x))",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "norm on the wrong branch, norm first": (
        "return x + self.feed_forward(self.norm_feed_forward(x))",
        "return (x := self.norm_feed_forward(x)) + self.feed_forward(x)",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "norm on the wrong branch, sum first": (
        "self.norm_feed_forward(x + self.feed_forward(x))",
        "x + self.norm_feed_forward(self.feed_forward(x))",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "norm after attention forgotten": (
        "        x = self.norm_attention(x)\n",
        "",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "a block that ignores its mask": (
        "self.attention(self.seen(x), mask=mask, causal=causal)",
        "self.attention(self.seen(x), causal=causal)",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "a block that looks ahead": (
        "self.attention(self.seen(x), mask=mask, causal=causal)",
        "self.attention(self.seen(x), mask=mask)",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    # stacks
    "the last norm forgotten": (
        "            x = block(x, mask, causal=causal)\n        return self.norm(x)",
        "            x = block(x, mask, causal=causal)\n        return x",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "a last norm that nobody asked for": (
        "nn.Identity() if norm is None",
        "nn.LayerNorm(30).double() if norm is None",
        "without_a_last_norm_what_leaves_the_last_block_leaves_the_stack",
    ),
    "the mask for the first block only": (
        "x = block(x, mask, causal=causal)",
        "x, mask = block(x, mask, causal=causal), None",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "causal for the first block only": (
        "x = block(x, mask, causal=causal)",
        "x, causal = block(x, mask, causal=causal), False",
        "blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum",
    ),
    "traced before the norm": (
        "return self.norm(x), Trace(",
        "return x, Trace(",
        "a_decoder_is_the_llama_of_transformers",
    ),
    "a trace without the mask": (
        "block.attention(seen[-1], mask=mask, causal=causal,",
        "block.attention(seen[-1], causal=causal,",
        "a_trace_is_the_forward_pass_and_says_what_it_says",
    ),
    "a trace that looks ahead": (
        "block.attention(seen[-1], mask=mask, causal=causal,",
        "block.attention(seen[-1], mask=mask,",
        "a_decoder_is_the_llama_of_transformers",
    ),
    "a trace of what came in, not of what is seen": (
        "seen.append(block.seen(x))\n            mixed, of_heads = block.attention(seen[-1]",
        "seen.append(x)\n            mixed, of_heads = block.attention(block.seen(x)",
        "a_trace_is_the_forward_pass_and_says_what_it_says",
    ),
    "a trace without its beginning": (
        "hidden, seen, weights = [x], [], []",
        "hidden, seen, weights = [], [], []",
        "a_decoder_is_the_llama_of_transformers",
    ),
    "a trace of what attention found": (
        "hidden.append(x)\n",
        "hidden.append(mixed)\n",
        "a_decoder_is_the_llama_of_transformers",
    ),
    "weights averaged over the heads": (
        "weights.append(of_heads)",
        "weights.append(of_heads.mean(-3, keepdim=True).expand_as(of_heads))",
        "a_decoder_is_the_llama_of_transformers",
    ),
    "one cache for all blocks": (
        "cache.extend({} for _ in self.blocks)",
        "cache.extend([{}] * len(self.blocks))",
        "a_decoder_is_the_llama_of_transformers",
    ),
    "the last norm forgotten in reading on": (
        "of_block))\n        return self.norm(x)",
        "of_block))\n        return x",
        "a_decoder_is_the_llama_of_transformers",
    ),
    "reads on without the norm before": (
        "block.attention.read_on(block.seen(x), of_block)",
        "block.attention.read_on(x, of_block)",
        "a_decoder_is_the_llama_of_transformers",
    ),
    "any cache taken": (
        "if len(cache) != len(self.blocks):",
        "if False:",
        "a_cache_of_another_stack_is_refused",
    ),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law):
    law(transformer)


def test_the_laws_hold_for_the_unchanged_copy():
    assert first_broken(load(SOURCE), checks()) is None


def checks(of=None):
    """Name and call of every law, or of one."""
    return ((law.__name__, law) for law in LAWS if of in (None, law.__name__))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch(name):
    old, new, law = MUTANTS[name]
    assert SOURCE.count(old) == 1, (
        f"this mutant no longer fits transformer.py: {old!r} occurs {SOURCE.count(old)} times"
    )
    assert first_broken(load(SOURCE.replace(old, new)), checks(law)) == law, "the law doesn't see this bug"


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
