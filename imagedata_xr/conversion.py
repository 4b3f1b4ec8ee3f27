"""One series of a batch to its output: what the workers do."""

from __future__ import annotations

import os
import re
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.api import open_series, open_study, write
from imagedata_xr.backend import images_in
from imagedata_xr.errors import BatchError, LeftOutWarning, MixedSeriesError, UnreadableFileError
from imagedata_xr.lock import goes_on
from imagedata_xr.manifest import NAME as RECORD
from imagedata_xr.manifest import files_below
from imagedata_xr.quiet import filtered_warnings
from imagedata_xr.replacing import instead_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import xarray as xr

    from imagedata_xr.plan import Task

__all__ = ["SAME_FOLDER", "NotConvertedError", "Outcome", "convert_one"]

SAME_FOLDER: Final = "the worker sees another folder of this name: all workers have to see the same"
"""Why a file may not be where it was written."""

Outcome = tuple[list[str], float, list[str]] | Exception
"""Names of files, seconds and warnings of a series, or why it failed."""


class NotConvertedError(RuntimeError):
    """Why a series was not converted, as text, since not every exception can be sent from one process to another.

    Parameters
    ----------
    reason : str
        What the exception said.
    kind : str
        Name of its class.
    """

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason, kind)
        self.kind = kind

    def __str__(self) -> str:
        """Return the reason."""
        return str(self.args[0])


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

    An exception is returned, not raised, see `NotConvertedError`.

    Parameters
    ----------
    task : Task
        The series.
    folder, run : str
        Where outputs go, and what `imagedata_xr.lock.locked` has called the run.
    format, order, opening, options
        As of `imagedata_xr.write` and `imagedata_xr.open_series`: `opening` for this, `options` for that.
    """
    start = time.monotonic()
    target = place = Path(folder, task.output)
    if not Path(folder, RECORD).exists():
        return NotConvertedError(f"{Path(folder, RECORD)} is not there: it was removed, or {SAME_FOLDER}", "OSError")
    try:
        with _noting() as told, instead_of(target, task.replaceable, is_free=task.is_free) as place:
            _write_all(task, place, format, order, opening, options)
            # Of a store a writer names but the folder.
            written = sorted(files_below(place))
            if not goes_on(Path(folder), run):
                msg = "the run that it is of has ended, or another one has begun"
                raise BatchError(msg)
    except (BatchError, OSError, ValueError, TypeError, MemoryError, NotImplementedError, LookupError) as err:
        kind = type(err).__name__
        reason = str(err)
        if isinstance(err, OSError) and err.filename and err.strerror:
            reason = f"{err.filename}: {err.strerror}"  # the name first, which need not be told twice then
        return NotConvertedError(_as_asked_for(reason, place, target) or kind, kind)
    except Exception as err:  # of whatever library: the other series go on
        kind = type(err).__name__
        return NotConvertedError(f"unexpected {kind}: {_as_asked_for(str(err), place, target)}", kind)
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
        image = open_series(task.paths, order, **opening)
        _check_is_of(task, [image])
        write(image, place, format=format, **options)
    except MixedSeriesError:
        tree = open_study(task.paths, order, **opening)
    else:
        return
    images = [image for _, image in images_in(tree)]
    _check_is_of(task, images)
    for number, image in enumerate(images):
        write(image, place / f"stack_{number}", format=format, **options)


def _check_is_of(task: Task, images: list[xr.DataArray]) -> None:
    """Raise UnreadableFileError if files hold other frames than when the heap was read: maybe of another patient."""
    for image in images:
        series = image.attrs.get("SeriesInstanceUID", task.series)
        told = image.coords.get("SOPInstanceUID", image.attrs.get("SOPInstanceUID", ""))
        others = {str(uid) for uid in np.ravel(told) if uid} - task.frames
        if series != task.series or others:
            what = f"series {series}" if series != task.series else f"instance {min(others)}"
            msg = f"files have changed since the sources were listed, and {what} is in them now: convert again"
            raise UnreadableFileError(msg)
