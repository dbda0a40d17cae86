"""The task on which MiniLM is made smaller: a news text's first sentence is to find the rest of that text.

Heads are ranked on one half of the texts and judged on the other.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from manyheads import compress, heads
from manyheads.data import news
from manyheads.experiments.models import minilm
from manyheads.heads import Gates
from manyheads.transformer import Stack

N_WORDS = 48  # so much of a text is read
SHARPNESS = 20.0  # factor on cosines before a softmax over texts


@cache
def texts_of(half: int) -> list[list[str]]:
    """Give every second news text, so that heads can be judged on others than those that ranked them.

    Parameters
    ----------
    half : int
        0 or 1.

    Returns
    -------
    list of list of str
        The sentences of each text.
    """
    return news()[half::2]


def queries_and_answers(half: int) -> tuple[list[str], list[str]]:
    """Cut each text behind its first sentence, which is to find the rest.

    Parameters
    ----------
    half : int
        0 or 1.

    Returns
    -------
    queries, answers : list of str
    """
    return [text[0] for text in texts_of(half)], [" ".join(text[1:]) for text in texts_of(half)]


def begins(texts: Sequence[str]) -> list[str]:
    """Cut texts off: no more is read of them.

    Parameters
    ----------
    texts : sequence of str

    Returns
    -------
    list of str
        The first ``N_WORDS`` words of each.
    """
    return [" ".join(text.split()[:N_WORDS]) for text in texts]


def pooled(tokens: Tensor, mask: Tensor) -> Tensor:
    """Make one vector of length 1 of a text's tokens: their mean.

    Parameters
    ----------
    tokens : Tensor of shape (batch, token, d_model)
    mask : bool Tensor of shape (batch, token)

    Returns
    -------
    Tensor of shape (batch, d_model)

    Source: Reimers & Gurevych 2019, section 3.
    """
    real = mask[..., None].to(tokens.dtype)
    return F.normalize((tokens * real).sum(-2) / real.sum(-2), dim=-1)


def ranks(vectors: Tensor) -> Tensor:
    """Say at which place each query finds its own text: 1 is best.

    Parameters
    ----------
    vectors : Tensor of shape (2 · text, d_model)
        First all queries, then all answers in the same order.

    Returns
    -------
    int Tensor of shape (text,)
    """
    query, answer = vectors.chunk(2)
    cosine = query @ answer.T
    return 1 + (cosine > cosine.diag()[:, None]).sum(1)


def chance(n_texts: int) -> float:
    """Give the mean of 1 / rank when texts come in random order.

    Parameters
    ----------
    n_texts : int

    Returns
    -------
    float
    """
    return sum(1 / rank for rank in range(1, n_texts + 1)) / n_texts


class Reading:
    """Texts that MiniLM has read once: a changed copy starts at the first block that differs.

    Parameters
    ----------
    texts : sequence of str
        The first ``N_WORDS`` words of each are read.
    """

    def __init__(self, texts: Sequence[str]):
        model = minilm(torch.float32)
        texts = begins(texts)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        self.batches = []
        with torch.no_grad():
            for start in range(0, len(texts), 32):
                rows = by_length[start : start + 32]
                ids, mask = model.tokenize([texts[i] for i in rows])
                self.batches.append((rows, ids, mask, model.trace(ids, mask)[1].hidden))

    @torch.no_grad()
    def collect(self, read: Callable[[Tensor, Tensor, list[Tensor]], Tensor]) -> Tensor:
        """Let anyone read the texts, batch by batch, and put the vectors back in the order of the texts.

        Parameters
        ----------
        read : callable
            Takes ids, mask and what came into each block of MiniLM; gives a vector a text.

        Returns
        -------
        Tensor of shape (text, d_model)
        """
        found = {}
        for rows, *batch in self.batches:
            found |= zip(rows, read(*batch), strict=True)
        return torch.stack([found[i] for i in range(len(found))])

    def vectors(self, stack: Stack, start: int = 0) -> Tensor:
        """Read the texts with a changed stack.

        Parameters
        ----------
        stack : Stack
            Its blocks before ``start`` are those of MiniLM.
        start : int

        Returns
        -------
        Tensor of shape (text, d_model)
        """

        def read(_: Tensor, mask: Tensor, hidden: list[Tensor]) -> Tensor:
            return pooled(Stack(stack.blocks[start:])(hidden[start], mask[:, None, :]), mask)

        return self.collect(read)


class Retrieval:
    """One half of the news texts, to be found again by MiniLM without some of its heads.

    Parameters
    ----------
    half : int
        0 to rank heads, 1 to judge them.
    """

    def __init__(self, half: int):
        queries, answers = queries_and_answers(half)
        self.reading = Reading(queries + answers)
        self._known = {}

    def vectors(self, gates: Gates) -> Tensor:
        """Read queries and answers with some heads removed; what was read before is remembered.

        Parameters
        ----------
        gates : list of Tensor of shape (head,)
            Ones and zeros.

        Returns
        -------
        Tensor of shape (2 · text, d_model)
        """
        key = tuple(map(bool, torch.cat(list(gates))))
        if key not in self._known:
            start = next((i for i, gate in enumerate(gates) if not gate.all()), len(gates))
            stack = compress.remove_heads(minilm(torch.float32).stack, gates)
            self._known[key] = self.reading.vectors(cast(Stack, stack), start)
        return self._known[key]

    def mrr(self, gates: Gates) -> float:
        """Give the mean over queries of 1 / rank.

        Parameters
        ----------
        gates : list of Tensor of shape (head,)

        Returns
        -------
        float
        """
        return float((1 / ranks(self.vectors(gates))).mean())

    def loss(self, gates: Gates) -> float:
        """Give the cross-entropy of the right text among all, a smoother judge than ranks.

        Parameters
        ----------
        gates : list of Tensor of shape (head,)

        Returns
        -------
        float
        """
        query, answer = self.vectors(gates).chunk(2)
        return float(F.cross_entropy(SHARPNESS * query @ answer.T, torch.arange(len(query))))

    def likeness(self, gates: Gates) -> float:
        """Give the mean cosine of each text's vector with the one of the whole model.

        Parameters
        ----------
        gates : list of Tensor of shape (head,)

        Returns
        -------
        float
        """
        whole = self.vectors(heads.all_on(minilm(torch.float32)))
        return float((self.vectors(gates) * whole).sum(-1).mean())


@cache
def on_half(half: int) -> Retrieval:
    """Let all settings of a sweep share what MiniLM has read of one half.

    Parameters
    ----------
    half : int
        0 to rank heads, 1 to judge them.

    Returns
    -------
    Retrieval
    """
    return Retrieval(half)


@cache
def lessons(half: int, n_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut one half into sentences and let MiniLM read them: what smaller models then learn to give again.

    Parameters
    ----------
    half : int
        0 or 1.
    n_tokens : int
        No more is read of a sentence.

    Returns
    -------
    ids : int Tensor of shape (sentence, token)
    mask : bool Tensor of shape (sentence, token)
    vectors : Tensor of shape (sentence, d_model)
        Of length 1.
    """
    model = minilm(torch.float32)
    ids, mask = model.tokenize([sentence for text in texts_of(half) for sentence in text])
    ids, mask = ids[:, :n_tokens], mask[:, :n_tokens]
    with torch.no_grad():
        parts = zip(ids.split(64), mask.split(64), strict=True)
        return ids, mask, torch.cat([pooled(model(*part), part[1]) for part in parts])
