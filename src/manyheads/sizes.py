"""Checks sizes where they come in, so that a wrong one is named there and not by whoever stumbles over it."""

import operator
from typing import SupportsIndex


def whole(**sizes: SupportsIndex) -> list[int]:
    """Take whole numbers of any library as ``int``, and refuse what only looks like one, as 64 / 16 does.

    Parameters
    ----------
    **sizes : int, or whatever can stand for one, as ``np.int64``
        Under the names that a message should call them by.

    Returns
    -------
    list of int
        In the order of the arguments.

    Raises
    ------
    TypeError
        If one isn't a whole number.

    Source: PEP 357 (``operator.index``).
    """
    found = []
    for name, size in sizes.items():
        try:
            if isinstance(size, bool):
                raise TypeError
            found.append(operator.index(size))
        except TypeError:
            raise TypeError(f"{name} is counted and must be an int, got {size!r}") from None
    return found


def counts(**sizes: SupportsIndex) -> list[int]:
    """Take sizes that are counted from 1: a model without tokens, heads or layers computes nothing.

    Parameters
    ----------
    **sizes : int, or whatever can stand for one
        As in :func:`whole`.

    Returns
    -------
    list of int
        In the order of the arguments.

    Raises
    ------
    TypeError
        If one isn't a whole number.
    ValueError
        If one is below 1.
    """
    found = whole(**sizes)
    for name, size in zip(sizes, found, strict=True):
        if size < 1:
            raise ValueError(f"{name} is counted from 1, got {name}={size}")
    return found


def of_heads(
    d_model: int, n_heads: int, n_kv_heads: int | None = None, d_head: int | None = None
) -> list[int]:
    """Fill in what a layer's sizes leave open: as many K/V heads as heads, and heads that share ``d_model``.

    Parameters
    ----------
    d_model, n_heads, n_kv_heads, d_head
        As in :class:`manyheads.attention.MultiHeadAttention`.

    Returns
    -------
    list of int
        All four.

    Raises
    ------
    TypeError
        If one isn't a whole number.
    ValueError
        If one is below 1, ``n_heads`` doesn't divide ``d_model`` and no ``d_head`` is given, or
        ``n_kv_heads`` doesn't divide ``n_heads``.

    Source: Vaswani et al. 2017, section 3.2.2; Ainslie et al. 2023, section 2.2 (shared K/V heads).
    """
    n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
    d_model, n_heads, n_kv_heads = counts(d_model=d_model, n_heads=n_heads, n_kv_heads=n_kv_heads)
    if d_head is None and d_model % n_heads:
        raise ValueError(
            f"d_model must be divisible by n_heads: {d_model} / {n_heads} leaves "
            f"{d_model % n_heads}; choose another n_heads or give d_head"
        )
    if n_heads % n_kv_heads:
        raise ValueError(
            f"n_heads must be divisible by n_kv_heads, so that each K/V head serves as many "
            f"query heads: {n_heads} / {n_kv_heads} leaves {n_heads % n_kv_heads}"
        )
    return [d_model, n_heads, n_kv_heads, *counts(d_head=d_model // n_heads if d_head is None else d_head)]


def share(**shares: float) -> None:
    """Refuse what can't be a share of a whole, as a dropout of 10 for 10 %.

    Parameters
    ----------
    **shares : float
        Under the names that a message should call them by.

    Raises
    ------
    ValueError
        If one isn't between 0 and 1.
    """
    for name, found in shares.items():
        if not 0 <= found <= 1:
            raise ValueError(f"{name} is a share and lies between 0 and 1, got {name}={found}")
