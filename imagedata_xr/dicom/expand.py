"""The frames of one file: one for most; many for multi-frame files, mosaics and grids, each with a head of its own.

A frame of any kind of file looks to sorting like a file with one image: it has the elements that such a file would have
(ImagePositionPatient, EchoTime, Rows, …), the place of its pixels, and a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from imagedata_xr.dicom.mosaic import tiles_of
from imagedata_xr.dicom.multiframe import frame_bytes, frame_elements, is_multiframe
from imagedata_xr.dicom.stored import WHOLE, Tile
from imagedata_xr.dicom.walk import UNDEFINED

if TYPE_CHECKING:
    from imagedata_xr.dicom.walk import Head
    from imagedata_xr.elements import Raw

__all__ = ["Frame", "frames_of", "is_plain"]


_PLAIN: Final = frozenset(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"))
"""Transfer syntaxes in which pixels lie in the file as they are: implicit and explicit little endian."""


class Frame(NamedTuple):
    """One image in a file."""

    elements: dict[int, Raw]
    offset: int
    """Byte at which its pixels begin; -1 where pydicom has to find them."""
    length: int
    pixel_tag: int
    number: int = 0
    """Number of the frame in its file, or of the slice in a mosaic."""
    tile: Tile = WHOLE
    """Part of the stored frame that it takes."""
    shared: dict[int, Raw] | None = None
    """Those of the elements that it has in common with others, in one dict for all of them."""
    own: dict[int, Raw] = {}  # noqa: RUF012 - never changed
    """The other elements, where `shared` is given; they win."""


def is_plain(head: Head) -> bool:
    """Return whether the pixels of a file lie in it as they are."""
    return head.syntax in _PLAIN and head.pixel_length != UNDEFINED and head.pixel_offset > 0


def frames_of(path: str, head: Head) -> list[Frame]:
    """Return the frames of a file.

    Parameters
    ----------
    path : str
        The file; read again for what its head alone does not tell.
    head : Head
        Its head.

    Raises
    ------
    UnreadableFileError
        If it is of a kind with several frames, and does not say where they are.
    """
    offset, length = (head.pixel_offset, head.pixel_length) if is_plain(head) else (-1, 0)
    if not is_multiframe(head.elements):
        slices = tiles_of(path, head.elements)
        if not slices:
            return [Frame(head.elements, offset, length, head.pixel_tag, 0, WHOLE, head.shared, head.own)]
        return [Frame(elements, offset, length, head.pixel_tag, k, tile) for k, (elements, tile) in enumerate(slices)]
    size = frame_bytes(head) if offset >= 0 else 0
    return [
        Frame(e, offset + k * size if size else -1, size, head.pixel_tag, k, WHOLE, shared, own)
        for k, (e, shared, own) in enumerate(frame_elements(path, head))
    ]
