"""Heads of frames that name no source file: what attributes and coordinates tell, as if it lay in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import xarray as xr

from imagedata_xr.dicom.classic import OF_MANY, to_classic
from imagedata_xr.dicom.layout import Shape
from imagedata_xr.dicom.patch import OF_TIMES, PIXELS, HeadForm, SourceHead, encode, split
from imagedata_xr.dicom.stored import WHOLE, Place
from imagedata_xr.dicom.walk import LONG_VRS
from imagedata_xr.elements import Value, tag, to_element
from imagedata_xr.headers import header_values, is_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagedata_xr.dicom.agreement import FrameColumns
    from imagedata_xr.dicom.job import Job

__all__ = ["DescribedHeads"]

_CHARACTERS: Final = tag("SpecificCharacterSet")
_TEXT: Final = frozenset(("LO", "SH", "PN", "UC", "LT", "ST", "UT"))
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_NOWHERE: Final = Place("", -1, 0, 0, WHOLE)


class DescribedHeads:
    """What attributes and coordinates tell of the frames of an image, as heads of files would.

    They have all that differs from frame to frame, and of what does not only times and what is asked of pixels.

    Parameters
    ----------
    job : Job
        What to write.
    columns : FrameColumns
        Of its image.
    differ : frozenset of int
        Elements that are not left as they are.
    """

    def __init__(self, job: Job, columns: FrameColumns, differ: frozenset[int]) -> None:
        self._differ = differ
        self._forms: dict[tuple[bytes, ...], HeadForm] = {}
        left_out = {*job.tag_dims, "AcquisitionDateTime"}
        coords = {str(name): coord for name, coord in job.da.coords.items() if name not in left_out}
        along = [name for name, coord in coords.items() if coord.ndim and not {"row", "col"} & set(coord.dims)]
        one = header_values(columns.one_frame().assign_coords(dict.fromkeys(along, "")))
        self._columns = {name: columns.of(name) for name in along if name in one}
        wanted = OF_TIMES | PIXELS | {tag(name) for name in OF_MANY}
        self._shared = {n: v for n, v in one.items() if n not in along and n not in left_out and tag(n) in wanted}

    def of(self, places: Sequence[int]) -> list[SourceHead] | None:
        """Return the heads of frames, by their numbers; None where their texts may be in several character sets."""
        heads = []
        for place in places:
            head = self._head(place)
            if head is None:
                return None
            heads.append(head)
        return heads

    def _head(self, place: int) -> SourceHead | None:
        from pydicom import Dataset

        told: dict[str, Value] = dict(self._shared)
        for name, column in self._columns.items():
            value = column[place]
            if value == value and not is_between(name, xr.Variable((), value)):
                told[name] = value
        if "SpecificCharacterSet" in told:
            return None
        ds = Dataset()
        for name, value in told.items():
            ds.add(to_element(name, value))
        to_classic(ds)
        ds.SpecificCharacterSet = "ISO_IR 192"  # in others two texts may have the same bytes
        found = [(number, whole) for number, whole in split(encode(ds)) if number != _CHARACTERS]
        starts = tuple(whole[:6] for _, whole in found)
        form = self._forms.get(starts)
        if form is None:
            kinds = tuple((number, whole[4:6].decode()) for number, whole in found)
            shape = Shape(-1 - len(self._forms), _EXPLICIT, tag("PixelData"), {}, kinds, starts)
            form = self._forms[starts] = HeadForm(shape, self._differ, drops_private=True)
        values = [whole[12 if whole[4:6] in LONG_VRS else 8 :] for _, whole in found]
        for (number, whole), value in zip(found, values, strict=True):
            # Left as it is, it would be in this character set; elsewhere it is what tells frames apart.
            if number in form.stay and whole[4:6].decode() in _TEXT and not value.isascii():
                return None
        return SourceHead(form, values, (), _NOWHERE)
