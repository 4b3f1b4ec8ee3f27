"""What a batch is to do: the files of its sources, a task for each series, and what may not be replaced."""

from __future__ import annotations

import os
import secrets
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import xarray as xr

from imagedata_xr.api import PHANTOM
from imagedata_xr.dicom.doubt import in_doubt, noting_left_out
from imagedata_xr.dicom.scan import Files, list_files, scan
from imagedata_xr.files import place_here, shortened
from imagedata_xr.formats.registry import format_of
from imagedata_xr.manifest import digest, files_below
from imagedata_xr.outputs import is_packed_or_remote
from imagedata_xr.pacs.peer import is_pacs
from imagedata_xr.pacs.web import is_web
from imagedata_xr.remote import UNKNOWN_VERSION
from imagedata_xr.sources import paths_in
from imagedata_xr.streams import is_elsewhere, statuses

if TYPE_CHECKING:
    from pathlib import Path

    from imagedata_xr.dicom.table import FrameTable
    from imagedata_xr.manifest import Manifest
    from imagedata_xr.sources import Source

__all__ = ["ADVICE", "Heap", "Task", "allowed_name", "heap_of", "objection", "output_folder", "plan", "settings_of"]

_LONGEST: Final = 160
"""Bytes of a name, so that the hidden ones that are made of it fit, too."""
_RESERVED: Final = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)))
)
"""Names that Windows has for devices, in whatever folder and with whatever suffix."""
ADVICE: Final = "move it, or convert to another folder"


class Task(NamedTuple):
    """One series to convert."""

    series: str
    """SeriesInstanceUID."""
    paths: list[str]
    frames: frozenset[str]
    """What tells its frames wherever their files lie: SOPInstanceUIDs, else the files."""
    output: str
    """Name in the folder of the batch."""
    source: str
    """Digest of the frames, and of the sizes and times of their files."""
    replaceable: frozenset[str]
    """Names of files in the output that earlier runs have written."""
    doubt: str
    """Why frames may lack; "" where all files were read."""
    is_free: bool = False
    """Whether nothing lay at its output when it was begun."""


def output_folder(out: str | os.PathLike[str], sources: Source) -> Path:
    """Return the folder for the outputs, which need not be there.

    Raises
    ------
    ValueError
        If it is an archive, a URL or a file, or one of the sources itself.
    """
    if is_packed_or_remote(out) or format_of(out):
        msg = f"{os.fspath(out)} is no folder, and each series gets an output of its own: give a folder of this machine"
        raise ValueError(msg)
    if os.path.realpath(place_here(out)) in map(os.path.realpath, paths_in(sources)):
        msg = f"{os.fspath(out)} is what is converted: give another folder for the outputs; it may be one in it"
        raise ValueError(msg)
    folder = place_here(out).absolute()
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        msg = f"{there} is there and no folder: give another one for the outputs"
        raise ValueError(msg)
    return folder


def _files_of(sources: Source, folder: Path) -> Files:
    """Return the files of sources, without the outputs in a folder that lies below one of them.

    A folder that cannot be listed is left out with a warning.
    """
    own = os.path.realpath(folder)

    @cache
    def is_in(place: str) -> bool:
        real = os.path.realpath(place)
        return real == own or real.startswith(f"{own}{os.sep}")

    found: dict[str, None] = {}
    for item in paths_in(sources):
        paths = list_files(item, "warn")
        is_own = is_in(os.path.realpath(item))
        # All files of a folder are in the outputs, or none: thousands of them are not to be resolved one by one.
        theirs = [p for p in paths if is_own or is_elsewhere(p) or not is_in(p[: p.rfind(os.sep) + 1])]
        found.update(dict.fromkeys(theirs))
    return Files(found, sources)


def settings_of(format: str, order: Any, options: dict[str, Any]) -> str:
    """Return a digest of how images are converted: another one for other values, and where a template's files changed.

    No pixels are read.
    """
    held = {name: _files(value) if name in ("template", "geometry") else value for name, value in options.items()}
    return digest(format, str(_held(order)), sorted((name, _held(value)) for name, value in held.items()))


def _files(like: Any) -> Any:
    """Return the files of an image with their sizes and times, where it is given as a source."""
    if not isinstance(like, str | os.PathLike) or like == PHANTOM or is_pacs(like) or is_web(like):
        return like
    paths = list_files(like)
    return list(zip(paths, *statuses(paths), strict=True))


def _held(value: Any) -> Any:
    """Return what a value holds, in a form that is the same in every process; of an image all but the pixels."""
    if isinstance(value, xr.DataArray):
        coords = {str(name): (coord.dims, coord.values, coord.attrs) for name, coord in value.coords.items()}
        return [value.dims, value.shape, str(value.dtype), _held(dict(value.attrs)), _held(coords)]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {str(name): _held(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_held(item) for item in value]
    if type(value) is tuple:
        return tuple(_held(item) for item in value)
    if callable(value):
        from dask.base import tokenize

        return tokenize(value)
    return value


class Heap(NamedTuple):
    """What lies in the sources."""

    tables: dict[str, FrameTable]
    """The frames of each series."""
    left_out: list[tuple[str, str]]
    """Path and reason of each file that cannot be read."""


def heap_of(sources: Source, folder: Path, index: str | os.PathLike[str] | None) -> Heap:
    """Return what lies in sources and not in the folder of the outputs; warnings but those of files are shown.

    Raises
    ------
    FileNotFoundError, NoDicomError
        If nothing is there, or no DICOM image.
    """
    with noting_left_out() as left_out:
        tables = scan(_files_of(sources, folder), errors="warn", index=index)
    return Heap(tables, left_out)


def plan(heap: Heap, manifest: Manifest) -> tuple[list[Task], list[str]]:
    """Return a task for each series, and which files were left out of them, and why."""
    tasks: list[Task] = []
    taken = manifest.outputs
    doubts = in_doubt(heap.tables, [path for path, _ in heap.left_out])
    for series, table in sorted(heap.tables.items()):
        paths = sorted(set(table.paths))
        try:
            uids = table.values("SOPInstanceUID")
        except OSError:  # the task will say why
            uids = [""] * len(table)
        names = [str(uid or path) for uid, path in zip(uids, table.paths, strict=True)]
        versions = sorted({*zip(names, table.sizes.tolist(), table.mtimes.tolist(), strict=True)})
        output = manifest.output(series)
        if output is None:
            try:
                told = [table.first(name) for name in ("SeriesNumber", "SeriesDescription")]
            except OSError:
                told = []
            output = _free(allowed_name(" ".join(str(v) for v in told if v != "")), series, taken)
            taken.add(output)
        replaceable = frozenset(manifest.files(output))
        # Of a server that tells no versions nobody knows whether files are those of the last run.
        source = digest(versions) if (table.mtimes != UNKNOWN_VERSION).all() else secrets.token_hex(8)
        doubt = doubts.get(series, "")
        tasks.append(Task(series, paths, frozenset(names), output, source, replaceable, doubt))
    return tasks, [f"{path}: {reason}" for path, reason in heap.left_out]


def allowed_name(text: str, empty: str = "series") -> str:
    """Return text as the name of a folder that every system allows; `empty` where nothing is left of it.

    Examples
    --------
    >>> allowed_name("4 T1/T2: late"), allowed_name("aux.1"), allowed_name("..")
    ('4_T1_T2__late', 'aux.1_', 'series')
    """
    name = "".join(c if c.isalnum() or c in "-_.+=@" else "_" for c in text).strip("._")[:80]
    name = shortened(name, _LONGEST) or empty
    return f"{name}_" if name.split(".")[0].lower() in _RESERVED else name


def _free(name: str, series: str, taken: set[str]) -> str:
    """Return a name that no other series has, on systems that do not tell capitals from small letters either."""
    lower = {other.lower() for other in taken}
    free, tries = name, 0
    while free.lower() in lower:
        free = f"{name}_{digest(series, *range(tries))[:8]}"
        tries += 1
    return free


def objection(task: Task, target: Path, manifest: Manifest, how: str) -> str:
    """Return why a series may not be converted to its output, where something lies; "" if it may."""
    if not target.exists():
        # As where a disk is not mounted: a folder made there would be on another one.
        return f"{target} is a link to {target.readlink()}, which is not there: {ADVICE}" if target.is_symlink() else ""
    if not target.is_dir():
        return f"{target} is a file: {ADVICE}"
    try:
        first = min(files_below(target), default="")
    except OSError as err:
        return f"cannot read {err.filename}: {err.strerror}"
    why = manifest.objection(task.series, task.source, how, task.frames) if first else ""
    return f"{target}, with {first} in it, {why}: {ADVICE}" if why else ""
