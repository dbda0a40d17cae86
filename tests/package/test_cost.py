"""Closed formulas against what torch really counts, allocates and runs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._decomp.decompositions import _softmax as softmax_in_the_open
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from manyheads import cost, results, timing
from manyheads.attention import MultiHeadAttention, SelfAttention
from manyheads.experiments import heads_cost

BATCH, N_QUERY, N_KEY, D_HEAD = 2, 11, 13, 7

REGIMES = [
    pytest.param({"d_model": 42, "n_heads": 6}, id="fixed d_model"),
    pytest.param({"d_model": 19, "n_heads": 6, "d_head": D_HEAD}, id="fixed d_head"),
    pytest.param({"d_model": 42, "n_heads": 6, "n_kv_heads": 2}, id="shared K/V, groups"),
    pytest.param({"d_model": 19, "n_heads": 5, "n_kv_heads": 1, "d_head": D_HEAD}, id="shared K/V, one"),
]


@st.composite
def shapes(draw):
    """Any layer that MultiHeadAttention can build, small enough to run."""
    n_kv_heads = draw(st.integers(1, 4))
    n_heads = n_kv_heads * draw(st.integers(1, 4))
    d_head = draw(st.integers(1, 7))
    if draw(st.booleans()):
        return {"d_model": n_heads * d_head, "n_heads": n_heads, "n_kv_heads": n_kv_heads}
    return {
        "d_model": draw(st.integers(1, 23)),
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "d_head": d_head,
    }


def flops_by_torch(layer, query, key=None):
    with FlopCounterMode(display=False) as counter:
        layer(query, key, return_weights=True)
    return counter.get_total_flops()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", REGIMES)
def test_parameters_are_what_the_layer_holds(shape, bias):
    layer = MultiHeadAttention(**shape, bias=bias)
    assert cost.parameters(**shape, bias=bias) == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("n_heads", [1, 2, 4, 8, 16, 32, 64])
def test_parameters_agree_with_torchs_own_layer_for_every_number_of_heads(n_heads):
    layer = torch.nn.MultiheadAttention(64, n_heads)
    assert cost.parameters(64, n_heads) == sum(p.numel() for p in layer.parameters())


def test_parameters_of_one_head_are_those_of_self_attention():
    layer = SelfAttention(19, D_HEAD)
    assert cost.parameters(19, 1, d_head=D_HEAD) == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", REGIMES)
def test_matmul_flops_are_what_torch_counts_in_self_and_cross_attention(shape, bias):
    layer = MultiHeadAttention(**shape, bias=bias)
    x = torch.randn(BATCH, N_QUERY, shape["d_model"])
    context = torch.randn(BATCH, N_KEY, shape["d_model"])
    assert cost.matmul_flops(**shape, n_query=N_QUERY, batch=BATCH) == flops_by_torch(layer, x)
    assert cost.matmul_flops(**shape, n_query=N_QUERY, n_key=N_KEY, batch=BATCH) == flops_by_torch(
        layer, x, context
    )


@settings(max_examples=50, deadline=None)
@given(shapes(), st.integers(1, 3), st.integers(1, 13), st.integers(1, 13), st.booleans())
def test_every_layer_costs_what_the_formulas_say(shape, batch, n_query, n_key, bias):
    layer = MultiHeadAttention(**shape, bias=bias)
    query = torch.randn(batch, n_query, shape["d_model"])
    key = torch.randn(batch, n_key, shape["d_model"])
    assert cost.parameters(**shape, bias=bias) == sum(p.numel() for p in layer.parameters())
    sizes = {"n_query": n_query, "n_key": n_key, "batch": batch}
    assert cost.matmul_flops(**shape, **sizes) == flops_by_torch(layer, query, key)
    _, weights = layer(query, key, return_weights=True)
    assert cost.weights_bytes(layer.n_heads, **sizes) == weights.nbytes
    assert cost.kv_cache_bytes(**shape, n_tokens=n_key, batch=batch) == cached(layer, key).nbytes


class ElementCounter(TorchDispatchMode):
    """Counts what each operation of a decomposed softmax really computes."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        one_each = (torch.ops.aten.sub.Tensor, torch.ops.aten.exp.default, torch.ops.aten.div.Tensor)
        if func in one_each:
            self.total += out.numel()
        elif func in (torch.ops.aten.amax.default, torch.ops.aten.sum.dim_IntList):
            self.total += args[0].numel() - out.numel()  # folding m numbers takes m - 1 steps
        return out


@pytest.mark.parametrize("n_heads", [1, 3, 5])
def test_softmax_operations_are_what_torchs_own_softmax_does(n_heads):
    scores = torch.randn(BATCH, n_heads, N_QUERY, N_KEY)
    with ElementCounter() as counter:
        weights = softmax_in_the_open(scores, -1, False)
    torch.testing.assert_close(weights, scores.softmax(-1))
    assert counter.total == cost.softmax_operations(n_heads, n_query=N_QUERY, n_key=N_KEY, batch=BATCH)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", REGIMES)
def test_stored_bytes_are_those_of_real_tensors(shape, dtype):
    layer = MultiHeadAttention(**shape).to(dtype)
    x = torch.randn(BATCH, N_QUERY, shape["d_model"], dtype=dtype)
    _, weights = layer(x, return_weights=True)
    size = dtype.itemsize
    expected = cost.weights_bytes(shape["n_heads"], n_query=N_QUERY, batch=BATCH, bytes_per_number=size)
    assert expected == weights.untyped_storage().nbytes()
    cache = [cached(layer, x) for _ in range(3)]
    expected = cost.kv_cache_bytes(**shape, n_tokens=N_QUERY, n_layers=3, batch=BATCH, bytes_per_number=size)
    assert expected == sum(kv.nbytes for kv in cache)


def cached(layer, x):
    """Keys and values as a decoder caches them: once a K/V head, before they are repeated."""
    rows = layer.n_heads * layer.d_head
    packed = torch.nn.functional.linear(x, layer.in_proj_weight, layer.in_proj_bias)
    return packed[..., rows:].clone()


@pytest.mark.parametrize("d_model", [64, 512])
def test_with_fixed_d_model_the_number_of_heads_is_gone(d_model):
    n, b = 31, 3
    for n_heads in (1, 2, 4, 8, 16, 32, 64):
        assert cost.parameters(d_model, n_heads) == 4 * d_model**2 + 4 * d_model
        flops = cost.matmul_flops(d_model, n_heads, n_query=n, batch=b)
        assert flops == 8 * b * n * d_model**2 + 4 * b * n**2 * d_model


def test_with_fixed_d_head_every_head_costs_as_much_as_the_first():
    one = cost.parameters(512, 1, d_head=512, bias=False)
    work = cost.matmul_flops(512, 1, d_head=512, n_query=100)
    for n_heads in (2, 4, 8):
        assert cost.parameters(512, n_heads, d_head=512, bias=False) == n_heads * one
        assert cost.matmul_flops(512, n_heads, d_head=512, n_query=100) == n_heads * work


def test_only_shared_heads_shrink_the_cache():
    one_token = {"d_model": 512, "n_tokens": 1}
    assert cost.kv_cache_bytes(n_heads=1, **one_token) == cost.kv_cache_bytes(n_heads=8, **one_token) == 4096
    assert cost.kv_cache_bytes(n_heads=8, n_kv_heads=2, **one_token) == 1024
    assert cost.kv_cache_bytes(n_heads=8, n_kv_heads=1, **one_token) == 512


def test_costs_are_exact_integers_however_large():
    flops = cost.matmul_flops(2**20, 2**10, n_query=2**21, batch=2**10)
    assert flops == 2**10 * (8 * 2**21 * 2**40 + 4 * 2**42 * 2**20)
    assert type(flops) is int


PARAMETERS = {"d_model": 42, "n_heads": 6}
CALLS = {
    "parameters": (cost.parameters, PARAMETERS),
    "matmul_flops": (cost.matmul_flops, PARAMETERS | {"n_query": 11}),
    "kv_cache_bytes": (cost.kv_cache_bytes, PARAMETERS | {"n_tokens": 11}),
    "softmax_operations": (cost.softmax_operations, {"n_heads": 6, "n_query": 11}),
    "weights_bytes": (cost.weights_bytes, {"n_heads": 6, "n_query": 11}),
}
LAYER_CALLS = ["parameters", "matmul_flops", "kv_cache_bytes"]


@pytest.mark.parametrize("name", LAYER_CALLS)
def test_an_uneven_split_names_rule_and_numbers(name):
    call, arguments = CALLS[name]
    with pytest.raises(ValueError, match=r"d_model must be divisible by n_heads: 42 / 5 leaves 2; choose"):
        call(**arguments | {"n_heads": 5})
    with pytest.raises(ValueError, match=r"n_heads must be divisible by n_kv_heads.*: 6 / 4 leaves 2"):
        call(**arguments | {"n_kv_heads": 4})


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, (_, arguments) in CALLS.items() for argument in arguments]
    + [(name, argument) for name in LAYER_CALLS for argument in ("n_kv_heads", "d_head")]
    + [(name, "batch") for name in CALLS if name != "parameters"]
    + [(name, "n_key") for name in ("matmul_flops", "softmax_operations", "weights_bytes")]
    + [("kv_cache_bytes", "n_layers")]
    + [(name, "bytes_per_number") for name in ("kv_cache_bytes", "weights_bytes")],
)
def test_a_count_below_one_or_not_an_integer_is_refused(name, argument):
    call, arguments = CALLS[name]
    assert call(**arguments) > 0
    for wrong in (0, -3):
        with pytest.raises(ValueError, match=f"{argument} is counted from 1, got {argument}={wrong}"):
            call(**arguments | {argument: wrong})
    for wrong in (2.0, True, "2"):
        with pytest.raises(TypeError, match=f"{argument} is counted and must be an int, got {wrong!r}"):
            call(**arguments | {argument: wrong})


@pytest.mark.parametrize("name", CALLS)
def test_the_integers_of_other_libraries_count_and_never_overflow(name):
    call, arguments = CALLS[name]
    large = {argument: size * 1000 for argument, size in arguments.items()}
    found = call(**{argument: np.int32(size) for argument, size in large.items()})
    assert type(found) is int
    assert found == call(**large)


# --- The stored sweep of what heads cost ---

SWEEP = results.load("heads-cost")["settings"]


@pytest.mark.parametrize("stored", SWEEP.values(), ids=SWEEP)
def test_the_stored_sweep_has_the_counts_of_the_formulas(stored):
    setting = stored["setting"]
    shape = {"d_model": 512} | {key: setting[key] for key in ("d_head", "n_kv_heads") if key in setting}
    n = setting["n_tokens"]
    for i, h in enumerate(setting["n_heads"]):
        assert stored["parameters"][i] == cost.parameters(n_heads=h, **shape)
        assert stored["matmul_flops"][i] == cost.matmul_flops(n_heads=h, n_query=n, **shape)
        assert stored["weights_bytes"][i] == cost.weights_bytes(h, n_query=n)


@pytest.mark.parametrize("stored", SWEEP.values(), ids=SWEEP)
def test_naive_memory_holds_the_weights_and_fused_memory_does_not(stored):
    naive, fused, weights = (
        stored["naive"]["peak_bytes"],
        stored["fused"]["peak_bytes"],
        stored["weights_bytes"],
    )
    for one, other, squares in zip(naive, fused, weights, strict=True):
        assert other <= one - squares
    assert naive[-1] > 2 * weights[-1]  # scores and weights
    assert fused[-1] < weights[-1]


@pytest.mark.parametrize("n_tokens", [512, 2048])
def test_at_fixed_d_model_fused_memory_is_flat_and_naive_memory_is_not(n_tokens):
    stored = SWEEP[f"fixed d_model, n={n_tokens}"]
    assert len(set(stored["parameters"])) == len(set(stored["matmul_flops"])) == 1
    assert max(stored["fused"]["peak_bytes"]) < 1.05 * min(stored["fused"]["peak_bytes"])
    assert stored["naive"]["peak_bytes"][-1] > 10 * stored["naive"]["peak_bytes"][0]


@pytest.mark.parametrize("stored", SWEEP.values(), ids=SWEEP)
def test_every_stored_time_has_its_quartiles_and_the_fewest_heads_count_as_one(stored):
    for path in ("naive", "fused"):
        assert len(stored[path]["seconds"]) == len(stored["setting"]["n_heads"])
        assert stored[path]["times"][0] == [1, 1, 1]
        for median, low, high in stored[path]["times"] + stored[path]["seconds"]:
            assert 0 < low <= median <= high


def test_the_sweep_measures_what_it_is_asked():
    found = heads_cost.heads_cost(n_heads=[1, 5], n_tokens=13, rounds=2, d_model=35)
    assert found["parameters"] == [cost.parameters(35, 1)] * 2
    layer = MultiHeadAttention(35, 5)
    x = torch.randn(1, 13, 35)
    assert found["naive"]["peak_bytes"][1] == timing.peak_memory(lambda: layer(x, return_weights=True))
    assert found["fused"]["peak_bytes"][1] == timing.peak_memory(lambda: layer(x))
