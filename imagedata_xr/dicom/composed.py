"""Heads of frames that name no source file, composed of that of another volume and that of another slice.

Such a frame has a header of attributes and coordinates. Where none of these differ along tag dims and slices at once,
an element follows from the volume or from the slice: it is what it is in the same slice of the first volume, but for
those that the first slice of this volume has otherwise. Of each volume the first and the last slice are written element
by element: the one to see what differs, the other to see that what is composed is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from imagedata_xr.dicom.frame_file import make_frame, set_volume_times, storage_of, whole_file
from imagedata_xr.dicom.patch import META_BEGIN, META_LENGTH, PIXEL_HEAD, REPLACED, meta_length, own_elements, split
from imagedata_xr.dicom.pixels import pixel_bytes
from imagedata_xr.elements import tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from imagedata_xr.dicom.job import Job
    from imagedata_xr.dicom.pixels import Rescale

__all__ = ["Elements", "Load", "composed_heads", "elements_of", "may_compose"]

_PIXELS: Final = tag("PixelData")
_OWN: Final = REPLACED | {_PIXELS}
"""Elements of one frame alone, or of all; what a frame has of them is put in."""
_CHARACTERS: Final = tag("SpecificCharacterSet")
_OF_SLICES: Final = {"slice", "SliceLocation", "InstanceNumber"}
"""Coordinates that may differ from slice to slice; frames get a new InstanceNumber."""
_FEWEST: Final = 4
"""Slices from which on it is worth while."""

Load = Callable[[], "NDArray[Any]"]
"""Returns the values of a volume, shape (slice, row, col); what it has read, it keeps."""
Elements = dict[int, bytes]
"""Tag to all bytes of the elements of a file, in their order; of PixelData what is before its value."""


def may_compose(job: Job) -> bool:
    """Return whether the frames of an image differ in what is of their volume or of their slice alone."""
    if job.from_files or job.template is not None or job.keep_uid or job.is_colour or not job.tag_dims:
        return False
    along = {str(name) for name, coord in job.da.coords.items() if "slice" in coord.dims}
    return along <= _OF_SLICES and job.da.sizes["slice"] >= _FEWEST


def composed_heads(
    job: Job,
    known: Mapping[int, Elements],
    index: dict[str, int],
    numbers: Mapping[int, int],
    uids: Sequence[str],
    load: Load,
) -> tuple[list[bytes], Rescale] | None:
    """Return the files of a volume but for the values of their pixels, and how these are stored.

    Returns None where they do not follow from the first volume and the ends of this one.

    Parameters
    ----------
    job : Job
        What to write.
    known : mapping
        Number of each slice of the first volume to the elements of its file.
    index : dict
        Number of the volume along each tag dim.
    numbers : mapping
        Number of each slice to its InstanceNumber.
    uids : sequence of str
        Their SOPInstanceUIDs.
    load : callable
        Returns the values of these slices.
    """
    if known.keys() != numbers.keys():
        return None
    slices = list(numbers)
    frames = {k: make_frame(job, index, k) for k in (slices[0], slices[-1])}
    storage = storage_of(job, frames, load)
    if storage.rescale is None:
        return None
    set_volume_times(job, list(frames.values()), index)
    ends = [
        whole_file(job, frames[slices[at]], storage, load()[at], numbers[slices[at]], index, uids[at])[1]
        for at in (0, -1)
    ]
    of_volume, of_first = elements_of(ends[0]), known[slices[0]]
    new = {n for n in of_first.keys() | of_volume.keys() if of_first.get(n) != of_volume.get(n)} - _OWN
    # Texts of both in another character set would be of neither.
    if _CHARACTERS in new:
        return None
    heads: list[bytes] = []
    own = own_elements(uids, numbers.values())
    for at, k in enumerate(slices):
        if any(known[k].get(n) != of_first.get(n) for n in (*new, _CHARACTERS)):
            return None  # an element that follows from both
        found = {n: whole for n, whole in known[k].items() if n not in new}
        found |= {n: of_volume[n] for n in new if n in of_volume}
        found |= {n: column[at] for n, column in own.items()}
        found[META_LENGTH] = meta_length(sum(len(found[n]) for n in found if n >> 16 == 2 and n != META_LENGTH))
        heads.append(ends[0][:META_BEGIN] + b"".join(whole for _, whole in sorted(found.items())))
    for at, file in zip((0, -1), ends, strict=True):
        if heads[at] + bytes(pixel_bytes(storage.rescale.store(load()[at]))) != file:
            return None
    return heads, storage.rescale


def elements_of(file: bytes) -> Elements:
    """Return the elements of a file that ends with its pixels."""
    found: dict[int, bytes] = dict(split(file, META_BEGIN))
    found[_PIXELS] = found[_PIXELS][:PIXEL_HEAD]
    return found
