"""Makes sweeps, or what is missing of them, and stores each finished setting at once."""

import json
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, as_completed
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tqdm import tqdm

from manyheads import results, timing
from manyheads.experiments.experiment import Experiment

# In the order of the book; a name is the file's, with hyphens.
NAMES = (
    "staircase",
    "lookup",
    "types",
    "nearest",
    "convolution",
    "kernels",
    "rank",
    "masked-lm",
    "heads-cost",
    "bert-templates",
    "bert-census",
    "rxnmapper",
    "induction-heads",
    "induction-ablation",
    "sink",
    "induction-from-scratch",
    "decode-time",
    "vit-digits",
    "vit-mnist",
    "vit-distance",
    "vit-edges",
    "prune-rankings",
    "keep-few",
    "int8",
    "prune-time",
    "loading-time",
    "students",
    "prune-lookup",
)
# What differs each time that a sweep is made.
VARIES = {"versions", "machine", "duration_s", "cpu_s", "seconds", "times", "before_bytes", "peak_bytes"}


def experiment(name: str) -> Experiment:
    """Import the file of a sweep, and of no other.

    Parameters
    ----------
    name : str
        One of ``NAMES``.

    Returns
    -------
    Experiment

    Raises
    ------
    ValueError
        If there is no such sweep.
    """
    if name not in NAMES:
        raise ValueError(f"there is no experiment {name!r}; there are: {', '.join(NAMES)}")
    return import_module(f"manyheads.experiments.{name.replace('-', '_')}").EXPERIMENT


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
    sweep = experiment(name)
    if setting not in sweep.settings:
        raise ValueError(f"{name} has no setting {setting!r}; it has: {', '.join(sweep.settings)}")
    return _call(sweep, setting, sweep.seeds if seeds is None else seeds)


def run(
    names: Sequence[str],
    executor: Executor,
    *,
    folder: Path,
    again: bool = False,
    progress: bool = False,
) -> None:
    """Make sweeps, or what is missing of them, writing each finished setting at once.

    Stored settings stay if they have the settings and seeds of today's code; in an unfinished file also the
    versions and the machine must be today's, so that no file mixes two. A setting that fails, or whose worker
    dies, costs no other. Sweeps that measure time come last, one setting after the other.

    Parameters
    ----------
    names : sequence of str
    executor : Executor
        Whoever does the work: processes, threads, a cluster. It must be able to import this package.
    folder : Path
        Where ``NAME.json`` is kept.
    again : bool
        Measure everything anew.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    ValueError
        If there is no such sweep, or a file of its name holds something else.
    ExceptionGroup
        Of what went wrong, each error with its setting in a note; all else is measured and stored.
    """
    sweeps = {name: experiment(name) for name in names}
    files = {name: _begun(name, sweep, Path(folder), again) for name, sweep in sweeps.items()}
    every = [(name, setting) for name, sweep in sweeps.items() for setting in sweep.settings]
    todo = [(name, setting) for name, setting in every if setting not in files[name]["settings"]]
    together = [work for work in todo if not sweeps[work[0]].alone]
    one_by_one = [[work] for work in todo if sweeps[work[0]].alone]
    failed = []
    title = names[0] if len(names) == 1 else f"{len(names)} sweeps"
    done = len(every) - len(todo)
    with tqdm(total=len(every), initial=done, desc=title, disable=not progress) as bar:
        for some in (together, *one_by_one):
            waiting = {
                executor.submit(_measured, sweeps[name], setting): (name, setting) for name, setting in some
            }
            for future in as_completed(waiting):
                name, setting = waiting[future]
                try:
                    _keep(files[name], sweeps[name], setting, *future.result())
                    results.store(name, files[name], folder=Path(folder))
                except Exception as error:
                    error.add_note(f"{name}, {setting}")
                    failed.append(error)
                bar.update()
    if failed:
        raise ExceptionGroup(f"{len(failed)} of {len(todo)} settings were not stored", failed)


def verify(
    name: str, executor: Executor, *, folder: Path = results.MEASURED, progress: bool = False
) -> list[str]:
    """Make a sweep again, and compare every stored number but those of time and memory.

    Parameters
    ----------
    name : str
    executor : Executor
        As in :func:`run`.
    folder : Path
        Where ``NAME.json`` is kept.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    list of str
        Where the two differ, and how.

    Raises
    ------
    ValueError
        If there is no such sweep.
    FileNotFoundError
        If nothing is stored under this name.
    ExceptionGroup
        As in :func:`run`.
    """
    experiment(name)
    stored = results.load(name, folder=folder)
    with TemporaryDirectory() as anew:
        run([name], executor, folder=Path(anew), progress=progress)
        return list(_differences(stored, results.load(name, folder=Path(anew)), name))


def _differences(stored: object, anew: object, place: str) -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(anew, dict):
        for key in dict.fromkeys([*stored, *anew]):
            if key not in VARIES:
                yield from _differences(stored.get(key), anew.get(key), f"{place} / {key}")
    elif isinstance(stored, list) and isinstance(anew, list) and len(stored) == len(anew):
        for i, both in enumerate(zip(stored, anew, strict=True)):
            yield from _differences(*both, f"{place} / {i}")
    elif stored != anew:
        yield f"{place}: stored {stored}, now {anew}"


def _call(sweep: Experiment, setting: str, seeds: Sequence[int]) -> dict:
    call = sweep.settings[setting]
    return results.plain(call(seeds=seeds) if sweep.seeds else call())


def _measured(sweep: Experiment, setting: str) -> tuple[dict, dict, dict]:
    """Measure one setting, by whoever does the work: what it found, how long it took, and where it was."""
    torch.set_num_threads(1)  # small tensors: a second thread costs more than it brings
    wall, cpu = time.perf_counter(), time.process_time()
    found = _call(sweep, setting, sweep.seeds)
    clocks = {"duration_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    return found, {clock: round(seconds, 2) for clock, seconds in clocks.items()}, _here(sweep)


def _here(sweep: Experiment) -> dict:
    """Versions and machine, which must be the same for all settings of a file."""
    packages = ("manyheads", "torch", "numpy", "scikit-learn", *sweep.packages)
    return {
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in packages},
        "machine": {"cpu": timing.cpu_name(), "threads": torch.get_num_threads()},
    }


def _begun(name: str, sweep: Experiment, folder: Path, again: bool) -> dict:
    """What is stored of a sweep and still true; without settings if there is nothing."""
    empty = {
        "name": name,
        "question": sweep.question,
        "command": f"python -m manyheads.experiments {name} --again",
        "seeds": list(sweep.seeds),
        "versions": {},
        "machine": {},
        "duration_s": 0.0,
        "cpu_s": 0.0,
        "settings": {},
    }
    path = folder / f"{name}.json"
    if not path.exists():
        return empty
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or not empty.keys() <= stored.keys() or stored["name"] != name:
        raise ValueError(f"{path} is not a stored {name}, so it stays: move it, or name another folder")
    if again:
        return empty
    kept = still_true(stored, sweep)
    if len(kept) == len(sweep.settings):
        return stored
    here = _here(sweep)
    return empty | here | {"settings": kept} if here.items() <= stored.items() else empty


def _keep(stored: dict, sweep: Experiment, setting: str, found: dict, clocks: dict, where: dict) -> None:
    """Put a finished setting where it belongs, with mean and spread over seeds."""
    if not stored["settings"]:
        stored |= where
    elif not where.items() <= stored.items():
        here = {key: stored[key] for key in where}
        raise RuntimeError(
            f"no file mixes versions or machines: the others come from {here}, this from {where}"
        )
    per_seed = found.get("per_seed", {})
    stored["settings"][setting] = {
        "setting": _described(sweep.settings[setting]),
        **found,
        "mean": {score: results.plain(np.mean(each)) for score, each in per_seed.items()},
        "sd": {score: results.plain(np.std(each, ddof=1)) for score, each in per_seed.items()},
        **clocks,
    }
    stored["settings"] = still_true(stored, sweep)  # in today's order
    for clock in clocks:
        stored[clock] = round(sum(done[clock] for done in stored["settings"].values()), 2)


def _described(call: partial) -> dict:
    return {"measure": call.func.__name__, **call.keywords}


def still_true(stored: dict, sweep: Experiment) -> dict:
    """Give the stored settings that today's code would make in the same way, in today's order.

    Parameters
    ----------
    stored : dict
        As :func:`manyheads.results.load` gives it.
    sweep : Experiment

    Returns
    -------
    dict
        Some of ``stored["settings"]``.
    """
    if stored["seeds"] != list(sweep.seeds):
        return {}
    return {
        setting: stored["settings"][setting]
        for setting, call in sweep.settings.items()
        if stored["settings"].get(setting, {}).get("setting") == _described(call)
    }
