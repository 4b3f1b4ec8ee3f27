"""The files of a source to tables of their frames: element values, file, offset and length, column by column."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from imagedata_xr.dicom.walk import SEQUENCE, UNDEFINED, BeyondEnd, Head, ShortHeadError, StepAside, walk
from imagedata_xr.elements import Raw, Value, decode, tag
from imagedata_xr.errors import NoDicomError, UnreadableFileError

__all__ = ["FrameTable", "Source", "guessed_syntax", "list_files", "read_head", "scan"]

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

HEAD = 16384
SERIES, ROWS, COLUMNS = tag("SeriesInstanceUID"), tag("Rows"), tag("Columns")
CHARACTER_SET, SOP_INSTANCE = tag("SpecificCharacterSet"), tag("SOPInstanceUID")
_LEAVE_OUT = "Get it again, or leave it out with errors='warn'"


@dataclass(slots=True)
class FrameTable:
    """The frames of one series, column by column.

    Elements that all frames share are in `common`, the others in `varying`: tag to one `Raw` (or None) a frame.
    """

    common: dict[int, Raw]
    varying: dict[int, list[Raw | None]]
    paths: list[str]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]
    syntaxes: list[str]
    offsets: NDArray[np.int64]
    """Byte at which the pixels of a frame begin; -1 where pydicom has to find them."""
    lengths: NDArray[np.int64]
    pixel_tags: NDArray[np.int64]
    """Tag of the element that holds the pixels."""
    _decoded: dict[tuple[int, Raw], Value | None] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.paths)

    def column(self, number: int) -> list[Raw | None]:
        """Return the bytes of one element in every frame; None where it is absent."""
        if number in self.varying:
            return self.varying[number]
        return [self.common.get(number)] * len(self)

    def values(self, name: str | int) -> list[Value | None]:
        """Return the values of one element in every frame; None where it is absent."""
        number = tag(name)
        if number not in self.varying:
            return [self.value(number)] * len(self)
        column, codes = self.varying[number], self.encodings()
        return [None if raw is None else self._decode(number, raw, codes) for raw in column]

    def value(self, name: str | int) -> Value | None:
        """Return the value of an element that all frames share; None where it is absent or varies."""
        number = tag(name)
        raw = self.common.get(number)
        return None if raw is None else self._decode(number, raw, self.encodings())

    def _decode(self, number: int, raw: Raw, encodings: Sequence[str]) -> Value | None:
        key = (number, raw)
        if key not in self._decoded:
            self._decoded[key] = decode(number, raw, encodings)
        return self._decoded[key]

    def encodings(self) -> Sequence[str]:
        """Return Python's names of the character sets of the text elements."""
        from pydicom.charset import convert_encodings

        raw = self.common.get(CHARACTER_SET)
        if raw is None and CHARACTER_SET in self.varying:
            raw = next((r for r in self.varying[CHARACTER_SET] if r is not None and r.value.strip()), None)
        if raw is None or not raw.value.strip(b"\0 "):
            return ("iso8859",)
        names = [n.strip(" \0") for n in raw.value.decode("ascii", "replace").split("\\")]
        return tuple(convert_encodings(names))

    def take(self, rows: Iterable[int]) -> Self:
        """Return the table of some of the frames, in the order given."""
        chosen = [int(r) for r in rows]
        common, varying = dict(self.common), {}
        for number, column in self.varying.items():
            part = [column[r] for r in chosen]
            first = part[0] if part else None
            if any(raw != first for raw in part):
                varying[number] = part
            elif first is not None:
                common[number] = first
        return type(self)(
            common,
            varying,
            [self.paths[r] for r in chosen],
            self.sizes[chosen],
            self.mtimes[chosen],
            [self.syntaxes[r] for r in chosen],
            self.offsets[chosen],
            self.lengths[chosen],
            self.pixel_tags[chosen],
        )


class _Builder:
    """Collects the heads of one series; keeps of each only what differs from the first."""

    def __init__(self) -> None:
        self.first: dict[int, Raw] = {}
        self.differing: dict[int, dict[int, Raw | None]] = {}
        self.files: list[tuple[str, int, int, str, int, int, int]] = []

    def add(self, path: str, size: int, mtime: int, head: Head, offset: int, length: int) -> None:
        elements, row = head.elements, len(self.files)
        self.files.append((path, size, mtime, head.syntax, offset, length, head.pixel_tag))
        if not row:
            self.first = elements
            return
        first, differing = self.first, self.differing
        if elements == first:
            return
        for number, raw in elements.items():
            if first.get(number) != raw:
                differing.setdefault(number, {})[row] = raw
        for number in first.keys() - elements.keys():
            differing.setdefault(number, {})[row] = None

    def table(self) -> FrameTable:
        n = len(self.files)
        common, varying = dict(self.first), {}
        for number, changed in self.differing.items():
            column: list[Raw | None] = [common.pop(number, None)] * n
            for row, raw in changed.items():
                column[row] = raw
            varying[number] = column
        paths, sizes, mtimes, syntaxes, *places = zip(*self.files, strict=True)
        numbers = [np.asarray(c, np.int64) for c in (sizes, mtimes, *places)]
        return FrameTable(common, varying, list(paths), numbers[0], numbers[1], list(syntaxes), *numbers[2:])


def list_files(source: Source) -> list[str]:
    """Return the paths of all files of a source, sorted: of a folder and all below it, of a file, or of a list of either.

    Raises
    ------
    FileNotFoundError
        If one of the paths does not exist.
    """
    if isinstance(source, str | os.PathLike):
        source = [source]
    found: dict[str, None] = {}
    for item in source:
        path = Path(item).expanduser()
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders.sort()
                found.update(dict.fromkeys(os.path.join(folder, name) for name in sorted(names)))  # noqa: PTH118 - 20 times faster than Path
        elif path.exists():
            found[str(path)] = None
        else:
            msg = f"no such file or folder: {str(item)!r}"
            raise FileNotFoundError(msg)
    return [os.path.abspath(p) for p in found]  # noqa: PTH100 - as above; links stay links


def read_head(path: str) -> tuple[Head, int, int] | None:
    """Return head, size [bytes] and modification time [ns] of a DICOM file; None for a file of another kind.

    Raises
    ------
    UnreadableFileError
        If it is a DICOM file that is damaged or cannot be opened.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            stat = os.fstat(file.fileno())
            data = file.read(HEAD)
            if not _may_be_dicom(data):
                return None
            ends_early = False
            while True:
                try:
                    return walk(data, stat.st_size), stat.st_size, stat.st_mtime_ns
                except ShortHeadError:
                    more = file.read(max(len(data) * 7, 1 << 20))
                    if not more:
                        break
                    data += more
                except StepAside as reason:
                    ends_early = isinstance(reason, BeyondEnd)
                    break
    except OSError as err:
        msg = f"cannot read {path}: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    head = _head_by_pydicom(path)
    if ends_early and head is not None and not head.pixel_tag:
        msg = f"{path} is cut short: its header reaches beyond its {stat.st_size} bytes. {_LEAVE_OUT}"
        raise UnreadableFileError(msg)
    return None if head is None else (head, stat.st_size, stat.st_mtime_ns)


def _may_be_dicom(data: bytes) -> bool:
    """Whether the first bytes are those of a DICOM file, with or without preamble and meta header."""
    if data[128:132] == b"DICM":
        return True
    # A file without preamble begins with an element of group 2 or 8, tag then VR or a small length (PS3.5 7.1).
    if data[:2] not in (b"\x02\0", b"\x08\0") or len(data) < 256 or data[3:4] != b"\0":
        return False
    return data[4:6].isalpha() and data[4:6].isupper() or data[6:8] == b"\0\0"


def _head_by_pydicom(path: str) -> Head | None:
    """Return what pydicom reads from a head that the walk leaves to it, in the same form."""
    import pydicom
    from pydicom.filewriter import write_dataset

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            if "SOPClassUID" not in dataset and "SOPInstanceUID" not in dataset:
                meta = getattr(dataset, "file_meta", {})
                if "MediaStorageSOPClassUID" in meta or "TransferSyntaxUID" in meta:
                    return Head("", {}, 0, 0, 0)
                return None
            plain = pydicom.Dataset()
            for number in list(dataset.keys()):
                if number.group % 2 == 0 and dataset.get_item(number).VR not in ("SQ", "OB", "OW", "UN"):
                    plain[number] = dataset[number]
            syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", "") or guessed_syntax(dataset))
            with io.BytesIO() as buffer:
                out = pydicom.filebase.DicomFileLike(buffer)
                out.is_implicit_VR, out.is_little_endian = False, True
                write_dataset(out, plain)
                body = buffer.getvalue()
    except (pydicom.errors.InvalidDicomError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as err:
        msg = f"{path} is a damaged DICOM file: {type(err).__name__} in its header"
        raise UnreadableFileError(msg) from err
    explicit = b"\x02\0\x10\0UI\x14\0" + b"1.2.840.10008.1.2.1\0"
    data = b"\0" * 128 + b"DICM" + explicit + body
    head = walk(data, len(data))
    for number in dataset.keys():
        if number.group % 2 == 0 and dataset.get_item(number).VR == "SQ":
            head.elements[int(number)] = SEQUENCE
    has_pixels = ROWS in head.elements and COLUMNS in head.elements
    return Head(syntax, head.elements, 0x7FE00010 if has_pixels else 0, -1, 0)


def guessed_syntax(dataset: object) -> str:
    """Return the transfer syntax of a file without meta header."""
    implicit, little = dataset.original_encoding  # type: ignore[attr-defined] # of pydicom.Dataset
    if not little:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"


def _frames(paths: Iterable[str], errors: Literal["raise", "warn"]) -> Iterator[tuple[str, int, int, Head]]:
    """Give path, size, modification time and head of every file that holds an image."""
    for path in paths:
        try:
            read = read_head(path)
            if read is None:
                continue
            head, size, mtime = read
            if ROWS not in head.elements or COLUMNS not in head.elements:
                continue
            if not head.pixel_tag:
                msg = f"{path} describes an image of rows and columns, but ends before its pixel data. {_LEAVE_OUT}"
                raise UnreadableFileError(msg)
            if head.pixel_length != UNDEFINED and head.pixel_offset + head.pixel_length > size:
                msg = (
                    f"{path} is cut short: its pixel data need {head.pixel_length} bytes from byte "
                    f"{head.pixel_offset}, the file has {size}. {_LEAVE_OUT}"
                )
                raise UnreadableFileError(msg)
        except UnreadableFileError as err:
            if errors == "raise":
                raise
            warnings.warn(f"left out: {err}", stacklevel=4)
            continue
        yield path, size, mtime, head


def scan(source: Source, *, errors: Literal["raise", "warn"] = "raise") -> dict[str, FrameTable]:
    """Return the frames of every series of a source: SeriesInstanceUID to table. Reads headers only.

    Files of other kinds, DICOMDIR and DICOM objects without pixels are passed over.

    Parameters
    ----------
    source : path or list of paths
        Folders (searched with all below them) and files, of any name.
    errors : {"raise", "warn"}
        What a damaged DICOM file does: raise, or be left out with a warning that names it.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    NoDicomError
        If no DICOM image is there.
    UnreadableFileError
        If a DICOM file is damaged or cut short.
    """
    if errors not in ("raise", "warn"):
        msg = f"errors={errors!r}: it is 'raise' or 'warn'"
        raise ValueError(msg)
    paths = list_files(source)
    builders: dict[str, _Builder] = {}
    for path, size, mtime, head in _frames(paths, errors):
        raw = head.elements.get(SERIES)
        uid = "" if raw is None else raw.value.rstrip(b"\0 ").decode("ascii", "replace")
        plain = head.pixel_length != UNDEFINED and head.pixel_offset > 0
        offset, length = (head.pixel_offset, head.pixel_length) if plain else (-1, 0)
        builders.setdefault(uid, _Builder()).add(path, size, mtime, head, offset, length)
    if not builders:
        where = source if isinstance(source, str | os.PathLike) else f"{len(list(source))} paths"
        found = f"{len(paths)} file{'s' * (len(paths) != 1)}, none of them a DICOM image" if paths else "no files"
        msg = f"found {found} at {os.fspath(where) if isinstance(where, os.PathLike) else where!r}"
        raise NoDicomError(msg)
    return {uid: builder.table() for uid, builder in builders.items()}
