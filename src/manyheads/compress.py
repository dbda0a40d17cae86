"""Makes models smaller: heads and layers removed for good, and a student taught by its teacher.

A gate of 0 silences a head, but its matrices are still there and still multiplied. Here they are cut out.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyheads.attention import MultiHeadAttention
from manyheads.heads import Gates, layers_and_gates
from manyheads.transformer import Stack

Batch = TypeVar("Batch")
Student = TypeVar("Student", bound=nn.Module)


class Published(NamedTuple):
    """Say how a published model is built and how it was made, to set beside what is said of it.

    Attributes
    ----------
    name : str
    n_layers : int
    n_heads : int
        In each layer.
    d_model : int
        Width at which attention works.
    made : str
        How it became as small as it is.
    source : str
        Author and year of the paper whose configuration this is.
    """

    name: str
    n_layers: int
    n_heads: int
    d_model: int
    made: str
    source: str


PUBLISHED = (
    Published("BERT-base", 12, 12, 768, "trained from scratch", "Devlin 2019"),
    Published("DistilBERT", 6, 12, 768, "every second layer of BERT, then taught", "Sanh 2019"),
    Published("TinyBERT-6", 6, 12, 768, "learns hidden states and *attention maps*", "Jiao 2020"),
    Published("TinyBERT-4", 4, 12, 312, "learns hidden states and *attention maps*", "Jiao 2020"),
    Published("MiniLM-L6", 6, 12, 384, "learns the last layer's attention", "Wang 2020"),
    Published(
        "MobileBERT", 24, 4, 128, "narrow by design (512 between blocks), learns layer by layer", "Sun 2020"
    ),
    Published("BERT-Tiny", 2, 2, 128, "trained from scratch, then taught", "Turc 2019"),
)


class NoHeads(nn.Module):
    """Stand where an attention layer has lost all its heads: what it still gives is the bias of W_o.

    Parameters
    ----------
    bias : Tensor of shape (d_model,), optional
        Nothing is given if left out.
    """

    def __init__(self, bias: Tensor | None = None):
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=bias.requires_grad)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Give every token the same bias, whatever there is to look at.

        Parameters
        ----------
        query, key, value, mask, causal, return_weights
            As in :class:`manyheads.attention.MultiHeadAttention`; no token is looked at.

        Returns
        -------
        Tensor of shape (..., query, d_model), and with ``return_weights`` weights
            of shape (..., 0, query, key).
        """
        out = torch.zeros_like(query) if self.bias is None else self.bias.expand_as(query)
        n_key = (query if key is None else key).shape[-2]
        return (out, query.new_zeros(*query.shape[:-2], 0, query.shape[-2], n_key)) if return_weights else out


def remove_heads(model: nn.Module, gates: Gates | Tensor) -> nn.Module:
    """Copy a model without the heads whose gate is 0: the outputs of :func:`manyheads.heads.gated`, for less.

    Heads keep their width, so a layer with fewer heads has narrower matrices; W_o keeps its bias. A layer
    that loses all heads becomes :class:`NoHeads`, and has no gates any more.

    Parameters
    ----------
    model : Module
    gates : Tensor of shape (layer, head), or list of Tensor of shape (head,)
        1 keeps a head, 0 removes it, for each of :func:`manyheads.heads.attention_layers`.

    Returns
    -------
    Module

    Raises
    ------
    ValueError
        If the gates don't match the layers and their heads, one is neither 0 nor 1, or heads that share a
        K/V head can't share it any more: each K/V head that stays must serve as many query heads.

    Source: Michel, Levy & Neubig 2019, section 4.3 (pruned heads save time only if they are cut out).
    """
    model = copy.deepcopy(model)
    pairs = layers_and_gates(model, gates).values()
    if not all(((gate == 0) | (gate == 1)).all() for gate in gates):
        raise ValueError("a head is kept (1) or removed (0), and nothing in between")
    small = {layer: _shrink(layer, gate.nonzero().flatten().tolist()) for layer, gate in pairs}
    if model in small:
        return small[model]
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if child in small:
                setattr(part, name, small[child])
    return model


def _shrink(layer: MultiHeadAttention, kept: list[int]) -> nn.Module:
    """Cut a layer down, in place, to some of its heads."""
    if not kept:
        return NoHeads(layer.out_proj.bias)
    served = layer.n_heads // layer.n_kv_heads
    serving = {head // served: 0 for head in kept}
    for head in kept:
        serving[head // served] += 1
    if len(set(serving.values())) > 1:
        raise ValueError(
            f"each K/V head that stays must serve as many query heads: keeping heads {kept} of "
            f"{layer.n_heads}, of which {served} neighbours share one, leaves {list(serving.values())}; "
            f"keep as many of each group, or none"
        )
    key = [layer.n_heads + head for head in serving]  # where it starts, in heads
    starts = [*kept, *key, *(start + layer.n_kv_heads for start in key)]
    rows = [start * layer.d_head + row for start in starts for row in range(layer.d_head)]
    columns = rows[: len(kept) * layer.d_head]
    layer.in_proj_weight = _part(layer.in_proj_weight, rows, 0)
    if layer.in_proj_bias is not None:
        layer.in_proj_bias = _part(layer.in_proj_bias, rows, 0)
    layer.out_proj.weight = _part(layer.out_proj.weight, columns, 1)
    layer.out_proj.in_features = len(columns)
    layer.n_heads, layer.n_kv_heads = len(kept), len(serving)
    layer.widths = [n * layer.d_head for n in (len(kept), len(serving), len(serving))]
    return layer


def _part(whole: Tensor, indices: list[int], axis: int) -> nn.Parameter:
    kept = torch.tensor(indices, device=whole.device)
    return nn.Parameter(whole.detach().index_select(axis, kept), requires_grad=whole.requires_grad)


def keep_layers(model: nn.Module, kept: Sequence[int]) -> nn.Module:
    """Copy a model with some of its blocks only, the other way to make it smaller.

    Parameters
    ----------
    model : Module
        With one :class:`manyheads.transformer.Stack`, or such a stack itself.
    kept : sequence of int
        Which blocks to keep, from 0, in rising order.

    Returns
    -------
    Module

    Raises
    ------
    ValueError
        If the model hasn't exactly one stack.
    IndexError
        If there is no such block, or they aren't in rising order.

    Source: Sanh et al. 2019, section 3 (a student that begins as every second layer of its teacher).
    """
    model = copy.deepcopy(model)
    stacks = [part for part in model.modules() if isinstance(part, Stack)]
    if len(stacks) != 1:
        raise ValueError(f"layers are dropped from one stack, the model has {len(stacks)}")
    blocks = stacks[0].blocks
    if [i for i in range(len(blocks)) if i in set(kept)] != list(kept):
        raise IndexError(f"blocks run from 0 to {len(blocks) - 1}, in rising order, got {list(kept)}")
    stacks[0].blocks = nn.ModuleList(blocks[i] for i in kept)
    return model


# --- Distillation: what a student is to have in common with its teacher -----------------------------------


def soft_targets(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """Compare answers in shades: how likely the teacher finds *all* classes, not only the best.

    Formula: T² · Σ p_teacher · log(p_teacher / p_student), with p = softmax(logits / T), mean over examples.
    The factor T² keeps the gradient's size when T changes.

    Parameters
    ----------
    student, teacher : Tensor of shape (..., class)
        Logits.
    temperature : float
        T; higher shows more of the small probabilities.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    ValueError
        If the shapes differ, or the temperature isn't positive.

    Source: Hinton, Vinyals & Dean 2015, section 2.
    """
    if temperature <= 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    _same_shape("logits", student, teacher)
    log_student, log_teacher = ((x / temperature).log_softmax(-1) for x in (student, teacher))
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(-1).mean()


def directions(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare vectors, as of sentences, by their direction: 1 - cosine, mean over examples.

    Parameters
    ----------
    student, teacher : Tensor of shape (..., d_model)

    Returns
    -------
    Tensor of shape ()
        0 where all point the same way.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    _same_shape("vectors", student, teacher)
    return 1 - F.cosine_similarity(student, teacher, dim=-1).mean()


def hidden_states(student: Tensor, teacher: Tensor, real: Tensor | None = None) -> Tensor:
    """Compare what two layers say about each token: the mean squared difference.

    Parameters
    ----------
    student : Tensor of shape (..., token, d_model)
        If the student is narrower, multiplied by a learnt matrix first.
    teacher : Tensor of shape (..., token, d_model)
    real : bool Tensor of shape (..., token), optional
        ``True`` for tokens that count; all if left out.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    ValueError
        If the shapes differ.

    Source: Jiao et al. 2020, equation 8.
    """
    _same_shape("hidden states, after a learnt projection to the teacher's width,", student, teacher)
    square = (student - teacher).square()
    return square.mean() if real is None else square[real].mean()


def attention_scores(layer: MultiHeadAttention, x: Tensor) -> Tensor:
    """Give what a layer's softmax gets to see: TinyBERT's students learn from these.

    Parameters
    ----------
    layer : MultiHeadAttention
    x : Tensor of shape (..., token, d_model)
        What the layer reads.

    Returns
    -------
    Tensor of shape (..., head, query, key)

    Source: Jiao et al. 2020, section 3.1 (scores before the softmax).
    """
    query, key, _ = layer.project(x)
    return query @ key.mT * layer.d_head**-0.5


def attention_maps(student: Tensor, teacher: Tensor, real: Tensor | None = None) -> Tensor:
    """Compare attention head by head: the mean squared difference, student's head i against teacher's head i.

    That is why a student of this school has as many heads as its teacher.

    Parameters
    ----------
    student, teacher : Tensor of shape (..., head, query, key)
        Scores or weights.
    real : bool Tensor of shape (..., token), optional
        ``True`` for tokens that count, as queries and as keys; all if left out.

    Returns
    -------
    Tensor of shape ()

    Raises
    ------
    ValueError
        If the numbers of heads differ, or else the shapes.

    Source: Jiao et al. 2020, equation 7.
    """
    if student.shape[-3] != teacher.shape[-3]:
        raise ValueError(
            f"attention is compared head by head, so both need as many heads: the student has "
            f"{student.shape[-3]}, the teacher {teacher.shape[-3]}; change that, or leave this loss out"
        )
    _same_shape("attention maps", student, teacher)
    square = (student - teacher).square()
    if real is None:
        return square.mean()
    both = (real[..., :, None] & real[..., None, :])[..., None, :, :].expand_as(square)
    return (square * both).sum() / both.sum()


def _same_shape(what: str, student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"{what} must have one shape to be compared: the student's is {tuple(student.shape)}, "
            f"the teacher's {tuple(teacher.shape)}"
        )


def distil(
    student: Student, loss: Callable[[Student, Batch], Tensor], batches: Iterable[Batch], *, lr: float
) -> list[float]:
    """Teach one student, in place: a model too large for :func:`manyheads.training.fit` and its many seeds.

    Parameters
    ----------
    student : Module
        Parameters that ask for no gradient stay as they are.
    loss : callable
        Takes the student and a batch, and gives a tensor of shape ().
    batches : iterable
        Whatever ``loss`` takes: one step each.
    lr : float
        Where the learning rate of Adam begins; it falls to 0 in a straight line.

    Returns
    -------
    list of float
        The loss of each batch, before its step.

    Source: Kingma & Ba 2015 (Adam).
    """
    batches = list(batches)
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(batches))
    history = []
    for batch in batches:
        value = loss(student, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        history.append(value.item())
    return history
