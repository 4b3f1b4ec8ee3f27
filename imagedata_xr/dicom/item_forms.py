"""What the items of a sequence hold, item by item: those of one form are cut at once.

The functional groups of the frames of a file have the same elements, and most of their values are as long as those of
another frame. A form knows the bytes between the values, tags, VRs and lengths, and where the values are. An item that
has the same bytes there has the same elements; any other is read element by element, and gives a form. What is taken
of an item depends on these bytes only: see `imagedata_xr.dicom.groups.flat`, which looks at no value but the names of
private creators, and those are among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter
from struct import Struct, error
from typing import TYPE_CHECKING, Final, NamedTuple

from imagedata_xr.dicom.groups import ItemOfBytes, ItemsOfBytes, flat, item_at
from imagedata_xr.dicom.walk import SHORT_VRS, Kinds, StepAside
from imagedata_xr.elements import Raw, vr_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagedata_xr.dicom.groups import Items, Known, Raws

__all__ = ["Taken", "flat_all"]

Taken = tuple[Kinds, list[Sequence[bytes | None]]]
"""Tag and VR of what is taken of items that follow each other, and the values, item by item."""

_LENGTH: Final = Struct("<4xI").unpack_from
_MOST_FORMS: Final = 64
"""Forms that are kept of one sequence."""
_LARGEST_FORM: Final = 1 << 16
"""Bytes of an item that is worth one: all items of the same length are tried by it."""
_OPEN: Final = b"\xff\xff\xff\xff"


class _Form(NamedTuple):
    """Items of the same elements, with values of the same lengths."""

    unpack: Callable[[bytes, int], tuple[bytes, ...]]
    """Cuts an item, with its header and the mark of its end if it has one."""
    constant: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    """Picks what lies between the values."""
    same: tuple[bytes, ...]
    """What that is."""
    values: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    """Picks the values that are taken."""
    kinds: Kinds
    """Tag and VR of these."""
    size: int


class _Value(bytes):
    """A value that knows where it was."""

    start: int


class _PlacedItem(ItemOfBytes):
    """An item whose values know where they were."""

    def raw(self, number: int) -> Raw | None:
        """Return the bytes of an element."""
        raw = super().raw(number)
        return None if raw is None else self._placed(number, raw)

    def private(self, number: int) -> Raw:
        """Return the bytes of a private element."""
        return self._placed(number, super().private(number))

    def _placed(self, number: int, raw: Raw) -> Raw:
        value = _Value(raw.value)
        value.start = self.places[number][1]
        return Raw(raw.vr, value)

    def values(self) -> Iterator[tuple[int, int, bool]]:
        """Give begin and end of the values in the item and in those within it, and whether they have to be the same.

        So do names of private creators, and values of undefined length, whose end is told by what is in them.
        """
        for number, (vr, start, end) in self.places.items():
            if vr == b"SQ" or (not self._explicit and vr_of(number) == "SQ"):
                for item in self.items(number):
                    yield from item.values()
                continue
            is_name = number >> 16 & 1 and 1 <= number & 0xFFFF <= 0xFF
            yield start, end, bool(is_name) or (vr not in SHORT_VRS and self._data[start - 4 : start] == _OPEN)


def flat_all(items: Items, known: Known) -> list[Taken]:
    """Return for the items of a sequence what `imagedata_xr.dicom.groups.flat` takes of each.

    Items that are cut by a form share their kinds, the very object, with others of the same kinds.
    """
    if isinstance(items, ItemsOfBytes):
        return _by_forms(items, known)
    taken: list[Taken] = []
    for item in items.items():
        _take_one(taken, flat(item, known))
    return taken


def _take_one(taken: list[Taken], raws: Raws) -> None:
    kinds = tuple((number, raw.vr) for number, raw in raws.items())
    _take(taken, kinds, [[raw.value for raw in raws.values()]])


def _take(taken: list[Taken], kinds: Kinds, values: list[Sequence[bytes | None]]) -> None:
    """Add the values of some items to those of the same kinds before them."""
    if taken and taken[-1][0] == kinds:
        taken[-1][1].extend(values)
    else:
        taken.append((kinds, values))


def _by_forms(items: ItemsOfBytes, known: Known) -> list[Taken]:
    """Return what is taken of items, cut by the form of one before where there is one."""
    data, pos, end, explicit, signed = items
    forms: dict[int, list[_Form]] = {}
    """By the length that items say they have."""
    taken: list[Taken] = []
    known_kinds: dict[Kinds, Kinds] = {}
    count = 0
    while pos < end:
        (length,) = _LENGTH(data, pos)
        start = pos
        for unpack, constant, same, values, kinds, size in forms.get(length, ()):
            # Most often several of one form follow each other.
            alike: list[Sequence[bytes | None]] = []
            while pos + size <= end and constant(found := unpack(data, pos)) == same:
                alike.append(values(found))
                pos += size
            if pos > start:
                _take(taken, kinds, alike)
                break
        else:
            item, stop = item_at(data, pos, end, explicit, signed, ItemOfBytes)
            form = None
            # What `flat` does not look at may be damaged.
            with suppress(StepAside, error):
                form = _form_of(items, pos) if count < _MOST_FORMS and stop - pos <= _LARGEST_FORM else None
            if form is not None:
                count += 1
                form = form._replace(kinds=known_kinds.setdefault(form.kinds, form.kinds))
                forms.setdefault(length, []).append(form)
                _take(taken, form.kinds, [form.values(form.unpack(data, pos))])
            elif item is not None:
                _take_one(taken, flat(item, known))
            pos = stop
    return taken


def _form_of(items: ItemsOfBytes, start: int) -> _Form:
    """Return the form of the item that begins at a place."""
    data, _, _, explicit, signed = items
    item, end = item_at(data, start, items.end, explicit, signed, _PlacedItem)
    if item is None:
        raise StepAside
    taken = {
        raw.value.start: (number, raw.vr) for number, raw in flat(item, {}).items() if isinstance(raw.value, _Value)
    }
    cut: list[str] = ["<"]
    constant: list[int] = []
    values: list[int] = []
    kinds: list[tuple[int, str]] = []
    pos = start
    for begin, stop, is_constant in sorted(item.values()):
        constant.append(len(cut) - 1)
        cut.append(f"{begin - pos}s")
        pos = stop
        if is_constant:
            constant.append(len(cut) - 1)
        if begin in taken:
            values.append(len(cut) - 1)
            kinds.append(taken[begin])
        # What is looked at by nobody is kept all the same, so that each part has its place.
        cut.append(f"{stop - begin}s")
    constant.append(len(cut) - 1)
    cut.append(f"{end - pos}s")
    unpack = Struct("".join(cut)).unpack_from
    pick = _picker(constant)
    return _Form(unpack, pick, pick(unpack(data, start)), _picker(values), tuple(kinds), end - start)


def _picker(places: list[int]) -> Callable[[tuple[bytes, ...]], tuple[bytes, ...]]:
    """Return what picks some of a tuple as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda found: tuple(found[place] for place in places)
