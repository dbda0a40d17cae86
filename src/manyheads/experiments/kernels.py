"""How much of a random 3 × 3 convolution can h heads be?"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from manyheads import tasks
from manyheads.experiments.experiment import Experiment
from manyheads.training import trained


class KernelHeads(nn.Module):
    """Be a random 3 × 3 convolution, 3 channels to 8, as well as heads with relative scores can.

    Parameters
    ----------
    n_heads : int
    """

    def __init__(self, n_heads: int):
        super().__init__()
        self.register_buffer("kernel", torch.randn(9, 24))
        self.scores = nn.Parameter(torch.randn(n_heads, 9))
        self.values = nn.Parameter(torch.randn(n_heads, 24) / 3)  # each head's W_V W_o, flat

    def forward(self) -> Tensor:
        """Add up what the heads do at each neighbour.

        Returns
        -------
        Tensor of shape (2, 9, 24)
            The heads' kernel and the wanted one.
        """
        return torch.stack([self.scores.softmax(-1).T @ self.values, self.kernel])


class Kernels:
    """Ask for the kernel that the model carries: on white noise its error is that of the outputs."""

    def draw(self, stream: torch.Generator, size: int) -> tuple[tuple, Tensor]:
        """Draw nothing: the loss is exact."""
        return (), torch.zeros(())

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Give the share of the wanted kernel's energy that the heads miss."""
        return tasks.left_over(*output)

    def score(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Give the same share, to report."""
        return {"left_over": tasks.left_over(*output)}


def kernels(n_heads: int, steps: int, lr: float, *, seeds: Sequence[int]) -> dict:
    """Imitate random 3 × 3 convolutions with heads whose scores know the relative position only.

    Parameters
    ----------
    n_heads, steps : int
    lr : float
    seeds : sequence of int
        Each has its own kernel, the same for every number of heads.

    Returns
    -------
    dict
        ``per_seed``: what is ``left_over``, and the ``bound`` that any sum of ``n_heads`` products leaves.

    Source: Eckart & Young 1936.
    """
    models, measured = trained(Kernels(), lambda: KernelHeads(n_heads), seeds=seeds, steps=steps, lr=lr)
    energies = torch.stack([torch.linalg.svdvals(model.kernel).square() for model in models])  # (seed, 9)
    bound = energies[:, n_heads:].sum(1) / energies.sum(1)
    return measured | {"per_seed": measured["per_seed"] | {"bound": bound}}


EXPERIMENT = Experiment(
    __doc__,
    {f"h={h}": partial(kernels, n_heads=h, steps=1000, lr=0.3) for h in (1, 2, 3, 5, 7, 9)},
)
