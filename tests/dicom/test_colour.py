"""Colour images come as uint8 or uint16 with a dim rgb, equal to what pydicom makes of them, and are written as RGB."""

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
from imagedata_xr.errors import MissingHeaderError, UnreadableFileError, ValuesNotStorableError
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

ROWS, COLS = 16, 32
_BACK = slice(None, None, -1)


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


@pytest.mark.parametrize("change", ["whole", "computed", "of attributes"])
def test_what_was_compressed_with_a_loss_says_so_when_it_is_written(tmp_path: Path, change: str) -> None:
    """The transfer syntax alone told it, and written files are not compressed."""

    def encode(a: np.ndarray) -> bytes:
        return imagecodecs.jpeg_encode(a, level=97, colorspace="RGB", outcolorspace="YCbCr", subsampling="444")

    write_encoded(tmp_path / "a", JPEGBaseline8Bit, "YBR_FULL_422", encode)
    image = ixr.open_series(tmp_path / "a")
    changed = {"whole": image, "computed": image // 2, "of attributes": image.drop_vars("source")}[change]
    for file in changed.dicom.write(tmp_path / "b"):
        assert pydicom.dcmread(file).LossyImageCompression == "01"
    write_encoded(tmp_path / "c", JPEG2000Lossless, "YBR_RCT", imagecodecs.jpeg2k_encode)
    for file in ixr.open_series(tmp_path / "c").dicom.write(tmp_path / "d"):
        assert "LossyImageCompression" not in pydicom.dcmread(file)


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

    write_series(tmp_path / "in", slices=3, mutate=mutate)
    image = ixr.open_series(tmp_path / "in")
    assert image.dtype == np.dtype(f"u{bits // 8}")
    np.testing.assert_array_equal(image.values, [colours.T[i] for i in indices])
    with pytest.raises(ValueError, match="keep_uid=True is for an unchanged original"):
        image.dicom.write(tmp_path / "out", keep_uid=True)
    headers = [pydicom.dcmread(file) for file in image.dicom.write(tmp_path / "out")]
    np.testing.assert_array_equal([ds.pixel_array for ds in headers], image.values)
    assert (headers[0].PhotometricInterpretation, headers[0].ImageType[0]) == ("RGB", "DERIVED")
    assert not headers[0].dir("Palette")


@pytest.mark.parametrize(("entries", "first"), [(3, 0), (255, 0), (7, 10)])
def test_palette_of_an_odd_number_of_bytes(tmp_path: Path, entries: int, first: int) -> None:
    stored = np.arange(ROWS * COLS, dtype="u1").reshape(ROWS, COLS)
    palette = [np.arange(entries, dtype="u1") * factor for factor in (1, 2, 3)]

    def mutate(ds: Dataset, _t: int, _z: int) -> None:
        put(ds, stored.tobytes(), "PALETTE COLOR", "u1", samples=1)
        for colour, values in zip(("Red", "Green", "Blue"), palette, strict=True):
            setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [entries, first, 8])
            setattr(ds, f"{colour}PaletteColorLookupTableData", values.tobytes() + b"\0")

    write_series(tmp_path, slices=1, mutate=mutate)
    entry = np.clip(stored.astype(int) - first, 0, entries - 1)
    np.testing.assert_array_equal(ixr.open_series(tmp_path)[0], np.stack([values[entry] for values in palette], -1))


@pytest.mark.parametrize("photometric", ["HSV", "ARGB", "CMYK", "MONOCHROME2", ""])
def test_other_colours_are_not_taken_for_red_green_and_blue(tmp_path: Path, photometric: str) -> None:
    def mutate(ds: Dataset, _t: int, z: int) -> None:
        put(ds, picture(z).tobytes(), photometric, "u1")

    write_series(tmp_path, mutate=mutate)
    with pytest.raises(MissingHeaderError, match=f"PhotometricInterpretation is '{photometric}' with 3 samples"):
        ixr.open_series(tmp_path)


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


def test_rgb_in_several_layouts(tmp_path: Path) -> None:
    """The layout of the samples is of each file, and says nothing about the image."""

    def mutate(ds: Dataset, _t: int, z: int) -> None:
        values = picture(z)
        put(ds, np.moveaxis(values, 2, 0).tobytes() if z % 2 else values.tobytes(), "RGB", "u1", planar=z % 2)

    write_series(tmp_path / "in", slices=3, mutate=mutate)
    wanted = np.stack([picture(z) for z in range(3)])
    image = ixr.open_series(tmp_path / "in")
    np.testing.assert_array_equal(image, wanted)
    np.testing.assert_array_equal(image.isel(slice=1, row=slice(2, 5)), wanted[1, 2:5])
    for name, changed in (("original", image), ("loaded", image.copy().load()), ("cut", image[:, 2:5])):
        ixr.write(changed, tmp_path / name)
        np.testing.assert_array_equal(ixr.open_series(tmp_path / name), changed)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("planar", [0, 1])
def test_an_original_is_written_with_its_own_values(tmp_path: Path, dtype: str, planar: int) -> None:
    wanted = write_rgb(tmp_path / "in", dtype, planar=planar)
    image = ixr.open_series(tmp_path / "in")
    for uid, files in (
        (False, image.dicom.write(tmp_path / "new")),
        (True, image.dicom.write(tmp_path / "same", keep_uid=True)),
    ):
        headers = [pydicom.dcmread(file) for file in files]
        np.testing.assert_array_equal(np.stack([ds.pixel_array for ds in headers]), wanted)
        assert ({ds.SOPInstanceUID for ds in headers} == set(image.SOPInstanceUID.values.tolist())) == uid
        assert headers[0].ImageType[0] == "ORIGINAL"
        assert "DerivationDescription" not in headers[0]


def test_computed_colours_are_those_of_a_derived_series(tmp_path: Path) -> None:
    wanted = write_rgb(tmp_path / "in", "u1")
    image = ixr.open_series(tmp_path / "in")
    for name, part, values in [
        ("half", image // 2, wanted // 2),
        ("crop", image.isel(row=slice(3, 9)), wanted[:, 3:9]),
        ("turned", image.transpose("rgb", ...).isel(row=_BACK, col=_BACK), wanted[:, ::-1, ::-1]),
        ("one", image.isel(slice=1), wanted[1:2]),
    ]:
        files = part.dicom.write(tmp_path / name)
        [ds, *_] = [pydicom.dcmread(file) for file in files]
        assert ds.SOPClassUID.name == ("MR Image Storage" if name == "one" else "Secondary Capture Image Storage")
        assert ds.ImageType[0] == ("ORIGINAL" if name == "one" else "DERIVED")
        back = ixr.open_series(tmp_path / name)
        np.testing.assert_array_equal(back.values, values)
        assert back.dicom.geometry_equal(part.expand_dims("slice") if name == "one" else part)


@pytest.mark.parametrize("order", ["time", "b"])
def test_colours_made_of_grey_values_are_secondary_captures_in_their_place(tmp_path: Path, order: str) -> None:
    per_time = {"DiffusionBValue": [0.0, 500.0]} if order == "b" else {}
    write_series(
        tmp_path / "in",
        times=2,
        slices=3,
        per_time=per_time,
        rescale=(2, -5),
        tags={"WindowCenter": 20, "WindowWidth": 30, "SmallestImagePixelValue": 0},
    )
    image = ixr.open_series(tmp_path / "in", order)
    fused = image.dicom.fuse_mask(image > 20).assign_attrs(SeriesDescription="over")
    files = fused.dicom.write(tmp_path / "out")
    ds, source = pydicom.dcmread(files[0]), image.dicom.header(slice=0, **{order: 0})
    assert (ds.SOPClassUID.name, ds.Modality, ds.ConversionType) == ("Secondary Capture Image Storage", "MR", "WSD")
    assert (ds.PatientID, ds.StudyInstanceUID, ds.FrameOfReferenceUID) == (
        source.PatientID,
        source.StudyInstanceUID,
        source.FrameOfReferenceUID,
    )
    assert (ds.SeriesDescription, ds.SourceImageSequence[0].ReferencedSOPInstanceUID) == ("over", source.SOPInstanceUID)
    assert not {"RescaleSlope", "WindowCenter", "SmallestImagePixelValue"} & set(ds.dir())
    back = ixr.open_series(tmp_path / "out", order)
    assert back.dicom.geometry_equal(image)
    assert back.indexes[order].equals(image.indexes[order])
    np.testing.assert_array_equal(back.values, fused.values)


def test_colours_of_no_file_take_the_headers_of_a_template(tmp_path: Path) -> None:
    write_series(tmp_path / "in", slices=3)
    image = ixr.open_series(tmp_path / "in")
    colours = ixr.from_array(
        np.arange(3 * 8 * 6 * 3, dtype="u1").reshape(3, 8, 6, 3),
        ("slice", "row", "col", "rgb"),
        template=image,
        geometry=image,
    )
    files = colours.dicom.write(tmp_path / "out")
    np.testing.assert_array_equal(np.stack([pydicom.dcmread(file).pixel_array for file in files]), colours.values)
    assert ixr.open_series(tmp_path / "out").dicom.geometry_equal(image)


def test_a_template_may_have_colours(tmp_path: Path) -> None:
    write_rgb(tmp_path / "in", "u1")
    image = ixr.open_series(tmp_path / "in")
    for name, part, template in [
        ("rgb", image // 2, image),
        ("grey", image.isel(rgb=0), image),
        ("half", image, image / 2),
    ]:
        files = part.dicom.write(tmp_path / name, template=template)
        np.testing.assert_array_equal(np.stack([pydicom.dcmread(file).pixel_array for file in files]), part)


def test_new_values_use_all_bits(tmp_path: Path) -> None:
    """Not those alone that the source had: others would be lost."""

    def mutate(ds: Dataset, _t: int, z: int) -> None:
        put(ds, (picture(z, "u2") & 4095).tobytes(), "RGB", "u2")
        ds.BitsStored, ds.HighBit = 12, 11

    write_series(tmp_path / "in", slices=3, mutate=mutate)
    image = ixr.open_series(tmp_path / "in").load()
    image[:, 0, 0] = 65535
    [ds, *_] = [pydicom.dcmread(file) for file in image.dicom.write(tmp_path / "out")]
    assert (ds.BitsStored, ds.HighBit, ds.ImageType[0]) == (16, 15, "DERIVED")
    np.testing.assert_array_equal(ixr.open_series(tmp_path / "out"), image)


@pytest.mark.parametrize(
    ("number", "dtype", "wanted"),
    [
        ("6.1", "u1", "6.1"),
        ("6.1", "u2", "7"),
        ("7", "u2", "7"),
        ("7.2", "u1", "7"),
        ("77.1.4", "u1", "77.1.4"),
        ("2", "u1", "7"),
    ],
)
def test_kinds_of_image_without_such_colours_become_secondary_captures(
    tmp_path: Path, number: str, dtype: str, wanted: str
) -> None:
    storage = "1.2.840.10008.5.1.4.1.1."
    extra = {"UltrasoundColorDataPresent": 0, "PixelPresentation": "MONOCHROME", "NumberOfFrames": 1}
    write_series(tmp_path / "in", slices=2, sop_class=UID(storage + number), tags=extra)
    image = ixr.open_series(tmp_path / "in")
    colours = (image.dicom.to_rgb().astype(dtype) * (1 if dtype == "u1" else 257)).astype(dtype)
    [ds, *_] = [pydicom.dcmread(file) for file in colours.dicom.write(tmp_path / "out")]
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == storage + wanted
    assert (ds.BitsAllocated, ds.UltrasoundColorDataPresent) == (8 * np.dtype(dtype).itemsize, 1)
    assert "PixelPresentation" not in ds
    if wanted == "7":
        assert (ds.ConversionType, list(ds.PatientOrientation)) == ("WSD", ["L", "P"])


def test_what_was_once_compressed_with_loss_says_so(shared_data: Path, tmp_path: Path) -> None:
    image = ixr.open_series(shared_data / "us_cine_ybr" / "dicom", "time")
    for name, part in [("same", image), ("half", image // 2)]:
        assert pydicom.dcmread(part.dicom.write(tmp_path / name)[0]).LossyImageCompression == "01"


def test_real_series_are_written(shared_data: Path, tmp_path: Path) -> None:
    for name, order, kind in [
        ("rgb_volume_j2k", "none", "Secondary Capture Image Storage"),
        ("si_xa_rgb_fa", "none", "Secondary Capture Image Storage"),
        ("us_cine_ybr", "time", "Ultrasound Image Storage"),
    ]:
        image = ixr.open_series(shared_data / name / "dicom", order)
        files = image.dicom.write(tmp_path / name)
        assert pydicom.dcmread(files[0]).SOPClassUID.name == kind
        back = ixr.open_series(tmp_path / name, order)
        assert back.sizes == image.sizes
        np.testing.assert_array_equal(back.values, image.values)


def test_a_cine_written_frame_by_frame_has_time(shared_data: Path, tmp_path: Path) -> None:
    image = ixr.open_series(shared_data / "us_cine_ybr" / "dicom")
    files = image.dicom.write(tmp_path / "out")
    back = ixr.open_series(tmp_path / "out")
    assert (back.dims, back.sizes) == (image.dims, image.sizes)
    np.testing.assert_allclose(back.time, image.time, atol=1e-4)
    for file in files:  # still pictures have times as well, but no temporal positions
        ds = pydicom.dcmread(file)
        del ds.TemporalPositionIdentifier
        ds.save_as(file)
    assert ixr.open_series(tmp_path / "out").sizes["slice"] == image.sizes["time"]


@pytest.mark.parametrize(
    "change",
    [lambda a: a / 2, lambda a: a.astype("i4"), lambda a: a.isel(rgb=[0, 1]), lambda a: a > 3],
    ids=["floats", "signed", "two", "bool"],
)
def test_other_values_are_no_colours(tmp_path: Path, change: Any) -> None:
    write_rgb(tmp_path / "in", "u1")
    with pytest.raises(ValuesNotStorableError, match=r"uint8 or uint16, these are [23] of"):
        change(ixr.open_series(tmp_path / "in")).dicom.write(tmp_path / "out")
    assert not (tmp_path / "out").exists()
