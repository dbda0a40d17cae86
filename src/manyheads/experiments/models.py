"""The real models that several sweeps read, each loaded once."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from manyheads.bert import Bert, load_minilm, load_rxnmapper
from manyheads.gpt import Gpt, load_smollm2


def _rounded(values: Tensor | np.ndarray) -> list:
    """To three digits, which is more than the samples can tell."""
    return np.round(np.asarray(values), 3).tolist()


@cache
def _minilm() -> Bert:
    return load_minilm(torch.float64)


@cache
def _rxnmapper() -> Bert:
    return load_rxnmapper(torch.float64)


@cache
def _smollm2() -> Gpt:
    return load_smollm2()
