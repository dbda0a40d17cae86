"""How many of four values can be looked up at once, at the same number of parameters?"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from manyheads import tasks
from manyheads.attention import MultiHeadAttention
from manyheads.experiments.experiment import Experiment
from manyheads.training import TEST_SEED, TEST_SIZE, stream, trained


class WithReadOut(nn.Module):
    """Put a small network behind attention: a nonlinear reader may take apart what one average holds.

    Parameters
    ----------
    attention : Module
    d_model, d_ff : int
    """

    def __init__(self, attention: nn.Module, d_model: int, d_ff: int):
        super().__init__()
        self.attention = attention
        self.read_out = nn.Sequential(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Attend, then read the mix.

        Parameters
        ----------
        *inputs : Tensor
            Those of ``attention``.

        Returns
        -------
        Tensor of shape (..., query, d_model)
        """
        return self.read_out(self.attention(*inputs))


def lookup(n_heads: int, d_ff: int, steps: int, *, seeds: Sequence[int]) -> dict:
    """Look four values up at once.

    Parameters
    ----------
    n_heads : int
    d_ff : int
        Width of a hidden layer behind attention; with 0 the layer's own W_o is the read-out.
    steps : int
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: accuracy; ``theory``: that of even averages; ``attention``: how much each head of the
        first seed looks at the pair that each slot names, (head, slot).
    """
    task = tasks.Lookup()

    def build() -> nn.Module:
        attention = MultiHeadAttention(task.d_model, n_heads)
        return WithReadOut(attention, task.d_model, d_ff) if d_ff else attention

    models, measured = trained(task, build, seeds=seeds, steps=steps)
    (query, pairs), _ = task.draw(stream(TEST_SEED), TEST_SIZE)
    attention = models[0].attention if isinstance(models[0], WithReadOut) else models[0]
    with torch.no_grad():
        weights = attention(query, pairs, return_weights=True)[1]  # (batch, head, 1, pair)
    slots = query.unflatten(-1, (task.n_named, task.n_pairs))  # (batch, 1, slot, pair)
    looks = (weights @ slots.mT).mean(0).squeeze(1)  # (head, slot)
    return measured | {"theory": task.theory(n_heads), "attention": looks.round(decimals=3)}


EXPERIMENT = Experiment(
    __doc__,
    {f"h={h}": partial(lookup, n_heads=h, d_ff=0, steps=600) for h in (1, 2, 4, 8, 16, 32)}
    | {f"h={h}, 4x training": partial(lookup, n_heads=h, d_ff=0, steps=2400) for h in (1, 2, 16, 32)}
    | {
        "h=1, MLP": partial(lookup, n_heads=1, d_ff=128, steps=600),
        "h=1, MLP, 4x training": partial(lookup, n_heads=1, d_ff=128, steps=2400),
    },
)
