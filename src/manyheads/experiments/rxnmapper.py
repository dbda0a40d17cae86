"""Which heads of RXNMapper look from an atom of the product at the atom that it was before?

The right answer is right by construction: reactions put together from chains, whose atoms are known.
"""

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from manyheads.bert import Bert
from manyheads.bootstrap import interval
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.models import rxnmapper

# For each family: what ends the left chain, what leaves it, what begins the right chain.
FAMILIES = {
    "amide": ("C(=O)", "Cl", "N"),
    "ester": ("C(=O)", "Cl", "O"),
    "ether": ("C", "Br", "O"),
    "amine": ("C", "Br", "N"),
    "thioether": ("C", "I", "S"),
}


_LINKS = ("C(F)", "C(=O)", "O", "S")  # never two of them side by side


Units = list[tuple[str, int]]  # a piece of a chain, as C(F), and the number of its first atom


def reaction(family: str, random: np.random.Generator) -> tuple[list[str], list[int]]:
    """Make a reaction whose atoms are known: two chains are joined, and a halogen leaves.

    A chain is a list of pieces, each one atom with at most one more hanging on it, so it can be written from
    either end. The order of the two molecules, and the end from which each molecule and the product are
    written, are drawn. No chain of the product is its own mirror image, so each atom has one right origin.

    Parameters
    ----------
    family : str
        One of ``FAMILIES``.
    random : Generator

    Returns
    -------
    tokens : list of str
        The reaction in SMILES, as ``reactants>>product``.
    atom : list of int
        For each token the number of its atom, the same before and after; -1 for what is no atom.
    """
    end, leaving, begin = FAMILIES[family]
    while True:
        left, right = ([*_chain(random), end], [begin, *_chain(random)])
        if left + right != (left + right)[::-1]:
            break
    product = [(piece, 10 * i) for i, piece in enumerate(left + right)]
    left, right = product[: len(left)], product[len(left) :]
    molecules = [[*left, (leaving, 10 * len(product))], right]
    first, second, product = (one[::-1] if random.integers(2) else one for one in (*molecules, product))
    reactants = [second, first] if random.integers(2) else [first, second]
    written = [*_written(reactants[0]), (".", -1), *_written(reactants[1]), (">>", -1), *_written(product)]
    tokens, atom = zip(*written, strict=True)
    return list(tokens), list(atom)


def _chain(random: np.random.Generator) -> list[str]:
    """Two to five pieces; the ends are plain carbon."""
    pieces = ["C"]
    for _ in range(random.integers(1, 4)):
        links = [] if pieces[-1] in _LINKS else list(_LINKS)
        pieces.append(str(random.choice(["C", "C", "C", *links])))
    return pieces if pieces[-1] == "C" else [*pieces, "C"]


def _written(units: Units) -> Iterator[tuple[str, int]]:
    for piece, number in units:
        for i, token in enumerate(re.findall("Br|Cl|.", piece)):
            yield token, number + i if token.isalpha() else -1


def finds_the_atom(model: Bert, tokens: list[str], atom: list[int]) -> tuple[Tensor, list[float]]:
    """See how often each head, asked by an atom of the product, looks most at the atom that it was before.

    Parameters
    ----------
    model : Bert
    tokens, atom
        As :func:`reaction` gives them.

    Returns
    -------
    found : Tensor of shape (layer, head)
        For which part of the product's atoms the largest weight among the reactants' atoms is right.
    chance : list of float
        The same for one who picks any atom, and for one who picks any atom of the same element.
    """
    ids, _ = model.tokenize(["".join(tokens)])
    _, trace = model.trace(ids)
    weights = torch.cat(trace.weights)[..., 1:-1, 1:-1]  # (layer, head, query, key)
    arrow = tokens.index(">>")
    before = [i for i in range(arrow) if atom[i] >= 0]
    after = [i for i in range(arrow, len(tokens)) if atom[i] >= 0]
    right = torch.tensor([[atom[i] for i in before].index(atom[j]) for j in after])
    found = weights[:, :, after][..., before].argmax(-1) == right
    same = [sum(tokens[i] == tokens[j] for i in before) for j in after]
    return found.double().mean(-1), [1 / len(before), sum(1 / n for n in same) / len(same)]


def atom_mapping(family: str, n_reactions: int, seed: int) -> dict:
    """Count how often each head of each of RXNMapper's layers finds the right atom, in one kind of reaction.

    Parameters
    ----------
    family : str
        One of ``FAMILIES``.
    n_reactions : int
    seed : int

    Returns
    -------
    dict
        ``right``, ``low`` and ``high`` of the bootstrap over reactions as tables (layer, head); ``chance`` of
        any atom and of any of the same element.
    """
    random = np.random.default_rng(seed)
    made = [reaction(family, random) for _ in range(n_reactions)]
    found, chance = zip(*(finds_the_atom(rxnmapper(), *one) for one in made), strict=True)
    found = torch.stack(found).numpy()
    low, high = interval(found)
    any_atom, same_element = np.mean(chance, axis=0).tolist()
    return {
        "example": "".join(made[0][0]),
        "n_reactions": n_reactions,
        "right": found.mean(0).round(3),
        "low": low.round(3),
        "high": high.round(3),
        "chance": {"any atom": any_atom, "same element": same_element},
    }


EXPERIMENT = Experiment(
    __doc__,
    {
        family: partial(atom_mapping, family=family, n_reactions=100, seed=seed)
        for seed, family in enumerate(FAMILIES)
    },
    seeds=(),
    packages=("rxnmapper",),
)
