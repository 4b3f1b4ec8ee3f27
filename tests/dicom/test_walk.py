"""The walk over heads says what pydicom says, steps aside, or raises; it never says anything else."""

from __future__ import annotations

import random
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from imagedata_xr.dicom.scan import list_files, read_head
from imagedata_xr.dicom.table import FrameTable
from imagedata_xr.dicom.walk import SEQUENCE, UNDEFINED, BeyondEnd, Head, ShortHeadError, StepAside, walk
from imagedata_xr.elements import Value, keyword, to_value
from imagedata_xr.errors import UnreadableFileError
from tests.generate import write_series

if TYPE_CHECKING:
    import io

PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


def by_pydicom(file: str | Path | io.BytesIO) -> tuple[dict[int, Value], pydicom.FileDataset]:
    """Return the value of every public element that has a plain one, as pydicom reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        found = {}
        for number in ds.keys():  # noqa: SIM118 - of pydicom, which iterates over elements
            if number.group % 2 or not 8 <= number.group < 0x7FE0 or not keyword(int(number)):
                continue
            value = to_value(ds[number])
            if value is not None:
                found[int(number)] = value
    return found, ds


def by_us(head: Head) -> dict[int, Value]:
    one = np.zeros(1, np.int64)
    tile = np.zeros((1, 4), np.int64)
    elements = head.elements.whole()
    table = FrameTable(elements, {}, ["the file"], one, one, [head.syntax], one, one, one, one, tile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            number: value
            for number in elements
            if number >= 0x00080000 and keyword(number) and (value := table.value(number)) is not None
        }


def differing(mine: dict[int, Value], theirs: dict[int, Value]) -> dict[str, tuple[Any, Any]]:
    """Return what two readers say differently; NaN is the same as NaN."""
    return {
        f"{number:08X} {keyword(number)}": (mine.get(number), theirs.get(number))
        for number in sorted({*mine, *theirs})
        if repr(mine.get(number)) != repr(theirs.get(number))
    }


def pixels_by_pydicom(file: Path, pixel_tag: int) -> tuple[int, int]:
    """Return where the pixel data lie, offset and length [bytes]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = pydicom.dcmread(file, force=True, specific_tags=[pixel_tag]).get_item(pixel_tag)
    return raw.value_tell, raw.length


def assert_as_pydicom(file: Path) -> Head:
    read = read_head(str(file))
    assert read is not None, file
    head, size, mtime = read
    theirs, ds = by_pydicom(file)
    assert differing(by_us(head), theirs) == {}, file
    assert (size, mtime) == (file.stat().st_size, file.stat().st_mtime_ns)
    assert head.syntax == ds.file_meta.get("TransferSyntaxUID", head.syntax)
    if head.pixel_offset > 0 and head.pixel_length != UNDEFINED:
        assert (head.pixel_offset, head.pixel_length) == pixels_by_pydicom(file, head.pixel_tag)
    sequences = {int(t) for t in ds.keys() if t.group % 2 == 0 and ds[t].VR == "SQ"}  # noqa: SIM118 - as above
    assert {t for t, raw in head.elements.whole().items() if raw == SEQUENCE} == sequences
    return head


def frame(tmp_path: Path, **options: Any) -> Path:
    return write_series(tmp_path / "frame", slices=1, **options)[0]


def test_real_files(shared_data: Path) -> None:
    compared = 0
    for file in list_files(shared_data):
        if read_head(file) is not None:
            assert_as_pydicom(Path(file))
            compared += 1
    assert compared > 700


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
)
def test_transfer_syntaxes(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    head = assert_as_pydicom(frame(tmp_path, transfer_syntax=syntax))
    assert head.syntax == syntax
    assert by_us(head)[0x00080060] == "MR"
    assert head.pixel_tag == 0x7FE00010


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("little", [True, False])
def test_without_preamble_and_meta(tmp_path: Path, implicit: bool, little: bool) -> None:
    if implicit and not little:
        return  # there is no such syntax
    ds = pydicom.dcmread(frame(tmp_path))
    if not little:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    file = tmp_path / "bare"
    with file.open("wb") as out:
        buffer = pydicom.filebase.DicomFileLike(out)
        buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
        write_dataset(buffer, Dataset(dict(ds.items())))
    if not little:
        # Nothing says that these bytes are DICOM: no preamble, and a first tag that reads as group 0800.
        assert read_head(str(file)) is None
        return
    head = assert_as_pydicom(file)
    assert head.syntax == (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)


def nested(depth: int) -> Dataset:
    ds = Dataset()
    ds.CodeValue = "inner"
    ds.PixelSpacing = [9, 9]
    ds.private_block(0x0029, "NESTED", create=True).add_new(1, "OB", b"\1" * 70000)
    if depth:
        ds.ReferencedImageSequence = DicomSequence([nested(depth - 1), nested(0), Dataset()])
    return ds


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_nested_sequences(tmp_path: Path, syntax: pydicom.uid.UID, undefined: bool) -> None:
    def undefine(ds: Dataset) -> None:
        for element in ds:
            if element.VR == "SQ":
                element.is_undefined_length = undefined
                for item in element.value:
                    item.is_undefined_length_sequence_item = undefined
                    undefine(item)

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.ReferencedImageSequence = DicomSequence([nested(4), Dataset()])
        ds.RequestAttributesSequence = DicomSequence([])
        ds.private_block(0x0051, "SEQ", create=True).add_new(1, "SQ", DicomSequence([nested(2)]))
        undefine(ds)

    head = assert_as_pydicom(frame(tmp_path, transfer_syntax=syntax, mutate=mutate))
    assert head.pixel_offset > 70000
    assert by_us(head)[0x00280030] == [1.5, 2.0], "of the frame, not of an item"


def test_private_unknown_of_undefined_length(tmp_path: Path) -> None:
    """UN of undefined length is a sequence in implicit encoding, also in an explicit file (PS3.5 6.2.2)."""
    inner = struct.pack("<HHI", 0x0008, 0x0100, 4) + b"CODE"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + inner + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    unknown = (
        struct.pack("<HH2sHI", 0x0019, 0x1001, b"UN", 0, UNDEFINED) + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )
    creator = struct.pack("<HH2sH", 0x0019, 0x0010, b"LO", 4) + b"WHO "
    file = frame(tmp_path)
    data = file.read_bytes()
    at = data.index(struct.pack("<HH2s", 0x0020, 0x000D, b"UI"))
    file.write_bytes(data[:at] + creator + unknown + data[at:])
    head = assert_as_pydicom(file)
    assert head.pixel_offset > 0, "the walk knows these without help"


def echo_time(data: bytes) -> tuple[int, int]:
    """Return where the element EchoTime begins and ends."""
    at = data.index(struct.pack("<HH2s", 0x0018, 0x0081, b"DS"))
    return at, at + 8 + int.from_bytes(data[at + 6 : at + 8], "little")


def test_public_element_called_unknown_keeps_its_value(tmp_path: Path) -> None:
    """Some tools write elements that they do not know as UN; pydicom knows them."""
    file = frame(tmp_path)
    data = file.read_bytes()
    at, end = echo_time(data)
    unknown = struct.pack("<HH2sHI", 0x0018, 0x0081, b"UN", 0, end - at - 8)
    file.write_bytes(data[:at] + unknown + data[at + 8 :])
    assert by_us(assert_as_pydicom(file))[0x00180081] == 5.0


def test_explicit_data_called_implicit(tmp_path: Path) -> None:
    """pydicom looks at the first element and reads on as explicit; so must the walk, whatever the lengths say."""
    file = frame(tmp_path)
    data = file.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0")
    file.write_bytes(data + bytes(3 << 20))  # long enough for "UI" to be a length
    head, *_ = read_head(str(file)) or pytest.fail("passed over")
    assert differing(by_us(head), by_pydicom(file)[0]) == {}


def test_implicit_data_called_explicit(tmp_path: Path) -> None:
    file = frame(tmp_path, transfer_syntax=ImplicitVRLittleEndian)
    data = file.read_bytes()
    meta = data.index(b"1.2.840.10008.1.2\0")
    file.write_bytes(data[: meta - 2] + b"\x14\0" + b"1.2.840.10008.1.2.1\0" + data[meta + 18 :])
    assert_as_pydicom(file)


def test_group_lengths_and_overlays(tmp_path: Path) -> None:
    file = frame(tmp_path)
    data = file.read_bytes()
    for group in (0x0010, 0x0018, 0x0028):
        at = min(
            i
            for i in range(132, len(data))
            if data[i : i + 2] == struct.pack("<H", group)
            and data[i + 4 : i + 6].isalpha()
            and data[i + 4 : i + 6].isupper()
        )
        data = data[:at] + struct.pack("<HH2sHI", group, 0, b"UL", 4, 99) + data[at:]
    at = data.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    overlay = (
        struct.pack("<HH2sHH", 0x6000, 0x0010, b"US", 2, 8)
        + struct.pack("<HH2sHI", 0x6000, 0x3000, b"OW", 0, 4)
        + b"abcd"
    )
    file.write_bytes(data[:at] + overlay + data[at:])
    assert assert_as_pydicom(file).pixel_offset > 0


def test_elements_out_of_order_are_left_to_pydicom(tmp_path: Path) -> None:
    file = frame(tmp_path)
    data = file.read_bytes()
    at, stop = echo_time(data)
    old, rest = data[at:stop], data[:at] + data[stop:]
    end = rest.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    file.write_bytes(rest[:end] + old + rest[end:])
    assert by_us(assert_as_pydicom(file))[0x00180081] == 5.0


def test_head_longer_than_the_first_read(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.ImageComments = "x" * 10000
        ds.PatientComments = "y" * 10000
        ds.private_block(0x0029, "LONG", create=True).add_new(1, "OB", bytes(3 << 20))

    head = assert_as_pydicom(frame(tmp_path, mutate=mutate))
    assert head.pixel_offset > 3 << 20


@given(end=st.integers(0, 1500))
@settings(max_examples=200)
def test_walk_of_the_first_bytes_asks_for_more(end: int, plain: bytes) -> None:
    whole = walk(plain, len(plain))
    if end >= whole.pixel_offset:
        assert walk(plain[:end], len(plain)) == whole
        return
    with pytest.raises(ShortHeadError) if end >= 132 else pytest.raises((ShortHeadError, StepAside)):
        walk(plain[:end], len(plain))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return frame(tmp_path_factory.mktemp("plain")).read_bytes()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return files of several kinds to damage."""
    folder = tmp_path_factory.mktemp("seeds")
    syntaxes = (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    )

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        small = Dataset()
        small.CodeValue = "A"
        small.AnatomicRegionSequence = DicomSequence([Dataset()])
        ds.ReferencedImageSequence = DicomSequence([small])
        ds["ReferencedImageSequence"].is_undefined_length = True
        ds.PatientName = "Müller^Jörg"

    return [
        frame(folder / str(k), transfer_syntax=syntax, mutate=mutate).read_bytes() for k, syntax in enumerate(syntaxes)
    ]


def damaged(seeds: list[bytes], seed: int) -> bytes:
    """Return a file with a few bytes changed, left out or put in, or its end cut off."""
    rng = random.Random(seed)
    data = bytearray(seeds[seed % len(seeds)])
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(data[: rng.randrange(133, len(data))])
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(128, len(data))
        if kind <= 3:
            data[at] = rng.choice((0, 1, 0xFF, 0x7F, data[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))
        elif kind == 4:
            del data[at : at + rng.choice((1, 2, 4, 8))]
        else:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 4, 8))))
    return bytes(data)


@pytest.mark.parametrize("part", range(6))
def test_damaged_files(tmp_path: Path, seeds: list[bytes], part: int) -> None:
    """What is read of a damaged file is what pydicom reads of it; else it is refused with its name."""
    file, compared, refusals = tmp_path / "damaged", 0, []
    for seed in range(part * 100, part * 100 + 100):
        data = damaged(seeds, seed)
        file.write_bytes(data)
        try:
            read = read_head(str(file))
            values = None if read is None else by_us(read[0])
        except UnreadableFileError as err:
            refusals.append(str(err))
            continue
        if read is None or values is None:
            continue
        head = read[0]
        if not head.pixel_tag or head.pixel_length > len(data) - head.pixel_offset > 0:
            continue  # scan refuses these; nothing of them is used
        try:
            theirs, _ = by_pydicom(file)
        except (OSError, EOFError, struct.error):
            continue  # a sequence that we step over is damaged inside: pydicom says nothing to compare with
        assert differing(values, theirs) == {}, seed
        if head.pixel_offset > 0 and head.pixel_length != UNDEFINED:
            assert (head.pixel_offset, head.pixel_length) == pixels_by_pydicom(file, head.pixel_tag), seed
        compared += 1
    assert compared > 10
    assert len(refusals) > 10
    assert all(str(file) in text or "the file is damaged" in text for text in refusals)


@given(data=st.binary(max_size=400))
@settings(max_examples=300)
def test_any_bytes_after_the_magic_word(data: bytes) -> None:
    whole = bytes(128) + b"DICM" + data
    try:
        head = walk(whole, len(whole))
    except (StepAside, ShortHeadError):
        return
    assert head.pixel_offset <= len(whole)


def test_beyond_end_is_told_from_short(plain: bytes) -> None:
    cut = plain[:700]
    with pytest.raises(ShortHeadError):
        walk(cut, len(plain))
    with pytest.raises(BeyondEnd):
        walk(cut, len(cut))
