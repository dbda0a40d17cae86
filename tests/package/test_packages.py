"""Files of models and data are found, and are the right ones to the last bit."""

import hashlib

import pytest

from manyheads import packages


def test_missing_weights_name_the_command():
    with pytest.raises(FileNotFoundError, match=r"not installed.*make models"):
        packages.weights_file("no_such_package", "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors in package numpy.*make models"):
        packages.weights_file("numpy", "model.safetensors")


def test_weights_are_found_without_importing_their_package(tmp_path, monkeypatch):
    folder = tmp_path / "a_model"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('must not be imported')", encoding="utf-8")
    (folder / "model.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    assert packages.weights_file("a_model", "model.bin").read_bytes() == b"weights"


def test_a_file_with_the_right_hash_passes_and_one_changed_bit_is_refused(tmp_path):
    path, abc = tmp_path / "model.bin", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"abc")  # the example of FIPS 180-2
    assert packages.verified(path, abc) == path
    path.write_bytes(b"abb")
    other = hashlib.sha256(b"abb").hexdigest()
    with pytest.raises(
        ValueError, match=rf"model\.bin must have SHA-256 {abc}, it has {other}.*--force-reinst"
    ):
        packages.verified(path, abc)
