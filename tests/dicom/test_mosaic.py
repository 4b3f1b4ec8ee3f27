"""Slices of mosaics are where they were in the patient, whichever way they are numbered; or the file is refused."""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

import imagedata_xr as ixr
from imagedata_xr.dicom.csa import CREATOR
from imagedata_xr.errors import UnreadableFileError
from tests.dicom.test_csa import csa_bytes
from tests.generate import OBLIQUE, axes, frame_values, set_pixels, truth_affine, write_series

if TYPE_CHECKING:
    from pathlib import Path

ROWS, COLS, SLICES, GAP, SPACING, ORIGIN = 8, 6, 7, 3.0, (1.5, 2.0), (-10.0, -20.0, 30.0)
TRUTH = truth_affine(orientation=OBLIQUE, spacing=SPACING, gap=GAP, origin=ORIGIN)


def tiled(slices: list[np.ndarray], *, square: bool) -> np.ndarray:
    across = ceil(sqrt(len(slices)))
    down = across if square else ceil(len(slices) / across)
    rows, cols = slices[0].shape
    out = np.zeros((down * rows, across * cols), slices[0].dtype)
    for k, plane in enumerate(slices):
        row, col = k // across * rows, k % across * cols
        out[row : row + rows, col : col + cols] = plane
    return out


def siemens(folder: Path, *, times: int = 2, reverse: bool = False, slices: int = SLICES, **options: Any) -> list[Path]:
    """Write Siemens mosaics of the volumes of `write_series`; tiles from the top slice down if reversed."""
    change = options.pop("change", None)
    n, down, right = axes(OBLIQUE)
    across = ceil(sqrt(slices))
    order = list(range(slices))[:: -1 if reverse else 1]
    first = TRUTH @ [order[0], 0, 0, 1]
    # The position of a slice as large as the mosaic with the same centre.
    corner = first[:3] - (right * SPACING[1] * COLS + down * SPACING[0] * ROWS) * (across - 1) / 2

    def mutate(ds: Dataset, t: int, _z: int) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        set_pixels(ds, tiled([frame_values(t, z, ROWS, COLS) for z in order], square=True))
        ds.ImagePositionPatient = [f"{x:.10g}" for x in corner]
        block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0A, "US", slices)
        block.add_new(0x29, "FD", [float(10 * k) for k in range(slices)])
        normal = [f"{x:.8f}" for x in (-n if reverse else n)]
        header = {"NumberOfImagesInMosaic": [str(slices)], "SliceNormalVector": normal}
        ds.private_block(0x0029, CREATOR, create=True).add_new(0x10, "OB", csa_bytes(header))
        if change is not None:
            change(ds)

    return write_series(
        folder, times=times, slices=1, orientation=OBLIQUE, spacing=SPACING, gap=GAP, mutate=mutate, **options
    )


def assert_right(image: Any, times: int = 2, slices: int = SLICES) -> None:
    assert image.dims == ("time", "slice", "row", "col")
    assert image.shape == (times, slices, ROWS, COLS)
    np.testing.assert_allclose(image.dicom.affine, TRUTH, atol=1e-4)
    wanted = [[frame_values(t, z, ROWS, COLS) for z in range(slices)] for t in range(times)]
    np.testing.assert_array_equal(image.values, wanted)


@pytest.mark.parametrize("slices", [2, 4, 7, 9])
@pytest.mark.parametrize("reverse", [False, True], ids=["foot to head", "head to foot"])
def test_slices_are_at_their_places(tmp_path: Path, reverse: bool, slices: int) -> None:
    siemens(tmp_path, reverse=reverse, slices=slices)
    assert_right(ixr.open_series(tmp_path, "time"), slices=slices)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless])
def test_transfer_syntaxes(tmp_path: Path, syntax: Any) -> None:
    siemens(tmp_path, transfer_syntax=syntax)
    image = ixr.open_series(tmp_path, "time")
    assert_right(image)
    assert image.isel(time=1, slice=3).values[0, :2].tolist() == [1, 3]


def test_part_of_a_mosaic(tmp_path: Path) -> None:
    siemens(tmp_path)
    image = ixr.open_series(tmp_path, "time")
    part = image.isel(time=1, slice=[6, 2], row=slice(2, 5), col=[1, 4])
    np.testing.assert_array_equal(part.values, image.values[1][[6, 2], 2:5][..., [1, 4]])


def test_elements_are_those_of_slices(tmp_path: Path) -> None:
    siemens(tmp_path)
    image = ixr.open_series(tmp_path, "time")
    assert image.attrs["ImageType"] == ["ORIGINAL", "PRIMARY", "M", "ND"]
    assert "SliceLocation" not in {*image.attrs, *image.coords}
    assert image.coords["time"].values.tolist() == [0.0, 2.5]
    times = image.coords["AcquisitionTime"]
    assert times.dims == ("time", "slice")
    assert times.values[1].tolist() == [f"1000{2.5 + 0.01 * k:09.6f}" for k in range(SLICES)]


def test_header_of_a_slice(tmp_path: Path) -> None:
    siemens(tmp_path)
    image = ixr.open_series(tmp_path, "time")
    header = image.dicom.header(time=1, slice=3)
    assert (header.Rows, header.Columns) == (ROWS, COLS)
    np.testing.assert_allclose(header.ImagePositionPatient, (TRUTH @ [3, 0, 0, 1])[:3], atol=1e-4)
    assert header.ImageType == ["ORIGINAL", "PRIMARY", "M", "ND"]
    assert header.AcquisitionTime == "100002.530000"
    assert "SliceLocation" not in header
    assert 0x0A not in header.private_block(0x0019, "SIEMENS MR HEADER")


def test_written_slices_are_files_of_their_own(tmp_path: Path) -> None:
    siemens(tmp_path / "in", reverse=True)
    image = ixr.open_series(tmp_path / "in", "time")
    for name, da in {"same": image, "changed": image + 1}.items():
        da.dicom.write(tmp_path / name)
        back = ixr.open_series(tmp_path / name, "time")
        np.testing.assert_array_equal(back.values, da.values)
        np.testing.assert_allclose(back.dicom.affine, TRUTH, atol=1e-4)
        assert len(set(back.coords["SOPInstanceUID"].values.ravel())) == 2 * SLICES


def test_slice_times_that_cannot_be_are_left_out(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.private_block(0x0019, "SIEMENS MR HEADER")[0x29].value = [1e9] * SLICES

    siemens(tmp_path, change=change)
    assert_right(image := ixr.open_series(tmp_path, "time"))
    assert image.coords["AcquisitionTime"].values.tolist() == ["100000.000000", "100002.500000"]


def _without_csa(ds: Dataset) -> None:
    del ds.private_block(0x0029, CREATOR)[0x10]


def _without_private(ds: Dataset) -> None:
    ds.remove_private_tags()


def _normal_elsewhere(ds: Dataset) -> None:
    header = {"NumberOfImagesInMosaic": ["7"], "SliceNormalVector": ["1.0", "0.0", "0.0"]}
    ds.private_block(0x0029, CREATOR)[0x10].value = csa_bytes(header)


def _damaged(ds: Dataset) -> None:
    element = ds.private_block(0x0029, CREATOR)[0x10]
    element.value = element.value[:100]


def _many(ds: Dataset) -> None:
    ds.private_block(0x0019, "SIEMENS MR HEADER")[0x0A].value = 40


def _without_spacing(ds: Dataset) -> None:
    del ds.SpacingBetweenSlices


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_csa, "SliceNormalVector of 'SIEMENS CSA HEADER' is not there"),
        (_without_private, "without the number of its slices"),
        (_normal_elsewhere, "not along the normal"),
        (_damaged, "CSA header is damaged"),
        (_many, "40 slices; 7 by 7 tiles do not fill its 24×18 pixels"),
        (_without_spacing, "SpacingBetweenSlices"),
    ],
)
def test_mosaics_that_do_not_say_where_slices_are(tmp_path: Path, change: Any, message: str) -> None:
    (file,) = siemens(tmp_path, times=1, change=change)
    with pytest.raises(UnreadableFileError, match=message) as caught:
        ixr.open_series(tmp_path)
    assert str(file) in str(caught.value)


def test_slices_that_only_kept_the_word_mosaic(tmp_path: Path) -> None:
    """Scanners that unpack mosaics leave the word in ImageType."""
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"], "AcquisitionMatrix": [8, 0, 0, 6]}
    write_series(tmp_path, slices=3, tags=tags)
    assert ixr.open_series(tmp_path).shape == (3, 8, 6)


def united_imaging(folder: Path, *, slices: int = 7, headers: int | None = None) -> list[Path]:
    """Write United Imaging grids of the volumes of `write_series`."""

    def mutate(ds: Dataset, t: int, _z: int) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
        set_pixels(ds, tiled([frame_values(t, z, ROWS, COLS) for z in range(slices)], square=False))
        items = []
        for z in range(slices if headers is None else headers):
            item = Dataset()
            item.ImagePositionPatient = [f"{x:.10g}" for x in (TRUTH @ [z, 0, 0, 1])[:3]]
            item.AcquisitionDate, item.AcquisitionTime = "20260102", f"10000{t}.{z:06d}"
            items.append(item)
        del ds.ImagePositionPatient, ds.AcquisitionDate, ds.AcquisitionTime
        block = ds.private_block(0x0065, "Image Private Header", create=True)
        block.add_new(0x50, "DS", str(slices))
        block.add_new(0x51, "SQ", Sequence(items))

    return write_series(
        folder, times=2, slices=1, orientation=OBLIQUE, spacing=SPACING, gap=GAP, origin=ORIGIN, mutate=mutate
    )


def test_united_imaging_grid(tmp_path: Path) -> None:
    united_imaging(tmp_path)
    image = ixr.open_series(tmp_path, "time")
    assert_right(image)
    assert image.coords["AcquisitionTime"].values[1, 2] == "100001.000002"


def test_united_imaging_grid_without_a_header_for_each_slice(tmp_path: Path) -> None:
    united_imaging(tmp_path, headers=5)
    with pytest.raises(UnreadableFileError, match=r"5 headers of slices in .* a count of 7"):
        ixr.open_series(tmp_path)


@pytest.mark.parametrize(
    ("case", "times", "corner"),
    [("si_mosaic_fh", 3, (-102.5, -128.871364, -48.637112)), ("si_mosaic_hf", 3, (-102.5, -126.387182, -48.828381))],
)
def test_real_mosaics(shared_data: Path, case: str, times: int, corner: tuple[float, ...]) -> None:
    image = ixr.open_series(shared_data / case / "dicom", "time")
    assert image.shape == (times, 36, 64, 64)
    np.testing.assert_allclose(image.dicom.affine[:3, 3], corner, atol=1e-3)
    assert image.coords["time"].values.round(3).tolist() == [0.0, 3.2, 6.4]
    assert image.coords["AcquisitionTime"].dims == ("time", "slice")


def test_days_of_the_year_1_are_written_as_they_are(tmp_path: Path) -> None:
    """Some anonymisers put these in the place of dates."""
    siemens(tmp_path / "in", date="00010101")
    image = ixr.open_series(tmp_path / "in", "time")
    image.dicom.write(tmp_path / "out")
    assert ixr.open_series(tmp_path / "out", "time").attrs["AcquisitionDate"] == "00010101"
