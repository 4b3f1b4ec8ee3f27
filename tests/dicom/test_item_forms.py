"""Items that are cut by the form of another give what each of them gives when it is read element by element."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence_item

from imagedata_xr.dicom import item_forms
from imagedata_xr.dicom.groups import ItemsOfBytes, flat
from imagedata_xr.dicom.item_forms import flat_all
from imagedata_xr.dicom.walk import Alike, StepAside
from imagedata_xr.elements import tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagedata_xr.elements import Raw


def of_frame(number: int, creator: str = "Philips MR Imaging DD 005", uid: str = "1.2") -> pydicom.Dataset:
    """Return the functional groups of a frame, with a private group and a reference that is not of the frame."""
    item, position, content, derived, source, private = (pydicom.Dataset() for _ in range(6))
    position.ImagePositionPatient = [f"{number:g}", "-2.5", f"{number / 8:g}"]
    content.DimensionIndexValues, content.StackID = [1, number], "1"
    source.ReferencedSOPInstanceUID = uid
    derived.SourceImageSequence = [source]
    private.FlipAngle = number
    private.add_new(0x20010010, "LO", "Philips Imaging DD 001")
    private.add_new(0x20011003, "FL", 1000.0 + number)
    item.PlanePositionSequence, item.FrameContentSequence = [position], [content]
    item.DerivationImageSequence = [derived]
    item.add_new(0x20050010, "LO", creator)
    item.add_new(0x2005100F, "SQ", [private])
    return item


def sequence(items: list[pydicom.Dataset], explicit: bool = True, undefined: bool = False) -> ItemsOfBytes:
    """Return items as they lie in a file."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, not explicit
    for item in items:
        item.is_undefined_length_sequence_item = undefined
        write_sequence_item(buffer, item, ["iso8859"])
    data = buffer.getvalue()
    return ItemsOfBytes(data, 0, len(data), explicit, False)


def one_by_one(items: ItemsOfBytes) -> list[dict[int, Raw]]:
    return [flat(item, {}) for item in items.items()]


def at_once(items: ItemsOfBytes) -> list[dict[int, Raw]]:
    return [one.whole() for taken in flat_all(items, {}) for one in Alike({}, *taken).each()]


def outcome(how: Callable[[ItemsOfBytes], list[dict[int, Raw]]], items: ItemsOfBytes) -> object:
    """Return what a way of reading gives, or that it steps aside."""
    try:
        return how(items)
    except (StepAside, struct.error):
        return None


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("undefined", [False, True])
def test_one_item_of_each_form_is_read(explicit: bool, undefined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    items = sequence([of_frame(number) for number in range(100)], explicit, undefined)
    wanted = one_by_one(items)
    read: list[int] = []

    class Counted(item_forms._PlacedItem):
        def __init__(self, data: bytes, start: int, end: int, explicit: bool, signed: bool) -> None:
            read.append(start)
            super().__init__(data, start, end, explicit, signed)

    monkeypatch.setattr(item_forms, "_PlacedItem", Counted)
    assert at_once(items) == wanted
    assert wanted[99][tag("ImagePositionPatient")].value == b"99\\-2.5\\12.375"
    if explicit:  # else nothing tells that the private element is a sequence
        assert wanted[7][tag("FlipAngle")].value.strip() == b"7.0"
    # Numbers of one or two digits, in eighths: 8 lengths at most; each item has 5 others in it.
    assert len(read) <= 8 * 7


def test_a_private_group_of_another_maker_is_of_another_form() -> None:
    items = sequence([of_frame(1), of_frame(2), of_frame(3, creator="Somebody else's, as long"[:25].ljust(25, "."))])
    flips = [tag("FlipAngle") in elements for elements in at_once(items)]
    assert flips == [True, True, False]
    assert at_once(items) == one_by_one(items)


def test_more_forms_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_forms, "_MOST_FORMS", 3)
    items = sequence([of_frame(number, uid="1.2" + "2" * number) for number in range(40)])
    assert at_once(items) == one_by_one(items)


def test_items_without_elements() -> None:
    items = sequence([pydicom.Dataset(), pydicom.Dataset(), of_frame(1), pydicom.Dataset()])
    assert [bool(elements) for elements in at_once(items)] == [False, False, True, False]


@given(
    changes=st.lists(
        st.tuples(st.integers(0, 10_000), st.sampled_from([0, 1, 2, 8, 0x20, 0x5C, 0xFE, 0xFF])), max_size=3
    ),
    explicit=st.booleans(),
    undefined=st.booleans(),
)
def test_changed_bytes(changes: list[tuple[int, int]], explicit: bool, undefined: bool) -> None:
    """Whatever is changed, items are what they are when read one by one, or both ways step aside."""
    whole = sequence([of_frame(number) for number in (1, 2, 3, 14, 5, 6)], explicit, undefined)
    data = bytearray(whole.data)
    for place, value in changes:
        data[place % len(data)] = value
    items = whole._replace(data=bytes(data))
    assert outcome(at_once, items) == outcome(one_by_one, items)


def test_bytes_of_an_item_are_not_looked_at_beyond_its_end() -> None:
    whole = sequence([of_frame(1), of_frame(2)])
    cut = whole._replace(data=whole.data[:-3], end=len(whole.data) - 3)
    assert outcome(at_once, cut) is None
