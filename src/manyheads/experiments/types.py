"""What does one average of two facts still tell about each?"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from manyheads.attention import attend
from manyheads.experiments.experiment import Experiment


def types(same: bool, weights: list[float]) -> dict:
    """Say what one average of two facts still tells about each, over all 8 × 8 pairs of facts.

    Parameters
    ----------
    same : bool
        Whether the two tokens hold their facts, one-hot, in the same eight channels, or each in its own.
    weights : list of float
        How the head weighs the two tokens.

    Returns
    -------
    dict
        For three read-outs the share of right answers for the first fact and for the second. ``alike`` names
        the value with the highest weight, ties shared: linear, and all values are treated alike. ``ordered``
        first multiplies the weight of value v by 3^v: linear too. ``any``: the best that any function of the
        average can do.
    """
    facts = torch.cartesian_prod(torch.arange(8), torch.arange(8))  # (pair, token)
    value = F.one_hot(facts if same else facts + torch.tensor([0, 8])).double()  # (pair, token, channel)
    query = torch.tensor([weights], dtype=torch.float64).log()  # (1, token): scores, for one-hot keys
    key = torch.eye(2, dtype=torch.float64)
    query, key = (x.expand(len(facts), -1, -1) for x in (query, key))
    average = attend(query, key, value, scale=1.0).squeeze(1)
    same_average = average.mul(1e6).round().unique(dim=0, return_inverse=True)[1]  # (pair,)
    found = {"alike": [], "ordered": [], "any": []}
    for fact, levels in zip(facts.T, (average[:, :8], average[:, -8:]), strict=True):
        together = torch.zeros(len(facts), 8)
        together.index_put_((same_average, fact), torch.ones(()), accumulate=True)
        found["alike"].append(_named(levels, fact))
        found["ordered"].append(_named(levels * 3 ** torch.arange(8), fact))
        found["any"].append(float(together.amax(1).sum() / len(facts)))
    return found


def _named(levels: Tensor, fact: Tensor) -> float:
    """Give the share of pairs whose ``fact`` has the highest level, ties shared."""
    highest = (levels > levels.amax(1, keepdim=True) - 1e-9).double()
    return float((highest / highest.sum(1, keepdim=True)).gather(1, fact[:, None]).mean())


EXPERIMENT = Experiment(
    __doc__,
    {
        "different types, equal weights": partial(types, same=False, weights=[0.5, 0.5]),
        "different types, unequal weights": partial(types, same=False, weights=[0.7, 0.3]),
        "same type, equal weights": partial(types, same=True, weights=[0.5, 0.5]),
        "same type, unequal weights": partial(types, same=True, weights=[0.7, 0.3]),
    },
    seeds=(),
)
