"""Which number of heads finds the nearest vector best, at the same number of parameters?"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from manyheads import tasks
from manyheads.attention import MultiHeadAttention
from manyheads.experiments.experiment import Experiment
from manyheads.training import TEST_SIZE, stream, trained


def nearest(n_heads: int, steps: int, lr: float, *, seeds: Sequence[int]) -> dict:
    """Copy the nearest of eight vectors with trained heads.

    Parameters
    ----------
    n_heads, steps : int
    lr : float
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: what is left over.
    """
    task = tasks.Nearest()

    def build() -> nn.Module:
        return MultiHeadAttention(task.d_model, n_heads, bias=False)

    return trained(task, build, seeds=seeds, steps=steps, lr=lr)[1]


def nearest_by_hand(beta: float, *, seeds: Sequence[int]) -> dict:
    """Copy the nearest of eight vectors with one head that nobody trained.

    Parameters
    ----------
    beta : float
        As in :func:`matching_head`.
    seeds : sequence of int
        Each has its own examples.

    Returns
    -------
    dict
        ``per_seed``: what is left over.
    """
    task = tasks.Nearest()
    head = matching_head(task.d_model, beta)
    found = []
    for seed in seeds:
        inputs, target = task.draw(stream(seed), TEST_SIZE)
        found.append(float(task.score(head(*inputs), target)["left_over"]))
    return {"per_seed": {"left_over": found}}


def matching_head(d_model: int, beta: float) -> MultiHeadAttention:
    """Build one head that nobody trained: W_Q = β√d_model I, and W_K, W_V, W_o the identity.

    Parameters
    ----------
    d_model : int
    beta : float
        How sharply to choose: the scores are β times the dot products.

    Returns
    -------
    MultiHeadAttention

    Source: Amsel, Yehudai & Bruna 2024.
    """
    head = MultiHeadAttention(d_model, 1, bias=False).double().requires_grad_(False)
    identity = torch.eye(d_model)
    head.in_proj_weight.copy_(torch.cat([beta * d_model**0.5 * identity, identity, identity]))
    head.out_proj.weight.copy_(identity)
    return head


EXPERIMENT = Experiment(
    __doc__,
    {f"h={h}": partial(nearest, n_heads=h, steps=800, lr=3e-2) for h in (1, 2, 4, 8, 16)}
    | {f"h={h}, 4x training": partial(nearest, n_heads=h, steps=3200, lr=3e-2) for h in (1, 2)}
    | {f"by hand, β={beta}": partial(nearest_by_hand, beta=beta) for beta in (10, 100, 1000, 10000)},
)
