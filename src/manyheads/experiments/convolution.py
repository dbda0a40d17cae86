"""Which convolutions of a photo can heads be whose scores know positions only?"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from manyheads import data, tasks
from manyheads.attention import attend
from manyheads.experiments.experiment import Experiment
from manyheads.training import stream


def nine_heads(every: int, sharpness: int) -> dict:
    """Compare nine heads, whose scores know positions only, with a convolution of a photo.

    Head i looks exactly one step away, the i-th of nine: its scores are
    -sharpness · distance², from where the key is to where it should be: a dot product of three numbers. Its
    value matrix is the kernel's slice at that step.

    Parameters
    ----------
    every : int
        Keep each ``every``-th row and column of the photo; each pixel that is kept is a token.
    sharpness : int
        Factor of the scores; the neighbours of the wanted pixel get less than e^-sharpness.

    Returns
    -------
    dict
        ``n_tokens`` and ``largest_error``.

    Source: Cordonnier, Loukas & Jaggi 2020, theorem 1.
    """
    picture = data.photo(every)  # (row, column, 3)
    kernel = torch.randn(8, 3, 3, 3, generator=stream(0), dtype=torch.float64)  # (out, in, row, column)
    wanted = F.conv2d(picture.permute(2, 0, 1)[None], kernel)[0].flatten(1).T  # (query, 8)
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in picture.shape[:2])
    place = torch.cartesian_prod(rows, columns)  # (key, 2)
    inside = torch.cartesian_prod(rows[1:-1], columns[1:-1])  # (query, 2)
    steps = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))  # (head, 2)
    target = inside + steps[:, None]  # (head, query, 2)
    key = torch.cat([-place.square().sum(-1, keepdim=True), 2 * place], -1)  # (key, 3)
    query = sharpness * torch.cat([torch.ones_like(target[..., :1]), target], -1)  # (head, query, 3)
    pixels = picture.flatten(0, 1)  # (key, 3)
    mix = attend(query, key.expand(9, -1, -1), pixels.expand(9, -1, -1), scale=1.0)  # (head, query, 3)
    output = torch.einsum("hqi,oih->qo", mix, kernel.flatten(2))  # Σ over heads of mix · W_h
    return {"n_tokens": len(place), "largest_error": (output - wanted).abs().max()}


def relative_heads(picture: Tensor, weights: Tensor) -> Tensor:
    """Let heads look around each pixel of a grey picture, with scores that know the relative position only.

    Parameters
    ----------
    picture : Tensor of shape (row, column)
    weights : Tensor of shape (head, 3, 3)
        How much each head looks at each neighbour; non-negative, each head's sum is 1.

    Returns
    -------
    Tensor of shape (head, row - 2, column - 2)
        What each head finds around each inner pixel.
    """
    value = picture.unfold(0, 3, 1).unfold(1, 3, 1).flatten(-2)[..., None]  # (row, column, key, 1)
    scores = weights.clamp_min(torch.finfo(weights.dtype).tiny).log()  # the softmax of the log gives it back
    query = scores.flatten(1)[:, None, None, None]  # (head, 1, 1, 1, 9)
    key = torch.eye(9, dtype=weights.dtype)  # the relative position, one-hot
    mix, _ = attend(query, key, value, scale=1.0, return_weights=True)  # (head, row, column, 1, 1)
    return mix.flatten(-3)


SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64)


def box_blur() -> dict:
    """Blur a photo with one head that looks at all nine neighbours alike.

    Returns
    -------
    dict
        ``largest_error``.
    """
    grey = data.photo().mean(-1)
    wanted = F.avg_pool2d(grey[None], 3, stride=1)[0]
    output = relative_heads(grey, torch.full((1, 3, 3), 1 / 9, dtype=torch.float64))[0]
    return {"largest_error": (output - wanted).abs().max()}


def sobel(n_heads: int) -> dict:
    """Find vertical edges in a photo: two heads subtract two averages, one head does what it can.

    The best single head is found exactly: a head times a gain has nine weights of one sign, and least squares
    with that bound has one minimum.

    Parameters
    ----------
    n_heads : int
        1 or 2.

    Returns
    -------
    dict
        ``left_over``; and the heads' ``weights``, ``gains`` and the ``bias``.
    """
    grey = data.photo().mean(-1)
    wanted = F.conv2d(grey[None, None], SOBEL[None, None])[0, 0]
    if n_heads == 1:
        weights, gains = _best_head(grey, wanted)
    else:
        sides = torch.stack([SOBEL, SOBEL.flip(1)]).clamp_min(0)  # the right column, the left column
        gains = sides.sum((1, 2))
        weights, gains = sides / gains[:, None, None], gains * torch.tensor([1, -1])
    mix = relative_heads(grey, weights)
    output = torch.einsum("h,hrc->rc", gains, mix)
    bias = (wanted - output).mean()
    return {
        "left_over": tasks.left_over(output + bias, wanted),
        "weights": weights,
        "gains": gains,
        "bias": bias,
    }


def _best_head(picture: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    from scipy.optimize import nnls  # least squares with no negative weights

    around = picture.unfold(0, 3, 1).unfold(1, 3, 1).reshape(-1, 9)
    inputs, outputs = (around - around.mean(0)).numpy(), (wanted - wanted.mean()).flatten().numpy()
    fits = {sign: nnls(inputs, sign * outputs) for sign in (1, -1)}
    sign = min(fits, key=lambda sign: fits[sign][1])
    weights = torch.from_numpy(fits[sign][0]).reshape(1, 3, 3)
    return weights / weights.sum(), sign * weights.sum((1, 2))


EXPERIMENT = Experiment(
    __doc__,
    {
        "nine heads": partial(nine_heads, every=12, sharpness=50),
        "box blur, h=1": partial(box_blur),
        "Sobel, h=1": partial(sobel, n_heads=1),
        "Sobel, h=2": partial(sobel, n_heads=2),
    },
    seeds=(),
)
