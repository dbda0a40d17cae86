"""Bugs planted in BERT and in GPT, one at a time; what transformers makes of the same weights shows each.

``test_transformer`` does the same to the stack that they share, and ``test_vit`` to the vision transformer.
BERT's truth is the model that ``transformers`` makes of the same files; GPT's is a small Llama of
``transformers``, handed over as llama.cpp writes it into a file: rows of queries and keys in another order.
"""

import inspect
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from planted import load
from transformers import AlbertModel, BertModel, LlamaConfig, LlamaForCausalLM

from manyheads import bert, gpt
from manyheads.packages import weights_file

TEXTS = ["The cat that was sitting on the mat looked happy.", "", "Who, then, asked the seven (7) sisters?"]
REACTIONS = ["CC(=O)O.OCC>>CC(=O)OCC", "c1ccc(Br)cc1.OB(O)c1ccc[nH]1>>c1ccc(-c2ccc[nH]2)cc1"]

# name: (what stands in the module, what a bug puts there)
IN_BERT = {
    "norms before": ("norm_first=False", "norm_first=True"),
    "another epsilon in the first norm": (
        "nn.LayerNorm(d_narrow, eps=1e-12)",
        "nn.LayerNorm(d_narrow, eps=1e-3)",
    ),
    "words not normalised": ("self.norm(self.word(ids)", "(self.word(ids)"),
    "positions forgotten": (" + self.position.weight[:n_tokens]", ""),
    "positions from the end": ("self.position.weight[:n_tokens]", "self.position.weight[-n_tokens:]"),
    "positions counted from 1": ("self.position.weight[:n_tokens]", "self.position.weight[1 : n_tokens + 1]"),
    "positions after the norm": (
        "self.norm(self.word(ids) + self.position.weight[:n_tokens])",
        "self.norm(self.word(ids)) + self.position.weight[:n_tokens]",
    ),
    "first text taken for the second": (
        'file["embeddings.token_type_embeddings.weight"][0]',
        'file["embeddings.token_type_embeddings.weight"][1]',
    ),
    "no word about which text": (
        'file["embeddings.position_embeddings.weight"] + first',
        'file["embeddings.position_embeddings.weight"]',
    ),
    "mask forgotten": (
        "return self.stack(self.embed(ids), None if mask is None else mask[:, None, :])",
        "return self.stack(self.embed(ids))",
    ),
    "mask inverted": (
        "return self.stack(self.embed(ids), None if mask is None else mask[:, None, :])",
        "return self.stack(self.embed(ids), None if mask is None else ~mask[:, None, :])",
    ),
    "mask of the queries": (
        "return self.stack(self.embed(ids), None if mask is None else mask[:, None, :])",
        "return self.stack(self.embed(ids), None if mask is None else mask[:, :, None])",
    ),
    "queries and keys swapped": (
        '[f"attention.self.{part}" for part in ("query", "key", "value")]',
        '[f"attention.self.{part}" for part in ("key", "query", "value")]',
    ),
    "keys and values swapped": (
        '[f"attention.self.{part}" for part in ("query", "key", "value")]',
        '[f"attention.self.{part}" for part in ("query", "value", "key")]',
    ),
    "norms swapped": (
        '"norm_attention": ["attention.output.LayerNorm"]',
        '"norm_attention": ["output.LayerNorm"]',
    ),
    "every layer the first": (
        'f"encoder.layer.{i}." for i in range(6)',
        '"encoder.layer.0." for i in range(6)',
    ),
    "other heads": (
        "d_model=384, n_heads=12, d_ff=1536",
        "d_model=384, n_heads=6, d_ff=1536",
    ),
    "chemistry with other heads": ('"d_model": 256, "n_heads": 8', '"d_model": 256, "n_heads": 4'),
}
IN_GPT = {
    "norms after": ("norm_first=True", "norm_first=False"),
    "layer norm for RMS norm": (
        "(nn.RMSNorm(d_model, eps), nn.RMSNorm(d_model, eps))",
        "(nn.LayerNorm(d_model, eps, bias=False), nn.LayerNorm(d_model, eps, bias=False))",
    ),
    "the last norm forgotten": (
        "            nn.RMSNorm(d_model, eps),\n        )\n",
        "            None,\n        )\n",
    ),
    "a base of its own": ("bias=False, base=base)", "bias=False)"),
    "no shared heads": (
        "RotaryAttention(d_model, n_heads, n_kv_heads=n_kv_heads, bias=False",
        "RotaryAttention(d_model, n_heads, bias=False",
    ),
    "the future seen": ("self.stack(self.embed(ids), causal=True)", "self.stack(self.embed(ids))"),
    "the future seen in a trace": (
        "self.stack.trace(self.embed(ids), causal=True)",
        "self.stack.trace(self.embed(ids))",
    ),
    "queries and keys in the order of the file": (
        "q, k = _halves(q, attention.n_heads), _halves(k, attention.n_kv_heads)",
        "pass",
    ),
    "keys in the order of the file": (
        "q, k = _halves(q, attention.n_heads), _halves(k, attention.n_kv_heads)",
        "q = _halves(q, attention.n_heads)",
    ),
    "rows turned the wrong way": ("(n_heads, -1, 2)).transpose(1, 2)", "(n_heads, 2, -1)).transpose(1, 2)"),
    "rows turned across the heads": ("_halves(q, attention.n_heads)", "_halves(q, 1)"),
    "keys and values swapped": (
        'for name in ("q", "k", "v", "output")',
        'for name in ("q", "v", "k", "output")',
    ),
    "gate and up swapped": (
        'take(f"blk.{i}.ffn_{part}")',
        "take(f\"blk.{i}.ffn_{dict(gate='up', up='gate', down='down')[part]}\")",
    ),
    "norms swapped": ('take(f"blk.{i}.attn_norm")', 'take(f"blk.{i}.ffn_norm")'),
    "a cache that forgets where it is": ("return self.word(ids)", "return self.word(ids) + start"),
}


# ---------------------------------------------------------------------- BERT


@cache
def truth(origin):
    """What transformers makes of the texts with the same files: in float64, to the last digits."""
    source = getattr(bert, origin)
    folder = weights_file(source.folder, next(iter(source.files))).parent
    kind = {"MINILM": BertModel, "RXNMAPPER": AlbertModel}[origin]
    model = kind.from_pretrained(
        folder, attn_implementation="eager", local_files_only=True, add_pooling_layer=False
    )
    loader, texts = LOADERS[origin]
    ids, mask = getattr(bert, loader)().tokenize(texts)
    with torch.no_grad():
        return ids, mask, model.double().eval()(input_ids=ids, attention_mask=mask.long()).last_hidden_state


LOADERS = {"MINILM": ("load_minilm", TEXTS), "RXNMAPPER": ("load_rxnmapper", REACTIONS)}


def bert_is_right(module):
    for origin, (loader, _) in LOADERS.items():
        ids, mask, wanted = truth(origin)
        found = getattr(module, loader)(torch.float64)(ids, mask)
        assert torch.allclose(found[mask], wanted[mask], atol=1e-9), origin


# ---------------------------------------------------------------------- GPT

SIZES = {"n_words": 53, "d_model": 36, "d_ff": 29, "n_layers": 2, "n_heads": 6, "n_kv_heads": 2}


@cache
def llama():
    """A small decoder of transformers with random weights, and what it says."""
    config = LlamaConfig(
        vocab_size=53, hidden_size=36, intermediate_size=29, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-3, tie_word_embeddings=True, attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 50.0},
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    model = LlamaForCausalLM(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 4)
    ids = torch.randint(53, (2, 11), generator=generator)
    return model, ids, model(ids).logits


def as_llama_cpp_writes(weight, n_heads):
    """Rows of one head, written out: first half and second half of its coordinates, one by one in turn."""
    d_head = len(weight) // n_heads
    rows = [
        head * d_head + half * d_head // 2 + i
        for head in range(n_heads)
        for i in range(d_head // 2)
        for half in (0, 1)
    ]
    return weight[rows]


@cache
def file():
    """The small decoder under the names of a GGUF file."""
    model, _, _ = llama()
    named = {"token_embd": model.model.embed_tokens, "output_norm": model.model.norm}
    for i, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        named |= {
            f"blk.{i}.attn_v": attention.v_proj, f"blk.{i}.attn_output": attention.o_proj,
            f"blk.{i}.ffn_gate": mlp.gate_proj, f"blk.{i}.ffn_up": mlp.up_proj,
            f"blk.{i}.ffn_down": mlp.down_proj,
            f"blk.{i}.attn_norm": layer.input_layernorm, f"blk.{i}.ffn_norm": layer.post_attention_layernorm,
        }  # fmt: skip
    weights = {name: part.weight for name, part in named.items()}
    for i, layer in enumerate(model.model.layers):
        weights[f"blk.{i}.attn_q"] = as_llama_cpp_writes(layer.self_attn.q_proj.weight, 6)
        weights[f"blk.{i}.attn_k"] = as_llama_cpp_writes(layer.self_attn.k_proj.weight, 2)
    return SimpleNamespace(
        tensors=[
            SimpleNamespace(
                name=f"{name}.weight", data=np.float32(weight), tensor_type=GGMLQuantizationType.F32
            )
            for name, weight in weights.items()
        ]
    )


def gpt_is_right(module):
    """To 1e-4: the file holds float32, and the angles of transformers are float32."""
    _, ids, wanted = llama()
    model = module.Gpt(**SIZES, base=50.0, eps=1e-3)
    model.load_state_dict(dict(module._weights(file(), model, torch.float64)), assign=True)
    cache = []
    in_pieces = torch.cat([model.read_on(piece, cache) for piece in ids.split([4, 1, 6], 1)], 1)
    for found in (model(ids), model.trace(ids)[0], in_pieces):
        assert torch.allclose(found, wanted, atol=1e-4)


# ---------------------------------------------------------------------- the bugs


@pytest.mark.parametrize(("module", "is_right"), [(bert, bert_is_right), (gpt, gpt_is_right)])
def test_the_unchanged_copy_is_right(module, is_right):
    is_right(load(inspect.getsource(module)))


@pytest.mark.parametrize("bug", IN_BERT)
def test_a_bug_in_bert_is_seen(bug):
    is_seen(bert, IN_BERT[bug], bert_is_right)


@pytest.mark.parametrize("bug", IN_GPT)
def test_a_bug_in_gpt_is_seen(bug):
    is_seen(gpt, IN_GPT[bug], gpt_is_right)


def is_seen(module, bug, is_right):
    old, new = bug
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"this bug no longer fits: {old!r} occurs {source.count(old)} times"
    mutant = load(source.replace(old, new))
    with pytest.raises((AssertionError, RuntimeError, TypeError)):  # a crash is as good as a wrong number
        is_right(mutant)
