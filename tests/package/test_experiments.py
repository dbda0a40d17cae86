"""How sweeps are made: whole, finite, resumable; by threads, by processes that may die, by a cluster."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from manyheads import results, timing
from manyheads.experiments import __main__ as command
from manyheads.experiments import runner
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.runner import NAMES, experiment, measure, run, verify
from manyheads.experiments.workers import Processes, workers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls():
    return []


@pytest.fixture
def put(monkeypatch):
    """Put a sweep in the place of all others."""

    def put(sweep, name="tiny"):
        monkeypatch.setattr(runner, "NAMES", (name,))
        monkeypatch.setattr(command, "NAMES", (name,))
        monkeypatch.setitem(sys.modules, f"manyheads.experiments.{name}", SimpleNamespace(EXPERIMENT=sweep))

    return put


@pytest.fixture
def tiny(put, calls):
    """A sweep of three settings; each call is noted."""

    def cube(x, *, seeds):
        calls.append(x)
        return {"per_seed": {"score": [x**3 + seed for seed in seeds]}, "seen": [[x, 1.0], [0.5, 1 / 3]]}

    settings = {f"x={x}": partial(cube, x=x) for x in (2, 3, 5)}
    put(Experiment("x³?", settings, seeds=[0, 1, 2]))
    return settings


@pytest.fixture
def here():
    """Somebody who does one piece of work after the other, in this process."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def at_once(here, monkeypatch):
    """The command without processes of its own."""

    @contextmanager
    def workers(jobs, scheduler):
        yield here

    monkeypatch.setattr(command, "workers", workers)


def failing_at(settings, key, error):
    def fail(x, *, seeds):
        raise error

    fail.__name__ = settings[key].func.__name__
    return Experiment("x³?", settings | {key: partial(fail, **settings[key].keywords)}, seeds=[0, 1, 2])


def made(folder, name="tiny"):
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def test_a_sweep_is_stored_with_all_that_made_it(tiny, here, tmp_path):
    run(["tiny"], here, folder=tmp_path)
    stored = made(tmp_path)
    assert stored == results.load("tiny", folder=tmp_path)
    assert (stored["name"], stored["question"]) == ("tiny", "x³?")
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


def test_an_interrupted_sweep_keeps_what_is_finished_and_goes_on_from_there(tiny, put, here, tmp_path, calls):
    put(failing_at(tiny, "x=5", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(["tiny"], here, folder=tmp_path)
    kept = made(tmp_path)["settings"]
    assert list(kept) == ["x=2", "x=3"]
    put(Experiment("x³?", tiny, seeds=[0, 1, 2]))
    run(["tiny"], here, folder=tmp_path)
    assert calls == [2, 3, 5]
    assert list(made(tmp_path)["settings"]) == ["x=2", "x=3", "x=5"]
    assert made(tmp_path)["settings"]["x=2"] == kept["x=2"]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.json"]


def test_a_setting_that_fails_costs_no_other(tiny, put, here, tmp_path, calls):
    put(failing_at(tiny, "x=3", ZeroDivisionError("by x - 3")))
    with pytest.raises(ExceptionGroup, match="1 of 3 settings were not stored") as failed:
        run(["tiny"], here, folder=tmp_path)
    (error,) = failed.value.exceptions
    assert isinstance(error, ZeroDivisionError)
    assert error.__notes__ == ["tiny, x=3"]
    assert list(made(tmp_path)["settings"]) == ["x=2", "x=5"]


def test_a_complete_sweep_is_made_again_only_on_request(tiny, here, tmp_path, calls):
    run(["tiny"], here, folder=tmp_path)
    before = (tmp_path / "tiny.json").read_bytes()
    run(["tiny"], here, folder=tmp_path)
    assert calls == [2, 3, 5]
    assert (tmp_path / "tiny.json").read_bytes() == before
    run(["tiny"], here, folder=tmp_path, again=True)
    assert calls == [2, 3, 5, 2, 3, 5]


def test_a_changed_setting_is_made_anew_and_the_others_stay(tiny, put, here, tmp_path, calls):
    run(["tiny"], here, folder=tmp_path)
    put(Experiment("x³?", tiny | {"x=3": partial(tiny["x=3"].func, x=7)}, seeds=[0, 1, 2]))
    run(["tiny"], here, folder=tmp_path)
    assert calls == [2, 3, 5, 7]
    assert made(tmp_path)["settings"]["x=3"]["per_seed"]["score"][0] == 343
    assert list(made(tmp_path)["settings"]) == ["x=2", "x=3", "x=5"]  # the order of the code, not of the days


@pytest.mark.parametrize("what", ["versions", "machine", "seeds"])
def test_an_unfinished_file_never_mixes_versions_machines_or_seeds(tiny, here, tmp_path, calls, what):
    run(["tiny"], here, folder=tmp_path)
    stored = made(tmp_path)
    del stored["settings"]["x=5"]
    stored[what] = {"torch": "0.0.0"} if what != "seeds" else [0, 1]
    (tmp_path / "tiny.json").write_text(json.dumps(stored), encoding="utf-8")
    run(["tiny"], here, folder=tmp_path)
    assert calls == [2, 3, 5, 2, 3, 5]


def test_a_worker_on_another_machine_is_told_so_and_the_file_stays_of_one(tiny, here, tmp_path, monkeypatch):
    cpus = iter(["one", "one", "other"])
    monkeypatch.setattr(timing, "cpu_name", lambda: next(cpus))
    with pytest.raises(ExceptionGroup) as failed:
        run(["tiny"], here, folder=tmp_path)
    (error,) = failed.value.exceptions
    assert re.search("no file mixes versions or machines: .*'one'.*, this from .*'other'", str(error))
    assert made(tmp_path)["machine"]["cpu"] == "one"
    assert len(made(tmp_path)["settings"]) == 2


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_write_that_is_stopped_leaves_the_old_file_whole(tiny, here, tmp_path, monkeypatch, stop):
    run(["tiny"], here, folder=tmp_path)
    before = (tmp_path / "tiny.json").read_bytes()

    def stopped(*_):
        raise stop

    monkeypatch.setattr(results.os, "replace", stopped)
    with pytest.raises((KeyboardInterrupt, ExceptionGroup)):
        run(["tiny"], here, folder=tmp_path, again=True)
    assert (tmp_path / "tiny.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.json"]


@pytest.mark.parametrize("theirs", ["my notes", "[1, 2]", '{"name": "lookup"}'])
@pytest.mark.parametrize("again", [False, True])
def test_a_file_of_somebody_else_is_never_overwritten(tiny, here, tmp_path, calls, theirs, again):
    (tmp_path / "tiny.json").write_text(theirs, encoding="utf-8")
    with pytest.raises(ValueError, match=r"tiny\.json is not a stored tiny, so it stays: move it, or name"):
        run(["tiny"], here, folder=tmp_path, again=again)
    assert (tmp_path / "tiny.json").read_text(encoding="utf-8") == theirs
    assert calls == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_never_stored(put, here, tmp_path, bad):
    put(Experiment("?", {"one": partial(lambda: {"left_over": bad})}, seeds=()))
    with pytest.raises(ExceptionGroup) as failed:
        run(["tiny"], here, folder=tmp_path)
    assert "a result must be finite" in str(failed.value.exceptions[0])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [experiment, partial(measure, setting="h=1")])
def test_an_unknown_name_lists_the_names(call):
    with pytest.raises(
        ValueError, match=r"there is no experiment 'stairs'; there are: staircase, lookup, .*masked-lm"
    ):
        call("stairs")


def test_an_unknown_setting_lists_the_settings():
    with pytest.raises(ValueError, match=r"nearest has no setting 'h=3'; it has: h=1, h=2"):
        measure("nearest", "h=3")


# ---------------------------------------------------------------------- the files


def test_every_file_is_an_experiment_that_is_named_or_is_shared_by_some():
    files = {path.stem for path in Path(runner.__file__).parent.glob("*.py")}
    shared = {"__init__", "__main__", "experiment", "models", "retrieval", "runner", "workers"}
    assert files == {name.replace("-", "_") for name in NAMES} | shared


@pytest.mark.parametrize("name", NAMES)
def test_each_experiment_asks_a_question(name):
    assert experiment(name).question.endswith("?")
    assert experiment(name).settings


def test_naming_one_experiment_imports_its_file_and_no_other_experiment():
    code = "import sys; from manyheads.experiments.runner import *; experiment('rank'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name.rpartition(".")[2] for name in done.stdout.split() if name.startswith("manyheads.exp")}
    assert ours == {"experiments", "experiment", "runner", "rank"}


def test_those_that_store_time_or_memory_run_alone():
    def keys(found):
        if isinstance(found, dict):
            yield from found
            for each in found.values():
                yield from keys(each)

    clocks = {"duration_s", "cpu_s"}
    for name in NAMES:
        stored = set(keys(results.load(name)["settings"])) - clocks
        assert experiment(name).alone == bool(stored & runner.VARIES), name


def test_what_runs_alone_runs_last_and_with_nothing_beside_it(monkeypatch, tmp_path):
    now, most = [], {}

    def work(name, *, seeds):
        now.append(name)
        time.sleep(0.05)
        most[name] = max(most.get(name, 0), len(now))
        order.append(name)
        now.remove(name)
        return {"per_seed": {"score": [1.0, 2.0]}}

    order = []
    sweeps = {
        name: Experiment("?", {str(i): partial(work, name=name) for i in range(3)}, [0, 1], alone=name < "m")
        for name in ("alone", "together")
    }
    monkeypatch.setattr(runner, "experiment", sweeps.get)
    with ThreadPoolExecutor(3) as three:
        run(list(sweeps), three, folder=tmp_path)
    assert most == {"together": 3, "alone": 1}
    assert order == ["together"] * 3 + ["alone"] * 3


# ---------------------------------------------------------------------- made again, and compared


def test_a_changed_digit_is_found_wherever_it_stands_and_times_may_differ(tiny, here, tmp_path):
    run(["tiny"], here, folder=tmp_path)
    stored = made(tmp_path)
    assert verify("tiny", here, folder=tmp_path) == []
    stored["settings"]["x=3"]["per_seed"]["score"][1] = 28.0001
    stored["settings"]["x=5"]["seen"][1] = [0.5]
    del stored["settings"]["x=2"]["sd"]
    stored["settings"]["x=2"]["cpu_s"] = 1e6
    (tmp_path / "tiny.json").write_text(json.dumps(stored), encoding="utf-8")
    assert verify("tiny", here, folder=tmp_path) == [
        "tiny / settings / x=2 / sd: stored None, now {'score': 1.0}",
        "tiny / settings / x=3 / per_seed / score / 1: stored 28.0001, now 28",
        "tiny / settings / x=5 / seen / 1: stored [0.5], now [0.5, 0.333333]",
    ]
    assert made(tmp_path) == stored


def test_what_was_never_stored_is_not_compared(tiny, here, tmp_path, calls):
    with pytest.raises(FileNotFoundError, match="there is no stored result 'tiny'"):
        verify("tiny", here, folder=tmp_path)
    assert calls == []


# ---------------------------------------------------------------------- the command


def test_the_command_makes_what_is_named_or_all(tiny, at_once, tmp_path, calls, monkeypatch, capsys):
    monkeypatch.setattr(results, "store_folder", lambda: tmp_path)
    assert command.main(["tiny"]) == 0
    assert command.main([]) == 0
    assert calls == [2, 3, 5]
    assert command.main(["tiny", "--again"]) == 0
    assert calls == [2, 3, 5, 2, 3, 5]
    assert "tiny: 100%" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        command.main(["tiny", "stairs", "--again"])
    assert stopped.value.code == 2
    assert "there is no experiment 'stairs'; there are: tiny" in capsys.readouterr().err
    assert calls == [2, 3, 5, 2, 3, 5]  # no work is begun before all names are known


def test_the_command_stores_where_it_is_told(tiny, at_once, tmp_path):
    assert command.main(["tiny", "--into", str(tmp_path / "mine")]) == 0
    assert list(made(tmp_path / "mine")["settings"]) == ["x=2", "x=3", "x=5"]


def test_the_command_says_what_failed_and_that_the_rest_is_stored(tiny, put, at_once, tmp_path, capsys):
    put(failing_at(tiny, "x=3", ZeroDivisionError("by x - 3")))
    assert command.main(["tiny", "--into", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "tiny, x=3: ZeroDivisionError: by x - 3\n" in said
    assert "1 of 3 settings were not stored" in said


def test_the_command_compares(tiny, at_once, tmp_path, capsys):
    assert command.main(["tiny", "--into", str(tmp_path)]) == 0
    assert command.main(["tiny", "--verify", "--into", str(tmp_path)]) == 0
    assert "every number is as it was stored" in capsys.readouterr().out
    stored = made(tmp_path)
    stored["settings"]["x=2"]["mean"]["score"] = 7
    (tmp_path / "tiny.json").write_text(json.dumps(stored), encoding="utf-8")
    assert command.main(["tiny", "--verify", "--into", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "tiny / settings / x=2 / mean / score: stored 7, now 9.0\n"


def test_the_command_says_that_stopping_loses_nothing(tiny, put, at_once, tmp_path, capsys):
    put(failing_at(tiny, "x=5", KeyboardInterrupt()))
    assert command.main(["tiny", "--into", str(tmp_path)]) == 130
    assert "the same command without --again goes on" in capsys.readouterr().err
    assert list(made(tmp_path)["settings"]) == ["x=2", "x=3"]


def test_without_a_clone_nothing_is_measured_for_nothing_and_the_environment_stays_as_it_is(
    tiny, at_once, tmp_path, calls, monkeypatch, capsys
):
    installed = tmp_path / "lib" / "site-packages" / "manyheads" / "measured"
    monkeypatch.setattr(results, "MEASURED", installed)
    with pytest.raises(SystemExit) as stopped:
        command.main(["tiny"])
    assert stopped.value.code == 2
    assert "clone it, run `pip install -e .` there, and repeat the command" in capsys.readouterr().err
    assert calls == []
    assert not installed.exists()
    assert measure("tiny", "x=2")["per_seed"] == {"score": [8, 9, 10]}
    assert command.main(["tiny", "--into", str(tmp_path / "mine")]) == 0


def test_all_that_needs_no_model_is_measured_without_the_extra_that_reads_models():
    code = (
        "import sys; sys.modules |= dict.fromkeys(['safetensors', 'tokenizers', 'gguf', 'onnx']);"
        "from manyheads.experiments import runner;"
        "print(runner.measure('rank', 'd_head=1', seeds=[0])['per_seed']['targets'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[results.load('rank')['settings']['d_head=1']['per_seed']['targets'][0]]}\n"


# ---------------------------------------------------------------------- processes and a cluster

DEADLY = '''
"""A sweep whose workers die, or take a while."""

import os, signal, time
from pathlib import Path

def once(x, dies, log, *, seeds):
    """Die the first time that it is called, if it is to."""
    place = Path(log) / f"{x}"
    first = not place.exists()
    place.touch()
    if dies and (first or dies == "always"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"per_seed": {"score": [x + seed for seed in seeds]}}

def slow(x, log, *, seeds):
    """Say who works, and take a while."""
    (Path(log) / f"{x}-{os.getpid()}").touch()
    time.sleep(0.7)
    return {"per_seed": {"score": [x + seed for seed in seeds]}}
'''


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """A module that other processes can import, too."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "deadly.py").write_text(DEADLY, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT / "src")]))
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path))
    (tmp_path / "log").mkdir()
    return __import__("deadly")


def test_a_process_that_dies_costs_its_own_setting_and_no_other(deadly, put, tmp_path):
    settings = {
        f"x={x}": partial(deadly.once, x=x, dies="always" if x == 1 else "", log=str(tmp_path / "log"))
        for x in range(4)
    }
    put(Experiment("?", settings, seeds=[0, 1]))
    with pytest.raises(ExceptionGroup, match="1 of 4 settings") as failed, workers(2) as processes:
        run(["tiny"], processes, folder=tmp_path)
    assert failed.value.exceptions[0].__notes__ == ["tiny, x=1"]
    assert list(made(tmp_path)["settings"]) == ["x=0", "x=2", "x=3"]


def test_at_least_one_process_is_asked_for():
    with pytest.raises(ValueError, match="at least one process must do the work, got 0"):
        Processes(0)


def wait_for(found, seconds=60):
    """Wait until there is something."""
    until = time.monotonic() + seconds
    while not (thing := found()):
        assert time.monotonic() < until, "nothing came"
        time.sleep(0.02)
    return thing


def any_of(group):
    """Whether a process of this group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_loses_no_finished_setting_and_leaves_no_process(tmp_path):
    """As in a terminal, where all processes of the group hear it."""
    line = [sys.executable, "-m", "manyheads.experiments", "kernels", "--jobs", "2", "--into", tmp_path]
    program = subprocess.Popen(
        line,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may have it ignored
    )
    wait_for(lambda: (tmp_path / "kernels.json").exists())
    os.killpg(program.pid, signal.SIGINT)
    said = program.communicate(timeout=20)[1]
    assert program.returncode == 130, said
    assert "stopped; what is finished is stored" in said
    assert "Traceback" not in said
    stored = made(tmp_path, "kernels")["settings"]
    assert 1 <= len(stored) < len(experiment("kernels").settings)
    assert stored["h=1"]["per_seed"] == results.load("kernels")["settings"]["h=1"]["per_seed"]
    wait_for(lambda: not any_of(program.pid), seconds=10)


@pytest.fixture
def cluster(deadly, tmp_path):
    """A scheduler and two workers, each a process of its own, on this machine alone."""

    def start(kind, *options):
        line = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *options]
        programs.append(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    programs, told = [], tmp_path / "scheduler.json"
    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-show", "--scheduler-file", told)
        wait_for(lambda: told.exists() and told.read_text(encoding="utf-8"))
        for _ in range(2):
            options = ("--nworkers", "1", "--nthreads", "1", "--no-nanny")
            start("worker", "--scheduler-file", told, *options)
        yield json.loads(told.read_text(encoding="utf-8"))["address"], programs[1:]
    finally:
        for program in programs:
            program.kill()
            program.wait()


def test_a_cluster_loses_nothing_when_one_of_its_workers_is_ended_half_way(cluster, deadly, put, tmp_path):
    address, both = cluster
    log = tmp_path / "log"
    settings = {f"x={x}": partial(deadly.slow, x=x, log=str(log)) for x in range(6)}
    put(Experiment("?", settings, seeds=[0, 1]))

    def who():
        return {int(path.name.partition("-")[2]) for path in log.iterdir()}

    def begun():
        return who() if len(who()) == 2 else None

    with ThreadPoolExecutor(1) as beside, workers(2, address) as executor:
        done = beside.submit(run, ["tiny"], executor, folder=tmp_path)
        assert wait_for(begun) == {worker.pid for worker in both}
        both[0].kill()
        done.result(60)
    assert list(made(tmp_path)["settings"]) == [f"x={x}" for x in range(6)]
    assert made(tmp_path)["settings"]["x=5"]["per_seed"] == {"score": [5, 6]}
    begun_by = sorted(path.name for path in log.iterdir())
    assert len(begun_by) > 6, "the ended worker's setting was begun twice"


def test_a_cluster_that_does_not_answer_is_told(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["rank", "--verify", "--scheduler", "tcp://127.0.0.1:9"])
    assert stopped.value.code == 2
    assert "no scheduler of Dask answers at tcp://127.0.0.1:9" in capsys.readouterr().err
