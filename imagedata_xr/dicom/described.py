"""Heads of frames that name no source file: what attributes and coordinates tell, as if it lay in a file."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import xarray as xr

from imagedata_xr.dicom.classic import OF_MANY, TELL_OTHERS, is_of_one_image, to_classic
from imagedata_xr.dicom.layout import Shape
from imagedata_xr.dicom.patch import OF_TIMES, PIXELS, Answers, HeadForm, SourceHead, encode, split
from imagedata_xr.dicom.stored import WHOLE, Place
from imagedata_xr.dicom.walk import LONG_VRS
from imagedata_xr.elements import OF_CHARACTER_SET, Value, tag, to_element
from imagedata_xr.headers import header_values, is_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imagedata_xr.dicom.agreement import FrameColumns
    from imagedata_xr.dicom.job import Job

__all__ = ["DescribedHeads"]

_CHARACTERS: Final = tag("SpecificCharacterSet")
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_NOWHERE: Final = Place("", -1, 0, 0, WHOLE)


class _Element(NamedTuple):
    """An element as it would lie in a file."""

    number: int
    start: bytes
    """Its tag and VR."""
    value: bytes
    is_foreign: bool
    """Whether its bytes are others in another character set."""


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
        self._known = Answers[list[_Element]]()
        left_out = {*job.tag_dims, "AcquisitionDateTime"}
        coords = {str(name): coord for name, coord in job.da.coords.items() if name not in left_out}
        along = [name for name, coord in coords.items() if coord.ndim and not {"row", "col"} & set(coord.dims)]
        one = header_values(columns.one_frame().assign_coords(dict.fromkeys(along, "")))
        self._columns = {name: columns.of(name) for name in along if name in one}
        wanted = OF_TIMES | PIXELS | {tag(name) for name in (*OF_MANY, *TELL_OTHERS)}
        self._shared = {n: v for n, v in one.items() if n not in along and n not in left_out and tag(n) in wanted}
        # Of a frame of a file of many images one element says what another is to be.
        is_of_one = is_of_one_image(self._shared.get("SOPClassUID", "")) and not {*along, *self._shared} & {*OF_MANY}
        self._is_of_one = is_of_one and "SOPClassUID" not in along
        self._in_all = _elements(self._shared.items()) if self._is_of_one else []

    def of(self, places: Sequence[int]) -> list[SourceHead] | None:
        """Return the heads of frames, by their numbers; None where their texts may be in several character sets."""
        if "SpecificCharacterSet" in self._columns:
            return None
        heads = []
        for place in places:
            head = self._head(place)
            if head is None:
                return None
            heads.append(head)
        return heads

    def _head(self, place: int) -> SourceHead | None:
        own = [(name, column[place]) for name, column in self._columns.items()]
        if self._is_of_one:
            found = self._in_all.copy()
            for name, value in own:
                # Frames have most in common with others. Of equal numbers the texts may differ: 1, 1.0, -0.0.
                found += self._known.of((name, repr(value)), partial(_elements, [(name, value)]))
            found.sort()
        else:
            found = _elements([*self._shared.items(), *own])
        starts = tuple([element.start for element in found])
        form = self._forms.get(starts)
        if form is None:
            kinds = tuple((element.number, element.start[4:].decode()) for element in found)
            shape = Shape(-1 - len(self._forms), _EXPLICIT, tag("PixelData"), {}, kinds, starts)
            form = self._forms[starts] = HeadForm(shape, self._differ, drops_private=True)
        # Left as it is, it would be in this character set; elsewhere it is what tells frames apart.
        if any(element.is_foreign and element.number in form.stay for element in found):
            return None
        return SourceHead(form, [element.value for element in found], (), _NOWHERE)


def _elements(told: Iterable[tuple[str, Value]]) -> list[_Element]:
    """Return what a file of one image would have of values, by their tags; of those that are none it has nothing."""
    from pydicom import Dataset

    ds = Dataset()
    for name, value in told:
        if value == value and not (isinstance(value, float) and is_between(name, xr.Variable((), value))):
            ds.add(to_element(name, value))
    to_classic(ds)
    ds.SpecificCharacterSet = "ISO_IR 192"  # in others two texts may have the same bytes
    found = []
    for number, whole in split(encode(ds)):
        vr = whole[4:6]
        data = whole[12 if vr in LONG_VRS else 8 :]
        if number != _CHARACTERS:
            found.append(_Element(number, whole[:6], data, vr.decode() in OF_CHARACTER_SET and not data.isascii()))
    return found
