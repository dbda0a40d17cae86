"""Makes sweeps, or what is missing of them, and stores each finished setting at once."""

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from manyheads import results, timing
from manyheads.experiments import (
    bert_census,
    bert_templates,
    convolution,
    decode_time,
    heads_cost,
    induction_ablation,
    induction_from_scratch,
    induction_heads,
    int8,
    keep_few,
    kernels,
    loading_time,
    lookup,
    masked_lm,
    nearest,
    prune_lookup,
    prune_rankings,
    prune_time,
    rank,
    rxnmapper,
    sink,
    staircase,
    students,
    types,
    vit_digits,
    vit_distance,
    vit_edges,
    vit_mnist,
)
from manyheads.experiments.experiment import Experiment

EXPERIMENTS = {
    "staircase": staircase.EXPERIMENT,
    "lookup": lookup.EXPERIMENT,
    "types": types.EXPERIMENT,
    "nearest": nearest.EXPERIMENT,
    "convolution": convolution.EXPERIMENT,
    "kernels": kernels.EXPERIMENT,
    "rank": rank.EXPERIMENT,
    "masked-lm": masked_lm.EXPERIMENT,
    "heads-cost": heads_cost.EXPERIMENT,
    "bert-templates": bert_templates.EXPERIMENT,
    "bert-census": bert_census.EXPERIMENT,
    "rxnmapper": rxnmapper.EXPERIMENT,
    "induction-heads": induction_heads.EXPERIMENT,
    "induction-ablation": induction_ablation.EXPERIMENT,
    "sink": sink.EXPERIMENT,
    "induction-from-scratch": induction_from_scratch.EXPERIMENT,
    "decode-time": decode_time.EXPERIMENT,
    "vit-digits": vit_digits.EXPERIMENT,
    "vit-mnist": vit_mnist.EXPERIMENT,
    "vit-distance": vit_distance.EXPERIMENT,
    "vit-edges": vit_edges.EXPERIMENT,
    "prune-rankings": prune_rankings.EXPERIMENT,
    "keep-few": keep_few.EXPERIMENT,
    "int8": int8.EXPERIMENT,
    "prune-time": prune_time.EXPERIMENT,
    "loading-time": loading_time.EXPERIMENT,
    "students": students.EXPERIMENT,
    "prune-lookup": prune_lookup.EXPERIMENT,
}


def measure(name: str, setting: str, *, seeds: Sequence[int] | None = None) -> dict:
    """Measure one setting of a sweep, for all its seeds or for a few.

    Parameters
    ----------
    name : str
        The sweep.
    setting : str
        A key of its ``settings``.
    seeds : sequence of int, optional
        The seeds of the sweep if left out. Seeds don't touch each other: one alone gives its stored numbers.

    Returns
    -------
    dict
        ``per_seed`` holds a list of one number a seed for each score; what else there is hangs on the sweep.

    Raises
    ------
    ValueError
        If there is no such sweep or setting.
    """
    experiment = _experiment(name)
    if setting not in experiment.settings:
        raise ValueError(f"{name} has no setting {setting!r}; it has: {', '.join(experiment.settings)}")
    seeds = experiment.seeds if seeds is None else seeds
    call = experiment.settings[setting]
    return results.plain(call(seeds=seeds) if experiment.seeds else call())


def run(name: str, *, again: bool = False, progress: bool = False, folder: Path | None = None) -> dict:
    """Make a sweep, or what is missing of it, writing each finished setting at once.

    Stored settings stay if they have the settings and seeds of today's code; in an unfinished file also the
    versions and the machine must be today's, so that no file mixes two.

    Parameters
    ----------
    name : str
    again : bool
        Measure everything anew.
    progress : bool
        Whether to show a bar.
    folder : Path, optional
        Where ``NAME.json`` is kept; the clone's own if left out.

    Returns
    -------
    dict
        What is stored, as :func:`manyheads.results.load` gives it.

    Raises
    ------
    ValueError
        If there is no such sweep.
    RuntimeError
        If the package is installed without a clone of the book, and no folder is given.
    """
    experiment = _experiment(name)
    folder = results.store_folder() if folder is None else Path(folder)
    path = folder / f"{name}.json"
    stored = _head(name, experiment)
    if path.exists() and not again:
        before = json.loads(path.read_text(encoding="utf-8"))
        kept = _still_true(before, experiment)
        if len(kept) == len(experiment.settings):
            stored = before
        elif all(before[key] == stored[key] for key in ("versions", "machine")):
            stored["settings"] = kept
    todo = [setting for setting in experiment.settings if setting not in stored["settings"]]
    with tqdm(
        total=len(experiment.settings), initial=len(stored["settings"]), desc=name, disable=not progress
    ) as bar:
        for setting in todo:
            wall, cpu = time.perf_counter(), time.process_time()
            measured = measure(name, setting)
            per_seed = measured.get("per_seed", {})
            times = {"duration_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            stored["settings"][setting] = {
                "setting": _described(experiment.settings[setting]),
                **measured,
                "mean": {score: results.plain(np.mean(each)) for score, each in per_seed.items()},
                "sd": {score: results.plain(np.std(each, ddof=1)) for score, each in per_seed.items()},
                **{clock: round(seconds, 2) for clock, seconds in times.items()},
            }
            stored["settings"] = _still_true(stored, experiment)  # in today's order
            for clock in times:
                stored[clock] = round(sum(done[clock] for done in stored["settings"].values()), 2)
            results.store(name, stored, folder=folder)
            bar.update()
    return stored


def _experiment(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise ValueError(f"there is no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def _head(name: str, experiment: Experiment) -> dict:
    packages = ("manyheads", "torch", "numpy", "scikit-learn", *experiment.packages)
    return {
        "name": name,
        "question": experiment.question,
        "command": f"{_command(name)} --again",
        "seeds": list(experiment.seeds),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in packages},
        "machine": {"cpu": timing.cpu_name(), "threads": torch.get_num_threads()},
        "duration_s": 0.0,
        "cpu_s": 0.0,
        "settings": {},
    }


def _command(name: str) -> str:
    return f"python -m manyheads.experiments {name}"


def _described(call: partial) -> dict:
    return {"measure": call.func.__name__, **call.keywords}


def _still_true(stored: dict, experiment: Experiment) -> dict:
    """Give the stored settings that today's code would make in the same way, in today's order."""
    if stored["seeds"] != list(experiment.seeds):
        return {}
    return {
        setting: stored["settings"][setting]
        for setting, call in experiment.settings.items()
        if stored["settings"].get(setting, {}).get("setting") == _described(call)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the named sweeps, or all of them.

    Parameters
    ----------
    arguments : sequence of str, optional
        Names, and ``--again`` to measure anew what is stored; those of the command line if left out.

    Returns
    -------
    int
        The exit status: 0, or 130 if it was stopped.
    """
    parser = argparse.ArgumentParser(
        prog="python -m manyheads.experiments", description=__doc__.split("\n")[0]
    )
    parser.add_argument("name", nargs="*", help=f"one of: {', '.join(EXPERIMENTS)}; all if left out")
    parser.add_argument("--again", action="store_true", help="measure anew what is already stored")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)  # small tensors: a second thread costs more than it brings
    try:
        for name in chosen.name:
            _experiment(name)
        folder = results.store_folder()
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    try:
        for name in chosen.name or EXPERIMENTS:
            run(name, again=chosen.again, progress=True, folder=folder)
    except KeyboardInterrupt:
        print(
            "stopped; what is finished is stored: the same command without --again goes on", file=sys.stderr
        )
        return 130
    return 0
