"""How sweeps are made: whole, finite, resumable."""

import json
import math
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from manyheads import results, timing
from manyheads.experiments import runner
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.runner import EXPERIMENTS, main, measure, run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls():
    return []


@pytest.fixture
def tiny(monkeypatch, calls):
    """Put a sweep of three settings in the place of all others; each call is noted."""

    def cube(x, *, seeds):
        calls.append(x)
        return {"per_seed": {"score": [x**3 + seed for seed in seeds]}, "seen": [[x, 1.0], [0.5, 1 / 3]]}

    settings = {f"x={x}": partial(cube, x=x) for x in (2, 3, 5)}
    monkeypatch.setattr(runner, "EXPERIMENTS", {"tiny": Experiment("x³?", settings, seeds=[0, 1, 2])})
    return settings


def interrupted_at(settings, key):
    def stop(x, *, seeds):
        raise KeyboardInterrupt

    stop.__name__ = settings[key].func.__name__
    return settings | {key: partial(stop, **settings[key].keywords)}


def test_a_sweep_is_stored_with_all_that_made_it(tiny, tmp_path):
    made = run("tiny", folder=tmp_path)
    stored = json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))
    assert stored == made == results.load("tiny", folder=tmp_path)
    assert stored["command"] == "python -m manyheads.experiments tiny --again"
    assert stored["seeds"] == [0, 1, 2]
    assert {"python", "torch", "numpy", "manyheads"} <= set(stored["versions"])
    assert stored["machine"] == {"cpu": timing.cpu_name(), "threads": 1}
    assert list(stored["settings"]) == ["x=2", "x=3", "x=5"]
    three = stored["settings"]["x=3"]
    assert three["setting"] == {"measure": "cube", "x": 3}
    assert three["per_seed"] == {"score": [27, 28, 29]}
    assert (three["mean"], three["sd"]) == ({"score": 28.0}, {"score": 1.0})
    assert three["seen"] == [[3, 1.0], [0.5, 0.333333]]
    for clock in ("duration_s", "cpu_s"):
        assert stored[clock] == pytest.approx(sum(each[clock] for each in stored["settings"].values()))


def test_an_interrupted_sweep_keeps_what_is_finished_and_goes_on_from_there(
    tiny, tmp_path, calls, monkeypatch
):
    broken = Experiment("x³?", interrupted_at(tiny, "x=5"), seeds=[0, 1, 2])
    with monkeypatch.context() as patch:
        patch.setattr(runner, "EXPERIMENTS", {"tiny": broken})
        with pytest.raises(KeyboardInterrupt):
            run("tiny", folder=tmp_path)
    kept = json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))["settings"]
    assert list(kept) == ["x=2", "x=3"]
    whole = run("tiny", folder=tmp_path)
    assert calls == [2, 3, 5]
    assert list(whole["settings"]) == ["x=2", "x=3", "x=5"]
    assert whole["settings"]["x=2"] == kept["x=2"]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.json"]


def test_a_complete_sweep_is_made_again_only_on_request(tiny, tmp_path, calls):
    run("tiny", folder=tmp_path)
    before = (tmp_path / "tiny.json").read_bytes()
    run("tiny", folder=tmp_path)
    assert calls == [2, 3, 5]
    assert (tmp_path / "tiny.json").read_bytes() == before
    run("tiny", folder=tmp_path, again=True)
    assert calls == [2, 3, 5, 2, 3, 5]


def test_a_changed_setting_is_made_anew_and_the_others_stay(tiny, tmp_path, calls, monkeypatch):
    run("tiny", folder=tmp_path)
    changed = tiny | {"x=3": partial(tiny["x=3"].func, x=7)}
    monkeypatch.setattr(runner, "EXPERIMENTS", {"tiny": Experiment("x³?", changed, seeds=[0, 1, 2])})
    stored = run("tiny", folder=tmp_path)
    assert calls == [2, 3, 5, 7]
    assert stored["settings"]["x=3"]["per_seed"]["score"][0] == 343
    assert list(stored["settings"]) == ["x=2", "x=3", "x=5"]  # the order of the code, not of the days


@pytest.mark.parametrize("what", ["versions", "machine", "seeds"])
def test_an_unfinished_file_never_mixes_versions_machines_or_seeds(tiny, tmp_path, calls, what):
    run("tiny", folder=tmp_path)
    path = tmp_path / "tiny.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    del stored["settings"]["x=5"]
    stored[what] = {"torch": "0.0.0"} if what != "seeds" else [0, 1]
    path.write_text(json.dumps(stored), encoding="utf-8")
    run("tiny", folder=tmp_path)
    assert calls == [2, 3, 5, 2, 3, 5]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_write_that_is_stopped_leaves_the_old_file_whole(tiny, tmp_path, monkeypatch, stop):
    run("tiny", folder=tmp_path)
    before = (tmp_path / "tiny.json").read_bytes()

    def stopped(*_):
        raise stop

    monkeypatch.setattr(results.os, "replace", stopped)
    with pytest.raises(stop):
        run("tiny", folder=tmp_path, again=True)
    assert (tmp_path / "tiny.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.json"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_never_stored(tmp_path, monkeypatch, bad):
    sweep = Experiment("?", {"one": partial(lambda: {"left_over": bad})}, seeds=())
    monkeypatch.setattr(runner, "EXPERIMENTS", {"bad": sweep})
    with pytest.raises(FloatingPointError, match="a result must be finite"):
        run("bad", folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [run, partial(measure, setting="h=1")])
def test_an_unknown_name_lists_the_names(call):
    with pytest.raises(
        ValueError, match=r"there is no experiment 'stairs'; there are: staircase, lookup, .*masked-lm"
    ):
        call("stairs")


def test_an_unknown_setting_lists_the_settings():
    with pytest.raises(ValueError, match=r"nearest has no setting 'h=3'; it has: h=1, h=2"):
        measure("nearest", "h=3")


def test_the_command_makes_what_is_named_or_all(tiny, tmp_path, calls, monkeypatch, capsys):
    monkeypatch.setattr(results, "store_folder", lambda: tmp_path)
    assert main(["tiny"]) == 0
    assert main([]) == 0
    assert calls == [2, 3, 5]
    assert main(["tiny", "--again"]) == 0
    assert calls == [2, 3, 5, 2, 3, 5]
    assert "tiny: 100%" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["tiny", "stairs", "--again"])
    assert stopped.value.code == 2
    assert "there is no experiment 'stairs'; there are: tiny" in capsys.readouterr().err
    assert calls == [2, 3, 5, 2, 3, 5]  # no work is begun before all names are known


def test_the_command_says_that_stopping_loses_nothing(tiny, tmp_path, monkeypatch, capsys):
    broken = Experiment("x³?", interrupted_at(tiny, "x=3"), seeds=[0, 1, 2])
    monkeypatch.setattr(runner, "EXPERIMENTS", {"tiny": broken})
    monkeypatch.setattr(results, "store_folder", lambda: tmp_path)
    assert main(["tiny"]) == 130
    assert "the same command without --again goes on" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "tiny.json").read_text(encoding="utf-8"))["settings"]) == ["x=2"]


def test_make_leaves_sweeps_that_measure_time_or_memory_alone():
    rule = re.search(r"^TIMED := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    measure_time = {"heads_cost", "decode_time", "shared_heads_time", "prune_time", "loading"}
    timed = {
        name
        for name, experiment in EXPERIMENTS.items()
        if any(call.func.__name__ in measure_time for call in experiment.settings.values())
    }
    assert set(rule[1].split()) == timed >= {name for name in EXPERIMENTS if name.endswith("-time")}


def test_without_a_clone_nothing_is_measured_for_nothing_and_the_environment_stays_as_it_is(
    tiny, tmp_path, calls, monkeypatch, capsys
):
    installed = tmp_path / "lib" / "site-packages" / "manyheads" / "measured"
    monkeypatch.setattr(results, "MEASURED", installed)
    with pytest.raises(RuntimeError, match="only a clone of the book stores sweeps"):
        run("tiny")
    with pytest.raises(SystemExit) as stopped:
        main(["tiny"])
    assert stopped.value.code == 2
    assert "clone it, run `pip install -e .` there, and repeat the command" in capsys.readouterr().err
    assert calls == []
    assert not installed.exists()
    assert measure("tiny", "x=2")["per_seed"] == {"score": [8, 9, 10]}
    assert run("tiny", folder=tmp_path / "mine") == results.load("tiny", folder=tmp_path / "mine")


def test_all_that_needs_no_model_is_measured_without_the_extra_that_reads_models():
    code = (
        "import sys; sys.modules |= dict.fromkeys(['safetensors', 'tokenizers', 'gguf', 'onnx']);"
        "from manyheads.experiments import runner;"
        "print(runner.measure('rank', 'd_head=1', seeds=[0])['per_seed']['targets'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[results.load('rank')['settings']['d_head=1']['per_seed']['targets'][0]]}\n"
