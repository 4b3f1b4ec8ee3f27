"""Who does the tasks of a batch: this process, threads, processes, or the workers of a cluster."""

from __future__ import annotations

import pickle
import secrets
import warnings
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed as each_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.processes import interrupts_held, process_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from imagedata_xr.conversion import Outcome
    from imagedata_xr.plan import Task

__all__ = ["LostError", "each"]

_RETRIES: Final = 2
"""How often a series is tried again whose worker was killed."""
_NO_GUARD: Final = "none could start: a script needs its work behind if __name__ == '__main__', and a file of its own"


class LostError(RuntimeError):
    """A worker was killed: whether its series has an output is not known."""


def each(
    tasks: list[Task], work: Callable[[Task], Outcome], client: Any, jobs: int, workers: str
) -> Generator[tuple[str, Outcome]]:
    """Yield series and outcome of each task, as they are done.

    Parameters
    ----------
    tasks : list of Task
        Of a series each.
    work : callable
        What does one of them.
    client, jobs, workers
        As of `imagedata_xr.convert`.

    Raises
    ------
    TypeError
        If `work` cannot be sent to processes.
    """
    if client is not None:
        yield from _on_cluster(tasks, work, client)
    elif jobs <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield task.series, work(task)
    elif workers == "threads":
        with ThreadPoolExecutor(jobs) as pool:
            waiting = {pool.submit(work, task): task.series for task in tasks}
            try:
                for future in each_completed(waiting):
                    yield waiting[future], future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    else:
        yield from _on_processes(tasks, work, jobs)


def _on_processes(tasks: list[Task], work: Callable[[Task], Outcome], jobs: int) -> Iterator[tuple[str, Outcome]]:
    """Yield the outcome of each task, done by processes; those whose process was killed are tried again."""
    left = {task.series: task for task in tasks}
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as err:
        msg = (
            f"order or an option cannot be sent to processes ({err}): name functions in a module, or workers='threads'"
        )
        raise TypeError(msg) from err
    for attempt in range(_RETRIES + 1):
        # One process for each that is left, where several at a time were killed: so one does not take others along.
        at_a_time = jobs if attempt < _RETRIES else 1
        with process_pool(at_a_time) as pool:
            waiting = {}
            with interrupts_held(), suppress(BrokenProcessPool):
                for series, task in left.items():
                    waiting[pool.submit(work, task)] = series
            for future in each_completed(waiting):
                with suppress(BrokenProcessPool):
                    outcome = future.result()
                    del left[waiting[future]]
                    yield waiting[future], outcome
        if not left:
            return
    for series in left:
        yield series, LostError(f"the process that converted it was killed {_RETRIES + 1} times, or {_NO_GUARD}")


def _on_cluster(tasks: list[Task], work: Callable[[Task], Outcome], client: Any) -> Iterator[tuple[str, Outcome]]:
    """Yield the outcome of each task, done by the workers of a cluster."""
    from distributed import CancelledError, as_completed

    completed: Any = as_completed  # without types
    if tasks and not client.nthreads():
        warnings.warn("the cluster has no workers: waiting for some", stacklevel=4)
    # Keys of their own: a series is converted again where it is asked for again.
    run = secrets.token_hex(4)
    futures = {
        client.submit(work, task, pure=False, retries=_RETRIES, key=f"convert-{run}-{number}"): task.series
        for number, task in enumerate(tasks)
    }
    try:
        for future in completed(futures):
            outcome: Outcome
            try:
                outcome = future.result()
            except (CancelledError, OSError):  # those of the task itself it returns
                outcome = LostError("the cluster gave it up: its scheduler went away, or it was cancelled there")
            except Exception as err:  # KilledWorker, and whatever else a cluster raises: the others go on
                outcome = LostError(f"its worker failed: {type(err).__name__}")
            series = futures.pop(future)
            # A result that is still wanted goes with its worker, and the series would be converted again.
            future.release()
            yield series, outcome
    finally:
        client.cancel(list(futures))
