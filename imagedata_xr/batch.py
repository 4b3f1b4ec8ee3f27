"""Heaps of series to as many outputs: one task a series, on threads, processes or a cluster."""

from __future__ import annotations

import sys
import warnings
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from imagedata_xr.conversion import SAME_FOLDER, NotConvertedError, Outcome, convert_one
from imagedata_xr.dicom.sort import check_choices
from imagedata_xr.dicom.tags import parse_order
from imagedata_xr.formats.registry import writer_of
from imagedata_xr.lock import locked
from imagedata_xr.manifest import Manifest, files_below
from imagedata_xr.plan import Task, heap_of, objection, output_folder, plan, settings_of
from imagedata_xr.replacing import tidy
from imagedata_xr.results import Batch, Result
from imagedata_xr.sources import paths_in
from imagedata_xr.workers import LostError, each

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator

    from imagedata_xr.dicom.sort import Duplicates, Missing
    from imagedata_xr.sources import Source

__all__ = ["Batch", "Result", "convert"]


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
        If another run is writing to the folder; if a file that is kept there (record, lock) is none, or was removed
        meanwhile.
    OrderError
        If there is no such order.
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
    parse_order(order)  # which would fail each series
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
        results = {
            f"file {number}": _failed("", "", reason, "UnreadableFileError") for number, reason in enumerate(left_out)
        }
        todo = _begin(tasks, manifest, how, results)
        told: list[str] = []
        work = partial(
            convert_one, folder=str(folder), run=run, format=format, order=order, opening=opening, options=options
        )
        try:
            with (
                _bar(len(todo), progress) as step,
                closing(each(list(todo.values()), work, client, jobs, workers)) as outcomes,
            ):
                for series, outcome in outcomes:
                    results[series] = _finish(todo[series], manifest, outcome)
                    if isinstance(outcome, tuple):
                        told += (f"{results[series].output}: {text}" for text in outcome[2])
                    step()
        finally:
            tidy(list(todo.values()), folder)
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
    tidy(tasks, folder)
    for task in undone:
        target = folder / task.output
        reason = task.doubt or objection(task, target, manifest, how)
        kind = "UnreadableFileError" if task.doubt else "FileExistsError" if reason else ""
        results[task.series] = _failed(task.series, str(target), reason or "it was not begun", kind)
        if not reason:
            is_free = not target.exists() or not any(files_below(target))
            todo[task.series] = task._replace(is_free=is_free)
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
            reason = f"{err.filename} was written and is not there: it was removed, or {SAME_FOLDER}"
            return _failed(task.series, output, reason, "OSError")
        return Result(task.series, output, "written", "", len(files), seconds)
    if not isinstance(outcome, LostError):
        manifest.fail(task.series)
    kind = outcome.kind if isinstance(outcome, NotConvertedError) else type(outcome).__name__
    return _failed(task.series, output, str(outcome) or kind, kind)


def _failed(series: str, output: str, reason: str, kind: str) -> Result:
    return Result(series, output, "failed", reason, 0, 0.0, kind)


@contextmanager
def _bar(total: int, progress: bool | None) -> Iterator[Callable[[], object]]:
    """Give a function to call after each series."""
    from tqdm import tqdm

    hidden = None if progress is None else not progress
    if sys.stderr is None:  # as of programs of Windows without a console
        hidden = True
    with tqdm(total=total, unit="series", disable=hidden, file=sys.stderr) as bar:
        yield bar.update
