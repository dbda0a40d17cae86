"""Looks at heads and switches them off: what they do, how much, and what is lost without them."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from manyheads.attention import MultiHeadAttention

Gates = list[Tensor]
Example = TypeVar("Example")


def attention_layers(model: nn.Module) -> dict[str, MultiHeadAttention]:
    """Find the attention layers of a model, in the order in which they stand.

    Parameters
    ----------
    model : Module

    Returns
    -------
    dict
        Each layer under its name in ``model``; one that is used several times appears once.
    """
    return {name: part for name, part in model.named_modules() if isinstance(part, MultiHeadAttention)}


def layers_and_gates(model: nn.Module, gates: Gates | Tensor) -> dict[str, tuple[MultiHeadAttention, Tensor]]:
    """Pair each attention layer with the gates of its heads, or say that they don't match.

    Parameters
    ----------
    model : Module
    gates : Tensor of shape (layer, head), or list of Tensor of shape (head,)
        One gate a head for each of :func:`attention_layers`.

    Returns
    -------
    dict
        Layer and gates, under the layer's name in ``model``.

    Raises
    ------
    ValueError
        If the gates don't match the layers and their heads.
    """
    layers = attention_layers(model)
    wanted, found = [layer.n_heads for layer in layers.values()], [gate.numel() for gate in gates]
    if wanted != found:
        raise ValueError(f"each head needs one gate: the layers have {wanted} heads, got {found} gates")
    return {name: (layer, gate) for (name, layer), gate in zip(layers.items(), gates, strict=True)}


def gated(model: nn.Module, gates: Gates | Tensor) -> dict[str, Tensor]:
    """Put a gate on every head: 1 leaves it as it is, 0 switches it off, in between there is a gradient.

    Since a layer's output is Σ head_i W_o,i, a gate on a head is a factor on its slice of W_o. Use it
    with ``torch.func.functional_call(model, gated(model, gates), inputs)``.

    Parameters
    ----------
    model : Module
    gates : Tensor of shape (layer, head), or list of Tensor of shape (head,)
        One gate a head for each of :func:`attention_layers`.

    Returns
    -------
    dict of Tensor
        The scaled ``out_proj.weight`` of each layer, under its name in ``model``.

    Raises
    ------
    ValueError
        If the gates don't match the layers and their heads.

    Source: Michel, Levy & Neubig 2019, section 2.2.
    """
    scaled = {}
    for name, (layer, gate) in layers_and_gates(model, gates).items():
        w_o = layer.out_proj.weight
        prefix = f"{name}." if name else ""
        scaled[f"{prefix}out_proj.weight"] = w_o * gate.to(w_o.dtype).repeat_interleave(layer.d_head)
    return scaled


# --- Looks: what a head looks at, and how much comes of it ---------------------------------------------


def entropy(weights: Tensor) -> Tensor:
    """Say how widely each query looks: 0 for one key only, ln n for n keys alike.

    Parameters
    ----------
    weights : Tensor of shape (..., query, key)

    Returns
    -------
    Tensor of shape (..., query)
        In nats.
    """
    return torch.special.entr(weights).sum(-1)


def mean_distance(weights: Tensor, places: Tensor | None = None) -> Tensor:
    """Say how far each query looks, on the average of its weights.

    Parameters
    ----------
    weights : Tensor of shape (..., query, key)
        Of self-attention: queries and keys are the same tokens.
    places : Tensor of shape (token, axis), optional
        Where each token stands, as row and column of a picture; 0, 1, 2, … if left out.

    Returns
    -------
    Tensor of shape (..., query)
        In the unit of ``places``.
    """
    if places is None:
        places = torch.arange(weights.shape[-1])[:, None]
    places = places.to(weights)
    apart = (places[:, None] - places).square().sum(-1).sqrt()  # (query, key)
    return (weights * apart).sum(-1)


def patterns(words: Sequence[str]) -> dict[str, Tensor]:
    """Say which keys each simple habit would choose, so that heads can be held against names.

    Parameters
    ----------
    words : sequence of str
        The tokens of one text.

    Returns
    -------
    dict of bool Tensor of shape (query, key)
        ``previous`` and ``next`` token; ``first`` token, [CLS] in BERT; ``separator``, [SEP];
        ``punctuation``; ``same`` word, the query itself or the word again.

    Source: Clark et al. 2019, section 3.
    """
    n = len(words)
    step = torch.arange(n) - torch.arange(n)[:, None]  # from query to key
    marks = [all(not c.isalnum() and not c.isspace() for c in word) for word in words]
    keys = {
        "first": [i == 0 for i in range(n)],
        "separator": [word == "[SEP]" for word in words],
        "punctuation": marks,
    }
    same = [[one == other for other in words] for one in words]
    return (
        {"previous": step == -1, "next": step == 1}
        | {name: torch.tensor(chosen).expand(n, n) for name, chosen in keys.items()}
        | {"same": torch.tensor(same)}
    )


def share(weights: Tensor, pattern: Tensor) -> Tensor:
    """Say which part of a head's weights follows a pattern, over the queries that the pattern speaks of.

    Parameters
    ----------
    weights : Tensor of shape (..., query, key)
        Weights, or any other amounts that are not negative.
    pattern : bool Tensor of shape (query, key)
        As in :func:`patterns`.

    Returns
    -------
    Tensor of shape (...)
        Between 0 and 1; NaN where the pattern chooses no key at all.
    """
    asked = weights[..., pattern.any(-1), :]
    return (asked * pattern[pattern.any(-1)]).sum((-2, -1)) / asked.sum((-2, -1))


def contributions(layer: MultiHeadAttention, seen: Tensor, weights: Tensor) -> Tensor:
    """Measure what really arrives: the length of weight · value · W_o, for each head, query and key.

    A large weight on a short value brings little, so weights alone don't say what a token takes from where.

    Parameters
    ----------
    layer : MultiHeadAttention
    seen : Tensor of shape (..., token, d_model)
        What the layer reads, as in ``Trace.seen``.
    weights : Tensor of shape (..., head, query, key)
        Its weights there, as in ``Trace.weights``.

    Returns
    -------
    Tensor of shape (..., head, query, key)

    Source: Kobayashi et al. 2020, section 3.
    """
    value = layer.project(seen)[2]  # (..., head, key, d_head)
    w_o = layer.out_proj.weight.unflatten(1, (layer.n_heads, -1)).movedim(1, 0)  # (head, d_model, d_head)
    return weights * (value @ w_o.mT).norm(dim=-1)[..., None, :]


# --- Importance: which head is missed most ---------------------------------------------------------


def all_on(model: nn.Module) -> Gates:
    """Give the gates that change nothing, to close some of them.

    Parameters
    ----------
    model : Module

    Returns
    -------
    list of Tensor of shape (head,)
        Ones, for each of :func:`attention_layers`.
    """
    return [layer.out_proj.weight.new_ones(layer.n_heads) for layer in attention_layers(model).values()]


def by_gradient(
    model: nn.Module, loss: Callable[[Gates, Example], Tensor], examples: Iterable[Example]
) -> Gates:
    """Guess how much each head is missed without switching any off: one backward pass an example.

    It is the mean over examples of ``|∂loss / ∂gate|``, at gates of 1: how much a *small* change of the head
    would move the loss, up or down. Nothing is normalised.

    Parameters
    ----------
    model : Module
    loss : callable
        Takes gates and an example, and gives a tensor of shape ().
    examples : iterable
        Whatever ``loss`` takes.

    Returns
    -------
    list of Tensor of shape (head,)

    Raises
    ------
    ValueError
        If there is no example.

    Source: Michel, Levy & Neubig 2019, section 4.1.
    """
    gates = [gate.requires_grad_() for gate in all_on(model)]
    slopes = [torch.autograd.grad(loss(gates, example), gates) for example in examples]
    if not slopes:
        raise ValueError("a mean over examples needs at least one, got none")
    return [torch.stack(of_layer).abs().mean(0) for of_layer in zip(*slopes, strict=True)]


def leave_one_out(model: nn.Module, score: Callable[[Gates], float]) -> Gates:
    """Switch each head off alone, and say by how much the score falls.

    Parameters
    ----------
    model : Module
    score : callable
        Takes gates; higher is better.

    Returns
    -------
    list of Tensor of shape (head,)
        Negative where the model is better off without the head. Two heads that can stand in for each other
        both look useless.

    Source: Michel, Levy & Neubig 2019, section 3.2.
    """
    whole = score(all_on(model))
    falls = all_on(model)
    for layer, of_layer in enumerate(falls):
        for head in range(len(of_layer)):
            gates = all_on(model)
            gates[layer][head] = 0
            of_layer[head] = whole - score(gates)
    return falls


def exhaustive(
    model: nn.Module, score: Callable[[Gates], float | Tensor], layer: int = 0
) -> tuple[Tensor, Tensor]:
    """Score every way to keep some heads of one layer: the truth at which rankings only guess.

    Parameters
    ----------
    model : Module
    score : callable
        Takes gates; higher is better.
    layer : int
        Which of :func:`attention_layers`, from 0; all others keep their heads.

    Returns
    -------
    kept : Tensor of shape (subset, head)
        Gates: row i keeps the heads whose bits are set in i.
    scores : Tensor of shape (subset,)

    Raises
    ------
    ValueError
        If the layer has more than 16 heads, and so more than 65,536 subsets.
    """
    gates = all_on(model)
    n_heads = len(gates[layer])
    if n_heads > 16:
        raise ValueError(f"2^{n_heads} subsets are too many, at most 16 heads are searched: use a ranking")
    bits = torch.arange(2**n_heads)[:, None] >> torch.arange(n_heads) & 1
    kept = bits.to(gates[layer])
    scores = [float(score([*gates[:layer], row, *gates[layer + 1 :]])) for row in kept]
    return kept, gates[layer].new_tensor(scores)


def keep_best(importance: Gates, n: int) -> Gates:
    """Open the gates of the most important heads of the whole model.

    Parameters
    ----------
    importance : list of Tensor of shape (head,)
    n : int
        How many heads to keep.

    Returns
    -------
    list of Tensor of shape (head,)
        Ones and zeros.

    Raises
    ------
    ValueError
        If the model hasn't that many heads.
    """
    flat = torch.cat(list(importance))
    if not 0 <= n <= len(flat):
        raise ValueError(f"there are {len(flat)} heads, so 0 to {len(flat)} can be kept, got {n}")
    kept = torch.zeros_like(flat)
    kept[flat.argsort(descending=True, stable=True)[:n]] = 1
    return list(kept.split([len(of_layer) for of_layer in importance]))
