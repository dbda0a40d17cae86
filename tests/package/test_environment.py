"""A broken environment says which command mends it."""

import subprocess
import sys
from importlib import metadata

import pytest

from manyheads import environment


def test_the_installed_torch_is_the_pinned_one():
    assert environment.check_torch().split("+")[0] == "2.13.0"


@pytest.mark.parametrize("found", ["2.12.1", "2.13.01", None])
def test_another_torch_is_refused_with_the_command(monkeypatch, found):
    def version(package):
        if found is None:
            raise metadata.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(environment.metadata, "version", version)
    with pytest.raises(RuntimeError, match=r"needs torch 2\.13\.0, found .*pip install torch==2\.13\.0"):
        environment.check_torch()


def test_the_command_says_that_all_is_ready():
    said = subprocess.run(
        [sys.executable, "-m", "manyheads.environment"], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("Python 3.")
    assert "torch 2.13.0" in said
