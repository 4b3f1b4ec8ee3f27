"""The frames of one file: one for most; many for multi-frame files, mosaics and grids, each with a head of its own.

A frame of any kind of file looks to sorting like a file with one image: it has the elements that such a file would have
(ImagePositionPatient, EchoTime, Rows, …), the place of its pixels, and a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from imagedata_xr.dicom.mosaic import TELLS_TILES, tiles_of
from imagedata_xr.dicom.multiframe import TELLS_FRAMES, frame_bytes, frame_elements, is_multiframe
from imagedata_xr.dicom.walk import UNDEFINED, Alike, Elements
from imagedata_xr.elements import tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagedata_xr.dicom.stored import Tile
    from imagedata_xr.dicom.walk import Head

__all__ = ["TELLS_KIND", "Frames", "frame_of", "frames_of", "lies_plainly"]

TELLS_KIND: Final = TELLS_FRAMES | TELLS_TILES | {tag("Rows"), tag("Columns")}
"""Elements that tell whether a file has an image, and of how many frames."""

_PLAIN: Final = frozenset(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"))
"""Transfer syntaxes in which pixels lie in the file as they are: implicit and explicit little endian."""


class Frames(NamedTuple):
    """The images in a file: its frames, or the slices of its mosaic."""

    elements: Sequence[Elements | Alike]
    """Of one after the other, or of several that are alike."""
    offset: int
    """Byte at which the pixels of the first begin; -1 where pydicom has to find them."""
    step: int
    """Bytes from there to those of the next."""
    length: int
    """Bytes of each."""
    pixel_tag: int
    tiles: Sequence[Tile] = ()
    """Part of the stored frame that each takes; nothing where each has its own."""


def lies_plainly(syntax: str, offset: int, length: int) -> bool:
    """Return whether the pixels of a file, at a byte of it and of a length, lie in it as they are."""
    return syntax in _PLAIN and length != UNDEFINED and offset > 0


def frames_of(path: str, head: Head) -> Frames:
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
    whole = frame_of(head)
    elements = head.elements.whole()
    if not is_multiframe(elements):
        slices = tiles_of(path, elements)
        if not slices:
            return whole
        return whole._replace(elements=[Elements(e) for e, _ in slices], tiles=[tile for _, tile in slices])
    size = frame_bytes(head) if whole.offset >= 0 else 0
    return Frames(frame_elements(path, head), whole.offset if size else -1, size, size, head.pixel_tag)


def frame_of(head: Head) -> Frames:
    """Return the frame of a file that has one, and is no mosaic."""
    offset, length = head.pixel_offset, head.pixel_length
    if not lies_plainly(head.syntax, offset, length):
        offset, length = -1, 0
    return Frames((head.elements,), offset, 0, length, head.pixel_tag)
