"""Which heads of a small layer are best kept, of all 256 ways?"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor
from torch.func import functional_call

from manyheads import heads
from manyheads.attention import MultiHeadAttention
from manyheads.experiments.experiment import Experiment
from manyheads.heads import Gates
from manyheads.tasks import Lookup
from manyheads.training import TEST_SEED, TEST_SIZE, fit, stream

Batch = tuple[tuple[Tensor, ...], Tensor]  # of a task: inputs and target


def prune_lookup(steps: int, *, seeds: Sequence[int]) -> dict:
    """Train the lookup layer of eight heads, then try all 256 ways to keep some, and four ways to guess.

    Parameters
    ----------
    steps : int
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: accuracy with n heads, for each n: of the ``best n``; of those kept by ``leave one out
        n``, by ``greedy n`` (one head after the other goes, always the one that is missed least) and by
        ``gradient n``, which all look at other examples than those that judge; and the mean of all sets of n,
        ``random n``.
    """
    task, found = Lookup(), {}
    judge, rank = (task.draw(stream(seed), TEST_SIZE) for seed in (TEST_SEED, TEST_SEED + 1))
    for model in fit(lambda: MultiHeadAttention(task.d_model, 8), task, seeds=seeds, steps=steps).models:
        for name, accuracy in _ways_to_prune(model, task, rank, judge).items():
            found.setdefault(name, []).append(accuracy)
    return {"per_seed": found}


def _ways_to_prune(layer: MultiHeadAttention, task: Lookup, rank: Batch, judge: Batch) -> dict:
    layer.requires_grad_(False)

    def output(gates: Gates, inputs: tuple[Tensor, ...]) -> Tensor:
        return functional_call(layer, heads.gated(layer, gates), inputs)

    def loss(gates: Gates, i: int) -> Tensor:
        inputs, target = rank
        return task.loss(output(gates, tuple(x[i : i + 1] for x in inputs)), target[i : i + 1])

    def accuracies(batch: Batch) -> dict[tuple, float]:
        inputs, target = batch
        kept, found = heads.exhaustive(
            layer, lambda gates: task.score(output(gates, inputs), target)["accuracy"]
        )
        return dict(zip(map(tuple, kept.bool().tolist()), found.tolist(), strict=True))

    truth, seen = accuracies(judge), accuracies(rank)
    rankings = {
        "leave one out": heads.leave_one_out(layer, lambda gates: seen[tuple(gates[0].bool().tolist())]),
        "gradient": heads.by_gradient(layer, loss, range(512)),
    }
    found, greedy = {}, (True,) * layer.n_heads
    for n in range(layer.n_heads, -1, -1):
        of_size = [accuracy for kept, accuracy in truth.items() if sum(kept) == n]
        found |= {f"best {n}": max(of_size), f"random {n}": sum(of_size) / len(of_size)}
        found[f"greedy {n}"] = truth[greedy]
        for name, importance in rankings.items():
            found[f"{name} {n}"] = truth[tuple(heads.keep_best(importance, n)[0].bool().tolist())]
        fewer = [(*greedy[:i], False, *greedy[i + 1 :]) for i in range(layer.n_heads) if greedy[i]]
        greedy = max(fewer, key=seen.__getitem__, default=greedy)
    return found


EXPERIMENT = Experiment(
    __doc__,
    {"h=8": partial(prune_lookup, steps=600)},
)
