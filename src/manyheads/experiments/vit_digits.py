"""Does a small vision transformer read digits better with more heads and as many parameters?"""

from collections.abc import Sequence
from functools import partial

import torch

from manyheads.data import digits, mnist
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.vit_distance import patch_distance, uniform_distance
from manyheads.training import fit
from manyheads.vit import Classifier, Vit

DATA = {"digits": (digits, 2), "mnist": (mnist, 7)}  # each with its patch: both give 4 × 4


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


EXPERIMENT = Experiment(
    __doc__,
    {f"h={h}": partial(from_scratch, data="digits", n_heads=h, steps=400) for h in (1, 2, 4, 8, 16)}
    | {
        f"h={h}, {times}x training": partial(from_scratch, data="digits", n_heads=h, steps=400 * times)
        for h, times in ((1, 4), (16, 4), (1, 8))
    },
)
