"""What the sweeps of chapter 5 measure: heads of a reader of English and of a reader of chemistry.

Where a right answer is needed, it is right by construction: sentences from templates, whose subject is
known, and reactions put together from chains, whose atoms are known.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from manyheads import heads
from manyheads.bert import Bert
from manyheads.bootstrap import interval, resampled
from manyheads.data import news
from manyheads.experiments.models import _minilm, _rounded, _rxnmapper

# --- Subject or distractor? -----------------------------------------------------------------------------


# --- The census of head types ---------------------------------------------------------------------------


def kinds(shares: dict[str, np.ndarray]) -> np.ndarray:
    """Give each head the name of the habit that takes more than half of its weight.

    Parameters
    ----------
    shares : dict of array of shape (...)
        ``previous``, ``next``, ``first``, ``separator``, ``punctuation``, ``same`` as
        :func:`manyheads.heads.share` gives them, and ``entropy`` as a part of ln n.

    Returns
    -------
    array of str of shape (...)
        One of these habits (``first`` and ``separator`` together are a ``sink``), else ``broad`` if the
        entropy is above 0.8 of the most there can be, else ``mixed``.
    """
    rules = {
        "sink": shares["first"] + shares["separator"] > 0.5,
        **{name: shares[name] > 0.5 for name in ("previous", "next", "punctuation", "same")},
        "broad": shares["entropy"] > 0.8,
    }
    return np.select(list(rules.values()), list(rules), "mixed")


def census(n_sentences: int, seed: int) -> dict:
    """Name the 72 heads of MiniLM by what they do on real news sentences, and ask how sure the names are.

    Only rows of words are read, not those of [CLS] and [SEP].

    Parameters
    ----------
    n_sentences : int
        So many are drawn from those of 8 to 40 words.
    seed : int

    Returns
    -------
    dict
        ``shares`` and ``kind`` as tables (layer, head); ``same_kind``: how often the bootstrap over sentences
        gives a head the same name; ``counts`` of each name with ``low`` and ``high``; ``halves_agree``: how
        many heads have one name in both halves of the sentences; ``sink``: the share of [CLS] and [SEP] in
        the weights and in what arrives, in each layer, with bounds for the mean; ``even_share``: what each
        token would have if all had the same.
    """
    random = np.random.default_rng(seed)
    fit = [text for text in chain(*news()) if 8 <= len(text.split()) <= 40]
    texts = random.choice(fit, n_sentences, replace=False).tolist()
    habits, sinks = zip(*(_habits(_minilm(), text) for text in texts), strict=True)
    each = {name: np.stack([one[name] for one in habits]) for name in habits[0]}  # (sentence, layer, head)
    drawn = kinds({name: resampled(values) for name, values in each.items()})  # (draw, layer, head)
    kind = kinds({name: values.mean(0) for name, values in each.items()})
    halves = [kinds({name: values[i::2].mean(0) for name, values in each.items()}) for i in (0, 1)]
    counts = Counter(kind.flat)
    bounds = {name: np.quantile((drawn == name).sum((1, 2)), (0.025, 0.975)) for name in np.unique(drawn)}
    sink = np.stack(sinks)  # (sentence, weights or contributions, first or separator, layer)
    low, high = interval(sink.mean(-1))
    return {
        "n_sentences": len(texts),
        "even_share": np.mean([1 / _minilm().tokenize([text])[0].shape[1] for text in texts]).item(),
        "shares": {name: _rounded(values.mean(0)) for name, values in each.items()},
        "kind": kind.tolist(),
        "same_kind": _rounded((drawn == kind).mean(0)),
        "counts": {
            str(name): {"n": counts[name], "low": int(low), "high": int(high)}
            for name, (low, high) in bounds.items()
        },
        "halves_agree": int((halves[0] == halves[1]).sum()),
        "sink": {
            what: {
                token: {
                    "layers": _rounded(sink.mean(0)[i, j]),
                    "mean": sink.mean((0, 3))[i, j].item(),
                    "low": low[i, j].item(),
                    "high": high[i, j].item(),
                }
                for j, token in enumerate(("first", "separator"))
            }
            for i, what in enumerate(("weights", "contributions"))
        },
    }


def _habits(model: Bert, text: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """For one sentence: each habit's share (layer, head); the sinks' share of weights and contributions."""
    ids, _ = model.tokenize([text])
    _, trace = model.trace(ids)
    arrives = [
        heads.contributions(block.attention, seen, weights)[0]
        for block, seen, weights in zip(model.stack.blocks, trace.seen, trace.weights, strict=True)
    ]
    weights, arrives = torch.cat(trace.weights)[..., 1:-1, :], torch.stack(arrives)[..., 1:-1, :]
    wanted = {name: pattern[1:-1] for name, pattern in heads.patterns(model.words(ids[0])).items()}
    shares = {name: heads.share(weights, pattern).nan_to_num().numpy() for name, pattern in wanted.items()}
    shares["entropy"] = (heads.entropy(weights).mean(-1) / math.log(ids.shape[-1])).numpy()
    sinks = [
        [heads.share(amount, wanted[token]).mean(-1).numpy() for token in ("first", "separator")]
        for amount in (weights, arrives)
    ]
    return shares, np.array(sinks)


# --- Chemistry: which atom becomes which? ---------------------------------------------------------------

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
    found, chance = zip(*(finds_the_atom(_rxnmapper(), *one) for one in made), strict=True)
    found = torch.stack(found).numpy()
    low, high = interval(found)
    any_atom, same_element = np.mean(chance, axis=0).tolist()
    return {
        "example": "".join(made[0][0]),
        "n_reactions": n_reactions,
        "right": _rounded(found.mean(0)),
        "low": _rounded(low),
        "high": _rounded(high),
        "chance": {"any atom": any_atom, "same element": same_element},
    }
