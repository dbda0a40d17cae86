"""Measures what ``cost`` predicts: time side by side, memory by the allocator's own account."""

import gc
import math
import os
import platform
import statistics
import time
import timeit
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch.profiler import ProfilerActivity, profile

Name = TypeVar("Name", bound=Hashable)


class Spread(NamedTuple):
    """The middle of several measurements, and how far they lie apart: a single number would hide the noise.

    Parameters
    ----------
    median : float
    low, high : float
        The quartiles: half of the measurements lie between them.
    """

    median: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """Sum up repeated measurements so that one slow outlier doesn't move the result.

    Parameters
    ----------
    samples : sequence of float

    Returns
    -------
    Spread

    Raises
    ------
    ValueError
        If there is no sample, or one isn't finite.
    """
    if len(samples) == 0:
        raise ValueError("a median needs at least one sample, got none")
    if not all(map(math.isfinite, samples)):
        raise ValueError(f"samples must be finite, got {list(samples)}")
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, low, high)


def cpu_seconds(
    runs: Mapping[Name, Callable[[], object]], *, rounds: int = 9, warmup: int = 1, at_least: float = 0.0
) -> dict[Name, list[float]]:
    """Time several functions in turns, so that whatever slows the machine slows all of them.

    CPU time of this process is taken, not the clock on the wall: what other processes do counts less.
    Every second round runs backwards, so that nobody always follows the same neighbour.

    Parameters
    ----------
    runs : mapping from name to function without arguments
    rounds : int
        How often each is timed.
    warmup : int
        How often each is called before, untimed.
    at_least : float
        Seconds that a timing should last, and never fewer than 16 steps of the clock: Windows counts CPU
        time in steps of 1/64 s. A shorter function is called several times in a row and the mean is taken.

    Returns
    -------
    dict from name to list of float
        CPU seconds of one call, one entry a round.

    Raises
    ------
    ValueError
        If there is nothing to run, no round, or a negative ``warmup`` or ``at_least``.
    """
    if not runs:
        raise ValueError("nothing to time: runs is empty")
    if rounds < 1 or warmup < 0 or not 0 <= at_least < math.inf:
        raise ValueError(
            f"timing needs rounds ≥ 1, warmup ≥ 0 and finite at_least ≥ 0: "
            f"got rounds={rounds}, warmup={warmup}, at_least={at_least}"
        )
    at_least = max(at_least, 16 * _clock_step())
    timers = {name: timeit.Timer(run, timer=time.process_time) for name, run in runs.items()}
    calls = dict.fromkeys(runs, 1)
    for name, timer in timers.items():
        timer.timeit(warmup)
        while timer.timeit(calls[name]) < at_least:
            calls[name] *= 2
    seconds: dict[Name, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: -1 if i % 2 else 1]:
            seconds[name].append(timers[name].timeit(calls[name]) / calls[name])
    return seconds


def _clock_step() -> float:
    """Watch the CPU clock until it moves: on Windows the step that it reports isn't the one it takes."""
    start = time.process_time()
    while (now := time.process_time()) == start:
        pass
    return now - start


def ratios(seconds: Mapping[Name, Sequence[float]], baseline: Name) -> dict[Name, Spread]:
    """Say how many times as long as the baseline each run took, round by round.

    Parameters
    ----------
    seconds : mapping from name to sequence of float
        From :func:`cpu_seconds`.
    baseline
        Which name counts as 1.

    Returns
    -------
    dict from name to Spread

    Raises
    ------
    KeyError
        If ``baseline`` isn't among the names.
    ValueError
        If rounds don't pair up, or a baseline took no measurable time.
    """
    if baseline not in seconds:
        raise KeyError(f"no run is called {baseline!r}; there are {sorted(seconds, key=str)}")
    if not all(s > 0 for s in seconds[baseline]):
        raise ValueError(
            f"{baseline!r} took no measurable time in some round: give cpu_seconds a larger at_least"
        )
    return {
        name: spread([s / base for s, base in zip(samples, seconds[baseline], strict=True)])
        for name, samples in seconds.items()
    }


def peak_memory(run: Callable[[], object]) -> int:
    """Find the most memory that a run holds at once, on top of what was there before.

    torch's allocator keeps the account, so it works on every system and counts the fused kernel's own
    scratch too; what isn't a tensor (NumPy, Python) is not in it.

    Parameters
    ----------
    run : function without arguments
        Called twice: the first call warms up and isn't counted.

    Returns
    -------
    int
        Bytes.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else torch's profiler writes start and stop to stderr
    run()
    gc.collect(1)  # what the first call left; a full collection would take longer than many a run
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as account:
        run()
    found: Any = account.profiler  # of torch's own kind, without hints
    events = [e for e in found.kineto_results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]  # freed memory is negative
    return max(accumulate(changes), default=0)


def cpu_name() -> str:
    """Name the machine's processor: a time without it says nothing.

    Returns
    -------
    str
        As the system reports it; the bare architecture where it doesn't.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor()])[0] or platform.machine()
