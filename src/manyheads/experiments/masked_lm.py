"""How do heads share the facts of a sentence, and how surely are they learnt?"""

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from manyheads import tasks
from manyheads.attention import MultiHeadAttention
from manyheads.experiments.experiment import Experiment
from manyheads.training import TEST_SEED, TEST_SIZE, scores, stream, trained


class MaskedLM(nn.Module):
    """Guess the masked word: embeddings, one attention layer with a residual, a linear read-out.

    Parameters
    ----------
    n_heads, d_model : int
    """

    def __init__(self, n_heads: int, d_model: int = 32):
        super().__init__()
        self.word = nn.Embedding(len(tasks.WORDS), d_model)
        self.place = nn.Embedding(len(tasks.ROLES), d_model)
        self.attention = MultiHeadAttention(d_model, n_heads)
        self.read_out = nn.Linear(d_model, len(tasks.WORDS))

    def forward(self, sentence: Tensor) -> Tensor:
        """Score every word for the gap.

        Parameters
        ----------
        sentence : int Tensor of shape (batch, word)

        Returns
        -------
        Tensor of shape (batch, len(WORDS))
        """
        asker, words = self.embed(sentence)
        return self.read_out(asker + self.attention(asker, words)).squeeze(1)

    def embed(self, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Turn words into vectors; only the gap asks, so its vector alone is the query.

        Parameters
        ----------
        sentence : int Tensor of shape (batch, word)

        Returns
        -------
        gap : Tensor of shape (batch, 1, d_model)
        words : Tensor of shape (batch, word, d_model)
        """
        words = self.word(sentence) + self.place.weight  # (batch, word, d_model)
        is_gap = (sentence == tasks.WORDS.index("[MASK]")).to(words)[:, None]  # (batch, 1, word)
        return is_gap @ words, words


def without_head(model: MaskedLM, i: int) -> MaskedLM:
    """Copy a model and silence one head: its slice of W_o becomes zero.

    Parameters
    ----------
    model : MaskedLM
    i : int
        Which head, from 0.

    Returns
    -------
    MaskedLM
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.attention.out_proj.weight.unflatten(1, (model.attention.n_heads, -1))[:, i] = 0
    return model


def masked_lm(n_heads: int, steps: int, lr: float, *, seeds: Sequence[int]) -> dict:
    """Fill gaps in sentences, with all heads and without each one.

    Parameters
    ----------
    n_heads, steps : int
    lr : float
    seeds : sequence of int

    Returns
    -------
    dict
        ``per_seed``: accuracy of each fact; ``without``: for each fact a row a seed with the accuracy without
        each head; ``attention``: for either gap and each seed how much each head looks at each of
        ``tasks.ROLES``, mean over sentences.
    """
    task = tasks.Sentences()
    models, measured = trained(task, lambda: MaskedLM(n_heads), seeds=seeds, steps=steps, lr=lr)
    cut = [scores(task, [without_head(model, i) for i in range(n_heads)]) for model in models]
    (sentence,), facts = task.draw(stream(TEST_SEED), TEST_SIZE)
    first, asks_verb = facts[:, -1, None, None] == 1, facts[:, 1] >= 0
    attention = {"verb": [], "adjective": []}
    for model in models:
        with torch.no_grad():
            weights = model.attention(*model.embed(sentence), return_weights=True)[1].squeeze(2)
        weights = torch.where(first, weights, weights.roll(1, -1))  # (batch, head, role)
        for gap, asked in (("verb", asks_verb), ("adjective", ~asks_verb)):
            attention[gap].append(weights[asked].mean(0).round(decimals=3))
    without = {score: [one[score] for one in cut] for score in measured["per_seed"]}
    return measured | {"without": without, "attention": attention}


def needed_heads(setting: dict, fact: str, drop: float = 0.1) -> list[set[int]]:
    """Say which heads a fact needs: those without which its accuracy falls by more than ``drop``.

    Parameters
    ----------
    setting : dict
        One of the stored settings of ``masked-lm``.
    fact : str
        ``tense``, ``number`` or ``class``.
    drop : float

    Returns
    -------
    list of set of int
        The heads, from 0, a set a seed; empty where no head is needed alone.
    """
    rows = zip(setting["per_seed"][fact], setting["without"][fact], strict=True)
    return [{i for i, left in enumerate(without) if whole - left > drop} for whole, without in rows]


EXPERIMENT = Experiment(
    __doc__,
    {f"h={h}": partial(masked_lm, n_heads=h, steps=600, lr=3e-3) for h in (1, 2, 4, 8)}
    | {"h=1, 3x training": partial(masked_lm, n_heads=1, steps=1800, lr=3e-3)},
    seeds=range(10),
)
