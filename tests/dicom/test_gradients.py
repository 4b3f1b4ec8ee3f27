"""What is written says one b-value and direction of each frame: those of the coordinates, whoever told them before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import MissingHeaderError
from tests.generate import OBLIQUE, write_series

SCRIPTS = Path(sys.executable).parent
DIRECTIONS = [None, [0.6, 0.8, 0.0], [0.0, 0.6, 0.8]]


def headers(files):
    return [pydicom.dcmread(file) for file in files]


def of_ge(ds, time, _slice):
    """Tell b-value and direction as GE does, along the axes of the image."""
    ds.Manufacturer, ds.InPlanePhaseEncodingDirection = "GE MEDICAL SYSTEMS", "ROW"
    block = ds.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x39, "IS", [1000 if time else 0, 0, 0])
    block = ds.private_block(0x0019, "GEMS_ACQU_01", create=True)
    for number, value in zip((0xBB, 0xBC, 0xBD), DIRECTIONS[time] or [0, 0, 0], strict=True):
        block.add_new(number, "DS", value)


def of_siemens(ds, time, _slice):
    """Tell b-value and direction in private elements, and once more in a CSA header."""
    ds.Manufacturer = "SIEMENS"
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", 1000 if time else 0)
    if time:
        block.add_new(0x0E, "FD", DIRECTIONS[time])
    ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", b"SV10")


def standard(ds, time, _slice):
    ds.DiffusionBValue, ds.DiffusionDirectionality = (1000.0, "DIRECTIONAL") if time else (0.0, "NONE")
    if time:
        ds.DiffusionGradientOrientation = DIRECTIONS[time]


def diffusion(path: Path, tell):
    write_series(path, times=3, slices=3, orientation=OBLIQUE, mutate=tell)
    return ixr.open_series(path, "dti")


def assert_same(files, image):
    again = ixr.open_series(files, "dti")
    for name in ("b", "bx", "by", "bz"):
        assert np.allclose(again[name], image[name], atol=1e-6, equal_nan=True), name


@pytest.mark.parametrize("tell", [of_ge, of_siemens, standard])
@pytest.mark.parametrize("change", [{"bx": -1}, {"b": 2}, {"b": 2, "by": -1}], ids=str)
@pytest.mark.parametrize("keep_private", [None, True])
@pytest.mark.parametrize("factor", [1, 2])
def test_what_the_user_has_set_is_written(tmp_path, tell, change, keep_private, factor):
    image = diffusion(tmp_path / "source", tell)
    labels = {name: image[name] * times for name, times in change.items()}
    new = (image * factor if factor > 1 else image).assign_coords(labels)
    files = new.dicom.write(tmp_path / "new", keep_private=keep_private)
    assert_same(files, new)
    for ds in headers(files):
        assert (0x0043, 0x1039) not in ds
        assert (0x0019, 0x100C) not in ds
        assert (0x0029, 0x1010) not in ds
        assert ds.ImageType[0] == ("ORIGINAL" if factor == 1 else "DERIVED")
        assert ("DiffusionGradientOrientation" in ds) == (ds.DiffusionBValue > 0)
    if factor == 1 and keep_private is None:
        with pytest.raises(ValueError, match="labels along its tag dims were changed"):
            new.dicom.write(tmp_path / "kept", keep_uid=True)


@pytest.mark.parametrize("tell", [of_ge, of_siemens, standard])
def test_an_original_keeps_the_elements_that_tell_it(tmp_path, tell):
    image = diffusion(tmp_path / "source", tell)
    for number, part in enumerate((image, image.isel(dti=[2, 0]), image.isel(dti=1), image.isel(slice=[1]))):
        files = part.dicom.write(tmp_path / f"new_{number}")
        before = headers(part.source.transpose(..., "slice").values.ravel())
        for old, new in zip(before, headers(files), strict=True):
            for element in old:
                assert not element.tag.is_private or new[element.tag] == element
        part.dicom.write(tmp_path / f"kept_{number}", keep_uid=True)


def test_directions_that_the_reader_takes_for_one_are_not_new(tmp_path):
    def nearly(ds, time, z):
        standard(ds, 1 if time else 0, z)
        if time == 2:
            ds.DiffusionBValue, ds.DiffusionGradientOrientation = 2000.0, [0.602, 0.7985, 0.0]

    image = diffusion(tmp_path / "source", nearly)
    assert image.bx.values[1] == image.bx.values[2]
    image.dicom.write(tmp_path / "kept", keep_uid=True)


@pytest.mark.parametrize("tell", [of_ge, of_siemens])
@pytest.mark.parametrize("part", [{"row": slice(None, None, -1)}, {"col": slice(3, None, -1)}, {"row": slice(2, 6)}])
def test_kept_private_elements_tell_the_direction_along_new_axes(tmp_path, tell, part):
    image = diffusion(tmp_path / "source", tell)
    files = image.isel(part).dicom.write(tmp_path / "turned", keep_private=True)
    assert_same(files, image)
    for file, ds in zip(files, headers(files), strict=True):
        for name in ("DiffusionBValue", "DiffusionGradientOrientation"):
            if name in ds:
                delattr(ds, name)
        ds.save_as(file)
    assert_same(files, image)


def test_dcm2niix_finds_the_directions_of_ge(shared_data, tmp_path):
    image = ixr.open_series(shared_data / "ge_dwi" / "dicom", "dti")
    turned = image.isel(row=slice(None, None, -1))
    for name, new in (("turned", turned), ("set", image.assign_coords(bx=-image.bx, b=2 * image.b))):
        ds = headers(new.dicom.write(tmp_path / name, keep_private=True))[0]
        command = [SCRIPTS / "dcm2niix", "-o", tmp_path, "-f", name, tmp_path / name]
        subprocess.run(command, check=True, capture_output=True)
        right, down = np.reshape(np.asarray(ds.ImageOrientationPatient, float), (2, 3))
        wanted = np.stack([right, -down, np.cross(right, down)]) @ np.stack([new.bx, new.by, new.bz])
        assert np.allclose(np.loadtxt(tmp_path / f"{name}.bvec"), np.nan_to_num(wanted), atol=2e-3)
        assert np.allclose(np.loadtxt(tmp_path / f"{name}.bval"), new.b)


def test_no_slice_of_a_mosaic_has_the_header_of_the_mosaic(shared_data, tmp_path):
    image = ixr.open_series(shared_data / "si_mosaic_fh" / "dicom").isel(time=[0], slice=slice(3))
    source = pydicom.dcmread(str(image.source.values.ravel()[0]))
    for ds in headers((image * 2).dicom.write(tmp_path / "new", keep_private=True)):
        assert (0x0029, 0x1010) in source
        assert (0x0029, 0x1010) not in ds
        assert (0x0029, 0x1020) not in ds


def test_no_direction_without_weighting(tmp_path):
    image = diffusion(tmp_path / "source", standard).isel(dti=[1, 2]) * 2
    files = image.assign_coords(b=("dti", [0.0, 1000.0])).dicom.write(tmp_path / "new")
    low, *_, high = headers(files)
    assert (low.DiffusionBValue, low.DiffusionDirectionality) == (0, "NONE")
    assert "DiffusionGradientOrientation" not in low
    assert (high.DiffusionDirectionality, list(high.DiffusionGradientOrientation)) == ("DIRECTIONAL", DIRECTIONS[2])


@pytest.mark.parametrize("order", ["dti", "bvector"])
def test_volumes_that_lost_what_tells_them_apart_are_not_written(shared_data, tmp_path: Path, order):
    """xarray drops b-values and directions that differ from those of what is subtracted; no reader knew the volumes."""
    image = ixr.open_series(shared_data / "si_dwi_rsi" / "dicom", "dti")
    if order == "bvector":
        image = image.isel(dti=slice(1, 7)).swap_dims(dti="bvector").drop_vars("dti").assign_coords(bvector=range(6))
    with pytest.raises(
        MissingHeaderError, match=f"neither b-values nor directions tell the volumes along '{order}' apart"
    ):
        (image - image.isel({order: 0})).dicom.write(tmp_path / "no")
    less = image - image.isel({order: 0}, drop=True)
    back = (image - image.isel({order: 0})).assign_coords({name: image[name] for name in ("b", "bx", "by", "bz")})
    for name, part in (("without", less), ("given back", back)):
        again = ixr.open_series(part.dicom.write(tmp_path / name), "dti")
        np.testing.assert_array_equal(again.transpose("dti", ...), part)
        np.testing.assert_allclose(again.b, image.b)
