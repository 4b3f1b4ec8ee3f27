"""The pixels of a grid of frames, read when they are indexed: exactly the frames asked for, in modality units."""

from __future__ import annotations

import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from imagedata_xr.dicom.outer import is_all, outer_part, rows_between
from imagedata_xr.dicom.stacks import is_segmentation
from imagedata_xr.dicom.stored import PixelFormat, Place, Reader, Tile, is_of_one, only_stored_bits, read_directly
from imagedata_xr.elements import tag
from imagedata_xr.errors import MissingHeaderError, UnreadableFileError
from imagedata_xr.streams import dcmread, is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from numpy.typing import DTypeLike, NDArray

    from imagedata_xr.dicom.table import FrameTable

__all__ = ["FrameArray", "is_unread", "pixel_format", "places_of", "read_into"]

_PER_FRAME: Final = ("offsets", "lengths", "numbers", "tiles", "rows")
_FLOATS: Final = {tag("FloatPixelData"): 32, tag("DoubleFloatPixelData"): 64}
_COLOURS: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
"""Colours of three samples that are made RGB (PS3.3 C.7.6.3.1.2); not retired ones, as HSV."""


def pixel_format(table: FrameTable) -> PixelFormat:
    """Return the pixel format that all frames share; how many bits and how colours are laid out may vary.

    Raises
    ------
    MissingHeaderError
        If an element is absent, or says what no image can be.
    """

    def one(name: str, default: int | None = None) -> int:
        values = {v for v in table.distinct(name) if isinstance(v, int)}
        if not values and default is not None:
            return default
        if len(values) != 1:
            raise _not_one(table, name)
        return values.pop()

    tags = {int(t) for t in np.unique(table.pixel_tags)}
    is_float = bool(tags & _FLOATS.keys())
    if len(tags) > 1:
        msg = "some frames have integer pixels and some floating point ones; open them apart"
        raise MissingHeaderError(msg)
    allocated = _FLOATS[tags.pop()] if is_float else one("BitsAllocated")
    if allocated not in (1, 8, 16, 32, 64) or (allocated == 64 and not is_float):
        msg = f"BitsAllocated is {allocated}; 1, 8, 16 or 32 can be read"
        raise MissingHeaderError(msg)
    stored = high = allocated
    if not is_float:
        stored = max((v for v in table.distinct("BitsStored") if isinstance(v, int)), default=allocated)
        if not 1 <= stored <= allocated:
            msg = f"BitsStored is {stored}, with BitsAllocated {allocated}"
            raise MissingHeaderError(msg)
        high = max((v for v in table.distinct("HighBit") if isinstance(v, int)), default=stored - 1)
        if not stored - 1 <= high < allocated:
            msg = f"HighBit is {high}, with BitsStored {stored} of {allocated}"
            raise MissingHeaderError(msg)
    photometric = {str(v or "") for v in table.distinct("PhotometricInterpretation")}
    if len(photometric) > 1:
        raise _not_one(table, "PhotometricInterpretation")
    if photometric == {"PALETTE COLOR"} and is_segmentation(table):
        photometric = {"MONOCHROME2"}  # the values of a label map are the numbers of segments, whatever their colours
    samples = one("SamplesPerPixel", 1)
    if samples not in (1, 3):
        msg = f"SamplesPerPixel is {samples}; 1 or 3 can be read"
        raise MissingHeaderError(msg)
    (kind,) = photometric
    if samples == 3 and kind not in _COLOURS:
        msg = f"PhotometricInterpretation is {kind!r} with 3 samples a pixel; {', '.join(_COLOURS)} can be read"
        raise MissingHeaderError(msg)
    return PixelFormat(
        one("Rows"),
        one("Columns"),
        samples,
        allocated,
        stored,
        high,
        bool(one("PixelRepresentation", 0)) and not is_float,
        kind,
        samples == 3 and 1 in table.distinct("PlanarConfiguration"),
        is_float,
        max(map(_palette_bits, table.distinct("RedPaletteColorLookupTableDescriptor"))),
    )


def _not_one(table: FrameTable, name: str) -> MissingHeaderError:
    """Return the error for an element of which frames have no value or several; it says which have which."""
    found: dict[str, list[str]] = {}
    for value, path in zip(table.values(name), table.paths, strict=True):
        if value not in (None, ""):
            found.setdefault(str(value), []).append(path)
    if not found:
        return MissingHeaderError(f"the frames have no value of {name}; one is wanted")
    each = "; ".join(f"{value} in {len(paths)}, such as {paths[0]}" for value, paths in sorted(found.items()))
    return MissingHeaderError(
        f"the frames have values {', '.join(sorted(found))} of {name}; one is wanted: {each}. Open those of each "
        f"as a list of files, or with where=lambda header: header.get({name!r}) == ..."
    )


def _palette_bits(descriptor: object) -> int:
    """Return the bits of a colour from the description of the palette: entries, first value, bits."""
    return descriptor[2] if isinstance(descriptor, list) and len(descriptor) == 3 else 0


def _forms(table: FrameTable, form: PixelFormat) -> list[PixelFormat] | None:
    """Return the pixel format of each frame where frames differ in it; None where one serves for all."""
    names = ("BitsStored", "HighBit", "PlanarConfiguration")
    if all(len(table.distinct(name)) == 1 for name in names):
        return None
    told = list(zip(*(table.values(name) for name in names), strict=True))
    if len(set(map(str, told))) == 1:
        return None
    whole = [(s if isinstance(s, int) else form.bits_stored, h, form.samples == 3 and p == 1) for s, h, p in told]
    return [replace(form, bits_stored=s, high_bit=h if isinstance(h, int) else s - 1, planar=p) for s, h, p in whole]


_DECODED_AT_ONCE, _READ_AT_ONCE = 4, 64
"""Frames that a thread takes at least."""
_READERS: Final = 4
"""Threads at most that read what need not be decoded."""
_PARTS: Final = 32
"""Into how many parts frames are cut that are read in threads; whoever stops waits for those that are at work."""


_ASKED: Final[ContextVar[bool]] = ContextVar("asked", default=False)


class _Answer(Exception):
    """Where the frames lie that were to be read; None where they are not wanted as they are."""

    def __init__(self, places: list[Place | None] | None) -> None:
        self.places = places


def places_of(variable: xr.Variable) -> list[Place | None] | None:
    """Return where the frames of an array lie that is not read yet, in its order; None for a frame that is absent.

    Returns None for an array that is in memory, comes out of dask, or has not the whole frames as they are.
    """
    answer = _answer(variable)
    return None if answer is None else answer.places


def is_unread(variable: xr.Variable) -> bool:
    """Return whether the values of an array, or the part of them that it has, are still to be read from their files."""
    return _answer(variable) is not None


def _answer(variable: xr.Variable) -> _Answer | None:
    if variable.chunks is not None:
        return None
    token = _ASKED.set(True)
    try:
        # An exception, so that no array stands for the values, which somebody might keep.
        variable.values  # noqa: B018
    except _Answer as answer:
        return answer
    finally:
        _ASKED.reset(token)
    return None


_ROOM: Final[ContextVar[list[NDArray[np.uint8]]]] = ContextVar("room")


def read_into(variable: xr.Variable, room: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the values of an array; in memory that is there already, if they are read from files that lie plainly.

    Parameters
    ----------
    variable : Variable
        Array. The chunks of dask, which others may keep, are never put there.
    room : ndarray of bytes
        What it held before is lost, and it may be in use by the values returned.
    """
    if variable.chunks is not None:
        return np.asarray(variable.values)
    token = _ROOM.set([room])
    try:
        return np.asarray(variable.values)
    finally:
        _ROOM.reset(token)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return room for an array, which nobody else has."""
    offered, size = _ROOM.get([]), math.prod(shape) * dtype.itemsize
    if offered and offered[0].size >= size:
        return offered.pop()[:size].view(dtype).reshape(shape)
    return np.empty(shape, dtype)


class FrameArray(BackendArray):
    """Values of a grid of frames, dims (tags..., slice, row, col) and rgb for colour; each frame read when indexed."""

    def __init__(
        self,
        table: FrameTable,
        rows: NDArray[np.intp],
        form: PixelFormat,
        dtype: DTypeLike,
        slope: NDArray[np.float64] | None,
        intercept: NDArray[np.float64] | None,
        fill: float,
        *,
        has_lut: bool = False,
    ) -> None:
        self.rows = rows
        self.form = form
        self.dtype = np.dtype(dtype)
        self.shape = (*rows.shape, *form.shape)
        self.slope, self.intercept, self.fill, self.has_lut = slope, intercept, fill, has_lut
        self.paths = table.paths
        self.offsets, self.lengths = table.offsets, table.lengths
        self.numbers, self.tiles = table.frames, table.tiles
        self._version = (table.sizes, table.mtimes)
        self._forms = _forms(table, form)

    @classmethod
    def of_places(
        cls,
        *,
        paths: list[str],
        versions: tuple[NDArray[np.int64], NDArray[np.int64]],
        offsets: NDArray[np.int64],
        lengths: NDArray[np.int64],
        rows: NDArray[np.intp],
        form: PixelFormat,
        dtype: np.dtype[Any],
        slope: NDArray[np.float64] | None,
        intercept: NDArray[np.float64] | None,
        numbers: NDArray[np.int64] | None = None,
    ) -> Self:
        """Return the array of frames whose places are known without a table."""
        array = cls.__new__(cls)
        array.rows, array.form, array.dtype = rows, form, dtype
        array.shape = (*rows.shape, *form.shape)
        array.slope, array.intercept, array.fill, array.has_lut = slope, intercept, 0, False
        array.paths, array.offsets, array.lengths, array._version = paths, offsets, lengths, versions
        array.numbers = np.zeros(len(paths), np.int64) if numbers is None else numbers
        array.tiles = np.zeros((len(paths), 4), np.int64)
        array._forms = None
        return array

    @property
    def versions(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Size [bytes] and modification time [ns] of the file of each frame."""
        return self._version

    @property
    def has_own_forms(self) -> bool:
        """Whether frames are stored in different numbers of bits or layouts of colours."""
        return self._forms is not None

    def whole_frames(self, key: tuple[Any, ...]) -> NDArray[np.intp] | None:
        """Return the numbers of the frames at an outer index; None where it has not the whole frames as they are."""
        lead = self.rows.ndim
        is_whole = all(map(is_all, key[lead:], self.form.shape))
        return outer_part(self.rows, key[:lead]) if is_whole else None

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what identifies the values: files, sizes and modification times, and the way they are read."""
        return (
            type(self).__name__,
            tuple(self.paths),
            *(a.tobytes() for a in (*self._version, self.offsets, self.numbers, self.tiles, self.rows)),
            *(None if a is None else a.tobytes() for a in (self.slope, self.intercept)),
            self.form,
            str(self.dtype),
            self.fill,
            self.has_lut,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to other processes: few bytes a frame, since graphs hold it."""
        state = dict(self.__dict__)
        prefix = os.path.commonprefix(self.paths)  # noqa: RUF071 - letters are what is meant: it is put back
        state["paths"] = prefix, "\0".join(path[len(prefix) :] for path in self.paths)
        for name in _PER_FRAME:
            state[name] = _short(state[name])
        state["_version"] = tuple(map(_short, self._version))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was sent."""
        prefix, rest = state["paths"]
        for name in _PER_FRAME:
            state[name] = _long(state[name])
        state["_version"] = tuple(map(_long, state["_version"]))
        self.__dict__.update(state)
        self.paths = [prefix + path for path in rest.split("\0")]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the values at an index, read now."""
        if _ASKED.get():
            is_outer = isinstance(key, indexing.BasicIndexer | indexing.OuterIndexer)
            rows = self.whole_frames(key.tuple) if is_outer else None
            if rows is None:
                raise _Answer(None)
            raise _Answer(self._places(rows.ravel()))
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        lead = self.rows.ndim
        rows, pixels = outer_part(self.rows, key[:lead]), key[lead:]
        crop = outer_part(np.broadcast_to(np.False_, self.form.shape), pixels).shape
        reader, order = Reader(), rows.ravel().tolist()
        if len(order) > 1 and self._lie_plainly(rows):
            return self._directly(order, pixels, _empty((*rows.shape, *crop), self.dtype))
        # Files may claim more than memory holds, so one frame has to be there before there is room for all.
        frames = list(zip(order, self._places(rows.ravel()), strict=True))
        known = [self._frame(reader, frame, pixels) for frame in frames[:1]]
        out = np.empty((*rows.shape, *crop), self.dtype)
        flat = out.reshape(len(order), *crop)
        if len(order) > 1 and (self.offsets[rows] < 0).all():
            flat[0] = known[0]
            self._decode(frames[1:], pixels, flat[1:])
            return out
        for number, frame in enumerate(frames):
            flat[number] = known.pop() if known else self._frame(reader, frame, pixels)
        return out

    def _decode(self, frames: list[tuple[int, Place | None]], pixels: tuple[Any, ...], out: NDArray[Any]) -> None:
        """Put frames that have to be decoded into `out`."""
        # A decoder that puts whole frames of integers where they belong saves their copies.
        size, is_whole = self.form.dtype.itemsize, all(map(is_all, pixels, self.form.shape))
        is_alike = is_whole and self.dtype.itemsize == size and self.dtype.kind in "iu"

        def fill(numbers: range) -> None:
            reader = Reader()
            for number in numbers:
                room = out[number].view(f"u{size}") if is_alike else None
                values = self._frame(reader, frames[number], pixels, room)
                if room is None or not np.may_share_memory(values, room):
                    out[number] = values

        threads = os.cpu_count() or 1
        # Frames that lie together stay together where the tiles of a mosaic come from one frame.
        parts = threads if self.tiles.any() else 4 * threads
        _in_threads(fill, len(frames), least=_DECODED_AT_ONCE, parts=parts, threads=threads)

    def _lie_plainly(self, rows: NDArray[np.intp]) -> bool:
        """Return whether frames can be read as they lie in files of this machine, and then be rescaled at most."""
        form, is_there = self.form, bool((rows >= 0).all())
        # The scan has seen that the files are as long as they say, so memory is taken for what is there.
        return (
            is_there
            and form.is_plain
            and self._forms is None
            and not self.has_lut
            and sys.byteorder == "little"
            and (not form.is_float or (self.dtype == form.dtype and self.slope is None))
            and bool((self.offsets[rows] >= 0).all())
            and bool(is_of_one(self.lengths[rows], form.size).all())
            and not self.tiles[rows].any()
            and not any(is_elsewhere(self.paths[row]) for row in rows.ravel().tolist())
        )

    def _directly(self, order: list[int], pixels: tuple[Any, ...], out: NDArray[Any]) -> NDArray[Any]:
        """Return the values of frames that lie plainly, read into `out`."""
        form, flat = self.form, out.reshape(len(order), -1)
        sizes, mtimes = (a[order].tolist() for a in self._version)
        offsets = self.offsets[order].tolist()
        # Values that are laid out like those stored are read to where they belong.
        is_whole = all(map(is_all, pixels, form.shape))
        is_alike = self.dtype.itemsize == form.dtype.itemsize and (form.is_float or self.dtype.kind != "f")
        in_place = is_whole and is_alike
        # Of a few rows no others are read: a voxel over time would cost as much as all.
        top, rows, row_key = rows_between(pixels[0], form.rows)
        row_size = math.prod(form.shape[1:]) * form.dtype.itemsize

        def fill(places: range) -> None:
            room = np.empty(0 if in_place else rows * row_size, np.uint8)
            wide = np.empty(flat.shape[1] if self.dtype.kind == "f" and self.slope is not None else 0)
            for place in places:
                row, values = order[place], flat[place]
                target = values.view(np.uint8) if in_place else room
                version = sizes[place], mtimes[place]
                read_directly(self.paths[row], offsets[place] + top * row_size, version, target)
                stored = target.view(form.dtype)
                only_stored_bits(stored, form, stored)
                if not is_whole:
                    stored = outer_part(stored.reshape(rows, *form.shape[1:]), (row_key, *pixels[1:])).reshape(-1)
                slope, intercept = self._rescale_of(row)
                if self.dtype.kind == "f" and self.slope is not None:
                    np.multiply(stored, slope, out=wide)
                    np.add(wide, intercept, out=values, casting="same_kind")
                    continue
                if not in_place:
                    values[:] = stored
                if slope != 1:
                    np.multiply(values, int(slope), out=values)
                if intercept:
                    np.add(values, int(intercept), out=values)

        _in_threads(fill, len(order), least=_READ_AT_ONCE, parts=_PARTS, threads=min(os.cpu_count() or 1, _READERS))
        return out

    def _rescale_of(self, row: int) -> tuple[float, float]:
        """Return slope and intercept of a frame; whole numbers where values are."""
        if self.slope is None or self.intercept is None:
            return 1.0, 0.0
        return float(self.slope[row]), float(self.intercept[row])

    def _places(self, rows: NDArray[np.intp]) -> list[Place | None]:
        """Return where frames lie, None for those that are absent."""
        columns = [a[rows].tolist() for a in (self.offsets, self.lengths, self.numbers, self.tiles, *self._version)]
        return [
            None if row < 0 else Place(self.paths[row], offset, length, number, Tile(*tile), (size, mtime))
            for row, offset, length, number, tile, size, mtime in zip(rows.tolist(), *columns, strict=True)
        ]

    def _frame(
        self, reader: Reader, frame: tuple[int, Place | None], pixels: tuple[Any, ...], room: NDArray[Any] | None = None
    ) -> NDArray[Any] | float:
        """Return the values of one frame, cropped; they may be in `room`, see `Reader.read`."""
        row, place = frame
        if place is None:
            return self.fill
        stored = outer_part(reader.read(place, self.form if self._forms is None else self._forms[row], room), pixels)
        if self.has_lut:
            return _through_lut(stored, self.paths[row])
        if self.slope is None:
            return stored
        slope, intercept = self._rescale_of(row)
        if self.dtype.kind in "iu":
            return stored.astype(self.dtype) * int(slope) + int(intercept)
        return stored * slope + intercept


def _in_threads(fill: Callable[[range], None], count: int, *, least: int, parts: int, threads: int) -> None:
    """Do for so many frames what `fill` does for some, in threads: reading and decoding free the interpreter.

    They are cut in so many parts, or fewer, of `least` frames.
    """
    size = max(least, -(-count // parts))
    if threads == 1 or count <= size:
        fill(range(count))
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for done in [pool.submit(fill, range(count)[first : first + size]) for first in range(0, count, size)]:
                done.result()
        except BaseException:
            # One that failed, or Ctrl-C: the others need not be read to their end.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _short(values: NDArray[Any]) -> tuple[tuple[int, ...], NDArray[Any]]:
    """Return the shape of an array, and its values; one where all are the same."""
    same = values.size > 0 and bool((values == values.flat[0]).all())
    return values.shape, values.ravel()[:1].copy() if same else values.ravel()


def _long(sent: tuple[tuple[int, ...], NDArray[Any]]) -> NDArray[Any]:
    """Return the array that `_short` has made short."""
    shape, values = sent
    return np.full(shape, values[0], values.dtype) if values.size == 1 else values.reshape(shape)


def _through_lut(stored: NDArray[Any], path: str) -> NDArray[Any]:
    """Return the values that the ModalityLUTSequence of a file gives for stored ones (PS3.3 C.11.1.1).

    Raises
    ------
    UnreadableFileError
        If the table cannot be read.
    """
    from pydicom.pixels.processing import apply_modality_lut

    wanted = ["ModalityLUTSequence", "PixelRepresentation"]
    try:
        dataset = dcmread(path, stop_before_pixels=True, force=True, specific_tags=wanted)
        values: NDArray[Any] = apply_modality_lut(stored, dataset)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as err:
        msg = f"the ModalityLUTSequence of {path} cannot be applied ({err}); rescale=False gives stored values"
        raise UnreadableFileError(msg) from err
    return values
