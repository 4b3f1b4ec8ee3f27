"""Colour images come as uint8 or uint16 with a dim rgb, equal to what pydicom makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

import imagedata_xr as ixr
from imagedata_xr.errors import UnreadableFileError
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

ROWS, COLS = 16, 32


def picture(z: int, dtype: str = "u1") -> np.ndarray:
    """Return smooth colours that differ between samples, rows, columns and slices."""
    row, col = np.mgrid[:ROWS, :COLS]
    rgb = np.stack([4 * row + 20 * z, 5 * col + 30, 200 - 3 * row - 2 * col], -1)
    return (rgb * (1 if dtype == "u1" else 199)).astype(dtype)


def put(ds: Dataset, data: bytes, photometric: str, dtype: str, *, planar: int = 0, samples: int = 3) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = samples, photometric
    if samples == 3:
        ds.PlanarConfiguration = planar
    ds.Rows, ds.Columns = ROWS, COLS
    ds.BitsAllocated = ds.BitsStored = 8 * np.dtype(dtype).itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
    ds.PixelData = data
    ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"


def write_rgb(folder: Path, dtype: str, *, planar: int = 0, syntax: UID | None = None) -> np.ndarray:
    """Write three slices of RGB natively and return their values."""

    def mutate(ds: Dataset, _t: int, z: int) -> None:
        values = picture(z, dtype)
        put(ds, np.moveaxis(values, 2, 0).tobytes() if planar else values.tobytes(), "RGB", dtype, planar=planar)

    write_series(folder, slices=3, mutate=mutate, **({} if syntax is None else {"transfer_syntax": syntax}))
    return np.stack([picture(z, dtype) for z in range(3)])


def write_encoded(folder: Path, syntax: UID, photometric: str, encode: Any, dtype: str = "u1") -> list[Path]:
    """Write three slices, each the one fragment that `encode` makes of its values."""
    files = []
    for file in write_series(folder, slices=3, rows=ROWS, cols=COLS):
        ds = pydicom.dcmread(file)
        z = int(ds.InstanceNumber) - 1
        put(ds, encapsulate([encode(picture(z, dtype))]), photometric, dtype)
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(file)
        files.append(file)
    return files


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize(
    ("planar", "syntax"),
    [
        *[(planar, syntax) for planar in (0, 1) for syntax in (None, ImplicitVRLittleEndian, ExplicitVRBigEndian)],
        (0, RLELossless),
    ],
)
def test_rgb(tmp_path: Path, dtype: str, planar: int, syntax: UID | None) -> None:
    wanted = write_rgb(tmp_path, dtype, planar=planar, syntax=syntax)
    image = ixr.open_series(tmp_path)
    assert image.dims == ("slice", "row", "col", "rgb")
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.values, wanted)
    np.testing.assert_array_equal(image.isel(slice=1, rgb=2, row=slice(3, 9, 2)).values, wanted[1, 3:9:2, :, 2])


def test_one_colour_is_written_as_grey_values(tmp_path: Path) -> None:
    wanted = write_rgb(tmp_path / "rgb", "u1")
    [file, *_] = ixr.open_series(tmp_path / "rgb").isel(rgb=1).dicom.write(tmp_path / "green")
    ds = pydicom.dcmread(file)
    assert (ds.SamplesPerPixel, ds.PhotometricInterpretation) == (1, "MONOCHROME2")
    assert "PlanarConfiguration" not in ds
    assert (ds.pixel_array == wanted[0, ..., 1]).all()


def test_colour_is_not_rescaled(tmp_path: Path) -> None:
    wanted = write_rgb(tmp_path, "u1")
    for file in tmp_path.iterdir():
        ds = pydicom.dcmread(file)
        ds.RescaleSlope, ds.RescaleIntercept = 2, -10
        ds.save_as(file)
    image = ixr.open_series(tmp_path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image.values, wanted)


@pytest.mark.parametrize(
    ("syntax", "encode", "dtype"),
    [
        (JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, codecformat="j2k"), "u1"),
        (JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, codecformat="j2k"), "u2"),
        (JPEG2000Lossless, lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, mct=True, codecformat="jp2"), "u1"),
        (HTJ2KLossless, lambda a: imagecodecs.htj2k_encode(a, reversible=True), "u1"),
        (JPEGLSLossless, imagecodecs.jpegls_encode, "u1"),
        (JPEGLosslessSV1, lambda a: imagecodecs.jpeg_encode(a, lossless=True, predictor=1), "u1"),
    ],
    ids=["J2K", "J2K 16 bit", "JP2", "HTJ2K", "JPEG-LS", "JPEG lossless"],
)
def test_lossless(tmp_path: Path, syntax: UID, encode: Any, dtype: str) -> None:
    transformed = syntax in (JPEG2000Lossless, HTJ2KLossless)
    write_encoded(tmp_path, syntax, "YBR_RCT" if transformed else "RGB", encode, dtype)
    image = ixr.open_series(tmp_path)
    np.testing.assert_array_equal(image.values, [picture(z, dtype) for z in range(3)])


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL", "RGB"])
def test_jpeg(tmp_path: Path, photometric: str) -> None:
    def encode(a: np.ndarray) -> bytes:
        space = "RGB" if photometric == "RGB" else "YCbCr"
        return imagecodecs.jpeg_encode(a, level=97, colorspace="RGB", outcolorspace=space, subsampling="444")

    files = write_encoded(tmp_path, JPEGBaseline8Bit, photometric, encode)
    image = ixr.open_series(tmp_path)
    assert np.abs(image.values.astype(int) - [picture(z) for z in range(3)]).max() <= 6
    from pydicom.pixels import pixel_array

    for z, file in enumerate(files):
        theirs = pixel_array(file, decoding_plugin="pillow")
        assert np.abs(image.values[z].astype(int) - theirs).max() <= 1


def test_native_ybr(tmp_path: Path) -> None:
    ybr = [convert_color_space(picture(z), "RGB", "YBR_FULL") for z in range(3)]
    halved = [np.repeat(values[:, ::2], 2, axis=1) for values in ybr]

    def full(ds: Dataset, _t: int, z: int) -> None:
        put(ds, ybr[z].tobytes(), "YBR_FULL", "u1")

    def half(ds: Dataset, _t: int, z: int) -> None:
        pairs = np.stack([ybr[z][:, ::2, 0], ybr[z][:, 1::2, 0], ybr[z][:, ::2, 1], ybr[z][:, ::2, 2]], -1)
        put(ds, pairs.tobytes(), "YBR_FULL_422", "u1")

    write_series(tmp_path / "full", slices=3, mutate=full)
    write_series(tmp_path / "half", slices=3, mutate=half)
    image = ixr.open_series(tmp_path / "full")
    np.testing.assert_array_equal(image.values, [convert_color_space(v, "YBR_FULL", "RGB") for v in ybr])
    for z, values in enumerate(halved):
        values[..., 0] = ybr[z][..., 0]
    image = ixr.open_series(tmp_path / "half")
    np.testing.assert_array_equal(image.values, [convert_color_space(v, "YBR_FULL", "RGB") for v in halved])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("stored", ["u1", "u2"])
def test_palette(tmp_path: Path, bits: int, stored: str) -> None:
    colours = np.random.default_rng(1).integers(0, 1 << bits, (3, 256)).astype(f"u{bits // 8}")
    indices = [np.random.default_rng(z).integers(0, 256, (ROWS, COLS)).astype(stored) for z in range(3)]

    def mutate(ds: Dataset, _t: int, z: int) -> None:
        put(ds, indices[z].tobytes(), "PALETTE COLOR", stored, samples=1)
        for name, values in zip(("Red", "Green", "Blue"), colours, strict=True):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
            setattr(ds, f"{name}PaletteColorLookupTableData", values.tobytes())

    write_series(tmp_path, slices=3, mutate=mutate)
    image = ixr.open_series(tmp_path)
    assert image.dtype == np.dtype(f"u{bits // 8}")
    np.testing.assert_array_equal(image.values, [colours.T[i] for i in indices])


def test_palette_without_colours(tmp_path: Path) -> None:
    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        put(ds, bytes(ROWS * COLS), "PALETTE COLOR", "u1", samples=1)

    write_series(tmp_path, slices=1, mutate=mutate)
    with pytest.raises(UnreadableFileError, match="cannot decode"):
        ixr.open_series(tmp_path).load()


def test_real_volume(shared_data: Path) -> None:
    folder = shared_data / "rgb_volume_j2k" / "dicom"
    image = ixr.open_series(folder)
    assert image.sizes == {"slice": 4, "row": 77, "col": 52, "rgb": 3}
    for z in range(4):
        file = image.coords["source"].values[z]
        np.testing.assert_array_equal(image.values[z], pydicom.dcmread(file).pixel_array)
