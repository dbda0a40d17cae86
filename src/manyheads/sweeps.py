"""What the sweeps of the book measure: each function gives the numbers of one setting.

:mod:`manyheads.experiments` names the settings and stores what these functions return.
"""

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from manyheads import cost, tasks, timing
from manyheads.attention import MultiHeadAttention
from manyheads.training import TEST_SEED, TEST_SIZE, scores, stream, trained


class MaskedLM(nn.Module):
    """Guess the masked word: embeddings, one attention layer with a residual, a linear read-out.

    Parameters
    ----------
    n_heads, d_model : int
    """

    def __init__(self, n_heads: int, d_model: int = 32):
        super().__init__()
        self.word = nn.Embedding(len(tasks.WORDS), d_model)
        self.place = nn.Embedding(len(tasks.ROLES), d_model)
        self.attention = MultiHeadAttention(d_model, n_heads)
        self.read_out = nn.Linear(d_model, len(tasks.WORDS))

    def forward(self, sentence: Tensor) -> Tensor:
        """Score every word for the gap.

        Parameters
        ----------
        sentence : int Tensor of shape (batch, word)

        Returns
        -------
        Tensor of shape (batch, len(WORDS))
        """
        asker, words = self.embed(sentence)
        return self.read_out(asker + self.attention(asker, words)).squeeze(1)

    def embed(self, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Turn words into vectors; only the gap asks, so its vector alone is the query.

        Parameters
        ----------
        sentence : int Tensor of shape (batch, word)

        Returns
        -------
        gap : Tensor of shape (batch, 1, d_model)
        words : Tensor of shape (batch, word, d_model)
        """
        words = self.word(sentence) + self.place.weight  # (batch, word, d_model)
        is_gap = (sentence == tasks.WORDS.index("[MASK]")).to(words)[:, None]  # (batch, 1, word)
        return is_gap @ words, words


def without_head(model: MaskedLM, i: int) -> MaskedLM:
    """Copy a model and silence one head: its slice of W_o becomes zero.

    Parameters
    ----------
    model : MaskedLM
    i : int
        Which head, from 0.

    Returns
    -------
    MaskedLM
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.attention.out_proj.weight.unflatten(1, (model.attention.n_heads, -1))[:, i] = 0
    return model


def masked_lm(n_heads: int, steps: int, lr: float, *, seeds: Sequence[int]) -> dict:
    """Fill gaps in sentences, with all heads and without each one.

    Parameters
    ----------
    n_heads, steps : int
    lr : float
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: accuracy of each fact; ``without``: for each fact a row a seed with the accuracy without
        each head; ``attention``: for either gap and each seed how much each head looks at each of
        ``tasks.ROLES``, mean over sentences.
    """
    task = tasks.Sentences()
    models, measured = trained(task, lambda: MaskedLM(n_heads), seeds=seeds, steps=steps, lr=lr)
    cut = [scores(task, [without_head(model, i) for i in range(n_heads)]) for model in models]
    (sentence,), facts = task.draw(stream(TEST_SEED), TEST_SIZE)
    first, asks_verb = facts[:, -1, None, None] == 1, facts[:, 1] >= 0
    attention = {"verb": [], "adjective": []}
    for model in models:
        with torch.no_grad():
            weights = model.attention(*model.embed(sentence), return_weights=True)[1].squeeze(2)
        weights = torch.where(first, weights, weights.roll(1, -1))  # (batch, head, role)
        for gap, asked in (("verb", asks_verb), ("adjective", ~asks_verb)):
            attention[gap].append(weights[asked].mean(0).round(decimals=3))
    without = {score: [one[score] for one in cut] for score in measured["per_seed"]}
    return measured | {"without": without, "attention": attention}


def heads_cost(
    n_heads: Sequence[int],
    n_tokens: int,
    rounds: int,
    d_model: int = 512,
    n_kv_heads: int | None = None,
    d_head: int | None = None,
) -> dict:
    """Time a layer with each number of heads, one sequence forward on this machine, and count its memory.

    Parameters
    ----------
    n_heads : sequence of int
    n_tokens, rounds : int
    d_model, n_kv_heads, d_head
        As in :class:`manyheads.attention.MultiHeadAttention`.

    Returns
    -------
    dict
        A number for each of ``n_heads``: ``parameters``, ``matmul_flops``, ``weights_bytes``; and for
        ``naive``, which stores the weights as autograd does, and ``fused``, which doesn't, ``seconds``,
        ``times`` (how many times as long as the first), both with their quartiles, and ``peak_bytes``.
    """
    shape = {"d_model": d_model, "n_kv_heads": n_kv_heads, "d_head": d_head}
    layers = [MultiHeadAttention(n_heads=h, **shape) for h in n_heads]
    x = torch.randn(1, n_tokens, d_model, generator=stream(0))
    runs = {
        (path, h): partial(layer, x, return_weights=path == "naive")
        for h, layer in zip(n_heads, layers, strict=True)
        for path in ("naive", "fused")
    }
    seconds = timing.cpu_seconds(runs, rounds=rounds)
    found = {
        "parameters": [cost.parameters(n_heads=h, **shape) for h in n_heads],
        "matmul_flops": [cost.matmul_flops(n_heads=h, n_query=n_tokens, **shape) for h in n_heads],
        "weights_bytes": [cost.weights_bytes(h, n_query=n_tokens) for h in n_heads],
    }
    for path in ("naive", "fused"):
        mine = {run: samples for run, samples in seconds.items() if run[0] == path}
        found[path] = {
            "seconds": [timing.spread(samples) for samples in mine.values()],
            "times": list(timing.ratios(mine, (path, n_heads[0])).values()),
            "peak_bytes": [timing.peak_memory(runs[run]) for run in mine],
        }
    return found


def needed_heads(setting: dict, fact: str, drop: float = 0.1) -> list[set[int]]:
    """Say which heads a fact needs: those without which its accuracy falls by more than ``drop``.

    Parameters
    ----------
    setting : dict
        One of the stored settings of ``masked-lm``.
    fact : str
        ``tense``, ``number`` or ``class``.
    drop : float

    Returns
    -------
    list of set of int
        The heads, from 0, a set a seed; empty where no head is needed alone.
    """
    rows = zip(setting["per_seed"][fact], setting["without"][fact], strict=True)
    return [{i for i, left in enumerate(without) if whole - left > drop} for whole, without in rows]
