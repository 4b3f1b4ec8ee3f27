"""Elements of a file as pydicom reads them, and what it raises where the file is damaged."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.quiet import filtered_warnings
from imagedata_xr.streams import dcmread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom.dataset import Dataset

__all__ = ["DAMAGE", "read_elements"]

DAMAGE: Final = (
    *(ValueError, TypeError, LookupError, AttributeError, NotImplementedError, EOFError, OverflowError),
    *(RecursionError, MemoryError, struct.error, zlib.error),
)
"""What pydicom raises for damaged files."""


def read_elements(path: str, wanted: Iterable[int] | None = None) -> Dataset:
    """Return the header of a file, or some elements of it.

    Parameters
    ----------
    path : str
        File, which was recognised as DICOM before.
    wanted : iterable of int, optional
        Their tags; None reads all but the pixels.

    Raises
    ------
    UnreadableFileError
        If it is damaged or gone.
    """
    try:
        # pydicom's warnings quote values, which may be a patient's.
        with filtered_warnings():
            tags = None if wanted is None else list(wanted)
            return dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
    except OSError as err:
        msg = f"{path} cannot be read: {err.strerror or err}"
        raise UnreadableFileError(msg) from err
    except DAMAGE as err:
        msg = f"{path} is a damaged DICOM file: {type(err).__name__} in its header"
        raise UnreadableFileError(msg) from err
