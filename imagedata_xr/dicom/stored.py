"""The stored values of one frame: read from the file where they lie plainly, else decoded by pydicom."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from imagedata_xr.errors import UnreadableFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WHOLE", "PixelFormat", "Place", "Tile", "guessed_syntax", "read_stored"]


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
    """Number of the frame in its file."""
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

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        kind = "f" if self.is_float else "i" if self.signed else "u"
        return np.dtype(f"{kind}{max(self.bits_allocated // 8, 1)}")

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
            return self.photometric == "RGB" and not self.planar and self.bits_stored == self.bits_allocated
        return True

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest value that can be stored."""
        if self.signed:
            return -(1 << self.bits_stored - 1), (1 << self.bits_stored - 1) - 1
        return 0, (1 << self.bits_stored) - 1


def read_stored(place: Place, form: PixelFormat) -> NDArray[Any]:
    """Return the stored values of a frame, shape (row, col) or (row, col, rgb).

    Raises
    ------
    UnreadableFileError
        If the file has changed, is cut short, or cannot be decoded.
    """
    path, tile, plain = place.path, place.tile, place.offset >= 0 and form.is_plain
    try:
        with open(path, "rb", buffering=0 if plain else -1) as file:
            status = os.fstat(file.fileno())
            if place.version is not None and place.version != (status.st_size, status.st_mtime_ns):
                msg = f"{path} has changed since it was opened; open the series again"
                raise UnreadableFileError(msg)
            if plain:
                return _only_stored_bits(_plain(place, file, form), form)
            frame = _decoded(place, file, form, (tile.rows, tile.columns) if tile.rows else form.shape)
    except UnreadableFileError:
        raise
    except OSError as err:
        msg = f"cannot read {path}: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    if tile.rows:
        frame = frame[tile.row : tile.row + form.rows, tile.col : tile.col + form.columns]
    return _only_stored_bits(frame, form)


def _plain(place: Place, file: Any, form: PixelFormat) -> NDArray[Any]:
    """Return the values of a frame that lies in its file as it is; of a mosaic, only the rows of the tile are read."""
    tile, path = place.tile, place.path
    shape = (form.rows, tile.columns) if tile.rows else form.shape
    frame = np.empty(shape, form.dtype.newbyteorder("<"))
    whole = frame.nbytes * tile.rows // form.rows if tile.rows else frame.nbytes
    if not whole <= place.length < 2 * whole:
        msg = f"{path} has {place.length} bytes of pixel data; {whole} are wanted for {shape} of {form.bits_allocated} bits"
        raise UnreadableFileError(msg)
    file.seek(place.offset + tile.row * tile.columns * form.dtype.itemsize)
    got = file.readinto(frame.reshape(-1).view(np.uint8).data)
    if got != frame.nbytes:
        msg = f"{path} is cut short: {got} of {frame.nbytes} bytes of pixel data are there"
        raise UnreadableFileError(msg)
    return frame[:, tile.col : tile.col + form.columns] if tile.rows else frame


def _only_stored_bits(frame: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    """Return values without the bits beside those stored; the sign extended from the highest stored one."""
    unused = form.bits_allocated - form.bits_stored
    if form.is_float or not unused or form.is_colour:
        return frame
    above = form.bits_allocated - 1 - form.high_bit
    only: NDArray[Any] = np.right_shift(np.left_shift(frame, above), unused)
    return only


def _decoded(place: Place, file: Any, form: PixelFormat, size: tuple[int, ...]) -> NDArray[Any]:
    """Return a frame of a compressed or unusual file, decoded by pydicom."""
    import pydicom
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    from imagedata_xr.dicom.codecs import register

    register()
    name = "unknown transfer syntax"
    try:
        dataset = pydicom.dcmread(file, force=True)
        if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(guessed_syntax(dataset))
        name = dataset.file_meta.TransferSyntaxUID.name
        frame = pixel_array(dataset, index=place.frame)
        if form.photometric == "PALETTE COLOR":
            frame = apply_color_lut(frame, dataset)[..., :3]
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, TypeError, KeyError, EOFError) as err:
        msg = f"cannot decode {place.path} ({name}): {err}"
        raise UnreadableFileError(msg) from err
    if frame.shape != size:
        msg = f"{place.path} decodes to {frame.shape}; {size} is wanted"
        raise UnreadableFileError(msg)
    return frame if form.is_colour else frame.astype(form.dtype, copy=False)


def guessed_syntax(dataset: object) -> str:
    """Return the transfer syntax of a file without meta header."""
    implicit, little = dataset.original_encoding  # type: ignore[attr-defined] # of pydicom.Dataset
    if not little:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
