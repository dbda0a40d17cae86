"""Tells a learner right from wrong without showing the answer."""

import copy
import hashlib
import math
import operator
from collections.abc import Callable, Iterable

import numpy as np


def number(answer: float | None, digest: str, digits: int = 3) -> None:
    """Check a number against the fingerprint of the right one, so that the page doesn't give it away.

    Parameters
    ----------
    answer : float or None
        What the learner found, also as an array or a tensor of one number; ``None`` means not answered yet.
    digest : str
        :func:`fingerprint` of the right number.
    digits : int
        Significant digits that count.

    Raises
    ------
    TypeError, ValueError
        As :func:`fingerprint`.
    """
    if answer is None or answer is ...:
        print("Not answered yet. Write your number in the cell above, then run this one again.")
    elif fingerprint(answer, digits) == digest:
        print("Right.")
    else:
        found = f"{_array(answer).item():.{digits}g}"
        print(f"Not yet: {found} isn't it. The check reads {digits} significant digits.")


def fingerprint(answer: float, digits: int = 3) -> str:
    """Make the fingerprint that :func:`number` compares, so that a page shows no answer by accident.

    It hides nothing from whoever wants to know: of three digits there are few numbers, and a fraction of a
    second is enough to try all of them.

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
        If the answer isn't a single finite number, or there isn't a whole number of digits.
    ValueError
        If no digit counts.
    """
    if operator.index(digits) < 1:
        raise ValueError(f"at least one digit must count, got digits={digits}")
    try:
        value = _array(answer).item() + 0.0  # turns -0.0 into 0.0
    except (TypeError, ValueError, OverflowError):
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
        The learner's; returning ``None`` or ``...`` means not answered yet. It may return a number, an array,
        a tensor of any kind, or a list of them.
    like : callable
        One that is right, with the same arguments.
    cases : iterable of tuple
        Arguments to call both with. Each call gets copies, so that a second run meets the same cases.
    tolerance : float
        Largest difference that still counts as equal. Infinities of one sign are equal, and so is NaN to NaN.

    Raises
    ------
    ValueError
        If there is no case: nothing would be proved. A generator has none left when it is run through again.
    """
    cases = list(cases)
    if not cases:
        raise ValueError(
            "a check needs at least one case, got none: give a list, for a generator is empty when it is run "
            "through again"
        )
    for number_of_case, case in enumerate(cases, 1):
        wanted = _array(like(*copy.deepcopy(case)))
        where = f"case {number_of_case}, called with {_in_words(case)},"
        try:
            found = function(*copy.deepcopy(case))  # a function that works in place must not spoil the case
            if found is None or found is ...:
                print("Not answered yet. Write your code in the cell above, then run this one again.")
                return
            found = _array(found)
        except Exception as error:  # a learner's mistake is an answer, not a crash
            print(f"Not yet: {where} raises {type(error).__name__}: {error}")
            return
        if found.shape != wanted.shape:
            print(f"Not yet: {where} should have shape {wanted.shape}, yours has {found.shape}.")
            return
        differ = (found != wanted) & ~(np.isnan(found) & np.isnan(wanted))  # inf - inf would be NaN
        worst = np.max(np.abs(found[differ] - wanted[differ]), initial=0.0)
        if not worst <= tolerance:
            print(f"Not yet: {where} has the right shape, but is off by up to {worst:.2g}.")
            return
    print("Right.")


def _array(value) -> np.ndarray:
    if isinstance(value, list | tuple):
        value = [_array(one) for one in value]
    if hasattr(value, "detach"):  # a tensor of torch, whose bfloat16 NumPy doesn't know
        value = value.detach().double().cpu()
    return np.asarray(value, dtype=float)


def _in_words(case: tuple) -> str:
    """Name what a function was called with: small things as they are, large ones by kind and shape."""
    words = []
    for given in case:
        text = " ".join(repr(given).split())
        if len(text) > 40:
            shape = f" of shape {tuple(given.shape)}" if hasattr(given, "shape") else ""
            text = f"{type(given).__name__}{shape}"
        words.append(text)
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:]) or "nothing"
