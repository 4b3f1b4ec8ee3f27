"""Stored values come as the elements describe them, however many bits there are and wherever they lie."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

import imagedata_xr as ixr
from imagedata_xr.dicom.stored import WHOLE, PixelFormat, Place, Reader, Tile, read_stored
from imagedata_xr.errors import UnreadableFileError
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("allocated", [8, 16, 32])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_bits_anywhere(tmp_path: Path, allocated: int, signed: bool, syntax: UID | None) -> None:
    """Values of 5 bits lie 2 bits above the lowest; the bits beside them are noise."""
    stored, high = 5, 6
    low = -(1 << stored - 1) if signed else 0
    values = RANDOM.integers(low, low + (1 << stored), (2, 7, 9))
    noise = RANDOM.integers(0, 1 << allocated, values.shape, dtype=np.uint64)
    mask = (1 << stored) - 1 << high + 1 - stored
    words = (noise & ~np.uint64(mask)) | ((values.astype(np.uint64) << np.uint64(2)) & np.uint64(mask))

    def mutate(ds: Dataset, _t: int, z: int) -> None:
        ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 7, 9, allocated, stored, high
        ds.PixelRepresentation = int(signed)
        data = words[z].astype(f"<u{allocated // 8}").tobytes()
        ds.PixelData = data + b"\0" * (len(data) % 2)
        ds["PixelData"].VR = "OB" if allocated == 8 else "OW"

    write_series(tmp_path, slices=2, mutate=mutate, **({} if syntax is None else {"transfer_syntax": syntax}))
    np.testing.assert_array_equal(ixr.open_series(tmp_path).values, values)


def test_a_tile_that_is_read_twice_is_the_same(tmp_path: Path) -> None:
    """Values in the high bits are shifted down, once, though the stored frame of a mosaic is kept for its tiles."""
    values = np.arange(32, dtype="<u2").reshape(4, 8)
    file = tmp_path / "mosaic"
    file.write_bytes((values << 4).tobytes())
    form = PixelFormat(2, 4, 1, 16, 12, 15, False, "MONOCHROME2", False, False)
    reader, place = Reader(), Place(str(file), 0, 64, 0, Tile(2, 4, 4, 8))
    for _ in range(3):
        np.testing.assert_array_equal(reader.read(place, form), values[2:, 4:])


@pytest.mark.parametrize("frames", [1, 3])
def test_one_bit_a_pixel(tmp_path: Path, frames: int) -> None:
    """Frames of 7 × 9 bits do not begin at whole bytes."""
    mask = RANDOM.integers(0, 2, (frames, 7, 9)).astype(np.uint8)

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 7, 9, 1, 1, 0
        data = np.packbits(mask.ravel(), bitorder="little").tobytes()
        ds.PixelData = data + b"\0" * (len(data) % 2)
        ds["PixelData"].VR = "OB"
        if frames > 1:
            ds.NumberOfFrames = frames

    (file,) = write_series(tmp_path, slices=1, mutate=mutate)
    form = PixelFormat(7, 9, 1, 1, 1, 0, False, "MONOCHROME2", False, False)
    for number in range(frames):
        np.testing.assert_array_equal(read_stored(Place(str(file), -1, 0, number, WHOLE), form), mask[number])


def test_padding_values_stay(tmp_path: Path) -> None:
    tags = {"PixelPaddingValue": 7}
    write_series(tmp_path, slices=2, tags=tags, values=lambda _t, _z: np.full((8, 6), 7))
    assert (ixr.open_series(tmp_path).values == 7).all()


def compressed(
    folder: Path, frames: list[bytes], syntax: UID, *, fragments: int = 1, table: bool = True, **tags: Any
) -> Path:
    """Write a file of compressed frames, of 16 bits a pixel."""
    (file,) = write_series(folder, slices=1, rows=32, cols=24, bits_stored=16, tags=tags)
    ds = pydicom.dcmread(file)
    if len(frames) > 1:
        ds.NumberOfFrames = len(frames)
    ds.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(file)
    return file


FORM = PixelFormat(32, 24, 1, 16, 16, 15, False, "MONOCHROME2", False, False)


@pytest.mark.parametrize("table", [True, False], ids=["offset table", "no offset table"])
@pytest.mark.parametrize("fragments", [1, 2])
def test_frames_in_fragments(tmp_path: Path, table: bool, fragments: int) -> None:
    values = RANDOM.integers(0, 1 << 16, (4, 32, 24)).astype("u2")
    frames = [imagecodecs.jpegls_encode(v) for v in values]
    file = compressed(tmp_path, frames, JPEGLSLossless, fragments=fragments, table=table)
    for number in (3, 0, 2):
        stored = read_stored(Place(str(file), -1, 0, number, WHOLE), FORM)
        np.testing.assert_array_equal(stored, values[number])


def encoders() -> dict[UID, Any]:
    return {
        JPEGLSLossless: imagecodecs.jpegls_encode,
        JPEGLosslessSV1: lambda a: imagecodecs.ljpeg_encode(a, bitspersample=16),
        JPEG2000Lossless: lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, codecformat="j2k"),
    }


@pytest.mark.parametrize("syntax", list(encoders()))
def test_codestreams_larger_than_the_header_says_are_refused(tmp_path: Path, syntax: UID) -> None:
    file = compressed(tmp_path, [encoders()[syntax](np.zeros((64, 48), "u2"))], syntax)
    with pytest.raises(
        UnreadableFileError, match="codestream is of 64×48 with 1 sample, the header says 32×24"
    ) as caught:
        ixr.open_series(tmp_path).load()
    assert file.name in str(caught.value)


@pytest.mark.parametrize("syntax", list(encoders()))
def test_damaged_codestreams(tmp_path: Path, syntax: UID) -> None:
    values = RANDOM.integers(0, 1 << 16, (32, 24)).astype("u2")
    good = encoders()[syntax](values)
    for stream in (good[: len(good) // 2], b"\0" * 200, good[:2], b"\xff\xd8\xff\xff\xff\xff"):
        file = compressed(tmp_path, [stream], syntax)
        with pytest.raises(UnreadableFileError, match=f"cannot decode .*{file.name}"):
            ixr.open_series(tmp_path).load()


def test_run_lengths_that_cannot_fill_the_frame(tmp_path: Path) -> None:
    stream = struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\0\x81\0"
    compressed(tmp_path, [stream], RLELossless, Rows=20000, Columns=10000)
    for file in tmp_path.iterdir():
        ds = pydicom.dcmread(file)
        ds.Rows, ds.Columns = 20000, 10000
        ds.save_as(file)
    with pytest.raises(UnreadableFileError, match="68 bytes of run lengths cannot become the 400000000 bytes"):
        ixr.open_series(tmp_path).load()


@pytest.mark.parametrize(
    "header", [(0, 64), (3, 64, 66, 68), (2, 64, 1 << 31), (2, 66, 64), (2, 0, 64), (1 << 31, 64), (2, 64, 69)]
)
def test_run_lengths_that_begin_elsewhere(tmp_path: Path, header: tuple[int, ...]) -> None:
    stream = struct.pack("<16I", *header, *[0] * (16 - len(header))) + b"\x81\0\x81\0"
    compressed(tmp_path, [stream], RLELossless, Rows=8, Columns=6)
    for file in tmp_path.iterdir():
        ds = pydicom.dcmread(file)
        ds.Rows, ds.Columns = 8, 6
        ds.save_as(file)
    with pytest.raises(UnreadableFileError, match="segments of run lengths begin at"):
        ixr.open_series(tmp_path).load()


def test_frames_larger_than_the_limit(tmp_path: Path) -> None:
    compressed(tmp_path, [imagecodecs.jpegls_encode(np.zeros((32, 24), "u2"))], JPEGLSLossless)
    assert ixr.open_series(tmp_path).load().shape == (1, 32, 24)
    image = ixr.open_series(tmp_path)
    refused = pytest.raises(UnreadableFileError, match="1536 bytes each; at most 1000 are decoded")
    with ixr.set_options(largest_frame=1000), refused:
        image.load()
    image.load()


def test_deflated_files_larger_than_the_limit(tmp_path: Path) -> None:
    """Few bytes that become many are refused while they are counted."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.4"), UID("2.25.1")
    out = io.BytesIO()
    out.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(out, meta)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = struct.pack("<HH2s2xI", 9, 0x1001, b"OB", 1 << 24) + bytes(1 << 24)
    out.write(deflate.compress(content) + deflate.flush())
    (tmp_path / "bomb").write_bytes(out.getvalue())
    refused = pytest.raises(UnreadableFileError, match="becomes more than 1048576 bytes")
    with ixr.set_options(largest_header=1 << 20), refused:
        ixr.open_series(tmp_path)


@pytest.mark.parametrize(
    ("syntax", "message"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level .*PyAV"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL .*imagecodecs"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_undecodable_syntaxes_are_named(tmp_path: Path, syntax: str, message: str) -> None:
    file = compressed(tmp_path, [b"\0" * 64], HTJ2KLossless)
    old, new = str(HTJ2KLossless).encode() + b"\0", syntax.encode()
    file.write_bytes(file.read_bytes().replace(old, new.ljust(len(old), b"\0"), 1))
    with pytest.raises(UnreadableFileError, match=f"cannot decode .*{file.name}: it is stored as {message}"):
        ixr.open_series(tmp_path).load()


def test_lookup_table_gives_the_values(tmp_path: Path) -> None:
    table = (np.arange(64)[::-1] ** 2).astype("u2")

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        lut = Dataset()
        lut.add_new("LUTDescriptor", "US", [64, 0, 16])
        lut.ModalityLUTType = "US"
        lut.add_new("LUTData", "OW", table.tobytes())
        ds.ModalityLUTSequence = [lut]

    write_series(tmp_path, slices=3, mutate=mutate)
    stored = ixr.open_series(tmp_path, rescale=False)
    image = ixr.open_series(tmp_path)
    np.testing.assert_array_equal(image.values, table[stored.values])
    np.testing.assert_array_equal(image.isel(slice=1, row=2).values, table[stored.values[1, 2]])


def test_lookup_table_of_some_frames(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        if z:
            ds.ModalityLUTSequence = [Dataset()]

    write_series(tmp_path, slices=3, mutate=mutate)
    with pytest.raises(ValueError, match="2 of 3 frames have a ModalityLUTSequence"):
        ixr.open_series(tmp_path)


@pytest.mark.filterwarnings("ignore:Expected (im|ex)plicit VR")
@pytest.mark.parametrize("is_implicit", [True, False])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_elements_that_are_not_written_as_the_syntax_says(tmp_path: Path, syntax: UID, is_implicit: bool) -> None:
    """With and without VRs: pixels begin four bytes earlier or later."""
    (file,) = write_series(tmp_path / "right", slices=1, transfer_syntax=syntax)
    dataset = pydicom.dcmread(file)
    wanted = dataset.pixel_array
    elements = DicomBytesIO()
    elements.is_little_endian, elements.is_implicit_VR = True, is_implicit
    write_dataset(elements, dataset)
    head = DicomBytesIO(b"\0" * 128 + b"DICM")
    head.is_little_endian, head.is_implicit_VR = True, False
    head.seek(0, 2)
    write_file_meta_info(head, dataset.file_meta)
    (tmp_path / "file").write_bytes(head.getvalue() + elements.getvalue())
    image = ixr.open_series(tmp_path / "file", rescale=False)
    np.testing.assert_array_equal(image[0], wanted)
