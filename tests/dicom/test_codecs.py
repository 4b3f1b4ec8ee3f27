"""Compressed pixels are those of the native file, or an error names the file."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

import imagedata_xr as ixr
from imagedata_xr.dicom import decode as decoding
from imagedata_xr.dicom.decode import Before, Pixels
from imagedata_xr.dicom.scan import read_head
from imagedata_xr.dicom.stored import WHOLE, PixelFormat, Place, Reader
from imagedata_xr.errors import UnreadableFileError
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

ENCODERS = {
    JPEGLSLossless: lambda frame: __import__("imagecodecs").jpegls_encode(frame),
    JPEGLosslessSV1: lambda frame: __import__("imagecodecs").ljpeg_encode(frame, bitspersample=frame.itemsize * 8),
    JPEG2000Lossless: lambda frame: __import__("imagecodecs").jpeg2k_encode(frame, reversible=True, codecformat="j2k"),
    HTJ2KLossless: lambda frame: __import__("imagecodecs").htj2k_encode(frame, reversible=True),
}


def noise(seed: int, dtype: str, bits: int) -> np.ndarray:
    low, high = (0, 2**bits) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return np.random.default_rng(seed).integers(low, high, (32, 24)).astype(dtype)


def compress(file: Path, syntax: pydicom.uid.UID, *, fragments: int = 1) -> None:
    """Write a native file again, compressed by imagecodecs."""
    ds = pydicom.dcmread(file)
    data = ENCODERS[syntax](np.ascontiguousarray(ds.pixel_array))
    ds.PixelData = encapsulate([data], fragments_per_frame=fragments)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(file)


@pytest.mark.parametrize("syntax", list(ENCODERS), ids=lambda uid: uid.name)
@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("u2", 16), ("u2", 12)])
@pytest.mark.parametrize("fragments", [1, 3])
def test_lossless(tmp_path: Path, syntax: pydicom.uid.UID, dtype: str, bits: int, fragments: int) -> None:
    files = write_series(tmp_path, slices=2, dtype=dtype, bits_stored=bits, values=lambda _t, z: noise(z, dtype, bits))
    native = ixr.open_series(tmp_path).load()
    for file in files:
        compress(file, syntax, fragments=fragments)
    image = ixr.open_series(tmp_path)
    assert image.dtype == native.dtype
    assert (image.values == native.values).all()
    assert image.encoding["TransferSyntaxUID"] == syntax
    assert (image.isel(slice=1, row=slice(3, 5)).values == native.values[1, 3:5]).all()


@pytest.mark.parametrize("syntax", list(ENCODERS), ids=lambda uid: uid.name)
@pytest.mark.parametrize("rescale", [None, (1, -1024), (-2, 7), (0.5, 0)], ids=str)
@pytest.mark.parametrize("narrow", [False, True])
def test_every_frame_has_its_own_values(
    tmp_path: Path, syntax: pydicom.uid.UID, rescale: tuple[float, float] | None, narrow: bool
) -> None:
    """Frames are decoded to where they belong in the array, some in codestreams of another type than the array."""
    bits = 8 if narrow else 12
    options = {"slices": 9, "dtype": "u2", "bits_stored": 12, "rescale": rescale}
    files = write_series(tmp_path, values=lambda _t, z: noise(z, "u2", bits), **options)
    native = ixr.open_series(tmp_path).load()
    for number, file in enumerate(files):
        compress(file, syntax)
        if narrow and number % 2:
            ds = pydicom.dcmread(file)
            ds.PixelData = encapsulate([ENCODERS[syntax](noise(number, "u1", 8))])
            ds.save_as(file)
    image = ixr.open_series(tmp_path)
    assert image.dtype == native.dtype
    for part in (
        {},
        {"slice": slice(5, None)},
        {"slice": slice(None, None, -1)},
        {"slice": [7, 5], "col": slice(1, 9)},
    ):
        assert (image.isel(part).values == native.isel(part).values).all()


@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("u2", 16), ("i2", 16), ("i2", 12)])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda uid: uid.name)
def test_compressed_by_pydicom(tmp_path: Path, syntax: pydicom.uid.UID, dtype: str, bits: int) -> None:
    options = {"slices": 2, "dtype": dtype, "bits_stored": bits, "values": lambda _t, z: noise(z, dtype, bits)}
    write_series(tmp_path / "a", **options)
    write_series(tmp_path / "b", transfer_syntax=syntax, **options)
    native, packed = ixr.open_series(tmp_path / "a"), ixr.open_series(tmp_path / "b")
    assert packed.dtype == native.dtype
    assert (packed.values == native.values).all()


def test_lossy_is_near(tmp_path: Path) -> None:
    import imagecodecs

    for syntax, encode in {
        JPEGBaseline8Bit: lambda a: imagecodecs.jpeg8_encode(a, level=95),
        JPEGLSNearLossless: lambda a: imagecodecs.jpegls_encode(a, level=2),
        JPEG2000: lambda a: imagecodecs.jpeg2k_encode(a, level=60, codecformat="j2k"),
    }.items():
        folder = tmp_path / syntax.name
        smooth = np.add.outer(np.arange(32), 2 * np.arange(24)).astype("u1")
        (file,) = write_series(folder, slices=1, dtype="u1", bits_stored=8, values=lambda _t, _z: smooth)  # noqa: B023
        ENCODERS[syntax] = encode
        compress(file, syntax)
        del ENCODERS[syntax]
        assert np.abs(ixr.open_series(folder).values[0].astype(int) - smooth).max() <= 6


def test_series_of_several_syntaxes(tmp_path: Path) -> None:
    files = write_series(tmp_path, slices=3, values=lambda _t, z: noise(z, "u2", 12))
    native = ixr.open_series(tmp_path).load()
    compress(files[1], JPEGLSLossless)
    image = ixr.open_series(tmp_path)
    assert (image.values == native.values).all()
    assert image.encoding["TransferSyntaxUID"] == f"1.2.840.10008.1.2.1\\{JPEGLSLossless}"


@pytest.mark.parametrize("syntax", [*ENCODERS, RLELossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("keep", [0.2, 0.6, 0.9])
@pytest.mark.filterwarnings("ignore:End of file reached")
def test_stream_cut_short(tmp_path: Path, syntax: pydicom.uid.UID, keep: float) -> None:
    """A part of an image is no image."""
    options = {"slices": 2, "values": lambda _t, z: noise(z, "u2", 12)}
    if syntax == RLELossless:
        files = write_series(tmp_path, transfer_syntax=syntax, **options)
    else:
        files = write_series(tmp_path, **options)
        for file in files:
            compress(file, syntax)
    head, pixels = (d := files[1].read_bytes()).split(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff")[0], len(d)
    files[1].write_bytes(d[: len(head) + int(keep * (pixels - len(head)))])
    with pytest.raises(UnreadableFileError, match=files[1].name):
        ixr.open_series(tmp_path).load()


def test_syntax_that_nothing_decodes(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path, slices=1)
    compress(file, JPEGLSLossless)
    file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.85"))
    image = ixr.open_series(tmp_path)
    with pytest.raises(UnreadableFileError, match=f"cannot decode .*{file.name}"):
        image.load()


def test_real_syntaxes(shared_data: Path) -> None:
    """One CT stack as four tools' formats."""
    native = ixr.open_series(shared_data / "ph_ct" / "dicom").load()
    for name in ("ph_ct_rle", "ph_ct_j2k", "ph_ct_jpegll", "ph_ct_jpegls"):
        packed = ixr.open_series(shared_data / name / "dicom")
        assert (packed.values == native.values).all(), name
        assert packed.dtype == native.dtype


def test_frames_decode_in_threads(tmp_path: Path) -> None:
    files = write_series(tmp_path, slices=8, values=lambda _t, z: noise(z, "u2", 12))
    native = ixr.open_series(tmp_path).load()
    for file in files:
        compress(file, JPEG2000Lossless)
    import dask

    image = ixr.open_series(tmp_path).chunk({"slice": 1})
    with dask.config.set(scheduler="threads"):
        assert (image.compute() == native).all()


@pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data")
@pytest.mark.parametrize("syntax", [JPEGLSLossless, "1.2.840.113619.5.2", "1.2.3.4.5"])
def test_native_pixels_under_another_name(tmp_path: Path, syntax: str) -> None:
    """What the meta header calls compressed, or by a name that nobody knows, is not taken for plain numbers."""
    (file,) = write_series(tmp_path, slices=1)
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    old = b"UI\x14\0" + b"1.2.840.10008.1.2.1\0"
    assert file.read_bytes().count(old) == 1
    file.write_bytes(file.read_bytes().replace(old, b"UI" + len(uid).to_bytes(2, "little") + uid))
    with pytest.raises(UnreadableFileError, match=file.name):
        ixr.open_series(tmp_path).load()


def decoded(path: Path, *, plainly: bool) -> tuple[str, Any]:
    """Return the first frame, without or with pydicom reading the header; or what is wrong with it."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = Pixels(str(path), file)
            form = pixels._plain
            if form is None:
                return "aside", None
            if not plainly:
                pixels._plain = None
                pixels._by_pydicom(file)
            return "values", pixels.frame(file, 0, (form.rows, form.columns))
    except UnreadableFileError as err:
        return "error", str(err)


def assert_as_pydicom(path: Path) -> str:
    kind, values = decoded(path, plainly=True)
    if kind == "values":
        other, theirs = decoded(path, plainly=False)
        assert other == "values", f"{path}: {theirs}"
        np.testing.assert_array_equal(values, theirs)
        assert values.dtype == theirs.dtype
    return kind


def test_real_frames_decode_as_pydicom_decodes_them(shared_data: Path) -> None:
    kinds = Counter()
    for path in sorted(shared_data.rglob("*")):
        if path.is_file() and (head := read_head(str(path))) and head[0].pixel_length == 0xFFFFFFFF:
            kinds[assert_as_pydicom(path)] += 1
    assert kinds["values"] > 30
    assert kinds["aside"] > 0


@pytest.mark.parametrize("seed", range(3))
def test_mutated_frames_decode_as_pydicom_decodes_them_or_not(tmp_path: Path, shared_data: Path, seed: int) -> None:
    rng = random.Random(seed)
    sources = [next((shared_data / f"ph_ct_{name}" / "dicom").iterdir()) for name in ("jpegls", "jpegll", "rle")]
    kinds = Counter()
    for number in range(60):
        data = bytearray(sources[number % 3].read_bytes())
        pixels = data.find(b"\xe0\x7f\x10\x00OB")
        first = data.find(b"\x28\x00\x02\x00US") if number % 2 else 132
        for _ in range(rng.choice([1, 2])):
            data[rng.randrange(first, pixels + 60)] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
        (tmp_path / "mutant").write_bytes(data)
        kinds[assert_as_pydicom(tmp_path / "mutant")] += 1
    assert kinds["values"] > 10


def test_files_are_read_to_memory_that_is_used_again() -> None:
    before, file = Before(), BytesIO(b"0123456789")
    first = before.read(file, 6)
    assert bytes(first) == b"012345"
    second = before.read(file, 3)
    assert bytes(second) == b"678"
    assert second.obj is first.obj
    assert bytes(before.read(file, 6)) == b"9"  # what is missing is not what was there before
    file.seek(0)
    assert bytes(before.read(file, 8)) == b"01234567"


@pytest.mark.parametrize("at_once", [1 << 10, 1 << 11, 7000, 1 << 20])
def test_frames_that_are_read_with_the_head_or_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Of several frames in a file some may be at hand already; then another file is read, and the first again."""
    monkeypatch.setattr(decoding, "_AT_ONCE", at_once)
    large = np.random.default_rng(0).integers(0, 1 << 12, (64, 64)).astype("u2")
    frames = [large if number == 4 else np.full((64, 64), number, "u2") for number in range(10)]
    paths = []
    for number, part in enumerate((frames[:5], frames[5:])):
        (file,) = write_series(tmp_path / str(number), slices=1, dtype="u2", bits_stored=12)
        ds = pydicom.dcmread(file)
        ds.NumberOfFrames, (ds.Rows, ds.Columns) = len(part), part[0].shape
        ds.PixelData = encapsulate([ENCODERS[JPEGLSLossless](frame) for frame in part])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = JPEGLSLossless
        ds.save_as(file)
        paths.append(str(file))
    form = PixelFormat(*frames[0].shape, 1, 16, 12, 11, False, "MONOCHROME2", False, False)
    reader = Reader()
    for number in (0, 4, 1, 7, 8, 2, 2, 9):
        place = Place(paths[number // 5], -1, 0, number % 5, WHOLE)
        assert (reader.read(place, form) == frames[number]).all()
