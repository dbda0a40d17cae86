"""What attention costs, in plain integers: formulas that a pencil can follow, no torch.

The arguments are those of ``MultiHeadAttention``, and they choose the regime:

=================  ============================  =========================
regime             what is given                 what more heads do
=================  ============================  =========================
fixed ``d_model``  ``n_heads`` alone             narrower heads: d_head = d_model / n_heads
fixed ``d_head``   ``d_head`` as well            a wider layer
shared K/V heads   ``n_kv_heads`` as well        more queries than keys and values
=================  ============================  =========================

In the formulas d = d_model, h = n_heads, g = n_kv_heads, c = d_head.
"""

from manyheads.sizes import counts, of_heads


def parameters(
    d_model: int,
    n_heads: int,
    n_kv_heads: int | None = None,
    d_head: int | None = None,
    *,
    bias: bool = True,
) -> int:
    """Count what the layer has to learn, for self and cross attention alike.

    Formula: ``2·d·c·(h + g)`` for the four matrices and ``c·(h + 2g) + d`` for their biases. With
    c = d/h and g = h that is ``4d² + 4d``: the number of heads is gone.

    Parameters
    ----------
    d_model : int
        Width of the tokens, in and out.
    n_heads : int
        Number of query heads.
    n_kv_heads : int, optional
        Number of key and value heads; ``n_heads`` if left out.
    d_head : int, optional
        Width of each head; ``d_model / n_heads`` if left out.
    bias : bool
        Whether the projections add a bias.

    Returns
    -------
    int
        Numbers, not bytes.

    Raises
    ------
    ValueError
        If a count is below 1, ``n_heads`` doesn't divide ``d_model`` and no ``d_head`` is given, or
        ``n_kv_heads`` doesn't divide ``n_heads``.
    TypeError
        If a count isn't an integer.

    Source: Vaswani et al. 2017, section 3.2.2; shared K/V heads: Shazeer 2019, section 3, and
    Ainslie et al. 2023, section 2.2.
    """
    d_model, n_heads, n_kv_heads, d_head = of_heads(d_model, n_heads, n_kv_heads, d_head)
    matrices = 2 * d_model * d_head * (n_heads + n_kv_heads)
    biases = d_head * (n_heads + 2 * n_kv_heads) + d_model
    return matrices + biases if bias else matrices


def matmul_flops(
    d_model: int,
    n_heads: int,
    n_kv_heads: int | None = None,
    d_head: int | None = None,
    *,
    n_query: int,
    n_key: int | None = None,
    batch: int = 1,
) -> int:
    """Count the work of all matrix products of one forward pass, 2 for each multiply-and-add.

    Formula: ``B·[4·n·d·h·c + 4·m·d·g·c + 4·n·m·h·c]`` with n queries and m keys: queries and output,
    keys and values, scores and mix. For self attention with c = d/h and g = h that is
    ``B·(8·n·d² + 4·n²·d)``: the number of heads is gone.

    Parameters
    ----------
    d_model, n_heads, n_kv_heads, d_head
        As in :func:`parameters`.
    n_query : int
        Number of queries in a sequence.
    n_key : int, optional
        Number of keys; ``n_query`` (self attention) if left out.
    batch : int
        Number of sequences.

    Returns
    -------
    int
        Floating-point operations. Biases, softmax and scaling aren't among them.

    Raises
    ------
    ValueError, TypeError
        As :func:`parameters`.

    Source: Vaswani et al. 2017, table 1 and section 3.2.2. Sharing K/V heads saves projections only:
    scores and mix still run once a query head (Shazeer 2019, section 3).
    """
    d_model, n_heads, n_kv_heads, d_head = of_heads(d_model, n_heads, n_kv_heads, d_head)
    n_key = n_query if n_key is None else n_key
    n_query, n_key, batch = counts(n_query=n_query, n_key=n_key, batch=batch)
    queries_and_output = 4 * n_query * d_model * n_heads * d_head
    keys_and_values = 4 * n_key * d_model * n_kv_heads * d_head
    scores_and_mix = 4 * n_query * n_key * n_heads * d_head
    return batch * (queries_and_output + keys_and_values + scores_and_mix)


def softmax_operations(n_heads: int, *, n_query: int, n_key: int | None = None, batch: int = 1) -> int:
    """Count the work of turning scores into weights: this is what grows with every head.

    Formula: ``B·h·n·(5m - 2)``. Each of the ``B·h·n`` rows of m scores takes m - 1 comparisons (the
    largest), m subtractions, m exponentials, m - 1 additions and m divisions.

    Parameters
    ----------
    n_heads, n_query, n_key, batch
        As in :func:`matmul_flops`. K/V sharing changes nothing here.

    Returns
    -------
    int
        Operations; an exponential counts as one, though it takes longer than an addition.

    Raises
    ------
    ValueError, TypeError
        If a count is below 1 or isn't an integer.

    Source: Vaswani et al. 2017, equation 1, counted.
    """
    n_key = n_query if n_key is None else n_key
    n_heads, n_query, n_key, batch = counts(n_heads=n_heads, n_query=n_query, n_key=n_key, batch=batch)
    return batch * n_heads * n_query * (5 * n_key - 2)


def weights_bytes(
    n_heads: int,
    *,
    n_query: int,
    n_key: int | None = None,
    batch: int = 1,
    bytes_per_number: int = 4,
) -> int:
    """Count the memory of the attention weights, where they are stored: a square a head.

    Formula: ``B·h·n·m·b`` with b bytes a number. A fused kernel never stores them.

    Parameters
    ----------
    n_heads, n_query, n_key, batch
        As in :func:`matmul_flops`. K/V sharing changes nothing here.
    bytes_per_number : int
        4 for float32, 2 for float16 and bfloat16.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ValueError, TypeError
        If a count is below 1 or isn't an integer.

    Source: Vaswani et al. 2017, equation 1: one weight a head, query and key.
    """
    n_key = n_query if n_key is None else n_key
    n_heads, n_query, n_key, batch, bytes_per_number = counts(
        n_heads=n_heads, n_query=n_query, n_key=n_key, batch=batch, bytes_per_number=bytes_per_number
    )
    return batch * n_heads * n_query * n_key * bytes_per_number


def kv_cache_bytes(
    d_model: int,
    n_heads: int,
    n_kv_heads: int | None = None,
    d_head: int | None = None,
    *,
    n_tokens: int,
    n_layers: int = 1,
    batch: int = 1,
    bytes_per_number: int = 4,
) -> int:
    """Count the memory of the keys and values that a decoder keeps so as not to compute them again.

    Formula: ``2·L·B·m·g·c·b`` with L layers, m tokens and b bytes a number: one key and one value.

    Parameters
    ----------
    d_model, n_heads, n_kv_heads, d_head
        As in :func:`parameters`.
    n_tokens : int
        Number of tokens so far.
    n_layers : int
        Number of layers that each keep their own.
    batch : int
        Number of sequences.
    bytes_per_number : int
        4 for float32, 2 for float16 and bfloat16.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ValueError, TypeError
        As :func:`parameters`.

    Source: Shazeer 2019, section 3 (one K/V head); Ainslie et al. 2023, section 2.2 (groups).
    """
    d_model, n_heads, n_kv_heads, d_head = of_heads(d_model, n_heads, n_kv_heads, d_head)
    n_tokens, n_layers, batch, bytes_per_number = counts(
        n_tokens=n_tokens, n_layers=n_layers, batch=batch, bytes_per_number=bytes_per_number
    )
    return 2 * n_layers * batch * n_tokens * n_kv_heads * d_head * bytes_per_number
