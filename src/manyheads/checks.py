"""Tells a learner right from wrong without showing the answer."""

import copy
import hashlib
import math
from collections.abc import Callable, Iterable

import numpy as np


def number(answer: float | None, digest: str, digits: int = 3) -> None:
    """Check a number against the fingerprint of the right one, so that the page doesn't give it away.

    Parameters
    ----------
    answer : float or None
        What the learner found; ``None`` means not answered yet.
    digest : str
        :func:`fingerprint` of the right number.
    digits : int
        Significant digits that count.

    Raises
    ------
    TypeError
        If the answer isn't a single number.
    """
    if answer is None or answer is ...:
        print("Not answered yet. Write your number in the cell above, then run this one again.")
    elif fingerprint(answer, digits) == digest:
        print("Right.")
    else:
        print(f"Not yet: {float(answer):.{digits}g} isn't it. The check reads {digits} significant digits.")


def fingerprint(answer: float, digits: int = 3) -> str:
    """Make the fingerprint that :func:`number` compares: easy to make from the answer, hard to turn back.

    Parameters
    ----------
    answer : float
    digits : int
        Significant digits that count.

    Returns
    -------
    str
        12 hexadecimal digits.

    Raises
    ------
    TypeError
        If the answer isn't a single finite number.
    """
    try:
        value = float(answer) + 0.0  # turns -0.0 into 0.0
    except (TypeError, ValueError):
        raise TypeError(f"the answer must be one number, got {answer!r}") from None
    if not math.isfinite(value):
        raise TypeError(f"the answer must be one finite number, got {value}")
    text = f"{value:.{digits - 1}e}"
    return hashlib.sha256(f"one head, many heads: {text}".encode()).hexdigest()[:12]


def choice(answer: str | None, digest: str) -> None:
    """Check a chosen letter or word against the fingerprint of the right one.

    Parameters
    ----------
    answer : str or None
        Case, spaces and the brackets of ``(a)`` don't count; ``None`` means not answered yet.
    digest : str
        :func:`word_fingerprint` of the right one.
    """
    if answer is None or answer is ...:
        print("Not answered yet. Write your choice in the cell above, then run this one again.")
    elif word_fingerprint(answer) == digest:
        print("Right.")
    else:
        print(f"Not yet: {str(answer).strip()!r} isn't it.")


def word_fingerprint(answer: str) -> str:
    """Make the fingerprint that :func:`choice` compares.

    Parameters
    ----------
    answer : str

    Returns
    -------
    str
        12 hexadecimal digits.
    """
    text = " ".join(str(answer).lower().split()).strip(" ().:")
    return hashlib.sha256(f"one head, many heads: {text}".encode()).hexdigest()[:12]


def behaves(function: Callable, like: Callable, cases: Iterable[tuple], tolerance: float = 1e-6) -> None:
    """Check a learner's function by what it does, case by case, against one that is right.

    Parameters
    ----------
    function : callable
        The learner's; returning ``None`` or ``...`` means not answered yet.
    like : callable
        One that is right, with the same arguments.
    cases : iterable of tuple
        Arguments to call both with.
    tolerance : float
        Largest difference that still counts as equal.
    """
    for number_of_case, case in enumerate(cases, 1):
        wanted = _array(like(*copy.deepcopy(case)))
        try:
            found = function(*copy.deepcopy(case))  # a function that works in place must not spoil the case
            if found is None or found is ...:
                print("Not answered yet. Write your code in the cell above, then run this one again.")
                return
            found = _array(found)
        except Exception as error:  # a learner's mistake is an answer, not a crash
            print(f"Not yet: case {number_of_case} raises {type(error).__name__}: {error}")
            return
        if found.shape != wanted.shape:
            print(
                f"Not yet: case {number_of_case} should have shape {wanted.shape}, yours has {found.shape}."
            )
            return
        worst = np.max(np.abs(found - wanted), initial=0.0)
        if not worst <= tolerance:
            print(f"Not yet: case {number_of_case} has the right shape, but is off by up to {worst:.2g}.")
            return
    print("Right.")


def _array(value) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach()
    return np.asarray(value, dtype=float)
