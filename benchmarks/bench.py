"""What this book's attention costs beside the floor and beside other people's code: ``make bench``.

The floor is the least that any multi-head attention must do: one matmul for queries, keys and values,
torch's fused kernel, one matmul for the output. Everyone gets the same weights and the same input, has to
compute the same output, and is then timed in turns in one process on one thread.

Needs the packages of ``requirements-bench.txt``; writes ``measured/bench.json`` in the package, and
``bench.md`` beside this file.
"""

import importlib.util
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from manyheads import timing
from manyheads.attention import MultiHeadAttention, attend
from manyheads.reference import attend_vectorised
from manyheads.results import MEASURED

SIZES = [(32, 64, 64, 4), (8, 128, 312, 12), (8, 128, 768, 12), (8, 197, 768, 12), (1, 1024, 768, 12)]
LARGE, LONG = SIZES[2:], SIZES[-1]
MODES = ["forward", "forward+backward"]
ROUNDS = 31
AT_LEAST = 0.05  # seconds that one timing lasts

FLOOR, OURS = "floor", "this book"
PEERS = ["nn.MultiheadAttention", "BERT (eager)", "BERT (sdpa)", "x-transformers", "vit-pytorch"]
TORCH_BY_HEAD = "nn.MultiheadAttention (average_attn_weights=False)"
FUSED, EXPLICIT, NUMPY = "fused", "with weights", "NumPy"
PACKAGES = ["torch", "numpy", "transformers", "x-transformers", "vit-pytorch"]
STORE = MEASURED / "bench.json"
TABLE = Path(__file__).with_suffix(".md")  # the page on speed shows it

# One thread everywhere. The last asks Linux for huge pages, as NumPy does by itself: in small ones a good
# quarter of the time of an explicit path goes into being handed fresh memory, page by page.
SETTINGS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "THP_MEM_ALLOC_ENABLE": "1"}


class Call(nn.Module):
    """A peer together with the way to call it, so that all are called alike: tokens in, result out."""

    def __init__(self, call, *parts):
        super().__init__()
        self.call, self.parts = call, nn.ModuleList(parts)

    def forward(self, x):
        return self.call(*self.parts, x)


def floor(layer):
    """Do what must be done and no more."""

    def call(layer, x):
        packed = F.linear(x, layer.in_proj_weight, layer.in_proj_bias)
        query, key, value = packed.view(*x.shape[:2], 3, layer.n_heads, -1).permute(2, 0, 3, 1, 4)
        mix = F.scaled_dot_product_attention(query, key, value)  # (batch, head, token, d_head)
        return F.linear(mix.transpose(1, 2).reshape(x.shape), layer.out_proj.weight, layer.out_proj.bias)

    return Call(call, layer)


def peers(layer):
    """Give other people's attention the weights of ``layer``; biases are zero, for two of them have none."""
    bert_eager, bert_sdpa = (bert(layer, implementation) for implementation in ("eager", "sdpa"))
    return {
        "nn.MultiheadAttention": Call(lambda mha, x: mha(x, x, x, need_weights=False)[0], torchs_own(layer)),
        "BERT (eager)": Call(lambda attention, out, x: out(attention(x)[0]), *bert_eager),
        "BERT (sdpa)": Call(lambda attention, out, x: out(attention(x)[0]), *bert_sdpa),
        "x-transformers": Call(lambda attention, x: attention(x), x_transformers(layer, flash=True)),
        "vit-pytorch": Call(lambda attention, x: attention(x), vit_pytorch(layer)),
    }


def peers_with_weights(layer):
    """Take those among the peers that return weights, each asked for one map a head.

    nn.MultiheadAttention comes twice: as people call it, giving the mean over heads, and asked for each.
    """

    def ask_x_transformers(attention, x):
        out, found = attention(x, return_intermediates=True)
        return out, found.post_softmax_attn

    def ask_bert(attention, last, x):
        out, weights = attention(x)
        return last(out), weights

    def ask_torch(mha, x):
        return mha(x, x, x, average_attn_weights=False)

    return {
        "nn.MultiheadAttention": Call(lambda mha, x: mha(x, x, x), torchs_own(layer)),
        TORCH_BY_HEAD: Call(ask_torch, torchs_own(layer)),
        "BERT (eager)": Call(ask_bert, *bert(layer, "eager")),
        "x-transformers": Call(ask_x_transformers, x_transformers(layer, flash=False)),
    }


def torchs_own(layer):
    mha = nn.MultiheadAttention(layer.d_model, layer.n_heads, batch_first=True)
    mha.load_state_dict(layer.state_dict())
    return mha


def bert(layer, implementation):
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertSelfAttention

    config = BertConfig(
        hidden_size=layer.d_model,
        num_attention_heads=layer.n_heads,
        attention_probs_dropout_prob=0.0,
        attn_implementation=implementation,
    )
    attention = BertSelfAttention(config)
    load(layer, attention.query, attention.key, attention.value)
    return attention, layer.out_proj  # BERT keeps its output matmul in another class


def x_transformers(layer, flash):
    from x_transformers.x_transformers import Attention

    attention = Attention(layer.d_model, dim_head=layer.d_head, heads=layer.n_heads, flash=flash)
    load(layer, attention.to_q, attention.to_k, attention.to_v)
    attention.to_out.weight = layer.out_proj.weight
    return attention


def vit_pytorch(layer):
    # The package itself wants torchvision as soon as it is imported; the one file that counts doesn't.
    path = Path(importlib.util.find_spec("vit_pytorch").submodule_search_locations[0]) / "vit.py"
    spec = importlib.util.spec_from_file_location("vit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    attention = module.Attention(layer.d_model, heads=layer.n_heads, dim_head=layer.d_head)
    attention.to_qkv.weight = layer.in_proj_weight
    attention.to_out[0].weight, attention.to_out[0].bias = layer.out_proj.weight, layer.out_proj.bias
    return attention


def load(layer, *projections):
    """Copy the packed weights into three separate matrices."""
    with torch.no_grad():
        for linear, weight in zip(projections, layer.in_proj_weight.chunk(3), strict=True):
            linear.weight.copy_(weight)
            if linear.bias is not None:
                linear.bias.zero_()


def layer_and_tokens(size):
    """Make one size's layer and input; the input is normalised, for vit-pytorch's layer does that first."""
    batch, n_tokens, d_model, n_heads = size
    torch.manual_seed(0)
    layer = MultiHeadAttention(d_model, n_heads)
    nn.init.zeros_(layer.out_proj.bias)
    return layer, F.layer_norm(torch.randn(batch, n_tokens, d_model), [d_model]).requires_grad_()


def check(results):
    """Refuse to time what doesn't compute the same as the first."""
    (_, expected), *others = results.items()
    for name, found in others:
        torch.testing.assert_close(
            found,
            expected,
            atol=1e-4,
            rtol=0,
            msg=lambda m, name=name: f"{name} computes something else: {m}",
        )


def time_layers(size, mode):
    """Time one size in one mode: ratios to the floor."""
    layer, x = layer_and_tokens(size)
    runs = {FLOOR: floor(layer), OURS: layer, **peers(layer)}
    for run in runs.values():
        run.train(mode != "forward")
    if mode == "forward":
        steps = {name: forward(run, x) for name, run in runs.items()}
        check({name: step() for name, step in steps.items()})
    else:
        steps = {name: forward_and_backward(run, x) for name, run in runs.items()}
        check({name: run(x) for name, run in runs.items()})
    seconds = timing.cpu_seconds(steps, rounds=ROUNDS, at_least=AT_LEAST)
    return {"size": list(size), "mode": mode, **summary(seconds, FLOOR)}


def forward(run, x):
    def step():
        with torch.no_grad():
            return run(x)

    return step


def forward_and_backward(run, x):
    inputs, slope = [x, *run.parameters()], torch.ones_like(x)
    return lambda: torch.autograd.grad(run(x), inputs, slope)


def time_weights():
    """Time ``attend`` with weights beside torch's fused kernel, which has none: bare, without projections."""
    layer, x = layer_and_tokens(LONG)
    query, key, value = layer.project(x)
    runs = {
        FUSED: lambda: F.scaled_dot_product_attention(query, key, value),
        EXPLICIT: lambda: attend(query, key, value, return_weights=True),
    }
    with torch.no_grad():
        check({FUSED: runs[FUSED](), EXPLICIT: runs[EXPLICIT]()[0]})
        return summary(timing.cpu_seconds(runs, rounds=ROUNDS, at_least=AT_LEAST), FUSED)


def time_layers_with_weights():
    """Time whole layers that return their weights: ratios to the floor, which returns none."""
    layer, x = layer_and_tokens(LONG)
    ours = Call(lambda layer, x: layer(x, return_weights=True), layer)
    runs = {FLOOR: floor(layer), OURS: ours, **peers_with_weights(layer)}
    for run in runs.values():
        run.eval()
    steps = {name: forward(run, x) for name, run in runs.items()}
    results = {name: step() for name, step in steps.items()}
    check({name: result if name == FLOOR else result[0] for name, result in results.items()})
    weights = {name: result[1] for name, result in results.items() if name != FLOOR}
    check({name: found for name, found in weights.items() if found.ndim == 4})
    check({name: found.mean(1) if found.ndim == 4 else found for name, found in weights.items()})
    return summary(timing.cpu_seconds(steps, rounds=ROUNDS, at_least=AT_LEAST), FLOOR)


def time_numpy():
    """Time the book's NumPy beside torch's fused kernel, float32."""
    batch, n_tokens, d_model, n_heads = LONG
    torch.manual_seed(0)
    tensors = torch.randn(3, batch, n_heads, n_tokens, d_model // n_heads).unbind()
    arrays = [tensor.numpy() for tensor in tensors]
    runs = {
        FUSED: lambda: F.scaled_dot_product_attention(*tensors),
        NUMPY: lambda: attend_vectorised(*arrays),
    }
    check({FUSED: runs[FUSED](), NUMPY: torch.from_numpy(runs[NUMPY]()[0])})
    return summary(timing.cpu_seconds(runs, rounds=ROUNDS, at_least=AT_LEAST), FUSED)


def memory():
    """Find how many bytes one forward pass of the longest size holds at once, on top of weights and input."""
    layer, x = layer_and_tokens(LONG)
    runs = {FLOOR: floor(layer), OURS: layer, **peers(layer)}
    return {name: timing.peak_memory(forward(run.eval(), x)) for name, run in runs.items()}


def summary(seconds, baseline):
    """Keep median and quartiles of the ratios, and the baseline's own time."""
    ratios = timing.ratios(seconds, baseline)
    return {
        "baseline": baseline,
        "baseline_seconds": timing.spread(seconds[baseline]).median,
        "ratios": {name: ratio._asdict() for name, ratio in ratios.items()},
    }


def targets(found):
    """List what the benchmark promises: claim, measured value, limit."""
    rows = []
    for row in found["layers"]:
        where = f"{row['size']} {row['mode']}"
        ratios = {name: ratio["median"] for name, ratio in row["ratios"].items()}
        limit = 1.05 if tuple(row["size"]) in LARGE else 1.20
        rows.append((f"{where}: over the floor", ratios[OURS], limit))
        best = min(PEERS, key=ratios.get)
        rows.append((f"{where}: over the best peer ({best})", ratios[OURS] / ratios[best], 1.05))
    rows.append(("attend with weights over the fused kernel", median(found["weights"], EXPLICIT), 1.5))
    with_weights = found["layers_with_weights"]
    for name in with_weights["ratios"]:
        if name not in (FLOOR, OURS):
            over = median(with_weights, OURS) / median(with_weights, name)
            limit = 1.05 if name == TORCH_BY_HEAD else 1.0  # the same products, the same softmax: a tie
            rows.append((f"layer with weights over {name}", over, limit))
    rows.append(("NumPy over the fused kernel", median(found["numpy"], NUMPY), 1.7))
    rows.append(("MiB that forward adds at n=1024", found["memory"][OURS] / 2**20, 16.0))
    return rows


def median(part, name):
    return part["ratios"][name]["median"]


def markdown(found):
    """Write the stored run as two Markdown tables."""
    names = [OURS, *PEERS]
    lines = [
        "CPU time as a multiple of the floor, median ± half the distance between the quartiles.",
        "",
        "| batch × tokens × width, heads | pass | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for row in found["layers"]:
        batch, n_tokens, d_model, n_heads = row["size"]
        size = f"{batch} × {n_tokens} × {d_model}, {n_heads}".replace(" ", "\N{NO-BREAK SPACE}")
        cells = [size, row["mode"]]
        cells += [times(row["ratios"][name]) for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "At 1 × 1024 × 768, 12 heads, forward:", "", "| what | beside | ratio |", "|---|---|---|"]
    explicit = [
        ("`attend` with weights, huge pages", found["weights"]["ratios"][EXPLICIT]),
        ("`attend` with weights, small pages", found["weights_in_small_pages"]["ratios"][EXPLICIT]),
        ("`attend_vectorised` (NumPy)", found["numpy"]["ratios"][NUMPY]),
    ]
    lines += [f"| {what} | torch's fused kernel | {times(ratio)} |" for what, ratio in explicit]
    for name, ratio in found["layers_with_weights"]["ratios"].items():
        if name != FLOOR:
            lines.append(f"| {name}, whole layer with weights | the floor (no weights) | {times(ratio)} |")
    added = ", ".join(f"{name} {found['memory'][name] / 2**20:.1f}" for name in [FLOOR, *names])
    lines += ["", f"MiB that a forward pass adds there: {added}."]
    packages = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    lines += ["", f"One thread of: {found['cpu']}. Median of {found['rounds']} rounds. {packages}."]
    lines += [
        "Memory in huge pages (`THP_MEM_ALLOC_ENABLE=1`) for everyone, except where it says small pages."
    ]
    return "\n".join(lines)


def times(ratio):
    return (
        f"{ratio['median']:.2f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{(ratio['high'] - ratio['low']) / 2:.2f}"
    )


def main():
    torch.set_num_threads(1)
    found = {
        "command": "make bench",
        "cpu": timing.cpu_name(),
        "system": platform.system(),
        "versions": {name: version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "rounds": ROUNDS,
        "layers": [],
    }
    for size in SIZES:
        for mode in MODES:
            print(f"timing {size}, {mode} ...", file=sys.stderr)
            found["layers"].append(time_layers(size, mode))
    print("timing the paths with weights, NumPy, and counting memory ...", file=sys.stderr)
    found["weights"] = time_weights()
    found["weights_in_small_pages"] = json.loads(
        child("json.dumps(time_weights())", THP_MEM_ALLOC_ENABLE="0")
    )
    found["layers_with_weights"] = time_layers_with_weights()
    found["numpy"] = time_numpy()
    found["memory"] = memory()
    STORE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(markdown(found) + "\n", encoding="utf-8")
    return report(found)


def report(found):
    """Write what ``make bench`` prints: the tables, then every target and whether it is met."""
    lines = [markdown(found), ""]
    for claim, value, limit in targets(found):
        lines.append(f"{'met   ' if value <= limit else 'MISSED'} {value:6.3f} ≤ {limit:5.2f}  {claim}")
    return "\n".join(lines)


def child(expression, **settings):
    """Evaluate in a process of its own, because these settings count only before torch and NumPy load."""
    return subprocess.run(
        [sys.executable, "-c", f"from bench import *; print({expression})"],
        env=os.environ | SETTINGS | settings,
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    print(child("main()"))
