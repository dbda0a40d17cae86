"""The real models that several sweeps read, each loaded once in a process."""

from functools import cache

import torch

from manyheads.bert import Bert, load_minilm, load_rxnmapper
from manyheads.gpt import Gpt, load_smollm2


@cache
def minilm(dtype: torch.dtype) -> Bert:
    """Load MiniLM once for all settings: what is stored to the last digit hangs on the type of its numbers.

    Parameters
    ----------
    dtype : torch.dtype
        Of the weights.

    Returns
    -------
    Bert
    """
    return load_minilm(dtype)


@cache
def rxnmapper() -> Bert:
    """Load RXNMapper once for all settings.

    Returns
    -------
    Bert
        In float64.
    """
    return load_rxnmapper(torch.float64)


@cache
def smollm2() -> Gpt:
    """Load SmolLM2 once for all settings.

    Returns
    -------
    Gpt
        In float32.
    """
    return load_smollm2()
