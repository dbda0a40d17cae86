"""How do time and memory grow with heads, with and without stored weights?"""

from collections.abc import Sequence
from functools import partial

import torch

from manyheads import cost, timing
from manyheads.attention import MultiHeadAttention
from manyheads.experiments.experiment import Experiment
from manyheads.training import stream


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
    found: dict = {
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


EXPERIMENT = Experiment(
    __doc__,
    {
        f"{regime}, n={n}": partial(
            heads_cost, n_heads=[1, 2, 4, 8, 16, 32, 64], n_tokens=n, rounds=5, **held
        )
        for regime, held in {
            "fixed d_model": {},
            "fixed d_head": {"d_head": 64},
            "shared K/V": {"n_kv_heads": 1},
        }.items()
        for n in (512, 2048)
    },
    seeds=(),
    alone=True,
)
