"""What the sweeps of chapter 7 measure: small vision transformers from scratch, and a real one's looks."""

from collections.abc import Iterator, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from manyheads import data, heads
from manyheads.experiments.convolution import SOBEL
from manyheads.training import fit, stream
from manyheads.transformer import Trace
from manyheads.vit import Classifier, Vit, load_vit_small

DATA = {"digits": (data.digits, 2), "mnist": (data.mnist, 7)}  # each with its patch: both give 4 × 4
REACH = 3  # patches to each side in a relative pattern


def small_vit(patch: int, n_heads: int) -> Classifier:
    """Build a vision transformer for handwritten digits, with as many parameters for every number of heads.

    Parameters
    ----------
    patch : int
        Pixels; 4 × 4 patches make a picture.
    n_heads : int

    Returns
    -------
    Classifier
        Two layers, 32 numbers wide.
    """
    return Classifier(Vit(32, 64, n_heads, 2, patch=patch, grid=4, n_colours=1), 32, 10)


def from_scratch(data: str, n_heads: int, steps: int, *, seeds: Sequence[int]) -> dict:
    """Learn to read digits, and see how far the heads look.

    Parameters
    ----------
    data : str
        ``digits`` or ``mnist``.
    n_heads, steps : int
    seeds : sequence of int

    Returns
    -------
    dict
        ``parameters``; ``per_seed``: accuracy on pictures that nobody trained on (``test``) and on the others
        (``train``); ``distance``: for each seed how far each head looks, (layer, head), where 1 is as far as
        a head that looks everywhere alike.
    """
    load, patch = DATA[data]
    train, test = load()
    models = fit(lambda: small_vit(patch, n_heads), train, seeds=seeds, steps=steps, lr=3e-3, batch=32).models
    right, distance = {"test": [], "train": []}, []
    with torch.no_grad():
        for model in models:
            for name, part in (("test", test), ("train", train)):
                right[name].append(float(part.score(model(part.images), part.labels)["accuracy"]))
            far = patch_distance(model.vit.trace(test.images)[1]).mean(1)  # (layer, head)
            distance.append((far / uniform_distance(4)).round(decimals=3))
    return {
        "parameters": sum(p.numel() for p in models[0].parameters()),
        "per_seed": right,
        "distance": distance,
    }


# --- How far heads look ----------------------------------------------------------------------------------


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
    found, cls, pattern = {"distance": [], "near": [], "spread": []}, 0, 0
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


# --- Edges -----------------------------------------------------------------------------------------------


def edges(picture: Tensor) -> Tensor:
    """Say how strong the edges in each patch are: the mean length of the two Sobel answers.

    Parameters
    ----------
    picture : Tensor of shape (3, row, column)

    Returns
    -------
    Tensor of shape (16, 16)
    """
    return _by_patch(_sobel(picture).square().sum(0).sqrt())


def uprightness(picture: Tensor) -> Tensor:
    """Say which way the edges of each patch run: 1 if all are upright, -1 if all are level.

    Parameters
    ----------
    picture : Tensor of shape (3, row, column)

    Returns
    -------
    Tensor of shape (16, 16)
    """
    upright, level = map(_by_patch, _sobel(picture).abs())
    return (upright - level) / (upright + level).clamp_min(1e-9)


def contrast(picture: Tensor) -> Tensor:
    """Say how much the grey of each patch varies: its standard deviation, which asks for no edge.

    Parameters
    ----------
    picture : Tensor of shape (3, row, column)

    Returns
    -------
    Tensor of shape (16, 16)
    """
    grey = picture.mean(0)
    return (_by_patch(grey.square()) - _by_patch(grey).square()).clamp_min(0).sqrt()


def _sobel(picture: Tensor) -> Tensor:
    """Filter a picture for upright and for level edges: (2, row, column)."""
    grey = F.pad(picture.mean(0)[None, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(grey, torch.stack([SOBEL, SOBEL.T])[:, None])[0]


def _by_patch(values: Tensor) -> Tensor:
    return F.avg_pool2d(values[None], 14)[0]


MAPS = {"edges": edges, "contrast": contrast, "uprightness": uprightness}


@cache
def received(trained: bool) -> Tensor:
    """Say how much of the weight of all patches each patch gets.

    Parameters
    ----------
    trained : bool

    Returns
    -------
    Tensor of shape (photo, layer, head, 16, 16)
    """
    got = [between_patches(torch.stack(trace.weights)).mean(-2) for trace in traces(trained)]
    return torch.stack(got).unflatten(-1, (16, 16))


def preference(of: str, trained: bool, draws: int) -> dict:
    """Ask whether heads look where a picture has edges, or something else, more than chance would.

    For each head and photo: the rank correlation, over the 256 patches, between the weight that a patch gets
    and its edges. Chance: the map of edges of each photo is moved by a random number of rows and columns, and
    what leaves the picture comes in again on the other side; this keeps the map's own structure. Since 72
    heads are looked at, each draw is judged by the head that correlates most.

    Parameters
    ----------
    of : str
        A key of ``MAPS``.
    trained : bool
    draws : int
        Of chance.

    Returns
    -------
    dict
        ``correlation``: (photo, layer, head); ``neighbours``: the same with the map moved by one patch, mean
        of the four ways and of the photos, (layer, head); ``level``: what the largest of the heads' mean
        correlations, without sign, stays below in 95 % of the draws.
    """
    wanted = torch.stack([MAPS[of](data.square_photo(name)) for name in data.PHOTOS])
    moved = correlation_when_moved(received(trained), wanted[:, None, None])  # (photo, layer, head, 16, 16)
    moves = torch.randint(256, (draws, len(wanted)), generator=stream(0))  # one of each photo's 256
    flat = moved.flatten(-2)
    by_chance = sum(photo[..., move] for photo, move in zip(flat, moves.T, strict=True)) / len(wanted)
    largest = by_chance.abs().amax((0, 1))  # (draw,)
    neighbours = [moved[..., r, c] for r, c in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    return {
        "correlation": moved[..., 0, 0].round(decimals=3),
        "neighbours": torch.stack(neighbours).mean((0, 1)).round(decimals=4),
        "level": float(largest.quantile(0.95)),
    }


def correlation_when_moved(one: Tensor, other: Tensor) -> Tensor:
    """Correlate the ranks of two maps, for every way to move the second around as on a ring.

    Parameters
    ----------
    one, other : Tensor of shape (..., row, column)

    Returns
    -------
    Tensor of shape (..., row, column)
        Spearman's correlation with ``other`` moved down by so many rows and right by so many columns.
    """
    one, other = (torch.fft.fft2(_ranks(values)) for values in (one, other))
    return torch.fft.ifft2(one * other.conj()).real


def _ranks(values: Tensor) -> Tensor:
    """Replace values by their ranks, with mean 0 and length 1 over the whole map."""
    from scipy.stats import rankdata  # it takes a moment to import, and the chapter reads stored results

    ranks = torch.from_numpy(rankdata(values.flatten(-2), axis=-1))
    ranks = ranks - ranks.mean(-1, keepdim=True)
    return F.normalize(ranks, dim=-1).unflatten(-1, values.shape[-2:])
