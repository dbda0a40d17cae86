"""How much of the four previous vectors can heads copy that each give one average?"""

from collections.abc import Sequence
from functools import partial

from manyheads import tasks
from manyheads.attention import MultiHeadAttention
from manyheads.experiments.experiment import Experiment
from manyheads.training import TEST_SEED, stream, trained


def staircase(n_heads: int, ordinary: bool, steps: int, *, seeds: Sequence[int]) -> dict:
    """Copy the four previous vectors with heads that see positions only.

    Parameters
    ----------
    n_heads : int
    ordinary : bool
        Let scores and values see both content and position.
    steps : int
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: what is left over; ``theory``: less it can't be; ``attention``: the weights of the
        first seed, (head, query, key).
    """
    task = tasks.Staircase(ordinary)
    models, measured = trained(
        task, lambda: MultiHeadAttention(task.d_model, n_heads), seeds=seeds, steps=steps
    )
    inputs, _ = task.draw(stream(TEST_SEED), 1)
    attention = models[0](*inputs, return_weights=True)[1][0]  # (head, query, key)
    return measured | {"theory": task.theory(n_heads), "attention": attention.round(decimals=3)}


EXPERIMENT = Experiment(
    __doc__,
    {f"h={h}": partial(staircase, n_heads=h, ordinary=False, steps=600) for h in (1, 2, 3, 4, 12, 24)}
    | {f"h={h}, 4x training": partial(staircase, n_heads=h, ordinary=False, steps=2400) for h in (12, 24)}
    | {"h=1, scores see content": partial(staircase, n_heads=1, ordinary=True, steps=1800)},
)
