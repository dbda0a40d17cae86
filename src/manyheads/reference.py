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
        If there is no score, or one is NaN or ``+inf``.
    """
    if len(scores) == 0:
        raise ValueError("weights that sum to 1 need at least one score, got none")
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

    Raises
    ------
    ValueError
        If the shapes don't fit each other.
    TypeError
        If the mask isn't boolean: 0 and -inf, which others add to scores, would be read upside down.

    Source: Vaswani et al. 2017, equation 1.
    """
    query, key, value, mask = _checked(query, key, value, mask)
    if not query.ndim == key.ndim == value.ndim == 2:
        raise ValueError(
            f"these loops take one head of one sequence, arrays of two axes, got query {query.shape}, "
            f"key {key.shape} and value {value.shape}; attend_vectorised takes more"
        )
    n_query, d_head = query.shape
    n_key, d_value = value.shape
    weights = np.zeros((n_query, n_key))
    mix = np.zeros((n_query, d_value))
    for i in range(n_query):
        scores = []
        for j in range(n_key):
            if mask is None or mask[i, j]:
                dot = sum(query[i, c] * key[j, c] for c in range(d_head))
                scores.append(dot / math.sqrt(d_head))
            else:
                scores.append(-math.inf)
        weights[i] = softmax(scores)
        for j in range(n_key):
            if scores[j] > -math.inf:  # a weight of 0 wouldn't hide a value of NaN
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

    Raises
    ------
    ValueError
        If the heads aren't as many in all four, or the shapes don't fit each other.
    TypeError
        If the mask isn't boolean.

    Source: Vaswani et al. 2017, section 3.2.2.
    """
    x = np.asarray(x)
    context = x if context is None else np.asarray(context)
    w_q, w_k, w_v, w_o = (np.asarray(w) for w in (w_q, w_k, w_v, w_o))
    for name, w, width in (("w_q", w_q, x), ("w_k", w_k, context), ("w_v", w_v, context)):
        if w.ndim != 3 or len(w) != len(w_o) or w.shape[1] != width.shape[-1]:
            raise ValueError(
                f"{name} must have shape (head, d_model, d_head) = ({len(w_o)}, {width.shape[-1]}, d_head), "
                f"got {w.shape}"
            )
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
        Both of float32 or wider: float16 is widened first, and integers are.

    Raises
    ------
    ValueError, TypeError
        As :func:`attention`.

    Source: Vaswani et al. 2017, equation 1.
    """
    query, key, value, mask = _checked(query, key, value, mask)
    if mask is not None:  # what is hidden from all queries may hold NaN
        seen = np.any(mask, -2)[..., None]
        key, value = (np.where(seen, x, x.dtype.type(0)) for x in (key, value))
    scale = query.dtype.type(query.shape[-1] ** -0.5)
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


def _checked(query, key, value, mask):
    """Refuse what would give a wrong number where an error belongs; give arrays of one wide enough type."""
    query, key, value = (np.asarray(x) for x in (query, key, value))
    shapes = query.shape, key.shape, value.shape
    if min(map(len, shapes)) < 2 or shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]:
        raise ValueError(
            f"the shapes (..., query, d_head), (..., key, d_head) and (..., key, d_value) must fit, got "
            f"query {shapes[0]}, key {shapes[1]} and value {shapes[2]}"
        )
    dtype = np.result_type(query, key, value)
    dtype = np.result_type(dtype, np.float32 if dtype.kind == "f" else np.float64)
    if dtype.kind != "f":
        raise TypeError(f"attention works on real numbers, got {query.dtype}, {key.dtype} and {value.dtype}")
    query, key, value = (x.astype(dtype, copy=False) for x in (query, key, value))
    if mask is None:
        return query, key, value, None
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(
            f"a mask must be boolean, True = may look, got {mask.dtype}; write mask.astype(bool) if 1 means "
            f"'may look', mask == 0 if 0 does, as where 0 and -inf are added to the scores"
        )
    leading = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    scores = (*leading, shapes[0][-2], shapes[1][-2])
    if mask.ndim > len(scores) or any(
        m not in (1, s) for m, s in zip(mask.shape[::-1], scores[::-1], strict=False)
    ):
        raise ValueError(f"a mask must broadcast to (..., query, key) = {scores}, got {mask.shape}")
    return query, key, value, np.broadcast_to(mask, scores)
