"""Attention in NumPy, a loop a symbol: slow, obvious, and what the tests believe."""

import math

import numpy as np


def softmax(scores):
    """Turn a list of scores into weights that sum to 1, larger scores into larger weights.

    Parameters
    ----------
    scores : sequence of float
        ``-inf`` means "may not look".

    Returns
    -------
    list of float
        All zeros if every score is ``-inf``.

    Raises
    ------
    ValueError
        If a score is NaN or ``+inf``.
    """
    if any(math.isnan(score) or score == math.inf for score in scores):
        raise ValueError(f"scores must be finite or -inf, got {list(map(float, scores))}")
    largest = max(scores)
    if largest == -math.inf:
        return [0.0] * len(scores)
    powers = [math.exp(score - largest) for score in scores]  # minus the largest: no overflow
    return [power / sum(powers) for power in powers]


def attention(query, key, value, mask=None):
    """Give each query the average of the values, weighted by how well its key matches.

    Parameters
    ----------
    query : ndarray of shape (query, d_head)
    key : ndarray of shape (key, d_head)
    value : ndarray of shape (key, d_value)
    mask : bool ndarray of shape (query, key), optional
        ``True`` = may look.

    Returns
    -------
    mix : ndarray of shape (query, d_value)
    weights : ndarray of shape (query, key)

    Source: Vaswani et al. 2017, equation 1.
    """
    n_query, d_head = query.shape
    n_key, d_value = value.shape
    weights = np.zeros((n_query, n_key))
    mix = np.zeros((n_query, d_value))
    for i in range(n_query):
        scores = []
        for j in range(n_key):
            may_look = mask is None or mask[i, j]
            dot = sum(query[i, c] * key[j, c] for c in range(d_head))
            scores.append(dot / math.sqrt(d_head) if may_look else -math.inf)
        weights[i] = softmax(scores)
        for j in range(n_key):
            for c in range(d_value):
                mix[i, c] += weights[i, j] * value[j, c]
    return mix, weights


def multi_head_attention(x, w_q, w_k, w_v, w_o, mask=None, context=None):
    """Let several heads look, each by its own projections, and add up what they bring home.

    Parameters
    ----------
    x : ndarray of shape (query, d_model)
    w_q, w_k : ndarray of shape (head, d_model, d_head)
    w_v : ndarray of shape (head, d_model, d_value)
    w_o : ndarray of shape (head, d_value, d_model)
        The slices of W_o: adding up ``mix @ w_o[i]`` is concatenating the mixes and multiplying by W_o.
    mask : bool ndarray of shape (query, key), optional
        ``True`` = may look.
    context : ndarray of shape (key, d_model), optional
        The sequence to look at; ``x`` itself if left out.

    Returns
    -------
    output : ndarray of shape (query, d_model)
    weights : ndarray of shape (head, query, key)

    Source: Vaswani et al. 2017, section 3.2.2.
    """
    context = x if context is None else context
    output = np.zeros(x.shape)
    weights = []
    for i in range(len(w_q)):
        mix, head_weights = attention(x @ w_q[i], context @ w_k[i], context @ w_v[i], mask)
        output += mix @ w_o[i]
        weights.append(head_weights)
    return output, np.array(weights)


def attend_vectorised(query, key, value, mask=None):
    """Do :func:`attention` without loops, over any leading axes: what NumPy can do when it is in a hurry.

    Parameters
    ----------
    query : ndarray of shape (..., query, d_head)
    key : ndarray of shape (..., key, d_head)
    value : ndarray of shape (..., key, d_value)
    mask : bool ndarray that broadcasts to (..., query, key), optional
        ``True`` = may look. A query that may look at nothing gets zeros.

    Returns
    -------
    mix : ndarray of shape (..., query, d_value)
    weights : ndarray of shape (..., query, key)

    Source: Vaswani et al. 2017, equation 1.
    """
    scale = np.asarray(query.shape[-1] ** -0.5, query.dtype)
    weights = (query * scale) @ key.swapaxes(-2, -1)  # scores, (..., query, key)
    if mask is not None:
        weights = np.where(mask, weights, np.finfo(weights.dtype).min)
    weights -= weights.max(-1, keepdims=True)
    np.exp(weights, out=weights)
    if mask is not None:
        weights *= mask
    total = weights.sum(-1, keepdims=True)
    weights /= np.where(total == 0, 1, total)
    return weights @ value, weights
