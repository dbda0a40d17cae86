"""The stored benchmark is complete, fair and keeps its promises; nothing is timed here."""

import copy
import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from manyheads.attention import MultiHeadAttention

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("bench", ROOT / "benchmarks" / "bench.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)

FOUND = json.loads(bench.STORE.read_text(encoding="utf-8"))
PARTS = ["weights", "weights_in_small_pages", "layers_with_weights", "numpy"]


def stored_ratios():
    return [row["ratios"] for row in FOUND["layers"]] + [FOUND[part]["ratios"] for part in PARTS]


def test_every_size_and_mode_is_stored_once_with_every_competitor():
    measured = [(tuple(row["size"]), row["mode"]) for row in FOUND["layers"]]
    assert measured == [(size, mode) for size in bench.SIZES for mode in bench.MODES]
    for row in FOUND["layers"]:
        assert list(row["ratios"]) == [bench.FLOOR, bench.OURS, *bench.PEERS]
    assert list(FOUND["memory"]) == [bench.FLOOR, bench.OURS, *bench.PEERS]
    assert list(FOUND["layers_with_weights"]["ratios"])[:2] == [bench.FLOOR, bench.OURS]
    assert len(FOUND["layers_with_weights"]["ratios"]) > 2


def test_every_ratio_has_a_spread_and_the_baseline_is_one():
    for ratios in stored_ratios():
        for ratio in ratios.values():
            assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"] < math.inf
    for part in FOUND["layers"] + [FOUND[part] for part in PARTS]:
        assert set(part["ratios"][part["baseline"]].values()) == {1.0}
        assert part["baseline_seconds"] > 0


def test_the_run_says_where_and_how_it_was_made():
    assert FOUND["command"] == "make bench"
    assert FOUND["cpu"].strip()
    assert FOUND["threads"] == 1
    assert FOUND["rounds"] == bench.ROUNDS


def test_the_peers_are_the_pinned_ones():
    texts = [
        (ROOT / name).read_text(encoding="utf-8") for name in ("requirements-bench.txt", "requirements.txt")
    ]
    lines = "\n".join(texts).splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    stored = {name: number.split("+")[0] for name, number in FOUND["versions"].items()}
    assert list(stored) == bench.PACKAGES
    assert stored == {name: pinned[name] for name in stored}


def test_the_bench_never_replaces_torch():
    lines = (ROOT / "requirements-bench.txt").read_text(encoding="utf-8").splitlines()
    names = {line.split("==")[0] for line in lines if line and line[0] != "#"}
    assert not names & {"torch", "torchvision", "numpy"}


@pytest.mark.parametrize(("claim", "value", "limit"), bench.targets(FOUND))
def test_the_stored_run_meets_its_targets(claim, value, limit):
    assert value <= limit, claim


def test_the_targets_are_the_promised_ones():
    limits = [limit for _, _, limit in bench.targets(FOUND)]
    layers = [1.20, 1.05] * 4 + [1.05, 1.05] * 6  # over the floor, over the best peer
    assert limits == [*layers, 1.5, 1.0, 1.05, 1.0, 1.0, 1.7, 16.0]


def test_a_slower_run_would_miss_its_targets():
    slow = copy.deepcopy(FOUND)
    parts = slow["layers"] + [slow[part] for part in PARTS]
    for part in parts:
        for name in (bench.OURS, bench.EXPLICIT, bench.NUMPY):
            if name in part["ratios"]:
                part["ratios"][name]["median"] *= 3
    slow["memory"][bench.OURS] *= 3
    assert all(value > limit for _, value, limit in bench.targets(slow))


def small_layer():
    torch.manual_seed(0)
    layer = MultiHeadAttention(35, 5)
    nn.init.normal_(layer.in_proj_bias)
    return layer, torch.randn(2, 11, 35)


def test_the_floor_our_layer_and_torchs_own_compute_the_same():
    layer, x = small_layer()
    torchs_own = bench.torchs_own(layer)
    floor = bench.floor(layer)
    bench.check({"floor": floor(x), "ours": layer(x), "torch": torchs_own(x, x, x)[0]})
    results = [layer(x, return_weights=True)[1], torchs_own(x, x, x, average_attn_weights=False)[1]]
    bench.check({"ours": results[0], "torch": results[1]})


def test_every_competitor_trains_the_same_parameters_as_the_floor():
    layer, x = small_layer()
    x.requires_grad_()
    ours = bench.forward_and_backward(layer, x)()
    floor = bench.forward_and_backward(bench.floor(layer), x)()
    assert [gradient.shape for gradient in ours] == [x.shape] + [p.shape for p in layer.parameters()]
    for one, other in zip(ours, floor, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_a_competitor_that_computes_something_else_is_refused():
    layer, x = small_layer()
    with pytest.raises(AssertionError, match="causal computes something else"):
        bench.check({"floor": bench.floor(layer)(x), "causal": layer(x, causal=True)})


def test_the_table_shows_every_stored_ratio():
    table = bench.markdown(FOUND)
    assert bench.TABLE.read_text(encoding="utf-8") == table + "\n"
    for ratios in stored_ratios():
        for name, ratio in ratios.items():
            if name not in (bench.FLOOR, bench.FUSED):
                assert f"| {bench.times(ratio)} |" in table
    assert FOUND["cpu"] in table


def test_the_table_says_ratio_and_half_the_distance_of_the_quartiles():
    assert bench.times({"median": 1.234, "low": 1.2, "high": 1.3}).split() == ["1.23", "±", "0.05"]


def test_a_child_process_has_the_settings_that_are_asked_for():
    asked = bench.child("[os.environ[name] for name in SETTINGS]", THP_MEM_ALLOC_ENABLE="0")
    assert asked == "['1', '1', '0']\n"
