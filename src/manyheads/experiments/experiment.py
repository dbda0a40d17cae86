"""One sweep of the book: a question, its settings, its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Experiment:
    """A sweep: one question, its settings as plain data, its seeds.

    Attributes
    ----------
    question : str
    settings : dict of partial
        What to call for each setting; its keywords are the setting.
    seeds : sequence of int
        Empty where everything is exact.
    packages : sequence of str
        Those that bring a model or data, so that their versions are stored too.
    """

    question: str
    settings: dict[str, partial]
    seeds: Sequence[int] = range(6)
    packages: Sequence[str] = ()
