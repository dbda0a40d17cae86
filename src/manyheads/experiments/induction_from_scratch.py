"""Does a small decoder learn what stood beside a word before: with two layers, with more heads?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from manyheads.experiments.experiment import Experiment
from manyheads.gpt import Gpt
from manyheads.training import TEST_SEED, TEST_SIZE, fit, scores, stream


@dataclass(frozen=True)
class Pairs:
    """Say what stood beside a word before: the smallest task that asks for induction.

    Four pairs of different words are said, then pairs among them again, at random: after the first word of
    such a pair comes the question what follows. The pairs are new in every sequence, and a guess among the
    four second words is right once in four times.

    Attributes
    ----------
    n_words : int
        Size of the vocabulary.
    n_pairs, n_asked : int
        How many pairs are said, and how often one is said again.
    """

    n_words: int = 16
    n_pairs: int = 4
    n_asked: int = 8

    @property
    def chance(self) -> float:
        """Accuracy of a guess among the second words."""
        return 1 / self.n_pairs

    def draw(self, stream: Generator, size: int) -> tuple[tuple[Tensor], Tensor]:
        """Make sequences, and what comes next where it can be known.

        Parameters
        ----------
        stream : torch.Generator
        size : int
            Number of sequences, the batch.

        Returns
        -------
        sequences : tuple of one int Tensor of shape (batch, token)
        target : int Tensor of shape (batch, token)
            The second word where a pair is asked, else -100.
        """
        words = torch.rand(size, self.n_words, generator=stream).argsort(-1)
        pairs = words[:, : 2 * self.n_pairs].unflatten(1, (self.n_pairs, 2))
        asked = torch.randint(self.n_pairs, (size, self.n_asked, 1), generator=stream)
        said = torch.cat([pairs, pairs.take_along_dim(asked, 1)], 1)  # (batch, pair, 2)
        target = torch.full_like(said, -100)
        target[:, self.n_pairs :, 0] = said[:, self.n_pairs :, 1]
        return (said.flatten(1),), target.flatten(1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Give the cross-entropy of the words that are asked."""
        return F.cross_entropy(output.flatten(0, 1), target.flatten())

    def score(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Say which share of the words that are asked is right."""
        return {"accuracy": (output.argmax(-1) == target)[target >= 0].double().mean()}


def from_scratch(n_layers: int, n_heads: int, steps: int, *, seeds: Sequence[int]) -> dict:
    """Train small decoders to say what stood beside a word before.

    Parameters
    ----------
    n_layers, n_heads, steps : int
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: the ``accuracy``; and, where a pair is asked, the share of the weight that the best head
        of the last layer gives to words that came after an earlier copy (``induction``); and that of the
        first layer's best head that goes to the ``previous`` token, from the second words of pairs.
        ``history``: the loss of each seed, mean over 20 steps, a row a seed.
    """
    task = Pairs()
    run = fit(lambda: Gpt(task.n_words, 32, 64, n_layers, n_heads), task, seeds=seeds, steps=steps, batch=32)
    (said,), _ = task.draw(stream(TEST_SEED), TEST_SIZE)
    at = torch.arange(said.shape[1])
    back = at[:, None] - at  # from query to key
    asks = (at >= 2 * task.n_pairs) & (at % 2 == 0)
    # the key's word came after mine
    again = F.pad(said[:, :-1], (1, 0), value=-1)[:, None] == said[:, :, None]
    wanted = {
        "previous": ((back == 1) & (at % 2 == 1)[:, None]).expand(len(said), -1, -1),
        "induction": again & (back > 0) & asks[:, None],
    }
    found = scores(task, run.models)
    for habit, layer in (("previous", 0), ("induction", -1)):
        asked = wanted[habit].any(-1)  # (batch, query)
        found[habit] = []
        for model in run.models:
            with torch.no_grad():
                weights = model.trace(said)[1].weights[layer]  # (batch, head, query, key)
            followed = (weights * wanted[habit][:, None]).sum(-1)  # (batch, head, query)
            found[habit].append(float(followed.movedim(1, -1)[asked].mean(0).max()))
    history = run.history.unflatten(0, (-1, 20)).mean(1).T  # (seed, 20 steps)
    return {"per_seed": found, "history": history.round(decimals=3)}


EXPERIMENT = Experiment(
    __doc__,
    {
        f"{layers} layer{'s'[: layers - 1]}, h={h}{more}": partial(
            from_scratch, n_layers=layers, n_heads=h, steps=steps
        )
        for layers, h, steps, more in (
            (1, 1, 1000, ""),
            (1, 4, 1000, ""),
            (1, 4, 2000, ", 2x training"),
            (2, 1, 1000, ""),
            (2, 4, 1000, ""),
        )
    },
)
