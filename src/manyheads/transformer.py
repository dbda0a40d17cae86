"""What surrounds attention in BERT, GPT and ViT alike: one block, one stack, and what differs between them.

A block is put together from parts, so that the families differ in the parts that they choose and not in
the code that runs: BERT takes ``MultiHeadAttention``, ``FeedForward`` and norms after the sum, ViT and GPT
take norms before, and a decoder of the Llama type takes ``RotaryAttention``, ``GatedFeedForward`` and
``nn.RMSNorm``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyheads.attention import MultiHeadAttention, attend, causal_mask, merge_heads


class FeedForward(nn.Module):
    """Let each token work on what attention brought it, alone: widen, bend, narrow.

    Parameters
    ----------
    d_model, d_ff : int
        Width of the tokens, and of the layer between.
    activation : callable
        The bend.

    Source: Vaswani et al. 2017, section 3.3; Hendrycks & Gimpel 2016 (GELU).
    """

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor] = F.gelu):
        super().__init__()
        self.up, self.down = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Work on each token.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)

        Returns
        -------
        Tensor of shape (..., token, d_model)
        """
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(nn.Module):
    """The feed-forward layer of decoders of the Llama type: one branch says how much of the other passes.

    Parameters
    ----------
    d_model, d_ff : int

    Source: Shazeer 2020 (SwiGLU, without biases).
    """

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.gate, self.up = nn.Linear(d_model, d_ff, bias=False), nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Work on each token.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)

        Returns
        -------
        Tensor of shape (..., token, d_model)
        """
        return self.down(F.silu(self.gate(x)) * self.up(x))


def rotate(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Turn each vector by angles that grow with its position, so that a dot product feels the distance only.

    Numbers i and i + d_head / 2 are the two coordinates of plane i.

    Parameters
    ----------
    x : Tensor of shape (..., token, d_head)
        Queries or keys.
    positions : Tensor of shape (token,)
    base : float
        Plane i turns by base^(-2i / d_head) radians a position.

    Returns
    -------
    Tensor of shape (..., token, d_head)

    Raises
    ------
    ValueError
        If the width is odd: planes have two coordinates.

    Source: Su et al. 2021.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"rotation works on pairs of numbers, so d_head must be even, got {x.shape[-1]}")
    planes = torch.arange(x.shape[-1] // 2, device=x.device, dtype=torch.float64)
    angles = positions[:, None].double() * base ** (-planes / len(planes))  # (token, plane)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    one, two = x.chunk(2, -1)
    return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


class RotaryAttention(MultiHeadAttention):
    """Multi-head attention of a decoder: rotated queries and keys, and a cache of what was read before.

    Parameters
    ----------
    *sizes, **options
        As in :class:`manyheads.attention.MultiHeadAttention`.
    base : float
        As in :func:`rotate`.

    Source: Su et al. 2021; Ainslie et al. 2023 (shared K/V heads).
    """

    def __init__(self, *sizes: int, base: float = 10_000.0, **options):
        super().__init__(*sizes, **options)
        self.base = base

    def project(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None, *, start: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Make queries, keys and values, and rotate queries and keys to their positions.

        Parameters
        ----------
        query, key, value
            As in :meth:`manyheads.attention.MultiHeadAttention.project`.
        start : int
            Position of the first token.

        Returns
        -------
        q : Tensor of shape (..., head, query, d_head)
        k, v : Tensor of shape (..., head, key, d_head)
        """
        q, k, v = super().project(query, key, value)
        q, k = (
            rotate(x, torch.arange(start, start + x.shape[-2], device=x.device), self.base) for x in (q, k)
        )
        return q, k, v

    def read_on(self, x: Tensor, cache: dict[str, Tensor]) -> Tensor:
        """Mix new tokens with all that were read before, without making old keys and values again.

        Query heads that share a K/V head are laid side by side as queries of that one head, so that the
        cache is read as it is and never repeated.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)
            The new tokens only.
        cache : dict of Tensor
            ``key`` and ``value`` of shape (..., K/V head, token, d_head), or empty at the start. The new
            tokens are added to it.

        Returns
        -------
        Tensor of shape (..., token, d_model)
        """
        start = cache["key"].shape[-2] if cache else 0
        q, *new = self.project(x, start=start)
        shared = self.n_heads // self.n_kv_heads
        for name, tensor in zip(("key", "value"), new, strict=True):
            tensor = tensor[..., ::shared, :, :]  # (..., K/V head, token, d_head)
            cache[name] = torch.cat([cache[name], tensor], -2) if start else tensor
        n_query = x.shape[-2]
        mask = causal_mask(n_query, start + n_query).to(x.device).repeat(shared, 1) if n_query > 1 else None
        # of shape (..., K/V head, shared · query, d_head)
        q = q.unflatten(-3, (self.n_kv_heads, shared)).flatten(-3, -2)
        mix = attend(q, cache["key"], cache["value"], mask)
        mix = mix.unflatten(-2, (shared, n_query)).flatten(-4, -3)  # (..., head, query, d_head)
        return self.out_proj(merge_heads(mix))


class Block(nn.Module):
    """Attention, then work on each token alone, each *added* to what came in.

    Parameters
    ----------
    attention : MultiHeadAttention
    feed_forward : Module
    norms : pair of Module
        For attention and for the feed-forward layer.
    norm_first : bool
        Whether each part reads normalised tokens (GPT-2, ViT, Llama), or the sum is normalised
        afterwards (the original transformer, BERT).

    Source: Vaswani et al. 2017, section 3.1; Xiong et al. 2020 (norms before).
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        *,
        norm_first: bool,
    ):
        super().__init__()
        self.attention: Any = attention
        self.feed_forward = feed_forward
        self.norm_attention, self.norm_feed_forward = norms
        self.norm_first = norm_first

    def seen(self, x: Tensor) -> Tensor:
        """Give what attention reads of the tokens.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)
            What comes into the block.

        Returns
        -------
        Tensor of shape (..., token, d_model)
        """
        return self.norm_attention(x) if self.norm_first else x

    def add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add what attention found, then what the feed-forward layer makes of it.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)
            What came into the block.
        mixed : Tensor of shape (..., token, d_model)
            What attention gave.

        Returns
        -------
        Tensor of shape (..., token, d_model)
        """
        x = x + mixed
        if self.norm_first:
            return x + self.feed_forward(self.norm_feed_forward(x))
        x = self.norm_attention(x)
        return self.norm_feed_forward(x + self.feed_forward(x))

    def forward(self, x: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Let the tokens look at each other, then think.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)
        mask, causal
            As in :func:`manyheads.attention.attend`.

        Returns
        -------
        Tensor of shape (..., token, d_model)
        """
        return self.add(x, self.attention(self.seen(x), mask=mask, causal=causal))


@dataclass(frozen=True)
class Trace:
    """What one forward pass leaves to be looked at; each list has one entry a block.

    Attributes
    ----------
    hidden : list of Tensor of shape (..., token, d_model)
        What comes into each block, and, as one more entry, what leaves the last (before the last norm).
    seen : list of Tensor of shape (..., token, d_model)
        What attention reads in each block: ``hidden``, normalised where the norm comes first.
    weights : list of Tensor of shape (..., head, query, key)
    """

    hidden: list[Tensor]
    seen: list[Tensor]
    weights: list[Tensor]


class Stack(nn.Module):
    """Blocks on top of each other: the trunk of BERT, GPT and ViT.

    Parameters
    ----------
    blocks : sequence of Block
    norm : Module, optional
        For what leaves the last block; nothing if left out.
    """

    def __init__(self, blocks: Sequence[Block], norm: nn.Module | None = None):
        super().__init__()
        self.blocks: Any = nn.ModuleList(blocks)
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Send tokens through all blocks.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)
        mask, causal
            As in :func:`manyheads.attention.attend`, the same for every block.

        Returns
        -------
        Tensor of shape (..., token, d_model)
        """
        for block in self.blocks:
            x = block(x, mask, causal=causal)
        return self.norm(x)

    def trace(self, x: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> tuple[Tensor, Trace]:
        """Do what :meth:`forward` does, and keep what there is to look at.

        Parameters
        ----------
        x, mask, causal
            As in :meth:`forward`.

        Returns
        -------
        out : Tensor of shape (..., token, d_model)
        trace : Trace
        """
        hidden, seen, weights = [x], [], []
        for block in self.blocks:
            seen.append(block.seen(x))
            mixed, of_heads = block.attention(seen[-1], mask=mask, causal=causal, return_weights=True)
            x = block.add(x, mixed)
            hidden.append(x)
            weights.append(of_heads)
        return self.norm(x), Trace(hidden, seen, weights)

    def read_on(self, x: Tensor, cache: list[dict[str, Tensor]]) -> Tensor:
        """Send new tokens through all blocks of a decoder, each with its cache of the tokens before.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)
            The new tokens only.
        cache : list of dict
            One a block, as in :meth:`RotaryAttention.read_on`; an empty list at the start. It is added to.

        Returns
        -------
        Tensor of shape (..., token, d_model)

        Raises
        ------
        ValueError
            If the cache is that of a stack with another number of blocks.
        """
        if not cache:
            cache.extend({} for _ in self.blocks)
        if len(cache) != len(self.blocks):
            raise ValueError(
                f"a cache has one entry a block: the stack has {len(self.blocks)} blocks, the cache "
                f"{len(cache)} entries; begin with an empty list"
            )
        for block, of_block in zip(self.blocks, cache, strict=True):
            x = block.add(x, block.attention.read_on(block.seen(x), of_block))
        return self.norm(x)
