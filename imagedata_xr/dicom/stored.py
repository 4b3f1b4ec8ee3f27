"""The stored values of one frame: read from the file where they lie plainly, else decoded by pydicom."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from imagedata_xr.dicom.decode import Before, Pixels
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.regular import open_regular, opened
from imagedata_xr.streams import is_elsewhere, open_binary, status_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "WHOLE",
    "PixelFormat",
    "Place",
    "Reader",
    "Tile",
    "is_of_one",
    "only_stored_bits",
    "read_directly",
    "read_stored",
]


class Tile(NamedTuple):
    """The part of a stored frame that one slice of a mosaic takes: first row and column, and the size of the whole."""

    row: int
    col: int
    rows: int
    columns: int


WHOLE: Final = Tile(0, 0, 0, 0)
"""No tile: the frame is all that is stored."""


class Place(NamedTuple):
    """Where the pixels of a frame lie."""

    path: str
    offset: int
    """Byte of the file; -1 where pydicom has to find and decode them."""
    length: int
    frame: int
    """Number of the frame in its file, or of the tile."""
    tile: Tile
    version: tuple[int, int] | None = None
    """Size [bytes] and modification time [ns] that the file must have."""


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of all frames are stored (PS3.3 C.7.6.3), as the elements say."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: bool
    is_float: bool
    palette_bits: int = 0
    """Bits of a colour of the palette."""

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values; of colours, where these come from a palette."""
        if self.photometric == "PALETTE COLOR":
            return np.dtype(np.uint8 if self.palette_bits <= 8 else np.uint16)
        kind = "f" if self.is_float else "i" if self.signed else "u"
        return np.dtype(f"{kind}{max(self.bits_allocated // 8, 1)}")

    @cached_property
    def size(self) -> int:
        """Bytes of a frame."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_colour(self) -> bool:
        """Whether frames come as RGB."""
        return self.samples == 3 or self.photometric == "PALETTE COLOR"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame: (row, col), or (row, col, rgb)."""
        return (self.rows, self.columns, 3) if self.is_colour else (self.rows, self.columns)

    @property
    def is_plain(self) -> bool:
        """Whether the bytes in the file are the values, in the order of the array."""
        if self.bits_allocated < 8:
            return False
        if self.is_colour:
            return self.photometric == "RGB" and not self.planar
        return True

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value that can be stored."""
        if self.signed:
            return -(1 << self.bits_stored - 1), (1 << self.bits_stored - 1) - 1
        return 0, (1 << self.bits_stored) - 1


class Reader:
    """Reads frames, best one after the other as they lie in their files.

    It keeps what it decoded last, since the tiles of one mosaic come from one frame.
    """

    def __init__(self) -> None:
        self._pixels: Pixels | None = None
        self._before = Before()
        self._key: tuple[Any, ...] = ()
        self._last: NDArray[Any] | None = None

    def read(self, place: Place, form: PixelFormat, room: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the stored values of a frame, shape (row, col) or (row, col, rgb).

        What is decoded may be put in `room`, an array of unsigned integers, so that it need not be copied there.

        Raises
        ------
        UnreadableFileError
            If the file has changed, is cut short, or cannot be decoded.
        """
        tile, plain = place.tile, place.offset >= 0 and form.is_plain
        key = (place.path, place.version, place.offset, tile.row if plain else 0)
        if self._last is None or not tile.rows or key != self._key:
            self._last = self._whole(place, form, None if tile.rows else room, plain=plain)
            self._key = key
        frame = self._last
        if tile.rows:
            top = 0 if plain else tile.row
            frame = frame[top : top + form.rows, tile.col : tile.col + form.columns]
        # A frame that is kept for its other tiles stays as it was decoded.
        is_free = frame.flags.writeable and not tile.rows
        return only_stored_bits(frame, form, frame if is_free else None)

    def _whole(self, place: Place, form: PixelFormat, room: NDArray[Any] | None, *, plain: bool) -> NDArray[Any]:
        """Return a frame; of a mosaic that lies plainly the rows that have the tile, else all of it."""
        path, tile = place.path, place.tile
        try:
            elsewhere = is_elsewhere(path)
            with open_binary(path) if elsewhere else open_regular(path, 0 if plain else -1) as file:
                if elsewhere:
                    version = tuple(status_of(file, path))
                else:
                    found = os.fstat(file.fileno())
                    version = found.st_size, found.st_mtime_ns
                if place.version is not None and place.version != version:
                    msg = f"{path} has changed since it was opened; open the series again"
                    raise UnreadableFileError(msg)
                if plain:
                    return _plain(place, file, form)
                if self._pixels is None or self._pixels.path != path:
                    self._pixels = Pixels(path, file, self._before)
                shape = (tile.rows, tile.columns, *form.shape[2:]) if tile.rows else form.shape
                frame = self._pixels.frame(file, 0 if tile.rows else place.frame, shape, room)
        except UnreadableFileError:
            raise
        except OSError as err:
            msg = f"cannot read {path}: {err.strerror or err}"
            raise UnreadableFileError(msg) from err
        if frame.dtype.itemsize > form.dtype.itemsize:
            msg = f"{path} decodes to {frame.dtype}; its header says that values are {form.dtype}"
            raise UnreadableFileError(msg)
        return frame.astype(form.dtype, copy=False)


def read_stored(place: Place, form: PixelFormat) -> NDArray[Any]:
    """Return the stored values of one frame, see `Reader.read`."""
    return Reader().read(place, form)


def read_directly(path: str, offset: int, version: tuple[int, int], target: NDArray[Any]) -> None:
    """Put a frame that lies in a file of this machine as it is into an array, that of the result.

    Parameters
    ----------
    path : str
        The file.
    offset : int
        Byte at which the frame begins.
    version : tuple of int
        Size [bytes] and modification time [ns] that the file must have.
    target : ndarray of bytes
        As many as the frame has.

    Raises
    ------
    UnreadableFileError
        If the file has changed, or cannot be read.
    """
    try:
        handle, found = opened(path)
        try:
            if (found.st_size, found.st_mtime_ns) != version:
                msg = f"{path} has changed since it was opened; open the series again"
                raise UnreadableFileError(msg)
            got = _read_into(handle, offset, target)
        finally:
            os.close(handle)
    except UnreadableFileError:
        raise
    except OSError as err:
        msg = f"cannot read {path}: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    if got != target.size:
        msg = f"{path} is cut short: {got} of {target.size} bytes of pixel data are there"
        raise UnreadableFileError(msg)


if hasattr(os, "preadv"):

    def _read_into(handle: int, offset: int, target: NDArray[Any]) -> int:
        """Return how many bytes of a file were read, into an array."""
        got = os.preadv(handle, (target.data,), offset)
        while 0 < got < target.size and (more := os.preadv(handle, (target[got:].data,), offset + got)):
            got += more
        return got

else:

    def _read_into(handle: int, offset: int, target: NDArray[Any]) -> int:
        """Return how many bytes of a file were read, into an array."""
        with open(handle, "rb", buffering=0, closefd=False) as file:
            file.seek(offset)
            got = 0
            while got < target.size and (more := file.readinto(target[got:].data)):
                got += more
        return got


def _plain(place: Place, file: Any, form: PixelFormat) -> NDArray[Any]:
    """Return the values of a frame that lies in its file as it is; of a mosaic, only the rows of the tile are read."""
    tile, path = place.tile, place.path
    shape = (form.rows, tile.columns, *form.shape[2:]) if tile.rows else form.shape
    # In Python's integers, which do not overflow, and before any memory is taken: the header may claim anything.
    whole = math.prod((tile.rows or form.rows, *shape[1:])) * form.dtype.itemsize
    if not is_of_one(place.length, whole):
        wanted = f"{whole} are wanted for {shape} of {form.bits_allocated} bits"
        msg = f"{path} has {place.length} bytes of pixel data; {wanted}"
        raise UnreadableFileError(msg)
    frame = np.empty(shape, form.dtype.newbyteorder("<"))
    file.seek(place.offset + tile.row * frame.strides[0])
    got = file.readinto(frame.reshape(-1).view(np.uint8).data)
    if got != frame.nbytes:
        msg = f"{path} is cut short: {got} of {frame.nbytes} bytes of pixel data are there"
        raise UnreadableFileError(msg)
    return frame


def is_of_one(length: Any, frame: int) -> Any:
    """Return whether pixel data of so many bytes, or of each number of an array, are of one frame of `frame` bytes.

    They may be padded, by less than another frame; one byte is, to an even number (PS3.5 8.1.1).
    """
    return (length >= frame) & (length < max(2 * frame, frame + frame % 2 + 1))


def only_stored_bits(frame: NDArray[Any], form: PixelFormat, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return values (in `out`, if given) without the bits beside those stored; the sign from the highest stored one."""
    unused = form.bits_allocated - form.bits_stored
    if form.is_float or not unused or form.photometric == "PALETTE COLOR":
        return frame
    only: NDArray[Any]
    if not form.signed and form.high_bit == form.bits_stored - 1:
        only = np.bitwise_and(frame, frame.dtype.type((1 << form.bits_stored) - 1), out=out)
        return only
    above = form.bits_allocated - 1 - form.high_bit
    only = np.right_shift(np.left_shift(frame, above, out=out), unused, out=out)
    return only
