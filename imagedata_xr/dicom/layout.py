"""The walk over heads that are laid out alike: what is the same in all files of a series is compared, not parsed again.

The heads of a series are the same bytes but for a dozen elements. A layout knows the bytes in between, and where such
an element is; a head that has the same bytes there has the same elements. Any other is walked, which teaches a layout
where else files may differ, or is the beginning of a new one. So every head gets what `walk` gives, and nothing else.
"""

from __future__ import annotations

from itertools import count
from struct import Struct, error
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from imagedata_xr.dicom.walk import (
    IMPLICIT,
    LONG_VRS,
    PRIVATE_GROUPS,
    PRIVATE_LENGTH,
    UNDEFINED,
    Elements,
    Head,
    Span,
    StepAside,
    past_undefined,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from imagedata_xr.dicom.walk import Kinds
    from imagedata_xr.elements import Raw

__all__ = ["Cut", "Layout", "Shape", "Walker"]

T = TypeVar("T")

_SHORT: Final = Struct("<H").unpack_from
_LONG: Final = Struct("<I").unpack_from
_new: Final = tuple.__new__
"""Makes a named tuple without the call of its own constructor."""
_SYNTAX: Final = 0x00020010
_REPRESENTATION: Final = 0x00280103
_BEGIN: Final = 132
"""Bytes before the first element: a preamble, in which anything may be, and the mark of DICOM."""

_NOT_KEPT: Final = ("", "SQ")
"""Instead of a VR, where nothing is kept of a value: "SQ" of a sequence, "" of what else is stepped over."""
_MOST: Final = 64
"""Layouts that are kept: of the series that lie mixed in a folder."""
_LONGEST: Final = 1 << 18
"""Bytes of a head that is remembered: longer ones are of many frames, and most often each is another."""
_MOST_FORMS: Final = 64
"""Sizes of files for which forms are kept."""
_MOST_OF_SIZE: Final = 8
"""Forms that are kept of files of one size."""
_VERSIONS: Final = count()
"""Numbers for what layouts have learnt."""


class _Slot(NamedTuple):
    """An element that differs from file to file, and what comes before it."""

    number: int
    before: bytes
    """What is the same in all files, from the slot before; it ends with the slot's tag and, if it has one, VR."""
    length: Callable[[bytes, int], tuple[int]]
    """Reads the length of the value."""
    value: int
    """Where the value is, from the length on."""
    start: bytes
    """Its tag and, if it has one, VR."""
    name: str
    """VR of the value, or one of `_NOT_KEPT`."""
    most: int
    """Longest value that is kept [bytes]."""
    is_explicit: bool
    """Whether items in it have VRs."""


class _Form(NamedTuple):
    """The heads of a layout in which every value has a certain length: all lies where it lay in another of them."""

    unpack: Callable[[bytes, int], tuple[bytes, ...]]
    """Cuts a head, from the mark on, into what is the same in all heads of the form and the values, in turns."""
    unpack_whole: Callable[[bytes, int], tuple[bytes, ...]]
    """The same, values included of which a head keeps nothing."""
    same: tuple[bytes, ...]
    """What is the same, the lengths of values included."""
    offset: int
    """Where the pixels begin."""


class Shape(NamedTuple):
    """What heads have in common that are laid out alike."""

    version: int
    """Heads with the same one have the same bytes but in the elements of `kinds`."""
    syntax: str
    """Transfer syntax UID."""
    pixel_tag: int
    """Tag of the pixel data element."""
    shared: dict[int, Raw]
    """Elements that are the same, see `Elements.shared`."""
    kinds: Kinds
    """Tag and VR of each element that may differ; no VR of one that is stepped over."""
    starts: tuple[bytes, ...]
    """Tag and VR of these, as they are in the files; the tag alone where VRs are implicit."""


class Cut(NamedTuple):
    """A head that is laid out like others."""

    shape: Shape
    values: Sequence[bytes]
    """What each element of the shape's `kinds` has after its length, those included that are stepped over."""
    open: Sequence[int]
    """Which of these have no length, but an end of their own."""
    pixel_offset: int
    pixel_length: int


class Layout:
    """The bytes that heads share, and the elements in which they may differ."""

    def __init__(self, data: bytes, head: Head, spans: list[Span]) -> None:
        self._data, self._spans = data, spans
        self._syntax, self._pixel_tag, self._pixel_offset = head.syntax, head.pixel_tag, head.pixel_offset
        self.numbers = [span.number for span in spans]
        self._varying: set[int] = set()
        self._elements = head.elements.whole()
        self._compile()

    def _compile(self) -> None:
        start, slots = _BEGIN, []
        explicit = self._syntax != IMPLICIT
        for span in self._spans:
            if span.number in self._varying:
                slots.append(self._slot(start, span, explicit))
                start = span.end
        self._slots = slots
        # Up to the length of the pixel data, in which files may differ.
        self._rest = self._data[start : self._pixel_offset - 4]
        self._forms: dict[int, list[_Form]] = {}
        self._kinds = tuple((slot.number, slot.name) for slot in slots)
        self._shared = {n: raw for n, raw in self._elements.items() if n not in self._varying}
        starts = tuple(slot.start for slot in slots)
        self._shape = Shape(next(_VERSIONS), self._syntax, self._pixel_tag, self._shared, self._kinds, starts)

    def _slot(self, start: int, span: Span, explicit: bool) -> _Slot:
        group = span.number >> 16
        raw = self._elements.get(span.number)
        name = "" if raw is None else raw.vr
        private = group in PRIVATE_GROUPS
        most = PRIVATE_LENGTH if group & 1 else UNDEFINED
        if not explicit and group != 2:
            # Private elements are kept if short, which one may be in this file and not in the next.
            before = self._data[start : span.start + 4]
            name = name if name == "SQ" or not private else "UN"
            return _Slot(span.number, before, _LONG, 4, before[-4:], name, most, False)
        vr = self._data[span.start + 4 : span.start + 6]
        if private and vr != b"SQ":
            name = vr.decode("ascii")
        if vr in LONG_VRS:
            # With the two bytes after the VR, which are zero.
            before, is_explicit = self._data[start : span.start + 8], vr != b"UN"
            return _Slot(span.number, before, _LONG, 4, before[-8:-2], name, most, is_explicit)
        before = self._data[start : span.start + 6]
        return _Slot(span.number, before, _SHORT, 2, before[-6:], name, most, True)

    def _by_form(self, data: bytes, size: int) -> Head | None:
        """Return the head of a file, if another file of this size had one of the same form."""
        for form in self._forms.get(size, ()):
            found = form.unpack(data, _BEGIN - 4)
            if found[::2] != form.same:
                continue
            elements = _new(Elements, (self._shared, self._kinds, found[1:-2:2]))
            return _new(Head, (self._syntax, elements, self._pixel_tag, form.offset, _LONG(found[-1], 0)[0], b""))
        return None

    def _take_form(self, data: bytes, size: int, lengths: Sequence[int], offset: int) -> None:
        """Keep the form of a head, by the lengths of the values that differ."""
        if len(self._forms) >= _MOST_FORMS or len(self._forms.get(size, ())) >= _MOST_OF_SIZE:
            return
        kept, whole, same = ["<"], ["<"], 4  # the mark of DICOM
        for slot, n in zip(self._slots, lengths, strict=True):
            is_kept = slot.name not in _NOT_KEPT
            if n == UNDEFINED or (is_kept and n > slot.most):
                return
            before = f"{same + len(slot.before) + slot.value}s"
            kept.append(before + (f"{n}s" if is_kept else f"0s{n}x"))
            whole.append(f"{before}{n}s")
            same = 0
        end = f"{same + len(self._rest)}s4s"
        unpack, unpack_whole = (Struct("".join((*some, end))).unpack_from for some in (kept, whole))
        self._forms.setdefault(size, []).append(_Form(unpack, unpack_whole, unpack(data, _BEGIN - 4)[::2], offset))

    def walk(self, data: bytes, size: int) -> Head | None:
        """Return the head, None for one that is laid out otherwise."""
        known = self._by_form(data, size)
        if known is not None:
            return known
        by_slots = self._by_slots(data, size)
        if by_slots is None:
            return None
        places, offset, length = by_slots
        own = [
            b"" if slot.name in _NOT_KEPT else None if told == UNDEFINED or told > slot.most else data[start:end]
            for slot, (start, end, told) in zip(self._slots, places, strict=True)
        ]
        elements = _new(Elements, (self._shared, self._kinds, own))
        return _new(Head, (self._syntax, elements, self._pixel_tag, offset, length, b""))

    def _by_slots(self, data: bytes, size: int) -> tuple[list[tuple[int, int, int]], int, int] | None:
        """Return where each value begins, where it ends and its length as told; and offset and length of the pixels."""
        if data[_BEGIN - 4 : _BEGIN] != b"DICM":
            return None
        places: list[tuple[int, int, int]] = []
        pos, take = _BEGIN, places.append
        for slot in self._slots:
            if not data.startswith(slot.before, pos):
                return None
            pos += len(slot.before)
            (length,) = slot.length(data, pos)
            pos += slot.value
            end = past_undefined(data, pos, slot.is_explicit, 0) if length == UNDEFINED else pos + length
            take((pos, end, length))
            pos = end
        # What ends early does not have the rest, so nothing was cut off from a value.
        end = pos + len(self._rest)
        if not data.startswith(self._rest, pos) or end + 4 > len(data):
            return None
        (pixel_length,) = _LONG(data, end)
        if pixel_length != UNDEFINED:  # sizes of files with compressed pixels say nothing of their heads
            self._take_form(data, size, [told for _, _, told in places], end + 4)
        return places, end + 4, pixel_length

    def cut(self, data: bytes, size: int) -> Cut | None:
        """Return the values in which a head differs from others, None for one that is laid out otherwise."""
        for form in self._forms.get(size, ()):
            found = form.unpack_whole(data, _BEGIN - 4)
            if found[::2] == form.same:
                return _new(Cut, (self._shape, found[1:-2:2], (), form.offset, _LONG(found[-1], 0)[0]))
        by_slots = self._by_slots(data, size)
        if by_slots is None:
            return None
        places, offset, length = by_slots
        values = [data[start:end] for start, end, _ in places]
        opened = [at for at, (_, _, told) in enumerate(places) if told == UNDEFINED]
        return Cut(self._shape, values, opened, offset, length)

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
            if a.number >> 16 == 2 or self._syntax != IMPLICIT
        )


class Walker:
    """Walks heads one after the other, and remembers how those before were laid out."""

    def __init__(self) -> None:
        self._layouts: list[Layout] = []
        self.taught = 0
        """How many heads were not as known."""

    def cut(self, data: bytes, size: int) -> Cut | None:
        """Return what differs in the head of a file that is laid out like one before, None of another."""
        return self._first(lambda layout: layout.cut(data, size))

    def _first(self, take: Callable[[Layout], T | None]) -> T | None:
        """Return what the first layout gives that knows a head, which will be asked first from now on."""
        for number, layout in enumerate(self._layouts):
            try:
                found = take(layout)
            except (StepAside, error):
                break
            if found is not None:
                if number:
                    self._layouts.insert(0, self._layouts.pop(number))
                return found
        return None

    def known(self, data: bytes, size: int) -> Head | None:
        """Return the head of a file that is laid out like the one before, None of another."""
        try:
            return self._layouts[0].walk(data, size) if self._layouts else None
        except (StepAside, error):
            return None

    def walk(self, data: bytes, size: int) -> Head:
        """Return what `imagedata_xr.dicom.walk.walk` returns, or raise what it raises."""
        known = self._first(lambda layout: layout.walk(data, size))
        if known is not None:
            return known
        spans: list[Span] = []
        head = walk(data, size, spans)
        if head.pixel_tag and len(data) <= _LONGEST and _is_plain(spans, head, data):
            self._remember(data, head, spans)
        return head

    def _remember(self, data: bytes, head: Head, spans: list[Span]) -> None:
        self.taught += 1
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
    has_long = head.syntax == IMPLICIT or data[head.pixel_offset - 8 : head.pixel_offset - 6] in LONG_VRS
    return has_long and head.pixel_offset <= len(data) and all(span.end <= len(data) for span in spans)
