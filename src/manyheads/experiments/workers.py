"""Who makes the settings of a sweep: processes of this machine, or a cluster."""

import multiprocessing
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from pebble import ProcessPool

Given = ParamSpec("Given")
Found = TypeVar("Found")


class Processes(Executor):
    """Runs each piece of work in a process of this machine; one that dies costs its own piece and no other.

    ``concurrent.futures.ProcessPoolExecutor`` would give up all that waits when one process dies.

    Parameters
    ----------
    jobs : int
        How many processes, each of which is started afresh: nothing is shared with this one.

    Raises
    ------
    ValueError
        If there is not at least one.
    """

    def __init__(self, jobs: int):
        if jobs < 1:
            raise ValueError(f"at least one process must do the work, got {jobs}")
        self._pool = ProcessPool(jobs, context=multiprocessing.get_context("spawn"))

    def submit(
        self, fn: Callable[Given, Found], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Found]:
        """Hand over one piece of work.

        Parameters
        ----------
        fn : callable
            That another process can import.
        *args, **kwargs
            What it takes.

        Returns
        -------
        Future
        """
        return self._pool.schedule(fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes, those that still work too if they are to be given up.

        Parameters
        ----------
        wait : bool
            Until they have ended.
        cancel_futures : bool
            End them now, whatever they are doing.
        """
        (self._pool.stop if cancel_futures else self._pool.close)()
        if wait:
            self._pool.join()


@contextmanager
def workers(jobs: int, scheduler: str | None = None) -> Generator[Executor]:
    """Hold workers ready, and let them go, finished or not, when the work is done or stopped.

    Parameters
    ----------
    jobs : int
        How many processes of this machine, if no cluster is named.
    scheduler : str, optional
        Address of the scheduler of a Dask cluster, as ``tcp://127.0.0.1:8786``; needs
        ``requirements-cluster.txt`` here, and this package on each worker.

    Yields
    ------
    Executor

    Raises
    ------
    ValueError
        If there are no jobs.
    RuntimeError
        If Dask isn't installed, or nobody answers at the address.
    """
    if scheduler is None:
        executor = Processes(jobs)
        try:
            yield executor
        finally:
            executor.shutdown(cancel_futures=True)
        return
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "a cluster needs Dask: pip install --no-deps -r requirements-cluster.txt"
        ) from error
    try:
        client = Client(scheduler, timeout=5)
    except (OSError, ValueError) as error:
        raise RuntimeError(f"no scheduler of Dask answers at {scheduler}: {error}") from error
    with client:
        yield client.get_executor(pure=False)
