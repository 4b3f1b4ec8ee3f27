"""One walk over the head of a DICOM file: the bytes of its public top-level elements, and where the pixels lie.

The walk does what a reader of headers must, and no more: it steps from element to element (PS3.5 chapter 7), copies
the values of public elements that are not sequences or bulk data, and steps over everything else. It knows little
endian data only. Whatever is unusual makes it raise `StepAside`; then pydicom reads the file.
"""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING, Final, NamedTuple

from imagedata_xr.elements import WITHOUT_VALUE, Raw, vr_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "IMPLICIT",
    "LONG_VRS",
    "PRIVATE_GROUPS",
    "PRIVATE_LENGTH",
    "SEQUENCE",
    "SHORT_VRS",
    "UNDEFINED",
    "VR_NAMES",
    "Alike",
    "BeyondEnd",
    "Elements",
    "Head",
    "ShortHeadError",
    "Span",
    "StepAside",
    "meta_of",
    "past_undefined",
    "raw_or_none",
    "uid_in",
    "walk",
]

UNDEFINED: Final = 0xFFFFFFFF
_TAG_VR_LENGTH: Final = Struct("<HH2sH").unpack_from
_TAG_LENGTH: Final = Struct("<HHI").unpack_from
_LENGTH: Final = Struct("<I").unpack_from
LONG_VRS: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
SHORT_VRS: Final = frozenset(
    (
        b"AE",
        b"AS",
        b"AT",
        b"CS",
        b"DA",
        b"DS",
        b"DT",
        b"FD",
        b"FL",
        b"IS",
        b"LO",
        b"LT",
        b"PN",
        b"SH",
        b"SL",
        b"SS",
        b"ST",
        b"TM",
        b"UI",
        b"UL",
        b"US",
    )
)
_STEPPED_OVER: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UN"))
VR_NAMES: Final = {vr: vr.decode() for vr in LONG_VRS | SHORT_VRS}
_PIXEL_ELEMENTS: Final = frozenset((0x0008, 0x0009, 0x0010))  # of group 7FE0: float, double and integer pixels
SEQUENCE: Final = Raw("SQ", b"")
"""Stands for a sequence: that it is there, not what it holds."""
PRIVATE_GROUPS: Final = frozenset((0x0019, 0x0021, 0x0043, 0x0051, 0x0065, 0x2001, 0x2005))
PRIVATE_LENGTH: Final = 256
"""Short private elements of groups in which vendors tell diffusion, echoes and mosaics are kept, for tag dims."""
IMPLICIT: Final = "1.2.840.10008.1.2"
"""The transfer syntax in which elements do not tell their VR."""
_NOT_LITTLE: Final = frozenset(("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.1.98"))


class StepAside(Exception):
    """The head is not of the plain kind that the walk knows."""


class BeyondEnd(StepAside):
    """An element claims to reach beyond the end of the file."""


class ShortHeadError(Exception):
    """The bytes given end before the pixel data.

    Parameters
    ----------
    reached : int
        Where an element begins that is not among them; 0 where that is not known.
    """

    def __init__(self, reached: int = 0) -> None:
        super().__init__(reached)
        self.reached = reached


Kinds = tuple[tuple[int, str], ...]
"""Tags and VRs of some elements."""


class Elements(NamedTuple):
    """The bytes of elements by their tags: those that are the same in heads laid out alike, and one's own."""

    shared: dict[int, Raw]
    """One dict for all heads that share it; see `imagedata_xr.dicom.layout`. Not to be changed."""
    kinds: Kinds = ()
    """Tag and VR of each of the others; no VR of one that is stepped over."""
    own: Sequence[bytes | None] = ()
    """The values of these, None of one that is not kept."""

    def get(self, number: int) -> Raw | None:
        """Return the bytes of an element, None where there is none."""
        for (other, vr), value in zip(self.kinds, self.own, strict=True):
            if other == number:
                return raw_or_none(vr, value)
        return self.shared.get(number)

    def whole(self) -> dict[int, Raw]:
        """Return all elements in one dict, which is not to be changed."""
        if not self.kinds:
            return self.shared
        own = zip(self.kinds, self.own, strict=True)
        return self.shared | {n: raw for (n, vr), value in own if (raw := raw_or_none(vr, value)) is not None}


class Alike(NamedTuple):
    """The elements of frames that follow each other in a file, and differ in the same ones."""

    shared: dict[int, Raw]
    """Those that are the same; as `Elements.shared`."""
    kinds: Kinds
    """Tag and VR of each of the others."""
    own: Sequence[Sequence[bytes | None]]
    """The values of these, frame by frame."""

    def each(self) -> list[Elements]:
        """Return the elements of each frame."""
        return [Elements(self.shared, self.kinds, own) for own in self.own]


def raw_or_none(vr: str, value: bytes | None) -> Raw | None:
    """Return the bytes of an element of `Elements.kinds`."""
    if not vr or value is None:
        return None
    return SEQUENCE if vr == "SQ" else Raw(vr, value)


def uid_in(value: bytes) -> str:
    """Return the UID that a value is, without its padding."""
    return value.rstrip(b"\0 ").decode("ascii", "replace")


class Head(NamedTuple):
    """What the head of one file says."""

    syntax: str
    """Transfer syntax UID."""
    elements: Elements
    """The public top-level elements that have a plain value; `SEQUENCE` for sequences."""
    pixel_tag: int
    """Tag of the pixel data element; 0 where there is none."""
    pixel_offset: int
    """Byte in the file at which the pixel data begin."""
    pixel_length: int
    """Bytes of pixel data; `UNDEFINED` where they are encapsulated."""
    data: bytes = b""
    """The file to its pixels at least, where these do not begin soon: long sequences need not be read anew."""


class Span(NamedTuple):
    """Where an element is in the head."""

    number: int
    start: int
    end: int


def walk(data: bytes, size: int, spans: list[Span] | None = None) -> Head:
    """Return what the head of a file says.

    Parameters
    ----------
    data : bytes
        The file's first bytes; enough of them to reach the pixel data.
    size : int
        Size of the whole file [bytes]; nothing that claims to reach beyond it is believed.
    spans : list, optional
        Gets the place of each element before the pixels, those of the meta header included.

    Raises
    ------
    ShortHeadError
        If `data` ends before the pixel data and the file does not.
    StepAside
        If the file is not plain little endian DICOM with a meta header.
    """
    try:
        return _walk(data, size, spans)
    except error:
        if len(data) < size:
            raise ShortHeadError from None
        raise BeyondEnd from None


def meta_of(data: bytes, spans: list[Span] | None = None) -> tuple[str, int]:
    """Return the transfer syntax and the end of the file meta group, which is always explicit little endian.

    Raises
    ------
    StepAside
        If the file has none, or one of other elements than the standard has there.
    """
    if data[128:132] != b"DICM":
        raise StepAside
    pos, syntax = 132, ""
    while True:
        group, elem, vr, length = _TAG_VR_LENGTH(data, pos)
        if group != 2:
            return syntax, pos
        value = pos + 8
        if vr in LONG_VRS:
            (length,) = _LENGTH(data, value)
            value += 4
        elif vr not in SHORT_VRS:
            raise StepAside
        if spans is not None:
            spans.append(Span(group << 16 | elem, pos, value + length))
        pos = value + length
        if elem == 0x0010:
            syntax = uid_in(data[value:pos])


def _walk(data: bytes, size: int, spans: list[Span] | None) -> Head:
    syntax, pos = meta_of(data, spans)
    if not syntax or syntax in _NOT_LITTLE:
        raise StepAside
    explicit = syntax != IMPLICIT
    elements: dict[int, Raw] = {}
    limit, before, begin = len(data), 0, pos
    if not explicit and data[pos + 4 : pos + 6].isupper():
        # A VR where there should be none: the file is not what its meta header says.
        raise StepAside
    while True:
        if spans is not None and before:
            spans.append(Span(before, begin, pos))
        begin = pos
        if pos >= limit:
            if pos > size:
                raise BeyondEnd
            if pos < size:
                raise ShortHeadError(pos)
            return Head(syntax, Elements(elements), 0, pos, 0)
        if explicit:
            group, elem, vr, length = _TAG_VR_LENGTH(data, pos)
            value = pos + 8
            if vr in LONG_VRS:
                (length,) = _LENGTH(data, value)
                value += 4
            elif vr not in SHORT_VRS:
                raise StepAside
        else:
            group, elem, length = _TAG_LENGTH(data, pos)
            value = pos + 8
            vr = b""
        number = group << 16 | elem
        if number <= before:
            raise StepAside
        before = number
        if group == 0x7FE0 and elem in _PIXEL_ELEMENTS:
            return Head(syntax, Elements(elements), number, value, length)
        if not group & 1:
            if vr == b"SQ" or (not explicit and vr_of(number) == "SQ"):
                elements[number] = SEQUENCE
            elif vr == b"UN" and vr_of(number) != "UN":
                # Written by a tool that did not know the element; pydicom does.
                raise StepAside
        if length == UNDEFINED:
            pos = past_undefined(data, value, explicit and vr != b"UN", 0)
            continue
        pos = value + length
        if group & 1 and group in PRIVATE_GROUPS and length <= PRIVATE_LENGTH and pos <= limit and vr != b"SQ":
            elements[number] = Raw(VR_NAMES.get(vr, "UN"), data[value:pos])
            continue
        if group & 1 or vr in _STEPPED_OVER or group == 0x7FE0:
            if pos > size:
                raise BeyondEnd
            continue
        if pos > limit:
            if pos > size:
                raise BeyondEnd
            raise ShortHeadError(pos)
        if explicit:
            name = VR_NAMES[vr]
        else:
            name = _implicit_vr(number, elements)
            if not name:
                continue
        elements[number] = Raw(name, data[value:pos])


def _implicit_vr(number: int, before: dict[int, Raw]) -> str:
    """Return the VR of a public element of an implicit file, "" for what has no plain value."""
    vr = vr_of(number)
    if vr == "US or SS":
        representation = before.get(0x00280103)
        if representation is None:
            raise StepAside
        return "SS" if representation.value == b"\1\0" else "US"
    return "" if " or " in vr or vr in WITHOUT_VALUE else vr


def past_undefined(data: bytes, pos: int, explicit: bool, depth: int) -> int:
    """Return where a sequence of undefined length ends; `pos` is its first item (PS3.5 7.5)."""
    if depth > 20:
        raise StepAside
    while True:
        group, elem, length = _TAG_LENGTH(data, pos)
        pos += 8
        if group != 0xFFFE or elem not in (0xE000, 0xE0DD):
            raise StepAside
        if elem == 0xE0DD:
            return pos
        if length != UNDEFINED:
            pos += length
            continue
        while True:
            group, elem, vr, short = _TAG_VR_LENGTH(data, pos)
            if group == 0xFFFE:
                if elem != 0xE00D:
                    raise StepAside
                pos += 8
                break
            if not explicit:
                (length,) = _LENGTH(data, pos + 4)
                pos += 8
            elif vr in LONG_VRS:
                (length,) = _LENGTH(data, pos + 8)
                pos += 12
            elif vr in SHORT_VRS:
                length = short
                pos += 8
            else:
                raise StepAside
            if length == UNDEFINED:
                pos = past_undefined(data, pos, explicit and vr != b"UN", depth + 1)
            else:
                pos += length
