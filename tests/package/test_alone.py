"""While a test measures time, no other worker runs a test; else they run side by side."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = """
import time
from pathlib import Path
import pytest

def note(name):
    start = time.monotonic()
    time.sleep(0.1)
    with open("times", "a", encoding="utf-8") as file:
        file.write(f"{name} {start} {time.monotonic()}\\n")

@pytest.mark.parametrize("i", range(8))
def test_(i):
    note("beside")

@pytest.mark.alone
def test_time():
    note("alone")
"""


def test_nothing_runs_beside_a_test_that_measures_time(tmp_path):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    for name in "ab":
        (tmp_path / f"test_{name}.py").write_text(TESTS + TESTS.replace("_(", "_more("), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        tmp_path,
        "-n",
        "2",
    ]
    command += ["--dist", "loadfile", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "times").read_text(encoding="utf-8").splitlines()
    spans = [(name, float(start), float(end)) for name, start, end in map(str.split, lines)]
    pairs = [
        (one, other)
        for one, other in itertools.combinations(spans, 2)
        if one[1] < other[2] and other[1] < one[2]
    ]
    assert len(spans) == 34
    assert len(pairs) > 5, "two at a time"
    assert not [pair for pair in pairs if "alone" in (pair[0][0], pair[1][0])]
