"""The files of a source to tables of their frames: element values, file, offset and length, column by column."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from imagedata_xr.dicom.decode import DEFLATED, check_deflated, guessed_syntax
from imagedata_xr.dicom.expand import TELLS_KIND, Frames, frame_of, frames_of
from imagedata_xr.dicom.index import Index
from imagedata_xr.dicom.layout import Walker
from imagedata_xr.dicom.listing import Files, list_files
from imagedata_xr.dicom.table import LEAVE_OUT, FrameTable, TableBuilder, joined
from imagedata_xr.dicom.walk import (
    PRIVATE_GROUPS,
    PRIVATE_LENGTH,
    UNDEFINED,
    BeyondEnd,
    Elements,
    Head,
    ShortHeadError,
    StepAside,
    uid_in,
)
from imagedata_xr.elements import Raw, raw_of, tag
from imagedata_xr.errors import LeftOutWarning, NoDicomError, UnreadableFileError
from imagedata_xr.options import OPTIONS
from imagedata_xr.quiet import filtered_warnings
from imagedata_xr.sources import paths_in
from imagedata_xr.streams import (
    is_archive,
    is_elsewhere,
    is_member,
    open_binary,
    openers,
    split_member,
    status,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydicom import Dataset

    from imagedata_xr.sources import Source

__all__ = ["HEAD", "SERIES", "Files", "has_dicom", "list_files", "read_head", "scan"]

HEAD = 16384
"""Bytes of a file that are read at first."""
SERIES = tag("SeriesInstanceUID")
_ROWS, _COLUMNS, _SOP_CLASS = tag("Rows"), tag("Columns"), tag("SOPClassUID")
_PIXELS = frozenset(map(tag, ("PixelData", "FloatPixelData", "DoubleFloatPixelData")))
_KEPT_AT_ONCE = 20_000
"""Files that are read before the index gets them, so that a scan that is stopped goes on from there."""
_SPECTRA = "1.2.840.10008.5.1.4.1.1.4.2"
"""SOP class of MR spectra, which have rows and columns, and no pixels."""
_SUFFIXES = (".dcm", ".dicom", ".ima")
"""What names of DICOM files end with, but for the last number of a UID."""
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def has_dicom(paths: Iterable[str]) -> bool:
    """Return whether one of some files is, by its first bytes, a DICOM file."""
    for path in paths:
        try:
            if not is_elsewhere(path) and not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - as in list_files
                continue
            with open_binary(path) as file:
                if _may_be_dicom(file.read(256)):
                    return True
        except OSError:
            continue  # the scan will say so
    return False


def read_head(
    path: str, walker: Walker | None = None, opener: Callable[[], BinaryIO] | None = None
) -> tuple[Head, int, int] | None:
    """Return head, size [bytes] and modification time [ns] of a DICOM file; None for a file of another kind.

    `opener` opens one that is not of this machine.

    Raises
    ------
    UnreadableFileError
        If it is a DICOM file that is damaged or cannot be opened.
    """
    walker = walker or Walker()
    try:
        if is_elsewhere(path):
            with opener() if opener else open_binary(path) as stream:
                size, mtime = status_of(stream, path)
                head = _walk(path, stream.read(HEAD), stream.read, size, walker)
        else:
            # Opening a pipe would wait for ever without the flag, which regular files do not mind.
            handle = os.open(path, _FLAGS)
            try:
                found = os.fstat(handle)
                size, mtime = found.st_size, found.st_mtime_ns
                if not stat.S_ISREG(found.st_mode):
                    return None
                data = os.read(handle, HEAD)
                known = walker.known(data, size)
                head = _walk(path, data, partial(os.read, handle), size, walker) if known is None else known
            finally:
                os.close(handle)
    except UnreadableFileError:
        raise
    except OSError as err:
        reason = err.strerror or err
        if err.errno == errno.ENOENT and Path(path).is_symlink():
            reason = f"it is a link, and {Path(path).readlink()} is not there"
        msg = f"cannot read {path}: {reason}"
        raise UnreadableFileError(msg) from err
    if isinstance(head, StepAside):
        ends_early, head = isinstance(head, BeyondEnd), _head_by_pydicom(path)
        if ends_early and head is not None and not head.pixel_tag:
            msg = f"{path} is cut short: its header reaches beyond its {size} bytes. {LEAVE_OUT}"
            raise UnreadableFileError(msg)
    return None if head is None else (head, size, mtime)


def _walk(path: str, data: bytes, read: Callable[[int], bytes], size: int, walker: Walker) -> Head | StepAside | None:
    """Return the head of a file, None where it is no DICOM file, why where the walk leaves it to pydicom."""
    if not _may_be_dicom(data):
        if _is_unfinished(path, data, size, read):
            what = "holds nothing but zeros" if size else "is empty"
            msg = f"{path} {what}, as a file whose copy was not finished. {LEAVE_OUT}"
            raise UnreadableFileError(msg)
        return None
    begin = len(data)
    while True:
        try:
            head = walker.walk(data, size)
            return head if len(data) == begin else head._replace(data=data)
        except StepAside as reason:
            return reason
        except ShortHeadError as short:
            most = OPTIONS["largest_header"]
            if max(len(data), short.reached) > most:
                msg = (
                    f"{path} has a header of more than {most} bytes; such files are refused, unless "
                    "imagedata_xr.set_options(largest_header=...) allows more"
                )
                raise UnreadableFileError(msg) from None
            wanted = short.reached - len(data) + HEAD if short.reached else 1 << 20
            # Not more than is needed: in memory that is new to the process, a megabyte takes a millisecond.
            more = read(min(max(len(data) * 7, wanted), most + 1))
            if not more:
                return StepAside()
            data += more


def _may_be_dicom(data: bytes) -> bool:
    """Whether the first bytes are those of a DICOM file, with or without preamble and meta header."""
    if data[128:132] == b"DICM":
        return True
    # A file without preamble begins with an element of group 2 or 8, tag then VR or a small length (PS3.5 7.1).
    if data[:2] not in (b"\x02\0", b"\x08\0") or len(data) < 256 or data[3:4] != b"\0":
        return False
    return (data[4:6].isalpha() and data[4:6].isupper()) or data[6:8] == b"\0\0"


def _is_unfinished(path: str, data: bytes, size: int, read: Callable[[int], bytes]) -> bool:
    """Return whether a file is empty or holds nothing but zeros, and has no name of another kind."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - as in list_files
    is_named_so = suffix in _SUFFIXES or suffix[1:].isdigit()
    if not data:
        return is_named_so  # others mark that something was done
    if size > OPTIONS["largest_frame"] or not (is_named_so or not suffix):
        return False
    while data and not any(data):
        data = read(1 << 20)
    return not data


def _head_by_pydicom(path: str) -> Head | None:
    """Return what pydicom reads from a head that the walk leaves to it, in the same form.

    Raises
    ------
    UnreadableFileError
        If pydicom cannot read it either, or what it reads ends before it should.
    """
    import zlib

    import pydicom

    pixels: list[tuple[int, int, int]] = []

    def at_pixels(number: int, _vr: str | None, length: int) -> bool:
        if number in _PIXELS:
            pixels.append((int(number), length, file.tell()))
        return number in _PIXELS

    try:
        with filtered_warnings(), open_binary(path) as file:
            size = status(path).size
            check_deflated(path, file)
            dataset = pydicom.filereader.read_partial(file, stop_when=at_pixels, force=True)
            meta = getattr(dataset, "file_meta", {})
            if "SOPClassUID" not in dataset and "SOPInstanceUID" not in dataset:
                known = "MediaStorageSOPClassUID" in meta or "TransferSyntaxUID" in meta
                return Head("", Elements({}), 0, 0, 0) if known else None
            syntax = str(meta.get("TransferSyntaxUID", "") or guessed_syntax(dataset))
            found = {int(t): dataset.get_item(t) for t in dataset.keys() if t.group % 2 == 0}  # noqa: SIM118 - items() converts
            signed = bool(dataset.get("PixelRepresentation"))
            elements = {t: raw for t, item in found.items() if (raw := raw_of(t, item, signed=signed)) is not None}
            elements |= _short_private(dataset)
    except UnreadableFileError:
        raise
    except (
        *(pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, struct.error, zlib.error),
        *(ValueError, TypeError, LookupError, AttributeError, NotImplementedError, EOFError, RecursionError),
        *(OverflowError, MemoryError, OSError),  # OSError is what pydicom raises at the end of a sequence cut short
    ) as err:
        msg = f"{path} is a damaged DICOM file: {type(err).__name__} in its header. {LEAVE_OUT}"
        raise UnreadableFileError(msg) from err
    number, length, offset = pixels[0] if pixels else (0, 0, 0)
    if length != UNDEFINED and offset + length > size and syntax != DEFLATED:
        raise UnreadableFileError(_cut_short(path, length, offset, size))
    return Head(syntax, Elements(elements), number, -1, 0)


def _short_private(dataset: Dataset) -> dict[int, Raw]:
    """Return the private elements that the walk would keep."""
    found: dict[int, Raw] = {}
    for t in dataset.keys():  # noqa: SIM118 - items() converts
        if t.group not in PRIVATE_GROUPS:
            continue
        item = dataset.get_item(t)
        value = item.value or b""
        if item.VR == "SQ" or not isinstance(value, bytes) or len(value) > PRIVATE_LENGTH:
            continue
        raw = None if item.VR in (None, "UN") else raw_of(int(t), item)
        # A value of unknown representation is little endian in every file (PS3.5 6.2.2).
        found[int(t)] = Raw("UN", value) if raw is None else raw
    return found


def _frames(
    paths: Iterable[str], errors: Literal["raise", "warn"], imageless: list[str]
) -> Iterator[tuple[str, int, int, Head, Frames]]:
    """Give path, size, modification time, head and frames of every file that holds an image; note those without."""
    walker = Walker()
    # What heads share of which one was seen to be that of one image.
    of_one_image: dict[int, Raw] | None = None
    for path, opener in openers(paths):
        try:
            read = read_head(path, walker, opener)
            if read is None:
                imageless.append(path)
                continue
            head, size, mtime = read
            elements = head.elements
            is_alike = elements.shared is of_one_image
            has_shape = is_alike or (elements.get(_ROWS) is not None and elements.get(_COLUMNS) is not None)
            if not head.pixel_tag and (has_shape or _is_of_images(head)):
                if _sop_class(head) == _SPECTRA:
                    imageless.append(path)
                    continue
                msg = f"{path} describes an image, but ends before its pixel data. {LEAVE_OUT}"
                raise UnreadableFileError(msg)
            if not has_shape:
                imageless.append(path)
                continue
            if head.pixel_length != UNDEFINED and head.pixel_offset + head.pixel_length > size:
                raise UnreadableFileError(_cut_short(path, head.pixel_length, head.pixel_offset, size))
            if is_alike:
                frames = frame_of(head)
            else:
                frames = _frames_in(path, head)
                if TELLS_KIND.isdisjoint(number for number, _ in elements.kinds) and frames == frame_of(head):
                    of_one_image = elements.shared
        except UnreadableFileError as err:
            if errors == "raise":
                raise
            warnings.warn(LeftOutWarning(f"left out: {err}", path), stacklevel=4)
            continue
        yield path, size, mtime, head, frames


def _frames_in(path: str, head: Head) -> Frames:
    try:
        return frames_of(path, head)
    except ValueError as err:
        msg = f"{path} is damaged: {err}. {LEAVE_OUT}"
        raise UnreadableFileError(msg) from err


def _is_of_images(head: Head) -> bool:
    """Whether the SOP class is one of images, which all have pixel data."""
    from pydicom.uid import UID

    return "Image Storage" in UID(_sop_class(head)).name


def _sop_class(head: Head) -> str:
    """Return the SOP class that a head tells; "" where it tells none."""
    raw = head.elements.get(_SOP_CLASS)
    return "" if raw is None else uid_in(raw.value)


def _cut_short(path: str, length: int, offset: int, size: int) -> str:
    return (
        f"{path} is cut short: its pixel data need {length} bytes from byte {offset}, the file has {size}. {LEAVE_OUT}"
    )


def _read(paths: Iterable[str], errors: Literal["raise", "warn"]) -> tuple[dict[str, FrameTable], list[str]]:
    """Return the frames of files by SeriesInstanceUID, and the files without an image."""
    builders: dict[str, TableBuilder] = {}
    imageless: list[str] = []
    builder, of_series = TableBuilder(), None
    for path, size, mtime, head, frames in _frames(paths, errors, imageless):
        elements = head.elements
        if elements.shared is not of_series:
            raw = elements.get(SERIES)
            uid = "" if raw is None else uid_in(raw.value)
            builder = builders.setdefault(uid, TableBuilder())
            of_series = elements.shared if all(number != SERIES for number, _ in elements.kinds) else None
        builder.add(path, size, mtime, head, frames)
    return {uid: builder.table() for uid, builder in builders.items()}, imageless


def _read_what_is_new(index: Index, paths: list[str], errors: Literal["raise", "warn"]) -> dict[str, FrameTable]:
    """Return the frames of files as `_read` does, of those that an index knows without opening them."""
    known, unread = index.lookup(paths)
    found = {uid: [table] for uid, table in known.items()}
    new = list(unread)
    for start in range(0, len(new), _KEPT_AT_ONCE):
        since = time.time_ns()
        tables, imageless = _read(new[start : start + _KEPT_AT_ONCE], errors)
        # Of files without an image the version before they were read: what they became meanwhile is not known.
        known_now = {path: version for path in imageless if (version := unread[path]) is not None}
        try:
            index.add(tables, known_now, since)
        except OSError as err:
            msg = f"the index {index.folder} cannot be written, and knows nothing new: {err.strerror or err}"
            warnings.warn(msg, stacklevel=4)
        for uid, table in tables.items():
            found.setdefault(uid, []).append(table)
    whole = {uid: joined(tables) for uid, tables in found.items()}
    if len(whole) == 1 and next(iter(whole.values())).paths == paths:
        return whole  # one series, as it lies
    rank = dict(zip(paths, range(len(paths)), strict=True))
    whole = {uid: _in_order(table, rank) for uid, table in whole.items()}
    return dict(sorted(whole.items(), key=lambda item: rank[item[1].paths[0]]))


def _in_order(table: FrameTable, rank: dict[str, int]) -> FrameTable:
    """Return the frames of a table in the order of their files."""
    places = np.fromiter(map(rank.__getitem__, table.paths), np.intp, len(table))
    return table if (np.diff(places) >= 0).all() else table.take(np.argsort(places, kind="stable"))


def scan(
    source: Source, *, errors: Literal["raise", "warn"] = "raise", index: str | os.PathLike[str] | None = None
) -> dict[str, FrameTable]:
    """Return the frames of every series of a source: SeriesInstanceUID to table. Reads headers only.

    Files of other kinds, DICOMDIR and DICOM objects without pixels are passed over; archives in a folder or another
    archive with a warning.

    Parameters
    ----------
    source : path or list of paths
        Folders (searched with all below them) and files, of any name.
    errors : {"raise", "warn"}
        What a damaged DICOM file does: raise, or be left out with a warning that names it.
    index : path, optional
        Folder of an `Index`: of files that it knows, and that have not changed, nothing is read; it gets the others.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    NoDicomError
        If no DICOM image is there.
    UnreadableFileError
        If a DICOM file is damaged or cut short.
    ModuleNotFoundError, NotADirectoryError, ValueError
        If there can be no `Index` in the folder, or `errors` is neither.
    """
    if errors not in ("raise", "warn"):
        msg = f"errors={errors!r}: it is 'raise' or 'warn'"
        raise ValueError(msg)
    paths = list_files(source, errors)
    if index is None:
        tables, _ = _read(paths, errors)
    else:
        kept = Index(index)
        paths = Files(kept.without_itself(paths), paths.source)
        tables = _read_what_is_new(kept, paths, errors)
    packed = _unopened(paths)
    if not tables:
        places = paths_in(paths.source)
        where = repr(os.fspath(places[0])) if len(places) == 1 else f"{len(places)} paths"
        found = f"{len(paths)} file{'s' * (len(paths) != 1)}, none of them a DICOM image" if paths else "no files"
        msg = f"found {found} at {where}{f'; {packed}' if packed else ''}"
        raise NoDicomError(msg)
    if packed:
        warnings.warn(packed, stacklevel=3)
    return tables


def _unopened(paths: Iterable[str]) -> str:
    """Return which files are archives within the source, in which there may be images; "" if none is."""
    named = ((path, split_member(path)[0] if is_member(path) else path) for path in paths)
    names = [name for path, name in named if is_archive(name) and not has_dicom([path])]
    if not names:
        return ""
    shown = ", ".join(names[:4]) + ", ..." * (len(names) > 4)
    what = f"{len(names)} archives are" if len(names) > 1 else "an archive is"
    return f"{what} not looked into, {shown}: unpack what is in an archive, and open others beside the folder by name"
