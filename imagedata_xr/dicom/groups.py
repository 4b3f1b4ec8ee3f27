"""Functional groups: what an enhanced file says of all its frames, and of each.

Items of sequences are read off the bytes of the head where these are plain, else by pydicom; what is taken of them is
decided here, once for both.
"""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, TypeVar

from imagedata_xr.dicom.damage import read_elements
from imagedata_xr.dicom.walk import (
    IMPLICIT,
    LONG_VRS,
    PRIVATE_GROUPS,
    PRIVATE_LENGTH,
    SHORT_VRS,
    UNDEFINED,
    VR_NAMES,
    ShortHeadError,
    Span,
    StepAside,
    past_undefined,
    walk,
)
from imagedata_xr.elements import WITHOUT_VALUE, Raw, raw_of, tag, vr_of
from imagedata_xr.names import GROUPS_NOT_OF_THE_FRAME, NAME_OF_MAP, PIXEL_KEYWORDS, WITHIN_GROUPS
from imagedata_xr.quiet import filtered_warnings
from imagedata_xr.streams import open_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pydicom.dataset import Dataset

    from imagedata_xr.dicom.walk import Head

__all__ = [
    "Item",
    "ItemOfBytes",
    "Items",
    "ItemsOfBytes",
    "Known",
    "Raws",
    "flat",
    "item_at",
    "read_sequences",
]

Raws = dict[int, Raw]

_NOT_OF_THE_FRAME: Final = frozenset(map(tag, GROUPS_NOT_OF_THE_FRAME))
_MAPS, _NAME_OF_MAP = map(tag, NAME_OF_MAP)
_WITHIN: Final = frozenset(map(tag, WITHIN_GROUPS))
_UNASSIGNED: Final = tuple(
    map(tag, ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence"))
)
"""What a converter of classic files found no group for; groups come first."""
_PHILIPS: Final = "Philips MR Imaging DD 005"
_OF_PHILIPS: Final = tuple(
    map(
        tag,
        (
            *("TemporalPositionIdentifier", "TriggerTime", "InversionTime", "RepetitionTime", "FlipAngle"),
            *("DiffusionBValue", "DiffusionGradientOrientation", "RescaleSlope", "RescaleIntercept", "RescaleType"),
            *("AcquisitionDate", "AcquisitionTime"),
        ),
    )
)
"""Taken from Philips' header of a classic image where groups lack them. Its ImagePositionPatient is another corner."""
_NEVER: Final = frozenset(
    {tag(name) for name in PIXEL_KEYWORDS - {"RescaleSlope", "RescaleIntercept"}}
    | set(
        map(
            tag,
            (
                *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
                *("FrameOfReferenceUID", "Modality"),
            ),
        )
    )
)
"""Elements of the file that no group may change."""
_TAG_VR_LENGTH: Final = Struct("<HH2sH").unpack_from
_TAG_LENGTH: Final = Struct("<HHI").unpack_from
_LENGTH: Final = Struct("<I").unpack_from
_ITEM, _END_OF_ITEM, _END = 0xE000, 0xE00D, 0xE0DD


class Item(Protocol):
    """An item of a sequence."""

    @property
    def numbers(self) -> Iterable[int]:
        """Tags of its elements, as they stand."""

    def raw(self, number: int) -> Raw | None:
        """Return the bytes of an element, see `imagedata_xr.elements.raw_of`."""

    def private(self, number: int) -> Raw | None:
        """Return the bytes of a private element, None of a sequence."""

    def items(self, number: int) -> Sequence[Item]:
        """Return the items of a sequence."""

    def key(self, number: int) -> bytes | None:
        """Return what is the same for sequences that are the same; None where that is not known."""


class Items(Protocol):
    """The items of a sequence."""

    def items(self) -> Iterator[Item]:
        """Give the items one by one."""


class _OfPydicom:
    """An item that pydicom has read."""

    def __init__(self, dataset: Dataset, signed: bool) -> None:
        self._dataset, self._signed = dataset, signed
        self.numbers = [int(t) for t in dataset.keys()]  # noqa: SIM118 - iterating converts every element

    def raw(self, number: int) -> Raw | None:
        if number not in self._dataset:
            return None
        return raw_of(number, self._dataset.get_item(number), signed=self._signed)

    def private(self, number: int) -> Raw | None:
        element: Any = self._dataset.get_item(number)
        if element.VR == "SQ":
            return Raw("SQ", b"")
        value = element.value
        if isinstance(value, str):  # pydicom converts the creator of an element that it is asked for
            value = value.encode("latin-1", "replace")
        return Raw(element.VR or "UN", value) if isinstance(value, bytes) else None

    def items(self, number: int) -> list[Self]:
        return [type(self)(item, self._signed) for item in self._dataset[number].value or ()]

    def key(self, number: int) -> None:
        return None


class ItemOfBytes:
    """An item that was read off the bytes of a head, between two places in them.

    Raises
    ------
    StepAside
        If something is unusual in it.
    """

    def __init__(self, data: bytes, start: int, end: int, explicit: bool, signed: bool) -> None:
        self._data, self._explicit, self._signed = data, explicit, signed
        self.places: dict[int, tuple[bytes, int, int]] = {}
        """VR, begin and end of the value of each element."""
        pos, before, places = start, 0, self.places
        while pos < end:
            if explicit:
                group, elem, vr, length = _TAG_VR_LENGTH(data, pos)
                pos += 8
                if vr in LONG_VRS:
                    (length,) = _LENGTH(data, pos)
                    pos += 4
                elif vr not in SHORT_VRS:
                    raise StepAside
            else:
                group, elem, length = _TAG_LENGTH(data, pos)
                pos += 8
                vr = b""
            number = group << 16 | elem
            # pydicom knows what an element is that a tool wrote as unknown.
            if number <= before or (vr == b"UN" and (not group & 1 or length == UNDEFINED)):
                raise StepAside
            before = number
            stop = pos + length if length != UNDEFINED else past_undefined(data, pos, explicit, 0)
            if stop > end:
                raise StepAside
            places[number] = vr, pos, stop
            pos = stop
        self.numbers = list(places)

    def raw(self, number: int) -> Raw | None:
        """Return the bytes of an element."""
        if number not in self.places:
            return None
        vr, start, end = self.places[number]
        name = VR_NAMES[vr] if vr else vr_of(number)
        if name == "US or SS":
            name = "SS" if self._signed else "US"
        if name == "SQ":
            return Raw("SQ", b"")
        return None if " or " in name or name in WITHOUT_VALUE else Raw(name, self._data[start:end])

    def private(self, number: int) -> Raw:
        """Return the bytes of a private element."""
        vr, start, end = self.places[number]
        return Raw(VR_NAMES[vr] if vr else "UN", b"" if vr == b"SQ" else self._data[start:end])

    def items(self, number: int) -> list[Self]:
        """Return the items of a sequence."""
        _, start, end = self.places[number]
        return list(_items(self._data, start, end, self._explicit, self._signed, type(self)))

    def key(self, number: int) -> bytes:
        """Return the bytes of a sequence."""
        _, start, end = self.places[number]
        return self._data[start:end]


_AnItem = TypeVar("_AnItem", bound=ItemOfBytes)


class ItemsOfBytes(NamedTuple):
    """The items of a sequence whose value is between two places of the bytes of a head."""

    data: bytes
    start: int
    end: int
    explicit: bool
    signed: bool

    def items(self) -> Iterator[ItemOfBytes]:
        """Give the items one by one."""
        return _items(*self, ItemOfBytes)


def _items(data: bytes, pos: int, end: int, explicit: bool, signed: bool, kind: type[_AnItem]) -> Iterator[_AnItem]:
    """Give the items of a sequence whose value is between two places (PS3.5 7.5)."""
    while pos < end:
        item, pos = item_at(data, pos, end, explicit, signed, kind)
        if item is not None:
            yield item


def item_at(
    data: bytes, pos: int, end: int, explicit: bool, signed: bool, kind: type[_AnItem]
) -> tuple[_AnItem | None, int]:
    """Return the item that begins at a place of a sequence, None for the mark of its end, and where it ends itself."""
    group, elem, length = _TAG_LENGTH(data, pos)
    pos += 8
    if group != 0xFFFE or elem not in (_ITEM, _END):
        raise StepAside
    if elem == _END:
        if pos != end:
            raise StepAside
        return None, pos
    if length == UNDEFINED:
        stop = _end_of_item(data, pos, explicit)
        return kind(data, pos, stop - 8, explicit, signed), stop
    stop = pos + length
    if stop > end:
        raise StepAside
    return kind(data, pos, stop, explicit, signed), stop


def _end_of_item(data: bytes, pos: int, explicit: bool) -> int:
    """Return where an item of undefined length ends, with the mark of its end."""
    while True:
        group, elem, vr, length = _TAG_VR_LENGTH(data, pos)
        pos += 8
        if group == 0xFFFE:
            if elem != _END_OF_ITEM:
                raise StepAside
            return pos
        if not explicit:
            (length,) = _LENGTH(data, pos - 4)
        elif vr in LONG_VRS:
            (length,) = _LENGTH(data, pos)
            pos += 4
        elif vr not in SHORT_VRS:
            raise StepAside
        pos = pos + length if length != UNDEFINED else past_undefined(data, pos, explicit and vr != b"UN", 0)


def read_sequences(
    path: str, head: Head, wanted: Mapping[int, Callable[[Items], list[Any]]], *, signed: bool
) -> list[list[Any]]:
    """Return what functions make of some sequences of a file; nothing of a sequence that is absent.

    Parameters
    ----------
    path, head : str, Head
        The file.
    wanted : mapping
        The sequences, each with a function of its items.
    signed : bool
        Whether pixels are (PixelRepresentation).

    Raises
    ------
    UnreadableFileError, and `imagedata_xr.dicom.damage.DAMAGE`
        If it is damaged.
    """
    found = _from_bytes(path, head, wanted, signed)
    return found if found is not None else _by_pydicom(path, wanted, signed)


def _from_bytes(
    path: str, head: Head, wanted: Mapping[int, Callable[[Items], list[Any]]], signed: bool
) -> list[list[Any]] | None:
    """Return what is made of items read off the bytes of the head, None where something is unusual."""
    if head.pixel_offset <= 0:
        return None
    data = head.data
    if not data:
        with open_binary(path) as file:
            data = file.read(head.pixel_offset)
    spans: list[Span] = []
    try:
        walk(data, len(data) + 1, spans)
        explicit = head.syntax != IMPLICIT
        places = {span.number: span for span in spans}
        return [
            take(_sequence(data, places[number], explicit, signed)) if number in places else []
            for number, take in wanted.items()
        ]
    except (StepAside, ShortHeadError, error):
        return None


def _sequence(data: bytes, span: Span, explicit: bool, signed: bool) -> ItemsOfBytes:
    if explicit and data[span.start + 4 : span.start + 6] != b"SQ":
        raise StepAside
    return ItemsOfBytes(data, span.start + (12 if explicit else 8), span.end, explicit, signed)


class _ItemsOfPydicom(NamedTuple):
    """The items of a sequence that pydicom has read."""

    sequence: Sequence[Dataset]
    signed: bool

    def items(self) -> Iterator[_OfPydicom]:
        """Give the items one by one."""
        return (_OfPydicom(item, self.signed) for item in self.sequence)


def _by_pydicom(path: str, wanted: Mapping[int, Callable[[Items], list[Any]]], signed: bool) -> list[list[Any]]:
    """Return what is made of items that pydicom reads."""
    dataset = read_elements(path, (*wanted, tag("SpecificCharacterSet"), tag("PixelRepresentation")))
    with filtered_warnings():
        return [
            take(_ItemsOfPydicom(dataset[number].value or (), signed)) if number in dataset else []
            for number, take in wanted.items()
        ]


Known = dict[tuple[int, bytes], "list[tuple[int, Raw]]"]


def flat(item: Item, known: Known) -> Raws:
    """Return the elements in the functional groups of one item.

    Parameters
    ----------
    item : Item
        One of the shared or of the per-frame functional groups.
    known : dict
        What groups of the same bytes gave before; gets those of this item.
    """
    elements = dict(_of_vendor(item))
    for number in sorted(item.numbers, key=lambda n: n not in _UNASSIGNED):
        if number >> 16 & 1 or (number in _NOT_OF_THE_FRAME and number != _MAPS):
            continue
        raw = item.raw(number)
        if raw is None or raw.vr != "SQ":
            continue
        key = item.key(number)
        found = None if key is None else known.get((number, key))
        if found is None:
            items = item.items(number)
            # Several items are several things, of which none is the frame's.
            found = list(_plain(items[0], _WITHIN)) if len(items) == 1 else []
            if number == _MAPS:
                found = [(inner, value) for inner, value in found if inner == _NAME_OF_MAP]
            if key is not None:
                known[number, key] = found
        elements.update(found)
    return elements


def _plain(item: Item, within: frozenset[int]) -> Iterator[tuple[int, Raw]]:
    """Give the elements of an item with a plain value, and those of some sequences in it."""
    for number in item.numbers:
        if number in _NEVER or number >> 16 in (0x0002, 0x0010):
            continue
        if number >> 16 & 1:
            yield from _private(item, number)
            continue
        raw = item.raw(number)
        if raw is not None and raw.vr != "SQ":
            yield number, raw
        elif raw is not None and number in within:
            inner = item.items(number)
            if len(inner) == 1:
                yield from _plain(inner[0], frozenset())


def _private(item: Item, number: int) -> Iterator[tuple[int, Raw]]:
    """Give a short private element of the groups in which vendors tell diffusion."""
    if number >> 16 in PRIVATE_GROUPS:
        raw = item.private(number)
        if raw is not None and raw.vr != "SQ" and len(raw.value) <= PRIVATE_LENGTH:
            yield number, raw


def _of_vendor(item: Item) -> Iterator[tuple[int, Raw]]:
    """Give what private groups hold: private elements, and of Philips those that standard groups may lack."""
    for number in item.numbers:
        if number >> 16 not in PRIVATE_GROUPS or number & 0xFF00 == 0:
            continue
        raw = item.private(number)
        if raw is None or raw.vr != "SQ":
            continue
        items = item.items(number)
        if len(items) != 1:
            continue
        at = number & 0xFFFF0000 | (number & 0xFFFF) >> 8
        creator = item.private(at) if at in item.numbers else None
        is_philips = creator is not None and creator.value.strip(b"\0 ") == _PHILIPS.encode()
        for inner, value in _plain(items[0], frozenset()):
            if inner >> 16 & 1 or (is_philips and inner in _OF_PHILIPS):
                yield inner, value
