"""The laws of the stack: what surrounds attention, each law a function of the module to judge.

As in ``laws``, taking the module as an argument lets ``test_transformer`` ask the same laws about broken
copies. Truth comes from sums written out in NumPy, from complex numbers, from torch's own encoder, from
``scaled_dot_product_attention(enable_gqa=True)`` and from the Llama of ``transformers``.
"""

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from laws import near, numpy, says
from torch import nn

from manyheads import cost
from manyheads.attention import MultiHeadAttention

LAWS = []
D_MODEL, D_FF, N_TOKENS = 30, 17, 7  # a width that 3 and 5 and 15 heads divide, beside primes
SHARING = {"MHA": (3, 3), "GQA": (15, 5), "MQA": (5, 1)}  # query heads, K/V heads
PIECES = {"one by one": [1] * 7, "in pieces": [3, 1, 2, 1], "all at once": [7]}


def law(function):
    LAWS.append(function)
    return function


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(module, seed=0):
    """Random numbers in every parameter, norms and biases too, so that none of them can be forgotten."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            scale = D_MODEL**-0.5 if parameter.ndim > 1 else 1.0
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def rotary(transformer, sharing, base=50.0, d_head=None, seed=0):
    n_heads, n_kv_heads = SHARING[sharing]
    return filled(transformer.RotaryAttention(D_MODEL, n_heads, n_kv_heads, d_head=d_head, base=base), seed)


def stack(transformer, norm_first, kind="GQA", n_layers=3):
    """A stack of a decoder, rotary and gated, with norms of its own everywhere."""
    blocks = [
        transformer.Block(
            rotary(transformer, kind, d_head=6),
            transformer.GatedFeedForward(D_MODEL, D_FF),
            (nn.LayerNorm(D_MODEL), nn.LayerNorm(D_MODEL)),
            norm_first=norm_first,
        )
        for _ in range(n_layers)
    ]
    return filled(transformer.Stack(blocks, nn.LayerNorm(D_MODEL)))


def spun(x, positions, base):
    """Rotation written out: each pair of coordinates is a complex number, multiplied by e^(i·angle)."""
    x = numpy(x)
    half = x.shape[-1] // 2
    out = np.empty_like(x)
    for at in np.ndindex(x.shape[:-2]):
        for token, position in enumerate(positions):
            for i in range(half):
                angle = position / base ** (2 * i / x.shape[-1])
                turned = complex(x[at][token, i], x[at][token, i + half]) * np.exp(1j * angle)
                out[at][token, i], out[at][token, i + half] = turned.real, turned.imag
    return out


# ---------------------------------------------------------------------- feed-forward layers


@law
def feed_forward_is_the_sum_written_out_by_hand(transformer):
    x = draw(2, 3, D_MODEL)
    bends = {
        "gelu": (lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2, {}),
        "relu": (lambda z: max(z, 0.0), {"activation": F.relu}),
    }
    for bend, chosen in bends.values():
        layer = filled(transformer.FeedForward(D_MODEL, D_FF, **chosen))
        up, up_bias, down, down_bias = map(numpy, layer.parameters())
        inner = numpy(x) @ up.T + up_bias
        near(layer(x), np.vectorize(bend)(inner) @ down.T + down_bias)
    assert up.shape == (D_FF, D_MODEL)


@law
def gated_feed_forward_is_the_sum_written_out_by_hand(transformer):
    x, layer = draw(2, 3, D_MODEL), filled(transformer.GatedFeedForward(D_MODEL, D_FF))
    weights = {name: numpy(value) for name, value in layer.named_parameters()}
    assert weights.keys() == {"gate.weight", "up.weight", "down.weight"}  # no biases
    gate, up = numpy(x) @ weights["gate.weight"].T, numpy(x) @ weights["up.weight"].T
    near(layer(x), (gate / (1 + np.exp(-gate)) * up) @ weights["down.weight"].T)


@law
def feed_forward_layers_work_on_each_token_alone(transformer):
    x = draw(5, D_MODEL)
    for layer in (transformer.FeedForward(D_MODEL, D_FF), transformer.GatedFeedForward(D_MODEL, D_FF)):
        layer = filled(layer)
        near(layer(x), torch.stack([layer(token) for token in x]))


# ---------------------------------------------------------------------- rotation


@law
def rotation_is_a_product_of_complex_numbers(transformer):
    for d_head, base in itertools.product((2, 10), (10_000.0, 50.0)):
        x, positions = draw(2, 3, 5, d_head), [0, 1, 4, 11, 1013]
        found = transformer.rotate(x, torch.tensor(positions), base)
        near(found, spun(x, positions, base))
    near(transformer.rotate(x, torch.tensor(positions)), spun(x, positions, 10_000.0))


@law
def rotated_dot_products_depend_on_the_distance_only(transformer):
    query, key = draw(1, 10), draw(1, 10, seed=1)

    def score(i, j):
        turned = (transformer.rotate(x, torch.tensor([at]), 50.0) for x, at in ((query, i), (key, j)))
        return torch.dot(*(x[0] for x in turned))

    for distance in (0, 1, 5):
        near(score(100 + distance, 100), score(3 + distance, 3))
    assert abs(score(8, 3) - score(3, 8)) > 0.1  # before is not after
    assert abs(score(8, 3) - score(9, 3)) > 0.1


@law
def rotation_keeps_the_norm_and_position_0_keeps_everything(transformer):
    x = draw(2, 5, 10)
    near(transformer.rotate(x, torch.arange(5)).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(transformer.rotate(x, torch.zeros(5, dtype=torch.int64)), x)


@law
def angles_of_far_positions_are_exact_in_single_precision_too(transformer):
    x, far = draw(3, 10), torch.tensor([65_521, 131_071, 524_287])
    found = transformer.rotate(x.float(), far)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), torch.tensor(spun(x, far.tolist(), 10_000.0)), rtol=0, atol=1e-5
    )


@law
def an_odd_width_says_so(transformer):
    with says(ValueError, "pairs of numbers", "d_head must be even", "got 7"):
        transformer.rotate(draw(3, 7), torch.arange(3))


# ---------------------------------------------------------------------- rotary attention


@law
def rotary_attention_turns_queries_and_keys_and_shares_keys_and_values_as_torch_does(transformer):
    x = draw(2, N_TOKENS, D_MODEL)
    for sharing, (n_heads, n_kv_heads) in SHARING.items():
        layer = rotary(transformer, sharing, d_head=6)
        rows = layer.in_proj_weight.split([6 * n for n in (n_heads, n_kv_heads, n_kv_heads)])
        biases = layer.in_proj_bias.split([6 * n for n in (n_heads, n_kv_heads, n_kv_heads)])
        q, k, v = (
            F.linear(x, w, b).unflatten(-1, (-1, 6)).movedim(-2, -3)
            for w, b in zip(rows, biases, strict=True)
        )
        q, k = (torch.tensor(spun(t, range(N_TOKENS), 50.0)) for t in (q, k))
        mix = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        wanted = F.linear(mix.movedim(-3, -2).flatten(-2), layer.out_proj.weight, layer.out_proj.bias)
        near(layer(x, causal=True), wanted)
        near(layer(x, causal=True, return_weights=True)[0], wanted)
        found = layer.project(x, start=4)
        shared = n_heads // n_kv_heads
        near(found[0], spun(layer.project(x)[0], [4] * N_TOKENS, 50.0))  # turning twice adds the angles
        near(found[1], spun(k, [4] * N_TOKENS, 50.0).repeat(shared, -3))
        near(found[2], v.repeat_interleave(shared, -3))


@law
def what_is_read_on_is_what_is_read_at_once(transformer):
    for sharing, pieces, leading in itertools.product(SHARING, PIECES.values(), ((), (2,), (2, 3))):
        n_heads, n_kv_heads = SHARING[sharing]
        layer, x = rotary(transformer, sharing, d_head=6), draw(*leading, N_TOKENS, D_MODEL)
        cache, read, n_read = {}, [], 0
        for piece in x.split(pieces, -2):
            read.append(layer.read_on(piece, cache))
            n_read += piece.shape[-2]
            assert cache["key"].shape == cache["value"].shape == (*leading, n_kv_heads, n_read, 6)
        near(torch.cat(read, -2), layer(x, causal=True))
        assert cache.keys() == {"key", "value"}
        assert sum(kept.nbytes for kept in cache.values()) == cost.kv_cache_bytes(
            D_MODEL, n_heads, n_kv_heads, 6, n_tokens=N_TOKENS, batch=math.prod(leading), bytes_per_number=8
        )
        _, key, value = layer.project(x)
        near(cache["key"], key[..., :: n_heads // n_kv_heads, :, :])
        near(cache["value"], value[..., :: n_heads // n_kv_heads, :, :])


@law
def what_is_read_later_changes_nothing_that_was_read_before(transformer):
    layer, x = rotary(transformer, "GQA", d_head=6), draw(N_TOKENS, D_MODEL)
    changed = x.clone()
    changed[4:] = 3.0
    assert torch.allclose(layer.read_on(x, {})[:4], layer.read_on(changed, {})[:4], rtol=0, atol=1e-13)
    assert not torch.allclose(layer.read_on(x, {})[4:], layer.read_on(changed, {})[4:])


# ---------------------------------------------------------------------- block and stack


def torch_encoder(norm_first, activation, n_layers=3):
    """Torch's encoder, filled, and the parts of ours with the same weights."""
    layer = nn.TransformerEncoderLayer(
        D_MODEL, 5, D_FF, activation=activation, norm_first=norm_first, batch_first=True
    )
    return filled(nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(D_MODEL), enable_nested_tensor=False))


def as_ours(transformer, theirs, norm_first, activation):
    blocks = []
    for layer in theirs.layers:
        attention = MultiHeadAttention(D_MODEL, 5).double()
        attention.load_state_dict(layer.self_attn.state_dict())
        feed_forward = transformer.FeedForward(D_MODEL, D_FF, activation)
        feed_forward.up, feed_forward.down = layer.linear1, layer.linear2
        norms = (layer.norm1, layer.norm2)
        blocks.append(transformer.Block(attention, feed_forward, norms, norm_first=norm_first))
    return transformer.Stack(blocks, theirs.norm).double().eval()


@law
def blocks_and_stack_are_those_of_torch_whichever_comes_first_norm_or_sum(transformer):
    x = draw(2, N_TOKENS, D_MODEL)
    padding = torch.arange(N_TOKENS) < torch.tensor([N_TOKENS, 4])[:, None]
    forbidden = ~torch.ones(N_TOKENS, N_TOKENS, dtype=torch.bool).tril()
    for norm_first, activation in itertools.product((False, True), (F.gelu, F.relu)):
        theirs = torch_encoder(norm_first, activation)
        ours = as_ours(transformer, theirs, norm_first, activation)
        near(ours.blocks[0](x), theirs.layers[0](x))
        near(ours(x), theirs(x))
        near(ours(x, padding[:, None, :]), theirs(x, src_key_padding_mask=~padding))
        near(ours(x, causal=True), theirs(x, mask=forbidden))
        near(
            ours(x, padding[:, None, :], causal=True),
            theirs(x, mask=forbidden, src_key_padding_mask=~padding),
        )


@law
def without_a_last_norm_what_leaves_the_last_block_leaves_the_stack(transformer):
    x, blocks = draw(5, D_MODEL), stack(transformer, norm_first=True).blocks
    assert torch.equal(transformer.Stack(list(blocks))(x), blocks[2](blocks[1](blocks[0](x))))


@cache
def llama():
    """A small Llama of ``transformers``, filled: rotary, shared K/V heads, gated, RMS norms first."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=11, hidden_size=D_MODEL, intermediate_size=D_FF, num_hidden_layers=3,
        num_attention_heads=15, num_key_value_heads=5, head_dim=6, rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "default", "rope_theta": 50.0}, attn_implementation="eager",
    )  # fmt: skip
    return filled(LlamaModel(config))


def as_our_llama(transformer, theirs):
    blocks = []
    for layer in theirs.layers:
        part = layer.self_attn
        attention = transformer.RotaryAttention(D_MODEL, 15, 5, d_head=6, bias=False, base=50.0)
        attention.in_proj_weight = nn.Parameter(
            torch.cat([part.q_proj.weight, part.k_proj.weight, part.v_proj.weight])
        )
        attention.out_proj = part.o_proj
        feed_forward = transformer.GatedFeedForward(D_MODEL, D_FF).double()
        feed_forward.load_state_dict(
            {name.replace("_proj", ""): value for name, value in layer.mlp.state_dict().items()}
        )
        norms = [nn.RMSNorm(D_MODEL, eps=1e-3).double() for _ in range(2)]
        for ours, weight in zip(norms, (layer.input_layernorm, layer.post_attention_layernorm), strict=True):
            ours.load_state_dict(weight.state_dict())
        blocks.append(transformer.Block(attention, feed_forward, norms, norm_first=True))
    last = nn.RMSNorm(D_MODEL, eps=1e-3).double()
    last.load_state_dict(theirs.norm.state_dict())
    return transformer.Stack(blocks, last).double().eval()


@law
def a_decoder_is_the_llama_of_transformers(transformer):
    """Their angles are float32, whatever the model is: hence the tolerance."""
    theirs, x = llama(), draw(2, N_TOKENS, D_MODEL)
    found = theirs(inputs_embeds=x, output_hidden_states=True, output_attentions=True, use_cache=False)
    ours = as_our_llama(transformer, theirs)
    out, trace = ours.trace(x, causal=True)

    def close(one, other):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)

    close(out, found.last_hidden_state)
    close(ours(x, causal=True), found.last_hidden_state)
    for mine, yours in zip(trace.hidden[:-1], found.hidden_states[:-1], strict=True):
        close(mine, yours)
    for mine, yours in zip(trace.weights, found.attentions, strict=True):
        close(mine, yours)
    kept = []
    close(
        torch.cat([ours.read_on(piece, kept) for piece in x.split([3, 1, 3], 1)], 1), found.last_hidden_state
    )


@law
def a_trace_is_the_forward_pass_and_says_what_it_says(transformer):
    x = draw(2, N_TOKENS, D_MODEL)
    mask = torch.rand(2, N_TOKENS, N_TOKENS, generator=torch.Generator().manual_seed(0)) < 0.7
    mask |= torch.eye(N_TOKENS, dtype=torch.bool)
    for norm_first, causal in itertools.product((False, True), repeat=2):
        model = stack(transformer, norm_first)
        out, trace = model.trace(x, mask, causal=causal)
        near(out, model(x, mask, causal=causal))
        assert [len(part) for part in (trace.hidden, trace.seen, trace.weights)] == [4, 3, 3]
        assert torch.equal(trace.hidden[0], x)
        near(out, model.norm(trace.hidden[-1]))
        allowed = mask & torch.ones(N_TOKENS, N_TOKENS, dtype=torch.bool).tril() if causal else mask
        for i, block in enumerate(model.blocks):
            near(trace.hidden[i + 1], block(trace.hidden[i], mask, causal=causal))
            near(trace.seen[i], block.norm_attention(trace.hidden[i]) if norm_first else trace.hidden[i])
            query, key, _ = block.attention.project(trace.seen[i])
            powers = (query @ key.mT / math.sqrt(6)).exp() * allowed.unsqueeze(1)
            near(trace.weights[i], powers / powers.sum(-1, keepdim=True))


@law
def a_stack_reads_on_as_it_reads_at_once(transformer):
    for kind, pieces, norm_first in itertools.product(SHARING, PIECES.values(), (False, True)):
        model, x = stack(transformer, norm_first, kind), draw(2, N_TOKENS, D_MODEL)
        kept = []
        read = torch.cat([model.read_on(piece, kept) for piece in x.split(pieces, -2)], -2)
        near(read, model(x, causal=True))
        assert [of_block["key"].shape[-2] for of_block in kept] == [N_TOKENS] * 3
        n_heads, n_kv_heads = SHARING[kind]
        size = sum(tensor.nbytes for of_block in kept for tensor in of_block.values())
        assert size == cost.kv_cache_bytes(
            D_MODEL, n_heads, n_kv_heads, 6, n_tokens=N_TOKENS, n_layers=3, batch=2, bytes_per_number=8
        )


@law
def a_cache_of_another_stack_is_refused(transformer):
    kept = []
    stack(transformer, norm_first=True, n_layers=2).read_on(draw(3, D_MODEL), kept)
    with pytest.raises(ValueError, match="the stack has 3 blocks, the cache 2 entries"):
        stack(transformer, norm_first=True).read_on(draw(3, D_MODEL), kept)
