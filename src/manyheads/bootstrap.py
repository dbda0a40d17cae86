"""Says how much a mean hangs on which samples there were: the bootstrap."""

import numpy as np


def resampled(values: np.ndarray, draws: int = 10_000) -> np.ndarray:
    """Draw as many samples anew, with replacement, and again: how much a mean hangs on which ones there were.

    Parameters
    ----------
    values : array of shape (sample, ...)
    draws : int

    Returns
    -------
    array of shape (draw, ...)
        The mean of each draw.

    Source: Efron & Tibshirani 1993, chapter 6.
    """
    values, n = np.asarray(values, dtype=float), len(values)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws)  # (draw, sample)
    return np.tensordot(counts, values, 1) / n


def interval(values: np.ndarray, draws: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Say between which bounds a mean lies: the middle 95 % of what :func:`resampled` gives.

    For the difference of two models on the same samples hand over the differences, sample by sample: what is
    hard for both then doesn't blur it.

    Parameters
    ----------
    values : array of shape (sample, ...)
    draws : int

    Returns
    -------
    low, high : array of shape (...)

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    low, high = np.quantile(resampled(values, draws), (0.025, 0.975), axis=0)
    return low, high
