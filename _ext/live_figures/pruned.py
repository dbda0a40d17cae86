"""What the figure of chapter 8 shows: each smaller MiniLM that was measured: quality, size, time."""

import numpy as np
import torch

from manyheads import cost, heads, results
from manyheads.bootstrap import interval

RANKINGS = ("gradient", "leave one out", "norm of W_o", "random")
N_HEADS = 72  # in 6 layers of MiniLM
A_HEAD = 4 * (cost.parameters(384, 2, d_head=32) - cost.parameters(384, 1, d_head=32))  # bytes
TIMED = results.load("prune-time")
N_BYTES, TIMES = (TIMED["settings"]["128 tokens"][what] for what in ("bytes", "times"))
FEW, BY_RANKING = (results.load(name)["settings"] for name in ("keep-few", "prune-rankings"))
BY_GRADIENT = BY_RANKING["gradient"]


def models():
    """Return all that can be chosen, by a ranking or by a rule.

    Each has its MRR right after the cut and, where there was one, after the short training; ``minus`` is the
    difference to the intact model on the same queries. All are mean, low and high end of the interval.
    """
    found, ranks = zip(*by_a_ranking(), *by_a_rule(), strict=True)
    for model, quality in zip(found, qualities(ranks), strict=True):
        model |= {"before": quality, "time": TIMES.get(model["name"])}
    trained = [model for model in found if model["name"] in FEW]
    after = qualities([FEW[model["name"]]["ranks_trained"] for model in trained])
    for model, quality in zip(trained, after, strict=True):
        model["after"] = quality
    return {"models": found, "processor": TIMED["machine"]["cpu"]}


def by_a_ranking():
    """Give each model that a ranking leaves, and its ranks: a row a lot, a column a query."""
    ends = {0: "intact", N_HEADS: "no attention"}  # the same for all rankings
    for ranking in RANKINGS:
        lots = [one for name, one in BY_RANKING.items() if name.rstrip(" 0123456789") == ranking]
        for removed in BY_GRADIENT["setting"]["removed"]:
            drawn = [BY_GRADIENT] if removed in ends else lots
            ranks = [one["ranks"][one["setting"]["removed"].index(removed)] for one in drawn]
            mrr = np.mean(1 / np.array(ranks), 1).round(5)
            # to keep-few and prune-time
            known = ends | ({60: "12 heads in all"} if ranking == "gradient" else {})
            model = {"ranking": ranking, "removed": removed, "name": known.get(removed)}
            gates = heads.keep_best(torch.tensor(drawn[0]["importance"]), N_HEADS - removed)
            sizes = {"kept": kept(gates), "bytes": N_BYTES["intact"] - removed * A_HEAD}
            yield model | sizes | ({"lots": [mrr.min(), mrr.max()]} if len(drawn) > 1 else {}), ranks


def by_a_rule():
    """Give each model that a rule leaves, int8 among them, and its ranks."""
    for name in (
        "6 heads a layer",
        "2 heads a layer",
        "1 head a layer",
        "no attention",
        "4 of 6 layers",
        "3 of 6 layers",
    ):
        setting = FEW[name]["setting"]
        layers = torch.tensor(BY_GRADIENT["importance"])
        gates = [heads.keep_best([of_layer], setting.get("a_layer", len(of_layer)))[0] for of_layer in layers]
        stay = kept(gates, setting.get("layers", range(len(gates))))
        removed = N_HEADS - "".join(stay).count("1")
        yield {"name": name, "removed": removed, "kept": stay, "bytes": N_BYTES[name]}, [FEW[name]["ranks"]]
    int8 = results.load("int8")["settings"]["int8"]
    yield (
        {"name": "int8", "removed": 0, "kept": kept(torch.ones(6, 12)), "bytes": int8["bytes"]},
        [int8["ranks"]],
    )


def kept(gates, layers=range(6)):
    """Write which heads stay, a string a layer; a layer that goes with all that is in it is an empty one."""
    return ["".join(str(int(gate)) for gate in row) if i in layers else "" for i, row in enumerate(gates)]


def qualities(ranks):
    """Say how good each model is, and how far from the first, the intact one."""

    def spread(values):  # mean, low, high, a row a model
        return np.stack([values.mean(0), *interval(values)]).T.round(5).tolist()

    scores = np.stack([(1 / np.array(runs)).mean(0) for runs in ranks], 1)  # (query, model)
    pairs = zip(spread(scores), spread(scores - scores[:, :1]), strict=True)
    return [{"mrr": mrr, "minus": minus} for mrr, minus in pairs]
