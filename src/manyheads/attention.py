"""Attention, written once over any leading axes, so that many heads are the same call as one.

``True`` in a mask means "may look", as in ``F.scaled_dot_product_attention``
(``nn.MultiheadAttention`` means the opposite by its own masks).
"""

from typing import Any, Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyheads.sizes import counts, of_heads, share, whole


def causal_mask(
    n_query: int, n_key: int | None = None, *, device: torch.device | str | None = None
) -> Tensor:
    """Let each query look at itself and the past, never at the future.

    With more keys than queries the queries are the *last* positions, as when a KV cache holds
    the past; ``F.scaled_dot_product_attention(is_causal=True)`` aligns them to the first instead.

    Parameters
    ----------
    n_query : int
        Number of queries.
    n_key : int, optional
        Number of keys; ``n_query`` if left out.
    device : torch.device or str, optional
        Where to make it; torch's default if left out.

    Returns
    -------
    bool Tensor of shape (query, key)
        ``True`` where the query may look.

    Raises
    ------
    ValueError
        If a number is below 1, or there are fewer keys than queries.
    TypeError
        If a number isn't a whole one.

    Source: Vaswani et al. 2017, section 3.2.3.
    """
    n_query, n_key = counts(n_query=n_query, n_key=n_query if n_key is None else n_key)
    if n_key < n_query:
        raise ValueError(
            f"a causal mask needs at least as many keys as queries: n_query={n_query}, n_key={n_key}"
        )
    return torch.ones(n_query, n_key, dtype=torch.bool, device=device).tril(n_key - n_query)


def padding_mask(lengths: Tensor, n_key: int) -> Tensor:
    """Keep the tokens that only fill up a batch from being looked at.

    Parameters
    ----------
    lengths : int Tensor of shape (batch,), or list of int
        Number of real tokens of each sequence, from 0 to ``n_key``.
    n_key : int
        Number of keys, real or filling.

    Returns
    -------
    bool Tensor of shape (batch, 1, key)
        ``True`` where the key is a real token; the axis of length 1 serves every query.

    Raises
    ------
    ValueError
        If there isn't one length a sequence, or one is below 0 or above ``n_key``.
    TypeError
        If a length or ``n_key`` isn't a whole number.
    """
    (n_key,) = counts(n_key=n_key)
    lengths = torch.as_tensor(lengths)
    if lengths.ndim != 1:
        raise ValueError(
            f"lengths have shape (batch,), one number a sequence, got {tuple(lengths.shape)}; a tokenizer's "
            f"mask of ones and zeros needs no lengths: write mask.bool()[:, None, :]"
        )
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths are counted and must be integers, got {lengths.dtype}")
    if not lengths.is_meta and lengths.numel() and (lengths.min() < 0 or lengths.max() > n_key):
        raise ValueError(f"lengths must lie between 0 and n_key={n_key}, got {lengths.tolist()}")
    return (torch.arange(n_key, device=lengths.device) < lengths[:, None])[:, None, :]


def attention_weights(
    query: Tensor, key: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Say how much of each key's value goes into each query's average: softmax of scaled scores.

    Parameters
    ----------
    query : Tensor of shape (..., query, d_head)
    key : Tensor of shape (..., key, d_head)
    mask : bool Tensor that broadcasts to (..., query, key), optional
        ``True`` = may look.
    scale : float, optional
        Factor on the scores; 1/√d_head if left out.

    Returns
    -------
    Tensor of shape (..., query, key)
        Rows sum to 1; the row of a query that may look at nothing is all zeros.

    Raises
    ------
    ValueError, TypeError
        As :func:`attend`.

    Source: Vaswani et al. 2017, equation 1.
    """
    _check(query, key, key, mask)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    dtype = query.dtype
    if dtype in (torch.float16, torch.bfloat16):  # their scores may be too large for them, or too coarse
        query, key = query.float(), key.float()
    scores = (query * scale) @ _without_hidden(key, mask).mT  # (..., query, key)
    if mask is None:
        return _softmax(scores).to(dtype)
    # The lowest finite number, not -inf: exp of it is 0 all the same,
    # and a row that is masked as a whole stays free of NaN.
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return _softmax(scores).masked_fill(~mask, 0.0).to(dtype)


def _softmax(scores: Tensor) -> Tensor:
    """Softmax over the keys; where no gradient needs the scores, the weights take their place in memory."""
    if not torch.is_grad_enabled():
        try:
            return torch.softmax(scores, -1, out=scores)
        except RuntimeError:  # under vmap, or with a forward derivative, nothing is written in place
            pass
    return scores.softmax(-1)


def _without_hidden(x: Tensor, mask: Tensor | None) -> Tensor:
    """Put zeros for the keys or values that no query may look at: not even NaN then passes a weight of 0."""
    if mask is None:
        return x
    return torch.where(_any(torch.atleast_2d(mask), -2)[..., None], x, 0.0)


def _any(mask: Tensor, axis: int) -> Tensor:
    """Do ``mask.any(axis)``, in a fiftieth of its time."""
    return mask.view(torch.uint8).amax(axis).bool() if mask.shape[axis] else mask.any(axis)


@overload
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: Literal[False] = False,
) -> Tensor: ...


@overload
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: bool,
) -> Tensor | tuple[Tensor, Tensor]: ...


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Give each query the average of the values, weighted by how well its key matches.

    Only the last two axes are touched, so one head, many heads and many models are the same call.
    Without weights the work is done by torch's fused kernel, which never stores them; with
    weights it is done in the open. Both give the same numbers.

    A key that is hidden from all queries of its sequence changes nothing, whatever it and its value hold,
    NaN and infinity too. What at least one query may look at must be finite: from there NaN and infinity
    may reach every query of the sequence, hidden or not, though no other sequence and no other head.
    Where there is a mask, that takes a copy of keys and values.

    Parameters
    ----------
    query : Tensor of shape (..., query, d_head)
    key : Tensor of shape (..., key, d_head)
    value : Tensor of shape (..., key, d_value)
        The leading axes of the three broadcast.
    mask : bool Tensor that broadcasts to (..., query, key), optional
        ``True`` = may look. A query that may look at nothing gets zeros.
    causal : bool
        Also forbid the future, as :func:`causal_mask` does.
    scale : float, optional
        Factor on the scores; 1/√d_head if left out.
    dropout : float
        Share of the weights that is set to zero at random; 0 when a model is used, not trained.
    return_weights : bool
        Also return the weights.

    Returns
    -------
    mix : Tensor of shape (..., query, d_value)
    weights : Tensor of shape (..., query, key), only with ``return_weights``
        Before any dropout, so that rows sum to 1.

    Raises
    ------
    ValueError
        If query and key differ in width, key and value in number, leading axes or the mask don't
        broadcast, or dropout isn't a share.
    TypeError
        If an input isn't a tensor, the three aren't of one floating-point dtype, or the mask isn't boolean.

    Source: Vaswani et al. 2017, equation 1.
    """
    _check(query, key, value, mask)
    share(dropout=dropout)
    if causal and (return_weights or mask is not None or query.shape[-2] != key.shape[-2]):
        past = causal_mask(query.shape[-2], key.shape[-2], device=query.device)
        mask, causal = past if mask is None else mask & past, False
    value = _without_hidden(value, mask)
    if return_weights:
        weights = attention_weights(query, key, mask, scale)
        return F.dropout(weights, dropout, training=dropout > 0) @ value, weights
    return _fused(query, key, value, mask, causal=causal, scale=scale, dropout=dropout)


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    scale: float | None,
    dropout: float,
) -> Tensor:
    """Call torch's kernel, which wants four axes, two in a mask, and something to look at for every query."""
    n_axes = max(query.ndim, key.ndim, value.ndim)
    key = _without_hidden(key, mask)
    query, key, value = (x[(None,) * (max(n_axes, 4) - x.ndim)] for x in (query, key, value))
    if mask is not None:
        mask = torch.atleast_2d(mask)
        blind = ~_any(mask, -1)[..., None]  # torch's GPU kernels don't zero these
        mask = mask | blind
    mix = F.scaled_dot_product_attention(query, key, value, mask, dropout, causal, scale=scale)
    mix = mix[(0,) * (4 - n_axes)]
    return mix if mask is None else mix.masked_fill(blind, 0.0)


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    inputs = {"query": query, "key": key, "value": value}
    for name, x in inputs.items():
        _check_tensor(name, x)
        if x.ndim < 2:
            raise ValueError(
                f"{name} needs two axes or more, (..., token, width), got shape {tuple(x.shape)}"
            )
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"query and key are compared by a dot product and need one width: "
            f"query has d_head={query.shape[-1]}, key has d_head={key.shape[-1]}"
        )
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"each key needs a value: got {key.shape[-2]} keys and {value.shape[-2]} values")
    dtypes = [x.dtype for x in inputs.values()]
    if not query.is_floating_point() or len(set(dtypes)) > 1:
        raise TypeError(
            f"query, key and value need one floating-point dtype, got {', '.join(map(str, dtypes))}; "
            f"write .to(torch.float32), or what the others have"
        )
    scores = _scores_shape(query, key, value)
    if mask is not None:
        _check_mask(mask, scores)


def _scores_shape(query: Tensor, key: Tensor, value: Tensor) -> tuple[int, ...]:
    try:
        leading = torch.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value)))
    except RuntimeError:
        shapes = ", ".join(str(tuple(x.shape)) for x in (query, key, value))
        raise ValueError(
            f"the leading axes of query, key and value must broadcast, got shapes {shapes}"
        ) from None
    return *leading, query.shape[-2], key.shape[-2]


def _check_tensor(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} must be a torch tensor, got {type(x).__name__}; write torch.as_tensor({name})"
        )


def _check_mask(mask: Tensor, scores: tuple[int, ...]) -> None:
    _check_tensor("mask", mask)
    if mask.dtype != torch.bool:
        raise TypeError(
            f"a mask must be boolean, True = may look, got {mask.dtype}; "
            f"write mask.bool() if 1 means 'may look', mask == 0 if 0 does"
        )
    fits = mask.ndim <= len(scores) and all(
        m in (1, s) for m, s in zip(reversed(mask.shape), reversed(scores), strict=False)
    )
    if not fits:
        raise ValueError(
            f"a mask must broadcast to the scores (..., query, key) = {scores}, got {tuple(mask.shape)}; one "
            f"that differs from head to head has all axes, (..., head, query, key): where batch and heads "
            f"come as one, write mask.unflatten(0, (batch, n_heads))"
        )


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Cut the *projected* vectors into heads: a view of the same numbers, not a copy.

    Parameters
    ----------
    x : Tensor of shape (..., token, n_heads * d_head)
    n_heads : int

    Returns
    -------
    Tensor of shape (..., head, token, d_head)

    Raises
    ------
    ValueError
        If the width can't be divided evenly, or there is no axis of tokens.
    TypeError
        If ``x`` isn't a tensor or ``n_heads`` not a whole number.
    """
    (n_heads,) = counts(n_heads=n_heads)
    _check_tensor("x", x)
    if x.ndim < 2:
        raise ValueError(f"x must have shape (..., token, n_heads · d_head), got {tuple(x.shape)}")
    if x.shape[-1] % n_heads:
        raise ValueError(
            f"width must be divisible by n_heads: {x.shape[-1]} / {n_heads} leaves {x.shape[-1] % n_heads}"
        )
    return x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)  # (..., head, token, d_head)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads of each token side by side again: the inverse of :func:`split_heads`.

    Parameters
    ----------
    x : Tensor of shape (..., head, token, d_head)

    Returns
    -------
    Tensor of shape (..., token, n_heads * d_head)

    Raises
    ------
    ValueError
        If there is no axis of heads.
    TypeError
        If ``x`` isn't a tensor.
    """
    _check_tensor("x", x)
    if x.ndim < 3:
        raise ValueError(f"x must have shape (..., head, token, d_head), got {tuple(x.shape)}")
    return x.transpose(-3, -2).flatten(-2)  # (..., token, n_heads * d_head)


class SelfAttention(nn.Module):
    """One head that looks at its own sequence: what many heads are measured against.

    The projections are packed into one matrix, rows in the order query, key, value, under the names
    of ``torch.nn.MultiheadAttention``.

    Parameters
    ----------
    d_model : int
        Width of the tokens, in and out.
    d_head : int, optional
        Width of query, key and value; ``d_model`` if left out.
    bias : bool
        Whether the projections add a bias.
    dropout : float
        Share of the weights that is set to zero at random while training.

    Raises
    ------
    ValueError
        If a size is below 1, or dropout isn't a share.
    TypeError
        If a size isn't a whole number.

    Source: Vaswani et al. 2017, section 3.2.1.
    """

    def __init__(
        self,
        d_model: int,
        d_head: int | None = None,
        *,
        bias: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.d_model, self.d_head = counts(d_model=d_model, d_head=d_model if d_head is None else d_head)
        share(dropout=dropout)
        self.dropout = dropout
        self.in_proj_weight, self.in_proj_bias = _packed(3 * self.d_head, self.d_model, bias)
        self.out_proj = nn.Linear(self.d_head, self.d_model, bias=bias)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Mix the tokens of one sequence.

        Parameters
        ----------
        x : Tensor of shape (..., token, d_model)
        mask, causal, return_weights
            As in :func:`attend`; the mask broadcasts to (..., query, key).

        Returns
        -------
        Tensor of shape (..., token, d_model), and with ``return_weights`` the weights
            of shape (..., query, key).

        Raises
        ------
        ValueError
            If ``x`` isn't ``d_model`` wide, or the mask doesn't fit.
        TypeError
            If ``x`` isn't a tensor of the layer's dtype, or the mask isn't boolean.
        """
        _check_inputs(self, x=x)
        query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        dropout = self.dropout if self.training else 0.0
        mix, weights = _pair(
            attend(
                query,
                key,
                value,
                mask,
                causal=causal,
                dropout=dropout,
                return_weights=return_weights,
            )
        )  # (..., token, d_head)
        out = self.out_proj(mix)
        return (out, weights) if return_weights else out


class MultiHeadAttention(nn.Module):
    """Several heads that look at once, each with its own question: :class:`SelfAttention` with one more axis.

    The same total width is cut into narrower heads, so parameters and matmul FLOPs don't depend on
    ``n_heads``. A ``state_dict`` of ``torch.nn.MultiheadAttention`` loads as it is; where that layer is not
    told ``batch_first``, its inputs are (token, batch, d_model), and ours are always batch first.

    Parameters
    ----------
    d_model : int
        Width of the tokens, in and out.
    n_heads : int
        Number of query heads.
    n_kv_heads : int, optional
        Number of key and value heads; each serves ``n_heads / n_kv_heads`` neighbouring query
        heads. ``n_heads`` if left out; 1 is multi-query attention (Shazeer 2019), in between is
        grouped-query attention (Ainslie et al. 2023).
    d_head : int, optional
        Width of each head; ``d_model / n_heads`` if left out.
    bias : bool
        Whether the projections add a bias.
    dropout : float
        Share of the weights that is set to zero at random while training.

    Raises
    ------
    ValueError
        If a size is below 1, ``n_heads`` doesn't divide ``d_model`` and no ``d_head`` is given,
        ``n_kv_heads`` doesn't divide ``n_heads``, or dropout isn't a share.
    TypeError
        If a size isn't a whole number.

    Source: Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        *,
        bias: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        sizes = of_heads(d_model, n_heads, n_kv_heads, d_head)
        self.d_model, self.n_heads, self.n_kv_heads, self.d_head = sizes
        share(dropout=dropout)
        self.dropout = dropout
        self.widths = [n * self.d_head for n in (self.n_heads, self.n_kv_heads, self.n_kv_heads)]
        self.in_proj_weight, self.in_proj_bias = _packed(sum(self.widths), self.d_model, bias)
        self.out_proj = nn.Linear(self.widths[0], self.d_model, bias=bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Mix the tokens of a sequence (self), or of another one into it (cross).

        Parameters
        ----------
        query : Tensor of shape (..., query, d_model)
        key : Tensor of shape (..., key, d_model), optional
            The sequence to look at; ``query`` itself if left out.
        value : Tensor of shape (..., key, d_model), optional
            What to take from there; ``key`` if left out. The leading axes of the three broadcast: one
            set of queries may ask many sequences.
        mask, causal, return_weights
            As in :func:`attend`; the mask broadcasts to (..., query, key), the same for every
            head, or, with as many axes, to (..., head, query, key).

        Returns
        -------
        Tensor of shape (..., query, d_model), and with ``return_weights`` the weights
            of shape (..., head, query, key).

        Raises
        ------
        ValueError
            If an input isn't ``d_model`` wide, or the mask doesn't fit.
        TypeError
            If an input isn't a tensor of the layer's dtype, or the mask isn't boolean.
        """
        q, k, v = self.project(query, key, value)
        if mask is not None:
            mask = _for_every_head(mask, _scores_shape(q, k, v))
        dropout = self.dropout if self.training else 0.0
        mix, weights = _pair(
            attend(q, k, v, mask, causal=causal, dropout=dropout, return_weights=return_weights)
        )  # (..., head, query, d_head)
        out = self.out_proj(merge_heads(mix))
        return (out, weights) if return_weights else out

    def project(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Let every head read the *whole* vectors: queries, keys and values of each head.

        Parameters
        ----------
        query, key, value
            As in :meth:`forward`.

        Returns
        -------
        q : Tensor of shape (..., head, query, d_head)
        k, v : Tensor of shape (..., head, key, d_head)
            With shared K/V heads each is repeated for the query heads that it serves.
        """
        key = query if key is None else key
        value = key if value is None else value
        _check_inputs(self, query=query, key=key, value=value)
        if query is key is value:
            packed = F.linear(query, self.in_proj_weight, self.in_proj_bias)
            q, k, v = packed.split(self.widths, -1)
        else:
            weights = self.in_proj_weight.split(self.widths)
            biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.split(self.widths)
            q, k, v = map(F.linear, (query, key, value), weights, biases)
        q = split_heads(q, self.n_heads)
        k, v = split_heads(k, self.n_kv_heads), split_heads(v, self.n_kv_heads)
        if self.n_kv_heads < self.n_heads:
            k, v = (x.repeat_interleave(self.n_heads // self.n_kv_heads, -3) for x in (k, v))
        return q, k, v

    def head(self, i: int) -> SelfAttention:
        """Take one head out as a layer of its own: all heads, plus the bias of W_o, add up to this layer.

        Parameters
        ----------
        i : int
            Which head, from 0.

        Returns
        -------
        SelfAttention
            With copies of this head's weights, no output bias, and no dropout, even while it is trained.

        Raises
        ------
        IndexError
            If there is no such head.
        TypeError
            If ``i`` isn't a whole number.
        """
        (i,) = whole(i=i)
        if not 0 <= i < self.n_heads:
            raise IndexError(f"heads run from 0 to {self.n_heads - 1}, got {i}")
        i_kv = i * self.n_kv_heads // self.n_heads
        starts = (i, self.n_heads + i_kv, self.n_heads + self.n_kv_heads + i_kv)  # in heads, q, k, v
        rows = [n * self.d_head + row for n in starts for row in range(self.d_head)]
        with self.in_proj_weight.device:
            one = SelfAttention(self.d_model, self.d_head, bias=self.in_proj_bias is not None)
        one = one.to(self.in_proj_weight.dtype)
        one.out_proj.register_parameter("bias", None)
        with torch.no_grad():
            one.in_proj_weight.copy_(self.in_proj_weight[rows])
            if one.in_proj_bias is not None and self.in_proj_bias is not None:
                one.in_proj_bias.copy_(self.in_proj_bias[rows])
            one.out_proj.weight.copy_(self.out_proj.weight.unflatten(1, (self.n_heads, -1))[:, i])
        return one


def _packed(d_out: int, d_in: int, bias: bool) -> tuple[nn.Parameter, nn.Parameter | None]:
    weight = nn.init.xavier_uniform_(torch.empty(d_out, d_in))
    return nn.Parameter(weight), nn.Parameter(torch.zeros(d_out)) if bias else None


def _check_inputs(layer: SelfAttention | MultiHeadAttention, **inputs: Tensor) -> None:
    d_model, dtype = layer.d_model, layer.in_proj_weight.dtype
    for name, x in inputs.items():
        _check_tensor(name, x)
        if x.ndim < 2:
            raise ValueError(f"{name} must have shape (..., token, d_model={d_model}), got {tuple(x.shape)}")
        if x.shape[-1] != d_model:
            raise ValueError(f"the last axis of {name} must be d_model={d_model}, got shape {tuple(x.shape)}")
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(
                f"{name} must have the dtype of the layer's weights, {dtype}, got {x.dtype}: "
                f"write {name}.to({dtype}) or layer.to({x.dtype})"
            )


def _for_every_head(mask: Tensor, scores: tuple[int, ...]) -> Tensor:
    """Give a mask that doesn't name its heads an axis for them; ``scores`` is (..., head, query, key)."""
    _check_tensor("mask", mask)
    if mask.ndim >= len(scores):
        return mask
    _check_mask(mask, (*scores[:-3], *scores[-2:]))
    return mask.unsqueeze(-3) if mask.ndim > 1 else mask


def _pair(found: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
    return found if isinstance(found, tuple) else (found, None)
