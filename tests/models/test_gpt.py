"""GPT is what transformers makes of the same file; it can't see the future, and its cache changes nothing."""

import re
from dataclasses import replace
from functools import cache
from unicodedata import category

import gguf
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from manyheads import cost, gpt
from manyheads.attention import causal_mask
from manyheads.gpt import Gpt
from manyheads.packages import weights_file
from manyheads.transformer import RotaryAttention, rotate

FILE = next(iter(gpt.SMOLLM2.files))
SENTENCES = [
    "The cat that was sitting on the mat looked happy.",
    "In 1492,  3 ships\tsailed; they'd 87 men – ¿aboard?",
]


@pytest.fixture(scope="module", autouse=True)
def read_once():
    """To parse the head of the file takes seconds, and all who open it do: here the first does it for all."""
    with pytest.MonkeyPatch.context() as patch:
        for slow in ("GGUFReader", "get_tensor_name_map"):
            patch.setattr(gguf, slow, cache(getattr(gguf, slow)))
        yield


@pytest.fixture(scope="module")
def smollm2():
    return gpt.load_smollm2()


@pytest.fixture(scope="module")
def theirs(smollm2):
    """transformers' own model, filled by transformers' own reader of the file, which also turns Q and K."""
    path = weights_file(gpt.SMOLLM2.folder, FILE)
    config = LlamaConfig(**load_gguf_checkpoint(path)["config"], attn_implementation="eager")
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    weights = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    lacking = model.load_state_dict(weights, strict=False, assign=True)
    assert lacking.missing_keys == ["lm_head.weight"]
    assert not lacking.unexpected_keys
    model.tie_weights()  # it is the embedding
    model.model.rotary_emb = LlamaRotaryEmbedding(config)  # whose frequencies no file holds
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def their_tokenizer():
    return AutoTokenizer.from_pretrained(weights_file(gpt.SMOLLM2.folder, FILE).parent, gguf_file=FILE)


def ids_of(model, text):
    return torch.tensor([model.tokenizer.encode(text).ids])


@pytest.fixture
def small():
    """A decoder whose sizes are all different, and whose weights are double."""
    torch.manual_seed(0)
    sizes = {"n_words": 53, "d_model": 42, "d_ff": 29, "n_layers": 2, "n_heads": 3, "n_kv_heads": 1}
    return Gpt(**sizes, n_context=17).double().requires_grad_(False)


def ids(n=11, seed=1):
    return torch.randint(53, (2, n), generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------- the real one


@pytest.mark.parametrize("text", SENTENCES)
def test_smollm2_says_what_transformers_says(smollm2, theirs, text):
    tokens = ids_of(smollm2, text)
    truth = theirs(tokens, output_attentions=True, output_hidden_states=True)
    logits, trace = smollm2.trace(tokens)
    torch.testing.assert_close(logits, truth.logits, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(smollm2(tokens), truth.logits, atol=2e-4, rtol=1e-4)
    assert len(trace.weights) == len(truth.attentions) == 30
    for ours, of_layer in zip(trace.weights, truth.attentions, strict=True):
        assert ours.shape[1] == 9
        torch.testing.assert_close(ours, of_layer, atol=2e-5, rtol=0)
    for ours, of_layer in zip(trace.hidden[:-1], truth.hidden_states[:-1], strict=True):
        torch.testing.assert_close(ours, of_layer, atol=1e-3, rtol=1e-4)


def test_smollm2_knows_english(smollm2):
    written = smollm2.generate(ids_of(smollm2, "The capital of France is"), 3)
    assert smollm2.tokenizer.decode(written[0].tolist()).startswith("The capital of France is Paris")


def test_smollm2_has_the_shape_that_is_told(smollm2):
    attention = smollm2.stack.blocks[0].attention
    assert (len(smollm2.stack.blocks), attention.n_heads, attention.n_kv_heads) == (30, 9, 3)
    assert (attention.d_model, attention.d_head, smollm2.n_context) == (576, 64, 8192)
    assert sum(p.numel() for p in smollm2.parameters()) == 134_515_008
    assert not any(p.requires_grad for p in smollm2.parameters())


def test_a_cache_changes_nothing_in_smollm2(smollm2):
    tokens, cache = ids_of(smollm2, SENTENCES[0]), []
    pieces = [smollm2.read_on(piece, cache) for piece in tokens.split([5, 1, 1, 4], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), smollm2(tokens), atol=2e-4, rtol=1e-4)
    held = sum(tensor.nbytes for of_block in cache for tensor in of_block.values())
    assert held == cost.kv_cache_bytes(576, 9, 3, n_tokens=tokens.shape[1], n_layers=30)


# ---------------------------------------------------------------------- its tokenizer

TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cn", "Co", "Cc"), include_characters="\n\t"), max_size=40
)


def piecewise(tokenizer, text):
    """Tokens as SmolLM wants them: each digit alone. transformers, reading a GGUF, leaves that step out."""
    pieces = [text[:0]]
    for character in text:
        alone = category(character).startswith("N") or category(pieces[-1][-1:] or "x").startswith("N")
        pieces = [*pieces, character] if alone else [*pieces[:-1], pieces[-1] + character]
    return [i for piece in pieces if piece for i in tokenizer(piece).input_ids]


@given(TEXTS)
@settings(max_examples=200)
@example("")
@example("\n\n  two\tspaces  ")
@example("they'd  have 12345  or ½, in 1999  ")
@example("東京 ist schön 🙂")
def test_its_tokens_are_those_of_transformers(smollm2, their_tokenizer, text):
    found = smollm2.tokenizer.encode(text).ids
    assert found == piecewise(their_tokenizer, text)
    assert smollm2.tokenizer.decode(found, skip_special_tokens=False) == text
    if not any(category(character).startswith("N") for character in text):
        assert found == their_tokenizer(text).input_ids


def test_spaces_before_a_digit_stay_together(smollm2, their_tokenizer):
    """Where the missing step shows: it changes tokens, and this is why `piecewise` is needed."""
    assert smollm2.tokenizer.encode("and   37").tokens == ["and", "ĠĠĠ", "3", "7"]
    assert their_tokenizer.tokenize("and   37") == ["and", "ĠĠ", "Ġ", "3", "7"]


def test_a_control_character_that_is_no_word_leaves_nothing(smollm2, their_tokenizer):
    assert smollm2.tokenizer.encode("a\x06b").ids == their_tokenizer("a\x06b").input_ids
    assert smollm2.tokenizer.encode("a\x06b").tokens == ["a", "b"]


def test_words_of_command_are_one_token(smollm2, their_tokenizer):
    chat = "<|im_start|>user\nWho are you?<|im_end|>\n<|endoftext|>"
    assert smollm2.tokenizer.encode(chat).ids == their_tokenizer(chat).input_ids
    words = [smollm2.tokenizer.id_to_token(i) for i in range(17)]
    assert all(re.fullmatch(r"<\|?\w+\|?>", word) for word in words)
    assert smollm2.tokenizer.encode("".join(words)).ids == list(range(17))


# ---------------------------------------------------------------------- any decoder


def test_the_future_changes_nothing(small):
    for at in range(11):
        one, other = ids(), ids()
        other[:, at] = (other[:, at] + 1) % 53
        before, after = small(one), small(other)
        torch.testing.assert_close(before[:, :at], after[:, :at], atol=1e-12, rtol=0)
        assert (before[:, at] - after[:, at]).abs().max() > 1e-3


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_cache_changes_nothing(lengths):
    torch.manual_seed(0)
    for n_kv_heads in (1, 3, 6):
        model = Gpt(53, 24, 29, 2, 6, n_kv_heads).double().requires_grad_(False)
        tokens, cache = ids(sum(lengths)), []
        pieces = [model.read_on(piece, cache) for piece in tokens.split(lengths, 1)]
        torch.testing.assert_close(torch.cat(pieces, 1), model(tokens), atol=1e-12, rtol=0)
        held = sum(tensor.nbytes for of_block in cache for tensor in of_block.values())
        formula = cost.kv_cache_bytes(
            24, 6, n_kv_heads, n_tokens=sum(lengths), n_layers=2, batch=2, bytes_per_number=8
        )
        assert held == formula


def test_greedy_writing_is_reading_and_taking_the_likeliest_again_and_again(small):
    slow = ids(3)
    for _ in range(5):
        slow = torch.cat([slow, small(slow)[:, -1:].argmax(-1)], 1)
    assert torch.equal(small.generate(ids(3), 5), slow)


@pytest.mark.parametrize("n_kv_heads", [1, 3, 9])
def test_shared_heads_are_torchs_grouped_query_attention(n_kv_heads):
    torch.manual_seed(0)
    d_head, layer = 10, RotaryAttention(63, 9, n_kv_heads, 10, bias=False, base=97.0).double()
    x = torch.randn(2, 7, 63, dtype=torch.float64)
    q, k, v = layer.in_proj_weight.split([9 * d_head, n_kv_heads * d_head, n_kv_heads * d_head])
    q, k, v = (F.linear(x, w).view(2, 7, -1, d_head).transpose(1, 2) for w in (q, k, v))
    q, k = (rotate(part, torch.arange(7), 97.0) for part in (q, k))
    mix = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    truth = mix.transpose(1, 2).reshape(2, 7, -1) @ layer.out_proj.weight.T
    torch.testing.assert_close(layer(x, causal=True), truth, atol=1e-12, rtol=0)
    torch.testing.assert_close(layer(x, mask=causal_mask(7)), truth, atol=1e-12, rtol=0)


def test_a_tied_model_has_one_matrix_of_words_and_an_untied_one_two():
    torch.manual_seed(0)
    tied, free = (Gpt(53, 24, 29, 1, 3, tied=tied) for tied in (True, False))
    count = [sum(p.numel() for p in model.parameters()) for model in (tied, free)]
    assert count[1] - count[0] == 53 * 24
    x = torch.randn(5, 24)
    torch.testing.assert_close(tied.logits(x), x @ tied.word.weight.T)
    torch.testing.assert_close(free.logits(x), x @ free.output.weight.T)


def test_errors_say_what_to_do(small):
    with pytest.raises(ValueError, match="at least one token to read, got none"):
        small(ids(0))
    with pytest.raises(ValueError, match="at most 17 tokens, got 18: cut the text"):
        small(ids(18))
    cache = []
    small.read_on(ids(17), cache)
    with pytest.raises(ValueError, match="at most 17 tokens, got 18"):
        small.read_on(ids(1), cache)
    for wrong, span in ((53, "0 to 53"), (-1, "-1 to 0")):
        with pytest.raises(IndexError, match=f"between 0 and 52, got {span}"):
            small(torch.tensor([[0, wrong]]))
    assert small(ids(1)).shape == (2, 1, 53)
    assert small(ids(17)).shape == (2, 17, 53)


def test_smollm2_says_what_it_cannot_read(smollm2):
    with pytest.raises(ValueError, match="at least one token"):
        smollm2(ids_of(smollm2, "").long())
    with pytest.raises(ValueError, match="at most 8192 tokens, got 8193"):
        smollm2(torch.zeros(1, 8193, dtype=torch.long))
    with pytest.raises(IndexError, match="between 0 and 49151, got 49152 to 49152"):
        smollm2(torch.tensor([[49_152]]))
    assert smollm2(torch.tensor([[0]])).shape == (1, 1, 49_152)


def test_another_file_is_refused(monkeypatch):
    monkeypatch.setattr(gpt, "SMOLLM2", replace(gpt.SMOLLM2, files={FILE: "0" * 64}))
    with pytest.raises(ValueError, match=f"{FILE} must have SHA-256 0000"):
        gpt.load_smollm2()
