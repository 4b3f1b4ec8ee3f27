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
from functools import partial
from itertools import repeat
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from imagedata_xr.dicom.derive import OVERLAY_POSITIONS
from imagedata_xr.dicom.places import OF_PLACE, put_place
from imagedata_xr.dicom.scan import HEAD
from imagedata_xr.dicom.walk import LONG_VRS, UNDEFINED, ShortHeadError, StepAside, past_undefined, raw_or_none
from imagedata_xr.elements import Raw, tag
from imagedata_xr.regular import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from pydicom import Dataset

    from imagedata_xr.dicom.layout import Cut, Shape, Walker
    from imagedata_xr.dicom.stored import Place
    from imagedata_xr.elements import Value

    _Sources = Sequence["SourceHead"]
    _Fixed = Sequence[Mapping[int, bytes]]
    _Own = Mapping[int, Sequence[bytes]]
    _Column = Callable[[_Sources, _Fixed, _Own], Iterable[bytes]]

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
    "elements",
    "encode",
    "own_elements",
    "place_element",
    "read_source",
    "split",
    "text_elements",
    "written",
]

_SHORT: Final = Struct("<H")
_LONG: Final = Struct("<I")
_META_UID: Final = 0x00020003
"""MediaStorageSOPInstanceUID, which is before the data set."""
_META_LENGTH: Final = 0x00020000
"""FileMetaInformationGroupLength."""
_PIXEL_HEAD: Final = 12
"""Bytes of PixelData before its value."""
_UID: Final = tag("SOPInstanceUID")
_NUMBER: Final = tag("InstanceNumber")
_META_BEGIN: Final = 132
"""Bytes before the first element."""
_DECIMALS: Final = re.compile(rb"[-+.0-9Ee\\]* ?")
_MOST_KNOWN: Final = 20_000
"""Answers that are kept."""
_END: Final = 8
"""Bytes of the end that a value may have."""
_LONGEST: Final = 0xFFFF
"""Bytes that a value may have whose length is told in two."""
_WITH_VR: Final = 6
"""Bytes of a tag and a VR."""


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
    *("InStackPositionNumber", "ImageIndex"),
)
"""Elements that stay as they are, or go, whatever they say: nothing else in a header follows from them."""


T = TypeVar("T")


class Answers(Generic[T]):
    """Remembers what was made for a key; begins anew when it is too much."""

    def __init__(self) -> None:
        self._known: dict[object, T] = {}

    def of(self, key: object, make: Callable[[], T]) -> T:
        """Return what was made for a key before, or make it."""
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = make()
        return self._known[key]


class HeadForm:
    """What the heads of frames have in common that are laid out alike, and what a writer does with the rest.

    Parameters
    ----------
    shape : Shape
        Of these heads.
    differ : frozenset of int
        Elements that are not left as they are, though they are such that could be.
    drops_private : bool
        Whether private elements do not go into the file.
    """

    def __init__(self, shape: Shape, differ: frozenset[int], *, drops_private: bool) -> None:
        self.version, self.shared, self.syntax, self.pixel_tag = (
            shape.version,
            shape.shared,
            shape.syntax,
            shape.pixel_tag,
        )
        self._kinds, self.starts = shape.kinds, shape.starts
        self.is_implicit = shape.syntax == "1.2.840.10008.1.2"
        self._at = {number: at for at, (number, _) in enumerate(self._kinds)}
        self.overlays = [n for n in OVERLAY_POSITIONS if n in self._at or n in self.shared]
        may_stay = (n for n in self._at if n in _STAY or (n >> 16 & 1 and not _is_creator(n)) or self._is_sequence(n))
        self.stay = frozenset(may_stay) - differ
        """Elements of those that differ that are left as they are, or left out, whatever they say."""
        left_out = REPLACED | PLACE | self.stay
        told = [n for n in self._at if n not in left_out and not (drops_private and n >> 16 & 1)]
        self.told = self._getter(told)
        """Returns, of values, those that tell a head from others, but for what is put in or stays as it is."""
        self.all_told = self._getter(sorted({*told, *PLACE, *PIXELS} & self._at.keys()))
        """The same, and those that tell its place, and how its pixels are stored."""
        self.times = self._getter(n for n in self._at if n in OF_TIMES)
        """Returns, of values, those that tell times."""

    def _getter(self, numbers: Iterable[int]) -> Callable[[Sequence[bytes]], tuple[bytes, ...]]:
        which = [self._at[number] for number in numbers]
        if len(which) > 1:
            return itemgetter(*which)
        return lambda values: tuple([values[at] for at in which])

    def _is_sequence(self, number: int) -> bool:
        at = self._at[number]
        return (self.starts[at][4:] or self.vr(at).encode()) == b"SQ"

    def at(self, number: int) -> int | None:
        """Return which of the values an element is; None where it is not among them."""
        return self._at.get(number)

    def vr(self, at: int) -> str:
        """Return the VR of a value; "" where it is stepped over."""
        return self._kinds[at][1]


class SourceHead(NamedTuple):
    """The head of the file that a frame came from."""

    form: HeadForm
    values: Sequence[bytes]
    """In which it differs from others of its form, see `Cut`."""
    open: Sequence[int]
    """Which of these have an end of their own."""
    place: Place
    """Where the stored values of the frame lie."""

    def raw(self, number: int) -> Raw | None:
        """Return the bytes of a public element of plain value; None where there is none."""
        at = self.form.at(number)
        if at is None:
            return self.form.shared.get(number)
        vr = self.form.vr(at)
        return None if at in self.open and vr != "SQ" else raw_or_none(vr, self.values[at])

    def raws(self, numbers: Iterable[int]) -> tuple[tuple[int, Raw], ...]:
        """Return those that are there of some elements, with their tags."""
        return tuple((number, raw) for number in numbers if (raw := self.raw(number)) is not None)

    def told(self) -> tuple[object, ...]:
        """Return what tells its file from others, but for what is put in or stays as it is."""
        # Without a VR a private value is what its creator says, but a sequence if it has items and an end of its own.
        ends = [(at, len(self.values[at]) > _END) for at in self.open if self.form.is_implicit]
        return (self.form.version, self.form.told(self.values), *ends)

    def whole(self, at: int) -> bytes:
        """Return all bytes of the element of a value, as it is in the file."""
        start, value = self.form.starts[at], self.values[at]
        if at in self.open:
            return start + b"\0\0" * (len(start) == _WITH_VR) + _LONG.pack(UNDEFINED) + value
        return element(start, value) if len(start) == _WITH_VR else start + _LONG.pack(len(value)) + value


class SourceFile(NamedTuple):
    """What was read of the file that a frame came from."""

    path: str
    data: bytes
    """Its first bytes."""
    size: int
    mtime: int
    """When it was modified [ns]."""
    cut: Cut | None
    """Its head; None where the walker has learnt from it."""


def read_source(path: str, walker: Walker) -> SourceFile | None:
    """Return the first bytes of a file, its layout known to the walker; None where it cannot be patched, or read.

    Parameters
    ----------
    path : str
        A file of this machine.
    walker : Walker
        Knows the layouts of the files read before.
    """
    try:
        handle, found = opened(path)
    except OSError:
        return None
    try:
        size = found.st_size
        data = os.read(handle, HEAD)
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
    except (OSError, StepAside):
        return None
    finally:
        os.close(handle)
    return SourceFile(path, data, size, found.st_mtime_ns, cut)


def element(start: bytes, value: bytes) -> bytes:
    """Return an element in Explicit VR Little Endian.

    Parameters
    ----------
    start : bytes
        Its tag and VR.
    value : bytes
        Of even length.
    """
    [whole] = elements(start, [value])
    return whole


def elements(start: bytes, values: Iterable[bytes]) -> list[bytes]:
    """Return an element of each of several files, as `element` does."""
    if start[4:6] in LONG_VRS:
        start = start[:6] + b"\0\0"
        return [start + _LONG.pack(len(value)) + value for value in values]
    return [start + _SHORT.pack(len(value)) + value for value in values]


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
    fixed, own : collection of int
        The elements put in: those of `Pattern.heads`.
    anew : callable
        Returns an element as it is written, from its VR in a file and all its bytes in a source.

    Raises
    ------
    NotAlikeError
        If an element that stays is another in the file.
    """

    def __init__(
        self,
        file: bytes,
        source: SourceHead,
        fixed: Container[int],
        own: Container[int],
        anew: Callable[[HeadForm, str, bytes], bytes],
    ) -> None:
        self._anew = anew
        # Bytes that all files have, or what returns an element of each file.
        self._parts: list[bytes | _Column] = [file[:_META_BEGIN], self._meta_lengths]
        *elements, (_, pixels) = split(file, _META_BEGIN + len(_meta_length(0)))
        self._meta_length = sum(len(whole) for number, whole in elements if number >> 16 == 2 and number != _META_UID)
        for number, whole in elements:
            last = self._parts[-1]
            if number in own:
                self._parts.append(partial(_own, number))
            elif number in fixed:
                self._parts.append(partial(_fixed, number))
            elif number in source.form.stay:
                at = source.form.at(number)
                assert at is not None
                start = whole[:_WITH_VR]
                if source.form.is_implicit and whole[4:6] == b"UN":
                    # A value that is wrong or too long (PS3.5 6.2.2) is of unknown VR, another has that of its kind.
                    start = whole[:4] + _private_vr(number, dict(elements))
                    if not number >> 16 & 1 and len(source.values[at]) > _LONGEST:
                        raise NotAlikeError
                if next(iter(self._stay(at, start, [source], (), {}))) != whole:
                    raise NotAlikeError
                self._parts.append(partial(self._stay, at, start))
            elif isinstance(last, bytes):
                self._parts[-1] = last + whole
            else:
                self._parts.append(whole)
        self._parts.append(pixels[:_PIXEL_HEAD])

    def heads(
        self, sources: Sequence[SourceHead], fixed: Sequence[Mapping[int, bytes]], own: Mapping[int, Sequence[bytes]]
    ) -> list[bytes]:
        """Return the files of other frames, but for the values of their pixels.

        Parameters
        ----------
        sources : sequence of SourceHead
            Of the frames; all have one form.
        fixed : sequence of mapping
            Elements put in each file.
        own : mapping
            Further elements put in: tag to all bytes of that of each file.
        """
        columns = [repeat(part) if isinstance(part, bytes) else part(sources, fixed, own) for part in self._parts]
        return [b"".join(parts) for parts in zip(*columns, strict=False)]  # what all have has no end

    def _meta_lengths(self, _: _Sources, __: _Fixed, own: _Own) -> Iterable[bytes]:
        return [_meta_length(self._meta_length + len(uid)) for uid in own[_META_UID]]

    def _stay(self, at: int, start: bytes, sources: _Sources, _: _Fixed, __: _Own) -> Iterable[bytes]:
        form, values = sources[0].form, [source.values[at] for source in sources]
        # Without a VR in its file a value may be of another than that of the frame before, or too long for it.
        is_clear = not form.is_implicit or (not start[0] & 1 and max(map(len, values)) <= _LONGEST)
        if is_clear and start[4:] != b"SQ" and not any(source.open for source in sources):
            return elements(start, values)
        return [self._anew(form, start[4:].decode(), source.whole(at)) for source in sources]


def _is_creator(number: int) -> bool:
    """Return whether an element says whose the private elements of a block are, and so their VRs."""
    return bool(number >> 16 & 1) and number & 0xFFFF < 0x100


def _private_vr(number: int, elements: Mapping[int, bytes]) -> bytes:
    """Return the VR that pydicom knows of a private element, by its creator among the elements of a file; else UN."""
    from pydicom.datadict import private_dictionary_VR

    creator = elements.get(number & 0xFFFF0000 | (number & 0xFFFF) >> 8, b"")[8:]
    try:
        vr = private_dictionary_VR(number, creator.decode("latin-1").rstrip(" \0")).encode()
    except (KeyError, ValueError):
        return b"UN"
    return vr if len(vr) == 2 else b"UN"


def _own(number: int, _: _Sources, __: _Fixed, own: _Own) -> Iterable[bytes]:
    return own[number]


def _fixed(number: int, _: _Sources, fixed: _Fixed, __: _Own) -> Iterable[bytes]:
    return [elements[number] for elements in fixed]


def _meta_length(length: int) -> bytes:
    """Return the element that tells how many bytes of meta information follow it."""
    return b"\2\0\0\0UL\4\0" + _LONG.pack(length)


def own_elements(uids: Iterable[str], numbers: Iterable[int]) -> dict[int, list[bytes]]:
    """Return the elements that tell SOPInstanceUID, in the data set and before it, and InstanceNumber of each file."""
    values = [uid.encode() + b"\0" * (len(uid) % 2) for uid in uids]
    return {
        _META_UID: elements(b"\2\0\3\0UI", values),
        _UID: elements(b"\x08\0\x18\0UI", values),
        _NUMBER: text_elements(_NUMBER, b"IS", map(str, numbers)),
    }


def text_elements(number: int, vr: bytes, texts: Iterable[str]) -> list[bytes]:
    """Return an element of ASCII text of each of several files."""
    start = _SHORT.pack(number >> 16) + _SHORT.pack(number & 0xFFFF) + vr
    return elements(start, [text.encode("ascii") + b" " * (len(text) % 2) for text in texts])


def dataset(raws: Iterable[tuple[int, Raw]]) -> Dataset:
    """Return a header of a few elements of a source."""
    from pydicom import Dataset
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import BaseTag

    found: dict[Any, Any] = {}
    for number, (vr, value) in raws:
        found[BaseTag(number)] = RawDataElement(BaseTag(number), vr, len(value), value, 0, False, True)
    return Dataset(found)


def place_element(name: str, value: Value | None, before: Raw | None) -> dict[int, bytes]:
    """Return an element of a place that is new, by its tag; nothing of one that has to go."""
    number, texts = tag(name), [value] if isinstance(value, str) else value
    if isinstance(texts, list) and (before is None or before.vr == "DS"):
        return {number: text_elements(number, b"DS", ["\\".join(map(str, texts))])[0]}
    ds = dataset([] if before is None else [(number, before)])
    put_place(ds, {name: value})
    return dict(split(encode(ds)))


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
