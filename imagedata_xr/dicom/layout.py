"""The walk over heads that are laid out alike: what is the same in all files of a series is compared, not parsed again.

The heads of a series are the same bytes but for a dozen elements. A layout knows the bytes in between, and where such
an element is; a head that has the same bytes there has the same elements. Any other is walked, which teaches a layout
where else files may differ, or is the beginning of a new one. So every head gets what `walk` gives, and nothing else.
"""

from __future__ import annotations

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
    from collections.abc import Iterable

__all__ = ["Walker"]

_SHORT: Final = Struct("<H").unpack_from
_LONG: Final = Struct("<I").unpack_from
_SYNTAX: Final = 0x00020010
_REPRESENTATION: Final = 0x00280103
_BEGIN: Final = 132
"""Bytes before the first element: a preamble, in which anything may be, and the mark of DICOM."""

_IMPLICIT: Final = "1.2.840.10008.1.2"
_MOST: Final = 16
"""Layouts that are kept: of the series that lie mixed in a folder."""


class _Slot(NamedTuple):
    """An element that differs from file to file."""

    number: int
    start: bytes
    """Tag and, in an explicit file, VR."""
    at: int
    """Where the length is, from the beginning of the element."""
    is_long: bool
    """Whether the length has 4 bytes, else 2."""
    name: str
    """VR of the value; "" for what is stepped over."""
    is_explicit: bool
    """Whether items in it have VRs."""


class _Layout:
    """The bytes that heads share, and the elements in which they may differ."""

    def __init__(self, data: bytes, head: Head, spans: list[Span]) -> None:
        self._data, self._head, self._spans = data, head, spans
        self.numbers = [span.number for span in spans]
        self._varying: set[int] = set()
        self._sequences = {n for n, raw in head.elements.items() if raw is SEQUENCE}
        self._compile()

    def _compile(self) -> None:
        """Make the parts: bytes that are the same, each but the last followed by a slot."""
        parts: list[tuple[bytes, _Slot]] = []
        start = _BEGIN
        explicit = self._head.syntax != _IMPLICIT
        for span in self._spans:
            if span.number in self._varying:
                parts.append((self._data[start : span.start], self._slot(span, explicit)))
                start = span.end
        self._parts = parts
        # Up to the length of the pixel data, in which files may differ.
        self._rest = self._data[start : self._head.pixel_offset - 4]
        self._base = {n: raw for n, raw in self._head.elements.items() if n not in self._varying}

    def _slot(self, span: Span, explicit: bool) -> _Slot:
        group = span.number >> 16
        raw = self._head.elements.get(span.number)
        name = "" if raw is None or raw.vr == "SQ" else raw.vr
        if not explicit and group != 2:
            # Private elements are kept if short, which one may be in this file and not in the next.
            name = "UN" if group in PRIVATE_GROUPS else name
            return _Slot(span.number, self._data[span.start : span.start + 4], 4, True, name, False)
        vr = self._data[span.start + 4 : span.start + 6]
        is_long = vr in LONG_VRS
        if group in PRIVATE_GROUPS and vr != b"SQ":
            name = vr.decode("ascii")
        length = 8 if is_long else 6
        return _Slot(span.number, self._data[span.start : span.start + 6], length, is_long, name, vr != b"UN")

    def walk(self, data: bytes, size: int) -> Head | None:
        """Return the head, None for one that is laid out otherwise."""
        if data[_BEGIN - 4 : _BEGIN] != b"DICM":
            return None
        elements, pos, limit = self._base.copy(), _BEGIN, len(data)
        for same, (number, start, at, is_long, name, is_explicit) in self._parts:
            end = pos + len(same)
            if data[pos:end] != same:
                return None
            if data[end : end + len(start)] != start or end + at + 4 > limit:
                return None
            (length,) = (_LONG if is_long else _SHORT)(data, end + at)
            value = end + at + (4 if is_long else 2)
            if length == UNDEFINED:
                pos = past_undefined(data, value, is_explicit, 0)
                if number in self._sequences:
                    elements[number] = SEQUENCE
                continue
            pos = value + length
            if pos > limit:
                return None
            if not name:
                if number in self._sequences:
                    elements[number] = SEQUENCE
            elif not number >> 16 & 1 or length <= PRIVATE_LENGTH:
                elements[number] = Raw(name, data[value:pos])
        end = pos + len(self._rest)
        if data[pos:end] != self._rest or end + 4 > limit:
            return None
        (length,) = _LONG(data, end)
        return Head(self._head.syntax, elements, self._head.pixel_tag, end + 4, length)

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
        self._layouts: list[_Layout] = []

    def walk(self, data: bytes, size: int) -> Head:
        """Return what `imagedata_xr.dicom.walk.walk` returns, or raise what it raises."""
        for number, layout in enumerate(self._layouts):
            try:
                head = layout.walk(data, size)
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
        self._layouts.insert(0, _Layout(data, head, spans))


def _is_plain(spans: Iterable[Span], head: Head, data: bytes) -> bool:
    """Return whether all up to the pixels was read, whose length has four bytes."""
    has_long = head.syntax == _IMPLICIT or data[head.pixel_offset - 8 : head.pixel_offset - 6] in LONG_VRS
    return has_long and head.pixel_offset <= len(data) and all(span.end <= len(data) for span in spans)
