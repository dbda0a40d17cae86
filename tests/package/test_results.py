"""Results travel with the package: they are read anywhere, under any locale, and never half written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from manyheads import results

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in results.MEASURED.glob("*.json"))


def test_a_missing_result_lists_the_stored_ones_and_says_how_one_is_made(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no stored result 'stairs'; there are: bench, .*, lookup, "):
        results.load("stairs")
    with pytest.raises(FileNotFoundError, match=r"there are: none\. .*python -m manyheads\.experiments NAME"):
        results.load("lookup", folder=tmp_path)


def test_every_result_is_read_under_an_ascii_locale():
    """Many hold letters such as β: a system whose own encoding is another one must read them all the same."""
    assert any("β" in (results.MEASURED / f"{name}.json").read_text(encoding="utf-8") for name in NAMES)
    code = "import sys; from manyheads import results; [results.load(name) for name in sys.argv[1:]]"
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, *NAMES], env=ascii_only, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_stored_number_survives_being_stored_again(tmp_path):
    for name in set(NAMES) - {"bench"}:  # which benchmarks/bench.py writes
        results.store(name, results.load(name), folder=tmp_path / "new")
        again = (tmp_path / "new" / f"{name}.json").read_bytes()
        assert again == (results.MEASURED / f"{name}.json").read_bytes(), name


def test_arrays_and_tensors_become_plain_numbers_of_six_digits():
    found = results.plain(
        {
            "array": np.array([[1 / 3, 2], [3, 4e9]]),
            "tensor": torch.tensor([True, False]),
            "whole": (np.int64(7), 123456789),
            "double": np.float64(2e-7 / 3),
            "words": ["a", None],
        }
    )
    assert found == {
        "array": [[0.333333, 2], [3, 4e9]],
        "tensor": [True, False],
        "whole": [7, 123456789],
        "double": 6.66667e-8,
        "words": ["a", None],
    }
    json.dumps(found)


@pytest.mark.parametrize("bad", [float("nan"), np.array([1.0, np.inf]), torch.tensor(-torch.inf)])
def test_what_is_not_finite_is_no_result(bad):
    with pytest.raises(FloatingPointError, match="must be finite"):
        results.plain([bad])


def test_what_is_not_finite_is_never_stored(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.store("bad", {"x": float("inf")}, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_new_results_belong_into_the_clone():
    assert results.store_folder() == results.MEASURED == ROOT / "src" / "manyheads" / "measured"


@pytest.mark.parametrize("folder", ["lib/python3.11/site-packages", "book/vendored", "src"])
def test_an_environment_is_no_place_for_results(tmp_path, monkeypatch, folder):
    """Not even one that lies in a book, or is called as the clone's folder is."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "_toc.yml").touch()
    monkeypatch.setattr(results, "MEASURED", tmp_path / folder / "manyheads" / "measured")
    with pytest.raises(RuntimeError, match="only a clone of the book stores sweeps"):
        results.store_folder()
