"""What a sweep is: one question, its settings, its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Experiment:
    """A sweep, as the file of its name holds it beside the functions that it calls.

    Attributes
    ----------
    about : str
        The file's docstring, whose first line asks the question.
    settings : dict of partial
        What to call for each setting; its keywords are the setting.
    seeds : sequence of int
        Empty where everything is exact.
    packages : sequence of str
        Those that bring a model or data, so that their versions are stored too.
    alone : bool
        Whether it measures time or memory, so that nothing else may run beside it.
    """

    about: str
    settings: dict[str, partial]
    seeds: Sequence[int] = range(6)
    packages: Sequence[str] = ()
    alone: bool = False

    @property
    def question(self) -> str:
        """What the sweep asks."""
        return self.about.splitlines()[0]
