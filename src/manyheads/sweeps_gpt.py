"""What the sweeps of chapter 6 measure: heads of a decoder that look back, and what its cache saves.

The test for heads that repeat what they have seen is nonsense: random tokens, all of them twice. Nothing but
the first half tells how the second half goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from manyheads import timing
from manyheads.experiments.induction_heads import twice
from manyheads.experiments.models import _smollm2
from manyheads.gpt import Gpt
from manyheads.training import TEST_SEED, TEST_SIZE, fit, scores, stream
from manyheads.transformer import RotaryAttention

# --- SmolLM2 on random tokens, twice ---------------------------------------------------------------------


# --- Without some heads ----------------------------------------------------------------------------------


# --- The sink ----------------------------------------------------------------------------------------


# --- Induction from nothing ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs:
    """Say what stood beside a word before: the smallest task that asks for induction.

    Four pairs of different words are said, then pairs among them again, at random: after the first word of
    such a pair comes the question what follows. The pairs are new in every sequence, and a guess among the
    four second words is right once in four times.

    Attributes
    ----------
    n_words : int
        Size of the vocabulary.
    n_pairs, n_asked : int
        How many pairs are said, and how often one is said again.
    """

    n_words: int = 16
    n_pairs: int = 4
    n_asked: int = 8

    @property
    def chance(self) -> float:
        """Accuracy of a guess among the second words."""
        return 1 / self.n_pairs

    def draw(self, stream: Generator, size: int) -> tuple[tuple[Tensor], Tensor]:
        """Make sequences, and what comes next where it can be known.

        Parameters
        ----------
        stream : torch.Generator
        size : int
            Number of sequences, the batch.

        Returns
        -------
        sequences : tuple of one int Tensor of shape (batch, token)
        target : int Tensor of shape (batch, token)
            The second word where a pair is asked, else -100.
        """
        words = torch.rand(size, self.n_words, generator=stream).argsort(-1)
        pairs = words[:, : 2 * self.n_pairs].unflatten(1, (self.n_pairs, 2))
        asked = torch.randint(self.n_pairs, (size, self.n_asked, 1), generator=stream)
        said = torch.cat([pairs, pairs.take_along_dim(asked, 1)], 1)  # (batch, pair, 2)
        target = torch.full_like(said, -100)
        target[:, self.n_pairs :, 0] = said[:, self.n_pairs :, 1]
        return (said.flatten(1),), target.flatten(1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Give the cross-entropy of the words that are asked."""
        return F.cross_entropy(output.flatten(0, 1), target.flatten())

    def score(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Say which share of the words that are asked is right."""
        return {"accuracy": (output.argmax(-1) == target)[target >= 0].double().mean()}


def from_scratch(n_layers: int, n_heads: int, steps: int, *, seeds: Sequence[int]) -> dict:
    """Train small decoders to say what stood beside a word before.

    Parameters
    ----------
    n_layers, n_heads, steps : int
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: the ``accuracy``; and, where a pair is asked, the share of the weight that the best head
        of the last layer gives to words that came after an earlier copy (``induction``); and that of the
        first layer's best head that goes to the ``previous`` token, from the second words of pairs.
        ``history``: the loss of each seed, mean over 20 steps, a row a seed.
    """
    task = Pairs()
    run = fit(lambda: Gpt(task.n_words, 32, 64, n_layers, n_heads), task, seeds=seeds, steps=steps, batch=32)
    (said,), _ = task.draw(stream(TEST_SEED), TEST_SIZE)
    at = torch.arange(said.shape[1])
    back = at[:, None] - at  # from query to key
    asks = (at >= 2 * task.n_pairs) & (at % 2 == 0)
    # the key's word came after mine
    again = F.pad(said[:, :-1], (1, 0), value=-1)[:, None] == said[:, :, None]
    wanted = {
        "previous": ((back == 1) & (at % 2 == 1)[:, None]).expand(len(said), -1, -1),
        "induction": again & (back > 0) & asks[:, None],
    }
    found = scores(task, run.models)
    for habit, layer in (("previous", 0), ("induction", -1)):
        asked = wanted[habit].any(-1)  # (batch, query)
        found[habit] = []
        for model in run.models:
            with torch.no_grad():
                weights = model.trace(said)[1].weights[layer]  # (batch, head, query, key)
            followed = (weights * wanted[habit][:, None]).sum(-1)  # (batch, head, query)
            found[habit].append(float(followed.movedim(1, -1)[asked].mean(0).max()))
    history = run.history.unflatten(0, (-1, 20)).mean(1).T  # (seed, 20 steps)
    return {"per_seed": found, "history": history.round(decimals=3)}


# --- Decoding time ---------------------------------------------------------------------------------


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
    model, found = _smollm2(), {"cached": [], "again": [], "times": []}
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


# --- Shared by the above ------------------------------------------------------------------------------
