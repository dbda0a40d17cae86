"""Timing is tested by what it calls and how it reckons, never by how long something took."""

import json
import math
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F

from manyheads import timing


class Clock:
    """A processor that can be told how long each call takes."""

    def __init__(self, monkeypatch):
        self.now, self.step, self.calls = 0.0, 0.0, []
        monkeypatch.setattr(time, "process_time", self.read)
        monkeypatch.setattr(timing, "_clock_step", lambda: self.step)

    def read(self):
        return self.now // self.step * self.step if self.step else self.now

    def run(self, name, seconds):
        def call():
            self.calls.append(name)
            self.now += seconds() if callable(seconds) else seconds

        return call


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_the_spread_is_median_and_quartiles():
    assert timing.spread([5.0, 1.0, 4.0, 2.0, 3.0]) == (3.0, 2.0, 4.0)
    assert timing.spread([1.0, 1.0, 1.0, 1.0, 900.0]) == (1.0, 1.0, 1.0)
    assert timing.spread([7.0]) == (7.0, 7.0, 7.0)


def test_the_spread_refuses_nothing_and_nonsense():
    with pytest.raises(ValueError, match="at least one sample, got none"):
        timing.spread([])
    with pytest.raises(ValueError, match=r"samples must be finite, got \[1.0, nan\]"):
        timing.spread([1.0, math.nan])
    with pytest.raises(ValueError, match="samples must be finite"):
        timing.spread([1.0, math.inf])


def test_each_run_is_timed_once_a_round_in_turns(clock):
    runs = {"a": clock.run("a", 2.0), "b": clock.run("b", 3.0), "c": clock.run("c", 5.0)}
    seconds = timing.cpu_seconds(runs, rounds=4, warmup=2)
    assert seconds == {"a": [2.0] * 4, "b": [3.0] * 4, "c": [5.0] * 4}
    assert "".join(clock.calls[-12:]) == "abccbaabccba"
    assert sorted(clock.calls[:-12]) == sorted("aaabbbccc")  # two to warm up, one to see how long it takes


def test_a_short_run_is_repeated_and_its_mean_taken(clock):
    runs = {"short": clock.run("short", 0.125), "long": clock.run("long", 4.0)}
    seconds = timing.cpu_seconds(runs, rounds=3, warmup=0, at_least=1.0)
    assert seconds == {"short": [0.125] * 3, "long": [4.0] * 3}
    assert clock.calls.count("short") == (1 + 2 + 4 + 8) + 3 * 8
    assert clock.calls.count("long") == 1 + 3


def test_a_coarse_clock_is_given_enough_to_measure(clock):
    clock.step = 1 / 64  # Windows
    runs = {"short": clock.run("short", 0.003), "long": clock.run("long", 0.009)}
    seconds = timing.cpu_seconds(runs, rounds=5)
    assert seconds == {
        "short": pytest.approx([0.003] * 5, rel=1 / 16),
        "long": pytest.approx([0.009] * 5, rel=1 / 16),
    }


def test_the_step_of_the_clock_is_watched_not_asked(monkeypatch):
    readings = iter([2.0, 2.0, 2.0, 2.0 + 1 / 64, 3.0])
    monkeypatch.setattr(time, "process_time", lambda: next(readings))
    assert timing._clock_step() == 1 / 64


def test_a_slower_machine_slows_both_and_leaves_the_ratio(clock):
    slowness = iter([1.0] * 4 + [1.0, 1.0, 10.0, 10.0, 3.0, 3.0])
    runs = {
        "base": clock.run("base", lambda: 2 * next(slowness)),
        "other": clock.run("other", lambda: 3 * next(slowness)),
    }
    seconds = timing.cpu_seconds(runs, rounds=3, warmup=1)
    found = timing.ratios(seconds, "base")
    assert found["base"] == (1.0, 1.0, 1.0)
    assert found["other"] == (1.5, 1.5, 1.5)


def test_real_cpu_time_is_measured_and_waiting_is_not():
    def work():
        sum(range(2_000_000))

    def wait():
        time.sleep(0.05)

    seconds = timing.cpu_seconds({"work": work, "wait": wait}, rounds=3)
    assert min(seconds["work"]) > max(seconds["wait"])


def test_wrong_settings_name_rule_and_numbers():
    run = {"a": lambda: None}
    with pytest.raises(ValueError, match="nothing to time"):
        timing.cpu_seconds({})
    with pytest.raises(ValueError, match=r"rounds ≥ 1.*got rounds=0, warmup=1"):
        timing.cpu_seconds(run, rounds=0)
    with pytest.raises(ValueError, match="got rounds=9, warmup=-1"):
        timing.cpu_seconds(run, warmup=-1)
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"at_least={wrong}"):
            timing.cpu_seconds(run, at_least=wrong)


def test_ratios_need_a_baseline_that_took_time():
    with pytest.raises(KeyError, match=r"no run is called 'c'; there are \['a', 'b'\]"):
        timing.ratios({"b": [1.0], "a": [1.0]}, "c")
    with pytest.raises(ValueError, match="'a' took no measurable time in some round"):
        timing.ratios({"a": [1.0, 0.0], "b": [1.0, 1.0]}, "a")
    with pytest.raises(ValueError, match=r"argument 2 is (shorter|longer)"):
        timing.ratios({"a": [1.0, 2.0], "b": [1.0]}, "a")


def test_peak_memory_is_what_lives_at_once():
    def one_after_the_other():
        for _ in range(3):
            torch.empty(1000)

    def at_once():
        return [torch.empty(1000) for _ in range(3)]

    def in_between():
        big = torch.empty(5000)
        small = torch.empty(7)
        del big
        return small, torch.empty(11)

    assert timing.peak_memory(one_after_the_other) == 4000
    assert timing.peak_memory(at_once) == 12000
    assert timing.peak_memory(in_between) == 20028
    assert timing.peak_memory(lambda: None) == 0


def test_peak_memory_counts_only_what_the_run_adds():
    kept = torch.zeros(100_000)
    assert timing.peak_memory(lambda: kept[:3]) == 0
    assert timing.peak_memory(lambda: kept[:3].clone()) == 12


def test_peak_memory_does_not_count_what_only_the_first_call_makes_and_keeps():
    kept = []

    def run():
        if not kept:
            kept.append(torch.zeros(100_000))
        return kept[0][:3].clone()

    assert timing.peak_memory(run) == 12


def test_naive_attention_stores_its_weights_and_the_fused_kernel_does_not():
    q = torch.randn(1, 5, 512, 16)
    weights = 4 * 5 * 512**2
    naive = timing.peak_memory(lambda: ((q @ q.mT).softmax(-1)) @ q)
    fused = timing.peak_memory(lambda: F.scaled_dot_product_attention(q, q, q))
    assert naive == 2 * weights  # scores and weights; the mix comes when the scores are gone
    assert q.nbytes < fused < weights


def test_peak_memory_is_silent():
    code = (
        "import torch; from manyheads.timing import peak_memory; print(peak_memory(lambda: torch.empty(3)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert (json.loads(done.stdout), done.stderr) == (12, "")


def test_the_cpu_has_a_name():
    name = timing.cpu_name()
    assert name == name.strip() != ""


def test_cpu_name_falls_back_where_the_system_keeps_no_list(monkeypatch):
    def missing(path, encoding):
        raise FileNotFoundError(path)

    monkeypatch.setattr(timing.Path, "read_text", missing)
    monkeypatch.setattr(timing.platform, "processor", lambda: "")
    monkeypatch.setattr(timing.platform, "machine", lambda: "arm64")
    assert timing.cpu_name() == "arm64"
