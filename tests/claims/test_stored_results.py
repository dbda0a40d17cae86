"""Every stored sweep is what today's code would store, and its numbers come back when they are made again."""

import numpy as np
import pytest

from manyheads import results
from manyheads.experiments.runner import NAMES, experiment, measure, still_true


@pytest.mark.parametrize("name", NAMES)
def test_each_stored_sweep_is_complete_and_has_the_settings_of_today(name):
    stored, sweep = results.load(name), experiment(name)
    assert stored["command"] == f"python -m manyheads.experiments {name} --again"
    assert stored["question"] == sweep.question
    assert stored["versions"]["torch"].startswith("2.13.0")
    assert stored["machine"]["threads"] == 1
    assert stored["machine"]["cpu"]
    assert stored["cpu_s"] >= 0
    assert list(stored["settings"].items()) == list(still_true(stored, sweep).items())
    assert list(stored["settings"]) == list(sweep.settings)
    for setting in stored["settings"].values():
        per_seed = setting.get("per_seed", {})
        assert bool(per_seed) == bool(sweep.seeds)
        for score, each in per_seed.items():
            assert len(each) == len(stored["seeds"]) >= 6
            assert setting["mean"][score] == pytest.approx(np.mean(each), rel=1e-4, abs=1e-30)
            assert setting["sd"][score] == pytest.approx(np.std(each, ddof=1), rel=1e-2, abs=1e-5)


def test_no_result_is_stored_that_no_sweep_makes():
    stored = {path.stem for path in results.MEASURED.glob("*.json")} - {"bench"}
    assert stored == set(NAMES)


CHEAP = [
    *(("types", setting, None) for setting in experiment("types").settings),
    ("rank", "d_head=1", 4),
    ("rank", "d_head=2", 4),
    ("kernels", "h=2", 3),
    ("nearest", "h=1", 0),
    ("nearest", "by hand, β=1000", 5),
    ("masked-lm", "h=4", 9),
    ("lookup", "h=1", 2),
]


@pytest.mark.parametrize(("name", "setting", "seed"), CHEAP)
def test_one_seed_made_again_gives_the_stored_digits(name, setting, seed):
    stored = results.load(name)["settings"][setting]
    if seed is None:
        assert measure(name, setting) == {key: stored[key] for key in ("alike", "ordered", "any")}
        return
    again = measure(name, setting, seeds=[seed])["per_seed"]
    i = results.load(name)["seeds"].index(seed)
    assert again == {score: [pytest.approx(each[i], rel=1e-4)] for score, each in stored["per_seed"].items()}
