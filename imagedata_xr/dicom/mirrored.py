"""Pictures without a place that were turned or mirrored: only their values tell it, and PatientOrientation must."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

from imagedata_xr.dicom.pixels import SourcePixels
from imagedata_xr.dicom.stored import WHOLE, Place, read_stored
from imagedata_xr.errors import MissingHeaderError, UnreadableFileError
from imagedata_xr.headers import source_dataset

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["with_turned_orientation"]

_NAME: Final = "PatientOrientation"
_OPPOSITE: Final = str.maketrans("LRAPHF", "RLPAFH")


def with_turned_orientation(image: xr.DataArray) -> xr.DataArray:
    """Return a picture with the PatientOrientation that it has, if its file has it another way round.

    Parameters
    ----------
    image : DataArray
        Without a place, and of files that are there. How its first frame lies tells it of all: they turn together.
    """
    codes = image.attrs.get(_NAME)
    if not isinstance(codes, list) or len(codes) != 2 or "TransferSyntaxUID" not in image.encoding:
        return image
    frame = image.isel({dim: 0 for dim in image.dims if dim not in ("row", "col", "rgb")})
    stored = source = None
    with suppress(MissingHeaderError, UnreadableFileError):  # they are told where the frame is written
        header = source_dataset(frame)
        if header is not None:
            pixels = SourcePixels.of(header)
            stored = pixels.stored(frame.values, rescaled=bool(image.encoding.get("rescaled", True)))
            source = read_stored(Place(str(frame.coords["source"].item()), -1, 0, 0, WHOLE), pixels.form)
    if stored is None or source is None:
        return image
    for is_transposed, by_rows, by_columns in product((False, True), repeat=3):
        turned = source.swapaxes(0, 1) if is_transposed else source
        turned = turned[:: -1 if by_rows else 1, :: -1 if by_columns else 1]
        if np.array_equal(stored, turned):
            along_rows, along_columns = map(str, codes[::-1] if is_transposed else codes)
            new = [
                _reversed(along_rows) if by_columns else along_rows,
                _reversed(along_columns) if by_rows else along_columns,
            ]
            return image if new == codes else image.assign_attrs({_NAME: new})
    return image


def _reversed(code: str) -> str:
    """Return the opposite direction (PS3.3 C.7.6.1.1.1); that of an animal, which has other letters, is not known."""
    return code.translate(_OPPOSITE) if set(code) <= {*"LRAPHF"} else ""
