"""The photos and the digits are those that their packages bring."""

import numpy as np
import pytest
import torch
from PIL import Image

from manyheads.data import PHOTOS, mnist, square_photo
from manyheads.packages import weights_file


def test_square_photos_are_the_middle_of_what_the_package_brings():
    with Image.open(weights_file("skimage", "data/rocket.jpg")) as rocket:
        middle = np.asarray(rocket.crop((106, 0, 533, 427)))  # 640 × 427
    assert torch.equal(square_photo("rocket", 427), torch.from_numpy(middle / 255.0).movedim(-1, 0))
    small = square_photo("rocket", 61)  # 7 pixels become one: about their mean
    means = torch.nn.functional.avg_pool2d(square_photo("rocket", 427), 7)
    assert (small - means).abs().mean() < 0.02


def test_there_are_twenty_photos_and_each_says_its_licence():
    assert len(PHOTOS) >= 20
    for name, (_, _, licence) in PHOTOS.items():
        picture = square_photo(name)
        assert picture.shape == (3, 224, 224)
        assert picture.dtype == torch.float64
        assert 0 <= picture.min() < picture.max() <= 1
        assert licence
    grey = square_photo("camera")
    assert torch.equal(grey[0], grey[1])
    with pytest.raises(ValueError, match="no photo 'lena'; there are: astronaut, brick"):
        square_photo("lena")


def test_a_missing_package_of_photos_names_the_command(monkeypatch):
    monkeypatch.setitem(PHOTOS, "astronaut", ("no_such_package/data", "astronaut.png", ""))
    with pytest.raises(FileNotFoundError, match="make models"):
        square_photo("astronaut")


def test_mnist_has_as_many_of_each_digit_and_an_upright_one():
    train, test = mnist()
    assert train.images.shape == (4000, 1, 28, 28)
    assert test.images.shape == (1000, 1, 28, 28)
    assert torch.equal(torch.cat([train.labels, test.labels]).bincount(), torch.full((10,), 500))
    assert (train.images.min(), train.images.max()) == (0, 1)
    one = train.images[train.labels == 1].mean(0)[0]  # a tall stroke in the middle
    assert one.mean(0).max() > 1.5 * one.mean(1).max()
    assert one.mean(0).argmax() in (13, 14, 15)
