"""The files of frames whose headers differ in a few elements, made from one that was written element by element.

`imagedata_xr.dicom.write` makes a file out of the whole header of its frame. Frames whose source headers have the same
bytes but for a dozen elements give files that have the same bytes but for a dozen elements: those that stay as they
are in each source, those that tell the place, and UIDs and numbers. A `Pattern` is such a file with the places of these
elements. Which frames share one is told by a key of everything else that differs. The second frame of every key is
written both ways, and where the bytes are not the same, all frames of the key are written element by element.
"""

from __future__ import annotations

import os
import re
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from imagedata_xr.dicom.derive import OVERLAY_POSITIONS
from imagedata_xr.dicom.places import OF_PLACE
from imagedata_xr.dicom.stored import OPEN_FLAGS
from imagedata_xr.dicom.walk import LONG_VRS, UNDEFINED, ShortHeadError, StepAside, past_undefined, raw_or_none
from imagedata_xr.elements import Raw, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydicom import Dataset

    from imagedata_xr.dicom.layout import Cut, Walker
    from imagedata_xr.dicom.walk import Head

__all__ = [
    "FRAME_REFERENCE",
    "OF_TIMES",
    "PIXELS",
    "PLACE",
    "REPLACED",
    "Answers",
    "HeadForm",
    "NotAlikeError",
    "Pattern",
    "SourceFile",
    "SourceHead",
    "dataset",
    "element",
    "encode",
    "read_source",
    "split",
    "text_element",
    "uid_elements",
    "written",
]

_SHORT: Final = Struct("<H")
_LONG: Final = Struct("<I")
_IMPLICIT: Final = "1.2.840.10008.1.2"
_META_UID: Final = 0x00020003
_META_LENGTH: Final = 0x00020000
_UID: Final = tag("SOPInstanceUID")
_META_BEGIN: Final = 132
_DECIMALS: Final = re.compile(rb"[-+.0-9Ee\\]* ?")
_HEAD: Final = 16384
_MOST_RECIPES: Final = 128
"""Recipes that a pattern keeps."""


def _tags(*names: str) -> frozenset[int]:
    return frozenset(map(tag, names))


REPLACED: Final = _tags("SOPInstanceUID", "SeriesInstanceUID", "InstanceNumber") | {_META_UID, _META_LENGTH}
"""Elements that no written frame takes from its source."""
PLACE: Final = _tags(*OF_PLACE)
"""Elements that tell the place of a frame."""
TIMES: Final = _tags(
    *("AcquisitionDateTime", "FrameReferenceDateTime", "AcquisitionDate", "AcquisitionTime"),
    *("ContentDate", "ContentTime", "TriggerTime"),
)
OF_TIMES: Final = TIMES | _tags(
    *("TemporalPositionIdentifier", "NumberOfTemporalPositions", "TemporalPositionTimeOffset", "FrameReferenceTime"),
    *("FrameTime", "FrameTimeVector", "TimezoneOffsetFromUTC"),
)
"""These, what else tells labels along time, and what they are told in."""
PIXELS: Final = _tags(
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "SOPClassUID"),
    *("Rows", "Columns", "WindowCenter", "WindowWidth"),
)
"""Elements that say how values are stored, or are shown."""
FRAME_REFERENCE: Final = tag("SourceImageSequence")
_STAY: Final = TIMES | _tags(
    *("TemporalPositionIdentifier", "AcquisitionNumber", "FrameReferenceTime", "ActualFrameDuration", "DecayFactor"),
    *("InstanceCreationDate", "InstanceCreationTime", "SmallestImagePixelValue", "LargestImagePixelValue"),
    *("HeartRate", "NominalInterval", "CardiacNumberOfImages", "SliceThickness", "ExposureTime", "XRayTubeCurrent"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
    *("Exposure", "TableHeight", "SeriesTime", "ContentCreatorName", "WindowCenterWidthExplanation"),
)
"""Elements that stay as they are, or go, whatever they say: nothing else in a header follows from them."""


T = TypeVar("T")


class Answers(Generic[T]):
    """Remembers what was made for a key; begins anew when it is too much.

    Parameters
    ----------
    most : int
        Answers that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[object, T] = {}

    def of(self, key: object, make: Callable[[], T]) -> T:
        """Return what was made for a key before, or make it."""
        if key not in self._known:
            if len(self._known) >= self._most:
                self._known.clear()
            self._known[key] = make()
        return self._known[key]


class HeadForm:
    """What the heads of frames have in common that are laid out alike.

    Parameters
    ----------
    cut : Cut
        One of these heads.
    data : bytes
        The file's first bytes.
    differ : frozenset of int
        Elements that are not left as they are, though they are such that could be.
    drops_private : bool
        Whether private elements do not go into the file.
    """

    def __init__(self, cut: Cut, data: bytes, differ: frozenset[int], *, drops_private: bool) -> None:
        self.version, self.parts = cut.version, cut.parts
        self.shared, self._kinds, _ = cut.head.elements
        self._is_implicit = cut.head.syntax == _IMPLICIT
        self._at = {number: (at, vr) for at, (number, vr) in enumerate(self._kinds)}
        self.overlays = [n for n in OVERLAY_POSITIONS if n in self._at or n in self.shared]
        may_stay = (n for n in self.parts if n in _STAY or n >> 16 & 1 or self._is_sequence(n, data))
        self.stay = frozenset(may_stay) - differ
        """Elements of `parts` that are left as they are, or left out, whatever they say."""
        left_out = REPLACED | PLACE | self.stay
        told = [n for n in self.parts if n not in left_out and not (drops_private and n >> 16 & 1)]
        # Which of `Elements.own` tell times.
        self.times = [at for number, (at, _) in self._at.items() if number in OF_TIMES]
        self._told = [self._values(number) for number in told]
        self._all_told = [self._values(number) for number in sorted({*told, *PLACE, *PIXELS} & self.parts.keys())]

    def _is_sequence(self, number: int, data: bytes) -> bool:
        part = self.parts[number]
        if self._is_implicit:
            return part.is_open or self._at[number][1] == "SQ"
        return data[part.start + 4 : part.start + 6] == b"SQ"

    def at(self, number: int) -> tuple[int, str] | None:
        """Return which of `Elements.own` an element is, and its VR; None where it is not among them."""
        return self._at.get(number)

    def _values(self, number: int) -> slice:
        part = self.parts[number]
        return slice(part.value, part.end)

    def key(self, data: bytes, *, placed: bool) -> tuple[object, ...]:
        """Return what tells a head from others, but for elements that are put in or stay as they are.

        `placed` asks also for what tells its place, and how its pixels are stored.
        """
        return (self.version, *[data[where] for where in (self._all_told if placed else self._told)])


class SourceHead(NamedTuple):
    """The head of the file that a frame came from."""

    data: bytes
    head: Head
    form: HeadForm

    def raw(self, number: int) -> Raw | None:
        """Return the bytes of a public element of plain value; None where there is none."""
        at = self.form.at(number)
        return self.form.shared.get(number) if at is None else raw_or_none(at[1], self.head.elements.own[at[0]])

    def raws(self, numbers: Iterable[int]) -> tuple[tuple[int, Raw], ...]:
        """Return those that are there of some elements, with their tags."""
        return tuple((number, raw) for number in numbers if (raw := self.raw(number)) is not None)

    def own(self, which: Iterable[int]) -> tuple[bytes | None, ...]:
        """Return some of the values in which heads of its layout differ, by their place in `Elements.own`."""
        values = self.head.elements.own
        return tuple([values[at] for at in which])

    def value(self, number: int) -> bytes:
        """Return the bytes of the value of an element of the form's `parts`."""
        part = self.form.parts[number]
        return self.data[part.value : part.end]


class SourceFile(NamedTuple):
    """What was read of the file that a frame came from."""

    data: bytes
    """Its first bytes."""
    size: int
    mtime: int
    """When it was modified [ns]."""
    cut: Cut | None
    """Its head; None where the walker has learnt from it."""


def read_source(path: str, walker: Walker) -> SourceFile | None:
    """Return the first bytes of a file, its layout known to the walker; None where it cannot be patched.

    Parameters
    ----------
    path : str
        A file of this machine.
    walker : Walker
        Knows the layouts of the files read before.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    handle = os.open(path, OPEN_FLAGS)
    try:
        found = os.fstat(handle)
        size = found.st_size
        data = os.read(handle, _HEAD)
        while (cut := walker.cut(data, size)) is None:
            try:
                if not walker.walk(data, size).pixel_tag:
                    return None
                break
            except ShortHeadError:
                more = os.read(handle, max(len(data) * 7, 1 << 20))
                if not more:
                    return None
                data += more
            except StepAside:
                return None
    finally:
        os.close(handle)
    return SourceFile(data, size, found.st_mtime_ns, cut)


def element(start: bytes, value: bytes) -> bytes:
    """Return an element in Explicit VR Little Endian.

    Parameters
    ----------
    start : bytes
        Its tag and VR.
    value : bytes
        Of even length.
    """
    if start[4:6] in LONG_VRS:
        return start[:6] + b"\0\0" + _LONG.pack(len(value)) + value
    return start[:6] + _SHORT.pack(len(value)) + value


def split(data: bytes, pos: int = 0) -> list[tuple[int, bytes]]:
    """Return the elements at the top level of a data set in Explicit VR Little Endian: tag and all bytes of each."""
    found = []
    while pos < len(data):
        group, elem = _SHORT.unpack_from(data, pos)[0], _SHORT.unpack_from(data, pos + 2)[0]
        vr = data[pos + 4 : pos + 6]
        if vr in LONG_VRS:
            (length,), value = _LONG.unpack_from(data, pos + 8), pos + 12
        else:
            (length,), value = _SHORT.unpack_from(data, pos + 6), pos + 8
        end = past_undefined(data, value, vr != b"UN", 0) if length == UNDEFINED else value + length
        found.append((group << 16 | elem, data[pos:end]))
        pos = end
    return found


class _Recipe(NamedTuple):
    """How the files of a pattern are made from sources of one form, with the same elements put in all of them."""

    form: HeadForm
    fixed: Mapping[int, bytes]
    parts: list[bytes]
    """What all have, with room for the others."""
    cut: list[tuple[int, slice]]
    """Parts that are bytes of the source."""
    put: list[tuple[int, int]]
    """Parts that are elements put in."""
    written: list[tuple[int, int, bytes]]
    """Parts that are elements written anew: tag, and tag and VR in the file."""


class NotAlikeError(Exception):
    """A frame has an element that is not as it was, nor put in."""


class Pattern:
    """A written file, and the places in it of the elements that are of one frame.

    Parameters
    ----------
    file : bytes
        The whole file, Explicit VR Little Endian; the pixels are last.
    source : SourceHead
        Of the frame.
    own : mapping
        The elements put in: tag to all bytes.
    sequence : callable
        Returns a sequence, as it is written, from its bytes in the source.

    Raises
    ------
    NotAlikeError
        If an element that stays is another in the file.
    """

    def __init__(
        self,
        file: bytes,
        source: SourceHead,
        own: Mapping[int, bytes],
        sequence: Callable[[SourceHead, int], bytes],
    ) -> None:
        self._sequence = sequence
        self._recipes = Answers[_Recipe](_MOST_RECIPES)
        # Bytes that all files have; or a tag, and the tag and VR that its element has in the file.
        self._parts: list[bytes | tuple[int, bytes]] = [file[:_META_BEGIN], (_META_LENGTH, b"")]
        *elements, (_, pixels) = split(file, _META_BEGIN + len(_meta_length(0)))
        self._meta_length = sum(len(whole) for number, whole in elements if number >> 16 == 2 and number != _META_UID)
        for number, whole in elements:
            if number in own:
                self._parts.append((number, b""))
            elif number in source.form.stay:
                if self._copy(source, number, whole[:6]) != whole:
                    raise NotAlikeError
                self._parts.append((number, whole[:6]))
            elif isinstance(self._parts[-1], bytes):
                self._parts[-1] += whole
            else:
                self._parts.append(whole)
        self._parts.append(pixels[:12])

    def _copy(self, source: SourceHead, number: int, start: bytes) -> bytes:
        return self._sequence(source, number) if start[4:] == b"SQ" else element(start, source.value(number))

    def head(self, source: SourceHead, fixed: Mapping[int, bytes], own: Mapping[int, bytes]) -> bytes:
        """Return the file of another frame, but for the values of its pixels.

        Parameters
        ----------
        source : SourceHead
            Of the frame.
        fixed : mapping
            Elements put in this file and in others: one object for all of them, that is not changed.
        own : mapping
            The elements put in this file alone.
        """
        # A recipe keeps form and elements, so that no others get their identity.
        recipe = self._recipes.of((id(source.form), id(fixed)), lambda: self._recipe(source, fixed, own))
        parts, data = recipe.parts.copy(), source.data
        parts[1] = _meta_length(self._meta_length + len(own[_META_UID]))
        for at, where in recipe.cut:
            parts[at] = data[where]
        for at, number in recipe.put:
            parts[at] = own[number]
        for at, number, start in recipe.written:
            parts[at] = self._copy(source, number, start)
        return b"".join(parts)

    def _recipe(self, source: SourceHead, fixed: Mapping[int, bytes], own: Mapping[int, bytes]) -> _Recipe:
        parts: list[bytes] = []
        recipe = _Recipe(source.form, fixed, parts, [], [], [])
        follows = False
        for part in self._parts:
            same = b""
            if isinstance(part, bytes):
                same = part
            elif part[0] in fixed:
                same = fixed[part[0]]
            elif part[0] in own:
                recipe.put.append((len(parts), part[0]))
            elif part[0] != _META_LENGTH:  # which has its room, the second
                where = self._as_it_is(source, *part)
                if where is not None:
                    recipe.cut.append((len(parts), where))
                else:
                    recipe.written.append((len(parts), *part))
            if same and follows:
                parts[-1] += same
            else:
                parts.append(same)
            follows = bool(same)
        return recipe

    def _as_it_is(self, source: SourceHead, number: int, start: bytes) -> slice | None:
        """Return where an element lies that is the same in the file as in its source."""
        place = source.form.parts[number]
        same = start[4:] != b"SQ" and source.data[place.start : place.start + 6] == start
        return slice(place.start, place.end) if same else None


def _meta_length(length: int) -> bytes:
    return b"\2\0\0\0UL\4\0" + _LONG.pack(length)


def uid_elements(uid: str) -> dict[int, bytes]:
    """Return the elements that tell SOPInstanceUID, in the data set and before it."""
    value = uid.encode() + b"\0" * (len(uid) % 2)
    value = _SHORT.pack(len(value)) + value
    return {_META_UID: b"\2\0\3\0UI" + value, _UID: b"\x08\0\x18\0UI" + value}


def text_element(number: int, vr: bytes, text: str) -> dict[int, bytes]:
    """Return an element of ASCII text."""
    start = _SHORT.pack(number >> 16) + _SHORT.pack(number & 0xFFFF) + vr
    return {number: element(start, text.encode("ascii") + b" " * (len(text) % 2))}


def dataset(raws: Iterable[tuple[int, Raw]]) -> Dataset:
    """Return a header of a few elements of a source."""
    from pydicom import Dataset
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import BaseTag

    found: dict[Any, Any] = {}
    for number, (vr, value) in raws:
        found[BaseTag(number)] = RawDataElement(BaseTag(number), vr, len(value), value, 0, False, True)
    return Dataset(found)


def written(number: int, raw: Raw, *, read: bool) -> bytes:
    """Return an element of a source as pydicom writes it, which may be another way once its value was read."""
    vr, value = raw
    if not len(value) % 2 and (not read or (vr == "DS" and _DECIMALS.fullmatch(value))):
        return element(_SHORT.pack(number >> 16) + _SHORT.pack(number & 0xFFFF) + vr.encode(), value)
    ds = dataset(((number, raw),))
    if read:
        ds.get(number)
    return encode(ds)


def encode(ds: Dataset) -> bytes:
    """Return a data set in Explicit VR Little Endian."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return buffer.getvalue()
