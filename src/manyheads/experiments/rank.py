"""How many different keys can one head choose, by its width?"""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F

from manyheads.attention import attention_weights
from manyheads.experiments.experiment import Experiment
from manyheads.training import stream


def distinct_targets(d_head: int, n_tokens: int, draws: int, *, seeds: Sequence[int]) -> dict:
    """Count the different keys that random queries like best.

    Parameters
    ----------
    d_head, n_tokens, draws : int
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: ``targets``, the most of all draws.
    """
    found = []
    for seed in seeds:
        query, key = torch.randn(2, draws, n_tokens, d_head, generator=stream(seed), dtype=torch.float64)
        favourites = attention_weights(query, key).argmax(-1)  # (draw, query)
        found.append(int(F.one_hot(favourites, n_tokens).amax(1).sum(1).max()))
    return {"per_seed": {"targets": found}}


def permutations_on_a_circle(n_tokens: int, draws: int, *, seeds: Sequence[int]) -> dict:
    """Realise random permutations with d_head = 2: keys on a circle, each query points at one.

    Parameters
    ----------
    n_tokens, draws : int
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: ``largest_error``, between the weights and the permutation.
    """
    angle = torch.arange(n_tokens, dtype=torch.float64) * 2 * math.pi / n_tokens
    key = torch.stack([angle.cos(), angle.sin()], -1)  # (key, 2)
    sharpness = 50 / (1 - math.cos(2 * math.pi / n_tokens))  # the next key is 50 behind
    error = []
    for seed in seeds:
        order = torch.rand(draws, n_tokens, generator=stream(seed)).argsort(-1)
        weights = attention_weights(key[order], key, scale=sharpness)  # (draw, query, key)
        error.append((weights - F.one_hot(order, n_tokens)).abs().max())
    return {"per_seed": {"largest_error": [float(each) for each in error]}}


EXPERIMENT = Experiment(
    __doc__,
    {f"d_head={d}": partial(distinct_targets, d_head=d, n_tokens=12, draws=1000) for d in (1, 2, 4, 8)}
    | {"d_head=2, keys on a circle": partial(permutations_on_a_circle, n_tokens=12, draws=1000)},
)
