"""Makes the named sweeps, or all of them; each finished setting is stored at once."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from manyheads import results
from manyheads.experiments.runner import NAMES, experiment, run, verify
from manyheads.experiments.workers import workers


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the named sweeps, or all of them, or make them again to compare.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line if left out; ``--help`` lists them.

    Returns
    -------
    int
        The exit status: 0; 1 if a setting failed or a number differs; 130 if it was stopped.
    """
    parser = argparse.ArgumentParser(prog="python -m manyheads.experiments", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"one of: {', '.join(NAMES)}; all if left out")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--again", action="store_true", help="measure anew what is already stored")
    how.add_argument("--verify", action="store_true", help="measure anew, compare each number, store nothing")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="where to store, if not in the clone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many processes (%(default)s)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is to do the work")
    chosen = parser.parse_args(arguments)
    names = chosen.name or NAMES
    try:
        for name in names:
            experiment(name)
        folder = chosen.into or (results.MEASURED if chosen.verify else results.store_folder())
        with workers(chosen.jobs, chosen.scheduler) as executor:
            if not chosen.verify:
                run(names, executor, folder=folder, again=chosen.again, progress=True)
                return 0
            found = [line for name in names for line in verify(name, executor, folder=folder, progress=True)]
            print(*found or ["every number is as it was stored, times and memory apart"], sep="\n")
            return int(bool(found))
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        parser.error(str(error))
    except ExceptionGroup as group:
        for error in group.exceptions:
            print(f"{error.__notes__[-1]}: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"{group.message}; all else is: the same command without --again goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped; what is finished is stored: the same command without --again goes on", file=sys.stderr
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
