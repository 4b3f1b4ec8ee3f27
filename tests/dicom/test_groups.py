"""What is read off the bytes of functional groups is what pydicom reads, or nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from imagedata_xr.dicom import groups
from imagedata_xr.dicom.damage import DAMAGE
from imagedata_xr.dicom.groups import flat
from imagedata_xr.dicom.item_forms import flat_all
from imagedata_xr.dicom.multiframe import PER_FRAME, SHARED
from imagedata_xr.dicom.scan import read_head
from imagedata_xr.dicom.walk import Alike
from imagedata_xr.elements import tag
from imagedata_xr.errors import UnreadableFileError
from tests.dicom.multi import write_enhanced

if TYPE_CHECKING:
    from pathlib import Path

    from imagedata_xr.dicom.walk import Head

NUMBERS = (SHARED, PER_FRAME, tag("SegmentSequence"), tag("DetectorInformationSequence"))


def read(how: Any, path: Path, head: Head) -> Any:
    """Return all that is taken of the groups; None where the way steps aside or the file is damaged."""
    taken = dict.fromkeys(NUMBERS, lambda items: [flat(item, {}) for item in items.items()])
    taken[PER_FRAME] = lambda items: [one.whole() for own in flat_all(items, {}) for one in Alike({}, *own).each()]
    try:
        return how(str(path), head, taken, True) if how is groups._from_bytes else how(str(path), taken, True)
    except (*DAMAGE, OSError, UnreadableFileError):
        return None


def assert_the_same(path: Path, head: Head) -> bool:
    """Return whether it was read off the bytes."""
    fast = read(groups._from_bytes, path, head)
    if fast is not None:
        assert fast == read(groups._by_pydicom, path, head), path
    return fast is not None


def head_of(path: Path) -> Head | None:
    try:
        found = read_head(str(path))
    except UnreadableFileError:
        return None
    return None if found is None or not {SHARED, PER_FRAME} & found[0].elements.whole().keys() else found[0]


def test_real_files(shared_data: Path) -> None:
    read_off_bytes, long_heads = {}, 0
    for path in sorted(shared_data.rglob("*")):
        head = head_of(path) if path.is_file() else None
        if head is not None:
            read_off_bytes[path.parent.parent.name, path.name] = assert_the_same(path, head)
            if head.data:  # what the scan has read of a long head need not be read anew
                long_heads += 1
                assert assert_the_same(path, head._replace(data=b""))
    assert len(read_off_bytes) > 10
    assert long_heads
    slow = sorted({case for case, fast in read_off_bytes.items() if not fast})
    assert not slow


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [False, True])
def test_made_files(tmp_path: Path, syntax: pydicom.uid.UID, undefined: bool) -> None:
    def more(ds: pydicom.Dataset) -> None:
        group = ds.PerFrameFunctionalGroupsSequence
        for number, item in enumerate(group):
            item.add_new(0x20050010, "LO", "Philips MR Imaging DD 005")
            inner = pydicom.Dataset()
            inner.FlipAngle, inner.EchoTime = number, 3.5
            inner.add_new(0x20010010, "LO", "Philips Imaging DD 001")
            inner.add_new(0x20011003, "FL", 1000.0 + number)
            item.add_new(0x2005140F, "SQ", [inner])
            item.add_new(0x00211001, "UN", b"private bytes of odd meaning" + bytes([number]) + b" ")
            item.is_undefined_length_sequence_item = undefined
        ds["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined

    file = write_enhanced(tmp_path / "a", times=2, slices=3, mutate=more, syntax=syntax)
    head = head_of(file)
    assert head is not None
    assert assert_the_same(file, head)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files(tmp_path: Path, shared_data: Path, seed: int) -> None:
    """Bytes of the sequences are changed, the files are cut, and what is then read off them is never another thing."""
    rng = random.Random(seed)
    sources = [write_enhanced(tmp_path / "a", times=2, slices=2), *(shared_data / "ph_enh_dwi" / "dicom").iterdir()]
    sources += (shared_data / "si_xa_enh_time" / "dicom").iterdir()
    fast = 0
    for number in range(80):
        source = sources[number % 3]
        head = head_of(source)
        assert head is not None
        data = bytearray(source.read_bytes()[: head.pixel_offset + 64])
        begin = data.find(b"\x00\x52\x29\x92") if number % 2 else 200
        for _ in range(rng.choice([1, 1, 1, 3])):
            at = rng.randrange(max(begin, 200), head.pixel_offset - 20)
            data[at] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
        target = tmp_path / "mutant"
        target.write_bytes(data)
        fast += assert_the_same(target, head._replace(data=b""))
    assert fast > 15
