"""Heaps of series to as many outputs: one task a series, on threads, processes or a cluster."""

from __future__ import annotations

import os
import pickle
import re
import secrets
import shutil
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed as each_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from imagedata_xr.api import open_series, open_study, write
from imagedata_xr.backend import images_in
from imagedata_xr.dicom.sort import check_choices
from imagedata_xr.errors import BatchError, LeftOutWarning, MixedSeriesError
from imagedata_xr.files import shortened
from imagedata_xr.formats.registry import writer_of
from imagedata_xr.lock import goes_on, locked
from imagedata_xr.manifest import NAME as RECORD
from imagedata_xr.manifest import Manifest, files_below
from imagedata_xr.plan import ADVICE, Task, heap_of, objection, output_folder, plan, settings_of
from imagedata_xr.processes import interrupts_held, process_pool
from imagedata_xr.quiet import filtered_warnings
from imagedata_xr.sources import paths_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator

    import pandas as pd

    from imagedata_xr.dicom.sort import Duplicates, Missing
    from imagedata_xr.sources import Source

__all__ = ["Batch", "Result", "convert"]

_RETRIES: Final = 2
"""How often a series is tried again whose worker was killed."""
_SAME_FOLDER: Final = "the worker sees another folder of this name: all workers have to see the same"
_NO_GUARD: Final = "none could start: a script needs its work behind if __name__ == '__main__', and a file of its own"
_LEFT: Final = re.compile(r"\.(.+)\.[0-9a-f]{12}\.(new|old)|\.\.(.+)\.[0-9a-f]{12}\.new\.[0-9a-f]{12}\.part")
"""Hidden names beside an output: see `_instead_of`, and what a writer makes its folder in."""

Outcome = tuple[list[str], float, list[str]] | Exception
"""Names of files, seconds and warnings of a series, or why it failed."""


class LostError(RuntimeError):
    """A worker was killed: whether its series has an output is not known."""


class Result(NamedTuple):
    """What became of one series."""

    series: str
    """SeriesInstanceUID."""
    output: str
    """Path of what was written, or would have been."""
    status: Literal["written", "kept", "failed"]
    reason: str
    """Why it failed."""
    files: int
    """How many were written."""
    seconds: float


@dataclass(frozen=True)
class Batch:
    """What became of all series: a result each, and one of each file that was left out."""

    results: tuple[Result, ...]

    @property
    def failed(self) -> tuple[Result, ...]:
        """Those that were not converted."""
        return tuple(result for result in self.results if result.status == "failed")

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table, one row a series."""
        import pandas as pd

        return pd.DataFrame(self.results, columns=list(Result._fields))

    def raise_for_failed(self) -> None:
        """Raise BatchError if a series was not converted."""
        if self.failed:
            first = self.failed[0]
            # A file that cannot be read may not tell its series.
            what = f"{first.series}: {first.reason}" if first.series else first.reason
            msg = f"{len(self.failed)} of {len(self.results)} series were not converted; {what}"
            raise BatchError(msg)

    def __repr__(self) -> str:
        """Return how many series were written, kept and failed."""
        count = {status: sum(r.status == status for r in self.results) for status in ("written", "kept", "failed")}
        return f"<Batch of {len(self.results)} series: {', '.join(f'{n} {status}' for status, n in count.items())}>"


def convert(
    sources: Source,
    out: str | os.PathLike[str],
    *,
    format: str = "dicom",
    order: Any = "auto",
    client: Any = None,
    jobs: int = 1,
    workers: Literal["processes", "threads"] = "processes",
    progress: bool | None = None,
    index: str | os.PathLike[str] | None = None,
    missing: Missing = "error",
    duplicates: Duplicates = "error",
    **options: Any,
) -> Batch:
    """Return what became of each series of a heap, converted to an output of its own in a folder.

    A series that fails is reported with its reason, and so is a damaged file, and the rest goes on. A series fails if a
    damaged file is one of its own, or may be: that it lacks shows nowhere. A second run does only what is missing: what
    was not converted, whose files have changed since or become more, or whose output is gone or damaged. That is known
    from the file ``.imagedata_xr.jsonl`` in the folder. An output is there whole or not at all. Names are those of the
    series, number and description, made safe; nothing of the patient is in them.

    An output is replaced only by one of the same format and settings, made of the same files or these and more; and
    only if nothing is in it that was not written by a run. Else the series fails, and what is there stays.

    Parameters
    ----------
    sources : path or list of paths
        Folders and files of DICOM; archives and URLs too.
    out : path
        Folder for the outputs; made when it is not there. It may lie in one of the sources: what is in it is not
        converted. One run at a time writes to it.
    format : str
        As of `imagedata_xr.write`.
    order
        As of `imagedata_xr.open_series`.
    client : distributed.Client, optional
        A cluster that does the work; its workers must see the same files. One whose worker is killed is tried again, on
        another.
    jobs : int
        How many series at a time, without a client.
    workers : {"processes", "threads"}
        What does them, if several. Processes need a script whose work is behind ``if __name__ == "__main__":``.
    progress : bool, optional
        Whether to show a bar on standard error. None shows it on a terminal.
    index : path, optional
        Folder that keeps what headers say, as of `imagedata_xr.open_series`.
    missing, duplicates
        As of `imagedata_xr.open_series`, for all series alike.
    **options
        For the writer of the format.

    Raises
    ------
    FileNotFoundError, NoDicomError
        If nothing is there, or no DICOM image.
    BatchError
        If another run is writing to the folder.
    ValueError
        If the format is not known, or what `missing` or `duplicates` says, or `out` is no folder of this machine, or
        itself one of the sources; or `jobs` or `workers` are none.
    TypeError
        If `order` or an option cannot be sent to processes, or the format has no such option.

    Notes
    -----
    Each worker holds one volume at a time, for DICOM and NIfTI, and so some times the size of a volume.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folder = getfixture("tmp_path")
    >>> heap = ixr.sample.write_patient(folder / "phantom")
    >>> ixr.convert(heap, folder / "nifti", format="nifti")
    <Batch of 5 series: 5 written, 0 kept, 0 failed>
    >>> ixr.convert(heap, folder / "nifti", format="nifti")
    <Batch of 5 series: 0 written, 5 kept, 0 failed>
    """
    _check_arguments(format, options, jobs, workers)
    check_choices(missing, duplicates)
    sources = paths_in(sources)  # once: it may be a generator
    folder = output_folder(out, sources)
    opening = {"missing": missing, "duplicates": duplicates}
    how = settings_of(format, order, options | {name: value for name, value in opening.items() if value != "error"})
    # First, where it is to be made: of sources in which nothing is it would stay. Else a second run is told at once.
    heap = None if folder.exists() else heap_of(sources, folder, index)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as run:
        manifest = Manifest(folder)
        tasks, left_out = plan(heap or heap_of(sources, folder, index), manifest)
        results = {f"file {number}": _failed("", "", reason) for number, reason in enumerate(left_out)}
        todo = _begin(tasks, manifest, how, results)
        told: list[str] = []
        work = partial(
            convert_one, folder=str(folder), run=run, format=format, order=order, opening=opening, options=options
        )
        try:
            with (
                _bar(len(todo), progress) as step,
                closing(_each(list(todo.values()), work, client, jobs, workers)) as outcomes,
            ):
                for series, outcome in outcomes:
                    results[series] = _finish(todo[series], manifest, outcome)
                    if isinstance(outcome, tuple):
                        told += (f"{results[series].output}: {text}" for text in outcome[2])
                    step()
        finally:
            _tidy(list(todo.values()), folder)
    for text in told:
        warnings.warn(text, stacklevel=2)
    return Batch(tuple(results.values()))


def _check_arguments(format: str, options: Collection[str], jobs: object, workers: str) -> None:
    writer_of(format, options)
    if workers not in ("processes", "threads"):
        msg = f"workers={workers!r}: they are 'processes' or 'threads'"
        raise ValueError(msg)
    if not isinstance(jobs, int) or jobs < 1:
        msg = f"jobs={jobs!r}: how many series are done at a time is wanted, 1 or more"
        raise ValueError(msg)


def _begin(tasks: list[Task], manifest: Manifest, how: str, results: dict[str, Result]) -> dict[str, Task]:
    """Return the tasks that are to be done, noted as begun; `results` gets a result of every task."""
    folder = manifest.folder
    undone: list[Task] = []
    todo: dict[str, Task] = {}
    for task in tasks:
        if not task.doubt and manifest.is_done(task.series, task.source, how):
            results[task.series] = Result(task.series, str(folder / task.output), "kept", "", 0, 0.0)
        else:
            undone.append(task)
    _tidy(undone, folder)
    for task in undone:
        target = folder / task.output
        reason = task.doubt or objection(task, target, manifest, how)
        results[task.series] = _failed(task.series, str(target), reason or "it was not begun")
        if not reason:
            todo[task.series] = task
            manifest.begin(task.series, task.output, task.source, how, task.frames)
    return todo


def _finish(task: Task, manifest: Manifest, outcome: Outcome) -> Result:
    """Return what became of a series, noted in the record unless that is not known."""
    output = str(manifest.folder / task.output)
    if isinstance(outcome, tuple):
        files, seconds, _ = outcome
        try:
            manifest.finish(task.series, files)
        except FileNotFoundError as err:
            reason = f"{err.filename} was written and is not there: it was removed, or {_SAME_FOLDER}"
            return _failed(task.series, output, reason)
        return Result(task.series, output, "written", "", len(files), seconds)
    if not isinstance(outcome, LostError):
        manifest.fail(task.series)
    return _failed(task.series, output, str(outcome) or type(outcome).__name__)


def _failed(series: str, output: str, reason: str) -> Result:
    return Result(series, output, "failed", reason, 0, 0.0)


def convert_one(
    task: Task,
    folder: str,
    run: str,
    format: str,
    order: Any,
    opening: dict[str, Any],
    options: dict[str, Any],
) -> Outcome:
    """Return what became of one series: the task that workers do.

    An exception is returned, not raised, since not all of them can be sent from one process to another.
    """
    start = time.monotonic()
    target = place = Path(folder, task.output)
    if not Path(folder, RECORD).exists():
        return RuntimeError(f"{folder} is not there, or {_SAME_FOLDER}")
    try:
        with _noting() as told, _instead_of(target, task.replaceable) as place:
            _write_all(task, place, format, order, opening, options)
            # Of a store a writer names but the folder.
            written = sorted(files_below(place))
            if not goes_on(Path(folder), run):
                msg = "the run that it is of has ended, or another one has begun"
                raise BatchError(msg)
    except (BatchError, OSError, ValueError, TypeError, MemoryError, NotImplementedError, LookupError) as err:
        return RuntimeError(_as_asked_for(str(err), place, target) or type(err).__name__)
    except Exception as err:  # of whatever library: the other series go on
        return RuntimeError(f"unexpected {type(err).__name__}: {_as_asked_for(str(err), place, target)}")
    return written, time.monotonic() - start, told


@contextmanager
def _noting() -> Iterator[list[str]]:
    """Give a list that has, after the block, what was warned of within it.

    In a thread beside others nobody knows whose a warning is: it is shown as it comes, by workers of a cluster in their
    logs. Those of files that cannot be opened were shown by the scan.
    """
    told: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        with filtered_warnings(category=LeftOutWarning):
            yield told
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield told
    known = (warning for warning in caught if issubclass(warning.category, UserWarning))
    told += dict.fromkeys(str(warning.message) for warning in known if warning.category is not LeftOutWarning)


def _as_asked_for(text: str, place: Path, target: Path) -> str:
    """Return a reason with the output that was asked for in place of the hidden names under which it is made."""
    if place == target:
        return text
    hidden = rf"{re.escape(f'{place.parent}{os.sep}')}\.?{re.escape(place.name)}(\.[0-9a-f]{{12}}\.part)?"
    return re.sub(hidden, lambda _: os.fspath(target), text)


def _write_all(
    task: Task, place: Path, format: str, order: Any, opening: dict[str, Any], options: dict[str, Any]
) -> None:
    """Write the image of a series, or those of its stacks."""
    try:
        write(open_series(task.paths, order, **opening), place, format=format, **options)
    except MixedSeriesError:
        tree = open_study(task.paths, order, **opening)
    else:
        return
    for number, (_, image) in enumerate(images_in(tree)):
        write(image, place / f"stack_{number}", format=format, **options)


@contextmanager
def _instead_of(target: Path, replaceable: Collection[str]) -> Iterator[Path]:
    """Give a path that takes the place of an output of an earlier run when the block ends well.

    Raises
    ------
    FileExistsError
        If the old output has a file that is neither one of `replaceable` nor in the new one.
    """
    place = _resolved(target)
    new = place.with_name(f".{shortened(place.name)}.{secrets.token_hex(6)}.new")
    old = new.with_suffix(".old")
    try:
        yield new
        if not place.exists():
            new.rename(place)
            return
        may_go = {*replaceable, *files_below(new)}
        _check_replaceable(place, may_go, target)
        place.rename(old)
        # Looked at again under a name that nobody else writes to: what came in meanwhile is not to be lost.
        _check_replaceable(old, may_go, target)
        new.rename(place)
    except BaseException:
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _resolved(target: Path) -> Path:
    """Return where an output is written: a symbolic link stays one, the folder it leads to is replaced."""
    return Path(os.path.realpath(target))


def _check_replaceable(place: Path, may_go: Collection[str], target: Path) -> None:
    """Raise FileExistsError if an output has a file that no run has left in it."""
    others = sorted(set(files_below(place)) - set(may_go))
    if others:
        msg = f"{target} holds {others[0]}, which is not of an earlier run: {ADVICE}"
        raise FileExistsError(msg)


def _tidy(tasks: list[Task], folder: Path) -> None:
    """Remove what killed workers have left beside outputs; an output that was being replaced is put back."""
    places = {_resolved(folder / task.output): task for task in tasks}
    named = {(place.parent, shortened(place.name)): place for place in places}
    for parent in {place.parent for place in places}:
        # What cannot be listed or removed is no reason not to go on: whoever writes there will say so.
        with suppress(OSError):
            for left in sorted(parent.iterdir()):
                found = _LEFT.fullmatch(left.name)
                place = named.get((parent, found[1] or found[3])) if found else None
                if place is None or found is None:
                    continue
                if found[2] != "old":
                    shutil.rmtree(left, ignore_errors=True)
                elif not place.exists():
                    left.rename(place)
                elif places[place].replaceable.issuperset(files_below(left)):
                    shutil.rmtree(left, ignore_errors=True)


def _each(
    tasks: list[Task], work: Callable[[Task], Outcome], client: Any, jobs: int, workers: str
) -> Generator[tuple[str, Outcome]]:
    """Yield series and outcome of each task, as they are done."""
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
            yield futures[future], outcome
    finally:
        client.cancel(list(futures))


@contextmanager
def _bar(total: int, progress: bool | None) -> Iterator[Callable[[], object]]:
    """Give a function to call after each series."""
    from tqdm import tqdm

    hidden = None if progress is None else not progress
    if sys.stderr is None:  # as of programs of Windows without a console
        hidden = True
    with tqdm(total=total, unit="series", disable=hidden, file=sys.stderr) as bar:
        yield bar.update
