"""The walk over heads that are laid out alike: what is the same in all files of a series is compared, not parsed again.

The heads of a series are the same bytes but for a dozen elements. A layout knows the bytes in between, and where such
an element is; a head that has the same bytes there has the same elements. Any other is walked, which teaches a layout
where else files may differ, or is the beginning of a new one. So every head gets what `walk` gives, and nothing else.
"""

from __future__ import annotations

from contextlib import suppress
from struct import Struct, error
from typing import TYPE_CHECKING, Final, NamedTuple

from imagedata_xr.dicom.walk import (
    LONG_VRS,
    PRIVATE_GROUPS,
    PRIVATE_LENGTH,
    SEQUENCE,
    UNDEFINED,
    Head,
    Span,
    StepAside,
    past_undefined,
    walk,
)
from imagedata_xr.elements import Raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Layout", "Part", "Walker"]

_SHORT: Final = Struct("<H").unpack_from
_LONG: Final = Struct("<I").unpack_from
_new: Final = tuple.__new__
"""Makes a named tuple without the call of its own constructor."""
_SYNTAX: Final = 0x00020010
_REPRESENTATION: Final = 0x00280103
_BEGIN: Final = 132
"""Bytes before the first element: a preamble, in which anything may be, and the mark of DICOM."""

_IMPLICIT: Final = "1.2.840.10008.1.2"
_MOST: Final = 16
"""Layouts that are kept: of the series that lie mixed in a folder."""
_MOST_KNOWN: Final = 256
"""Values that are kept of an element."""


class _Slot(NamedTuple):
    """An element that differs from file to file, and what comes before it."""

    before: bytes
    """What is the same in all files, from the slot before; it ends with the slot's tag and, if it has one, VR."""
    number: int
    length: Callable[[bytes, int], tuple[int]]
    """Reads the length of the value."""
    value: int
    """Where the value is, from the length on."""
    tag_and_vr: int
    """Bytes of these at the end of `before`."""
    name: str
    """VR of the value; "" for what is stepped over."""
    most: int
    """Longest value that is kept [bytes]."""
    is_explicit: bool
    """Whether items in it have VRs."""
    known: dict[bytes, Raw]
    """What was there in other files; most values are those of many."""


class Part(NamedTuple):
    """Where an element lies in a head."""

    start: int
    value: int
    end: int
    is_open: bool
    """Whether its length is undefined."""


class Layout:
    """The bytes that heads share, and the elements in which they may differ."""

    def __init__(self, data: bytes, head: Head, spans: list[Span]) -> None:
        self._data, self._head, self._spans = data, head, spans
        self.numbers = [span.number for span in spans]
        self._varying: set[int] = set()
        self._sequences = {n for n, raw in head.elements.items() if raw is SEQUENCE}
        self._compile()

    def _compile(self) -> None:
        start, slots = _BEGIN, []
        explicit = self._head.syntax != _IMPLICIT
        for span in self._spans:
            if span.number in self._varying:
                slots.append(self._slot(start, span, explicit))
                start = span.end
        self._slots = slots
        # Up to the length of the pixel data, in which files may differ.
        self._rest = self._data[start : self._head.pixel_offset - 4]
        self._shared = {n: raw for n, raw in self._head.elements.items() if n not in self._varying}

    def _slot(self, start: int, span: Span, explicit: bool) -> _Slot:
        group = span.number >> 16
        raw = self._head.elements.get(span.number)
        name = "" if raw is None or raw.vr == "SQ" else raw.vr
        private = group in PRIVATE_GROUPS
        most = PRIVATE_LENGTH if group & 1 else UNDEFINED
        if not explicit and group != 2:
            # Private elements are kept if short, which one may be in this file and not in the next.
            before = self._data[start : span.start + 4]
            return _Slot(before, span.number, _LONG, 4, 4, "UN" if private else name, most, False, {})
        vr = self._data[span.start + 4 : span.start + 6]
        if private and vr != b"SQ":
            name = vr.decode("ascii")
        if vr in LONG_VRS:
            # With the two bytes after the VR, which are zero.
            return _Slot(self._data[start : span.start + 8], span.number, _LONG, 4, 8, name, most, vr != b"UN", {})
        return _Slot(self._data[start : span.start + 6], span.number, _SHORT, 2, 6, name, most, True, {})

    def walk(self, data: bytes) -> Head | None:
        """Return the head, None for one that is laid out otherwise."""
        if data[_BEGIN - 4 : _BEGIN] != b"DICM":
            return None
        own, pos, limit = {}, _BEGIN, len(data)
        for before, number, read_length, skip, _, name, most, is_explicit, known in self._slots:
            if not data.startswith(before, pos):
                return None
            pos += len(before)
            (length,) = read_length(data, pos)
            pos += skip
            if length == UNDEFINED:
                pos = past_undefined(data, pos, is_explicit, 0)
            elif name and length <= most:
                value = data[pos : pos + length]
                pos += length
                raw = known.get(value)
                if raw is None:
                    raw = _new(Raw, (name, value))
                    if len(known) < _MOST_KNOWN:
                        known[value] = raw
                own[number] = raw
                continue
            else:
                pos += length
            if number in self._sequences:
                own[number] = SEQUENCE
        # What ends early does not have the rest, so nothing was cut off from a value.
        end = pos + len(self._rest)
        if not data.startswith(self._rest, pos) or end + 4 > limit:
            return None
        return Head(
            self._head.syntax, self._shared | own, self._head.pixel_tag, end + 4, _LONG(data, end)[0], self._shared, own
        )

    def varying(self, data: bytes) -> dict[int, Part] | None:
        """Return where the elements lie that may differ, None for a head that is laid out otherwise."""
        found, pos = {}, _BEGIN
        for slot in self._slots:
            if not data.startswith(slot.before, pos):
                return None
            pos += len(slot.before)
            start = pos - slot.tag_and_vr
            (length,) = slot.length(data, pos)
            value = pos + slot.value
            is_open = length == UNDEFINED
            pos = past_undefined(data, value, slot.is_explicit, 0) if is_open else value + length
            found[slot.number] = Part(start, value, pos, is_open)
        return found if data.startswith(self._rest, pos) else None

    def learn(self, data: bytes, spans: list[Span]) -> None:
        """Take as varying what differs in another head of the same elements."""
        for mine, other in zip(self._spans, spans, strict=True):
            if self._data[mine.start : mine.end] != data[other.start : other.end]:
                self._varying.add(mine.number)
        self._compile()

    def can_tell(self) -> bool:
        """Return whether what decides on the meaning of other bytes is the same in all heads."""
        return not self._varying & {_SYNTAX, _REPRESENTATION}

    def is_taught_by(self, spans: list[Span], data: bytes) -> bool:
        """Return whether a head has the same elements, of the same VRs."""
        return [span.number for span in spans] == self.numbers and all(
            self._data[a.start : a.start + 6] == data[b.start : b.start + 6]
            for a, b in zip(self._spans, spans, strict=True)
            if a.number >> 16 == 2 or self._head.syntax != _IMPLICIT
        )


class Walker:
    """Walks heads one after the other, and remembers how those before were laid out."""

    def __init__(self) -> None:
        self._layouts: list[Layout] = []

    def layout(self, data: bytes) -> tuple[Layout, dict[int, Part]] | None:
        """Return a known layout of a head, and where the elements lie that differ among heads of it."""
        for layout in self._layouts:
            with suppress(StepAside, error):
                parts = layout.varying(data)
                if parts is not None:
                    return layout, parts
        return None

    def walk(self, data: bytes, size: int) -> Head:
        """Return what `imagedata_xr.dicom.walk.walk` returns, or raise what it raises."""
        for number, layout in enumerate(self._layouts):
            try:
                head = layout.walk(data)
            except (StepAside, error):
                break
            if head is not None:
                if number:
                    self._layouts.insert(0, self._layouts.pop(number))
                return head
        spans: list[Span] = []
        head = walk(data, size, spans)
        if head.pixel_tag and _is_plain(spans, head, data):
            self._remember(data, head, spans)
        return head

    def _remember(self, data: bytes, head: Head, spans: list[Span]) -> None:
        for layout in self._layouts:
            if layout.is_taught_by(spans, data):
                layout.learn(data, spans)
                if not layout.can_tell():
                    self._layouts.remove(layout)
                return
        del self._layouts[_MOST - 1 :]
        self._layouts.insert(0, Layout(data, head, spans))


def _is_plain(spans: Iterable[Span], head: Head, data: bytes) -> bool:
    """Return whether all up to the pixels was read, whose length has four bytes."""
    has_long = head.syntax == _IMPLICIT or data[head.pixel_offset - 8 : head.pixel_offset - 6] in LONG_VRS
    return has_long and head.pixel_offset <= len(data) and all(span.end <= len(data) for span in spans)
