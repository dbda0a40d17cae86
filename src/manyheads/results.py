"""Loads and stores what the book measured: one JSON a sweep, which the package brings along.

It knows no model: a page reads a number wherever the package is installed.
"""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).resolve().with_name("measured")


def load(name: str, *, folder: Path = MEASURED) -> dict:
    """Give what a sweep measured to a chapter, a figure or a test.

    Parameters
    ----------
    name : str
    folder : Path
        Where ``NAME.json`` is kept.

    Returns
    -------
    dict
        ``settings[SETTING]`` holds ``per_seed``, ``mean`` and ``sd`` of each score, and what else was
        measured; beside it stand ``question``, ``command``, ``seeds``, ``versions``, ``machine``,
        ``duration_s``, ``cpu_s``.

    Raises
    ------
    FileNotFoundError
        If nothing is stored under this name.
    """
    path = Path(folder) / f"{name}.json"
    if not path.is_file():
        stored = ", ".join(sorted(path.stem for path in Path(folder).glob("*.json"))) or "none"
        raise FileNotFoundError(
            f"there is no stored result {name!r}; there are: {stored}. What a sweep measures is stored by "
            f"`python -m manyheads.experiments NAME`"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def store(name: str, found: dict, *, folder: Path) -> None:
    """Replace ``NAME.json`` in one step, so that whoever stops us finds the old file or the new one.

    Parameters
    ----------
    name : str
    found : dict
        Of numbers, strings, lists and dicts, as :func:`plain` makes them.
    folder : Path
        Is made if it isn't there.

    Raises
    ------
    ValueError
        If a number isn't finite.
    """
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    text = re.sub(r"\[\s+([^][]*?)\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text)  # a list a line
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    half = path.with_suffix(".part")
    try:
        half.write_text(text + "\n", encoding="utf-8")
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def store_folder() -> Path:
    """Find where new numbers belong: the clone of the book, never the environment of an installed package.

    Returns
    -------
    Path
        ``MEASURED``, where it lies in a clone.

    Raises
    ------
    RuntimeError
        If the package is installed without its clone.
    """
    clone = MEASURED.parents[2]
    if MEASURED.parent != clone / "src" / "manyheads" or not (clone / "_toc.yml").is_file():
        raise RuntimeError(
            "only a clone of the book stores sweeps: clone it, run `pip install -e .` there, and repeat the "
            "command; `manyheads.experiments.runner.measure` measures anywhere and stores nothing"
        )
    return MEASURED


def plain(value: Any) -> Any:
    """Make plain numbers of arrays and tensors, so that every stored file reads alike.

    Parameters
    ----------
    value : number, str, bool, None, array, Tensor, or list, tuple or dict of them

    Returns
    -------
    object
        The same as plain Python, floats with six significant digits.

    Raises
    ------
    FloatingPointError
        If a number isn't finite.
    """
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise FloatingPointError(f"a result must be finite to be stored, got {value}")
        return float(f"{value:.6g}")
    return plain(value.tolist()) if hasattr(value, "tolist") else value
