"""Says what is wrong with an environment, and which command mends it."""

import sys
from importlib import metadata

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


if __name__ == "__main__":
    try:
        print(f"Python {sys.version.split()[0]}, torch {check_torch()}: ready.")
    except RuntimeError as error:
        sys.exit(str(error))
