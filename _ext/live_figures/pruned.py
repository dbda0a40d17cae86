"""What the figure of chapter 8 shows: each smaller MiniLM that was measured: quality, size, time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from manyheads import cost, heads, results
from manyheads.bootstrap import interval

RANKINGS = ("gradient", "leave one out", "norm of W_o", "random")
N_HEADS = 72  # in 6 layers of MiniLM
A_HEAD = 4 * (cost.parameters(384, 2, d_head=32) - cost.parameters(384, 1, d_head=32))  # bytes
LISTED = (
    "6 heads a layer",
    "2 heads a layer",
    "1 head a layer",
    "no attention",
    "4 of 6 layers",
    "3 of 6 layers",
)


@dataclass(frozen=True)
class Measured:
    """What was measured of smaller MiniLMs, loaded when a page shows it and not before.

    Attributes
    ----------
    by_ranking, few, int8 : dict
        The settings of ``prune-rankings`` and ``keep-few``, and the only one of ``int8``.
    n_bytes, times : dict
        Size and time of each model that ``prune-time`` timed.
    processor : str
    """

    by_ranking: dict[str, Any]
    few: dict[str, Any]
    int8: dict[str, Any]
    n_bytes: dict[str, int]
    times: dict[str, list[float]]
    processor: str

    @classmethod
    def load(cls) -> "Measured":
        """Load the four sweeps that the figure shows."""
        by_ranking, few, int8 = (
            results.load(name)["settings"] for name in ("prune-rankings", "keep-few", "int8")
        )
        timed = results.load("prune-time")
        found = timed["settings"]["128 tokens"]
        return cls(by_ranking, few, int8["int8"], found["bytes"], found["times"], timed["machine"]["cpu"])


Ranks = list[list[int]]  # a row a lot, a column a query


def models() -> dict[str, Any]:
    """Return all that can be chosen, by a ranking or by a rule.

    Each has its MRR right after the cut and, where there was one, after the short training; ``minus`` is the
    difference to the intact model on the same queries. All are mean, low and high end of the interval.
    """
    measured = Measured.load()
    found, ranks = zip(*by_a_ranking(measured), *by_a_rule(measured), strict=True)
    for model, quality in zip(found, qualities(ranks), strict=True):
        model |= {"before": quality, "time": measured.times.get(model["name"])}
    trained = [model for model in found if model["name"] in measured.few]
    after = qualities([measured.few[model["name"]]["ranks_trained"] for model in trained])
    for model, quality in zip(trained, after, strict=True):
        model["after"] = quality
    return {"models": found, "processor": measured.processor}


def by_a_ranking(measured: Measured) -> Iterator[tuple[dict[str, Any], Ranks]]:
    """Yield each model that a ranking leaves, and its ranks."""
    ends = {0: "intact", N_HEADS: "no attention"}  # the same for all rankings
    by_gradient = measured.by_ranking["gradient"]
    for ranking in RANKINGS:
        lots = [one for name, one in measured.by_ranking.items() if name.rstrip(" 0123456789") == ranking]
        for removed in by_gradient["setting"]["removed"]:
            drawn = [by_gradient] if removed in ends else lots
            ranks = [one["ranks"][one["setting"]["removed"].index(removed)] for one in drawn]
            mrr = np.mean(1 / np.array(ranks), 1).round(5)
            # to keep-few and prune-time
            known = ends | ({60: "12 heads in all"} if ranking == "gradient" else {})
            model = {"ranking": ranking, "removed": removed, "name": known.get(removed)}
            gates = heads.keep_best(torch.tensor(drawn[0]["importance"]), N_HEADS - removed)
            sizes = {"kept": kept(gates), "bytes": measured.n_bytes["intact"] - removed * A_HEAD}
            yield model | sizes | ({"lots": [mrr.min(), mrr.max()]} if len(drawn) > 1 else {}), ranks


def by_a_rule(measured: Measured) -> Iterator[tuple[dict[str, Any], Ranks]]:
    """Yield each model that a rule leaves, int8 among them, and its ranks."""
    layers = torch.tensor(measured.by_ranking["gradient"]["importance"])
    for name in LISTED:
        setting = measured.few[name]["setting"]
        gates = [heads.keep_best([of_layer], setting.get("a_layer", len(of_layer)))[0] for of_layer in layers]
        stay = kept(gates, setting.get("layers", range(len(gates))))
        removed = N_HEADS - "".join(stay).count("1")
        model = {"name": name, "removed": removed, "kept": stay, "bytes": measured.n_bytes[name]}
        yield model, [measured.few[name]["ranks"]]
    whole = kept(torch.ones(6, 12))
    model = {"name": "int8", "removed": 0, "kept": whole, "bytes": measured.int8["bytes"]}
    yield model, [measured.int8["ranks"]]


def kept(gates: Sequence[torch.Tensor], layers: Sequence[int] = range(6)) -> list[str]:
    """Write which heads stay, a string a layer; a layer that goes with all that is in it is an empty one."""
    return ["".join(str(int(gate)) for gate in row) if i in layers else "" for i, row in enumerate(gates)]


def qualities(ranks: Sequence[Ranks]) -> list[dict[str, list[float]]]:
    """Say how good each model is, and how far from the first, the intact one."""

    def spread(values: np.ndarray) -> list[list[float]]:  # mean, low, high, a row a model
        return np.stack([values.mean(0), *interval(values)]).T.round(5).tolist()

    scores = np.stack([(1 / np.array(runs)).mean(0) for runs in ranks], 1)  # (query, model)
    pairs = zip(spread(scores), spread(scores - scores[:, :1]), strict=True)
    return [{"mrr": mrr, "minus": minus} for mrr, minus in pairs]
