"""What a derived series says was done to it is what was done."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import xarray as xr

import imagedata_xr as ixr
from tests.dicom.multi import write_enhanced
from tests.generate import write_series


def description(image, folder, **options):
    told = {pydicom.dcmread(file).DerivationDescription for file in image.dicom.write(folder, **options)}
    assert len(told) == 1
    return told.pop().partition(" with imagedata_xr")[0]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        pytest.param(lambda a: a, "frame of a file of many", id="unchanged"),
        pytest.param(lambda a: a.isel(time=[1, 0]), "frame of a file of many", id="selected"),
        pytest.param(lambda a: a.compute(), "frame of a file of many, pixel values from memory", id="in memory"),
        pytest.param(lambda a: a * 2, "pixel values computed", id="computed"),
        pytest.param(lambda a: xr.where(a > 3, a, 0, keep_attrs=True), "pixel values computed", id="masked"),
    ],
)
def test_frames_of_an_enhanced_file(tmp_path, change, wanted):
    write_enhanced(tmp_path / "source" / "a.dcm", times=2, slices=3)
    image = ixr.open_series(tmp_path / "source", "time")
    assert description(change(image), tmp_path / "new") == wanted


def test_a_real_enhanced_series(shared_data, tmp_path):
    image = ixr.open_series(shared_data / "si_xa_enh_time" / "dicom", "time").isel(time=slice(2), slice=slice(2))
    assert description(image, tmp_path / "new") == "frame of a file of many"
    np.testing.assert_array_equal(ixr.open_series(tmp_path / "new", "time"), image)
    with pytest.raises(ValueError, match="its frames are of a file of many, and written as files of their own"):
        image.dicom.write(tmp_path / "kept", keep_uid=True)


def test_colours_that_were_converted(shared_data, tmp_path):
    image = ixr.open_series(shared_data / "us_cine_ybr" / "dicom").isel(time=slice(2))
    wanted = "frame of a file of many, colours converted to RGB"
    assert description(image, tmp_path / "new").endswith(wanted)
    assert description(image.compute(), tmp_path / "memory").endswith(f"{wanted}, pixel values from memory")
    assert description(255 - image, tmp_path / "computed").endswith("pixel values computed")


def test_headers_of_another_image(tmp_path):
    for name in ("first", "second"):
        write_series(tmp_path / name, slices=2, series=name)
    first, second = (ixr.open_series(tmp_path / name) for name in ("first", "second"))
    assert description(first, tmp_path / "new", template=second) == "header of another image"
    assert description(first * 2, tmp_path / "computed", template=second) == "pixel values computed"
    alone = ixr.open_series(tmp_path / "first").drop_vars("source")  # the arithmetic has read the values of `first`
    assert description(alone, tmp_path / "described") == "header of attributes and coordinates"
    changed = first.compute()
    changed.values[0, 0, 0] += 1
    assert description(changed, tmp_path / "changed") == "pixel values computed"


def test_fractions_are_rescaled(tmp_path):
    write_series(tmp_path / "one", slices=2, rescale=(0.1, 0.25))
    image = ixr.open_series(tmp_path / "one").drop_vars("source")
    assert description(image, tmp_path / "new") == "header of attributes and coordinates"

    def each(ds, _t, z):
        ds.RescaleSlope, ds.RescaleIntercept = 0.1 * (z + 1), 0.25

    write_series(tmp_path / "several", slices=2, mutate=each)
    image = ixr.open_series(tmp_path / "several").drop_vars("source")
    assert description(image, tmp_path / "anew") == "header of attributes and coordinates"
    # Once they are read nothing tells which frame had which.
    wanted = "header of attributes and coordinates, pixel values rescaled, pixel values from memory"
    assert description(image.compute(), tmp_path / "loaded") == wanted
