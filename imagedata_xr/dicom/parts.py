"""The pixels of files that are to be written, made by the thread that writes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imagedata_xr.dicom.pixels import pixel_bytes
from imagedata_xr.dicom.stored import only_stored_bits, read_directly

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from imagedata_xr.dicom.pixels import Rescale
    from imagedata_xr.dicom.stored import PixelFormat, Place

__all__ = ["LyingPixels", "RescaledPixels", "Room"]


class Room:
    """Memory of one thread for arrays that last until the next ones: new memory costs more than the arithmetic."""

    def __init__(self) -> None:
        self._arrays: dict[np.dtype[Any], NDArray[Any]] = {}

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array; the one that was given before for this type is lost."""
        kind, size = np.dtype(dtype), math.prod(shape)
        array = self._arrays.get(kind)
        if array is None or array.size < size:
            self._arrays[kind] = array = np.empty(size, kind)
        return array[:size].reshape(shape)


class LyingPixels(NamedTuple):
    """The stored values of a frame as they lie in another file."""

    place: Place
    form: PixelFormat

    @property
    def held(self) -> int:
        """Bytes in memory until it is written."""
        return 0

    def value(self, room: Room) -> bytes | memoryview:
        """Return the value of PixelData.

        Raises
        ------
        UnreadableFileError
            If the file has changed, or cannot be read.
        """
        place, form = self.place, self.form
        assert place.version is not None
        buffer = room((form.size,), np.uint8)
        read_directly(place.path, place.offset, place.version, buffer)
        values = buffer.view(form.dtype.newbyteorder("<"))
        only_stored_bits(values, form, values)
        return buffer.data


class RescaledPixels(NamedTuple):
    """The values of a frame that are to be stored with a rescale."""

    values: NDArray[Any]
    rescale: Rescale

    @property
    def held(self) -> int:
        """Bytes in memory until it is written."""
        return self.values.nbytes

    def value(self, room: Room) -> bytes | memoryview:
        """Return the value of PixelData.

        Raises
        ------
        ValuesNotStorableError
            If a value is out of the range of the rescale.
        """
        return pixel_bytes(self.rescale.store(self.values, room))
