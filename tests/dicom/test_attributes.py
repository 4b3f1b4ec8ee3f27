"""Attributes that are those of one series alone are not written to frames of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pydicom
import pytest
import xarray as xr
from pydicom.uid import CTImageStorage, MRImageStorage

import imagedata_xr as ixr
from imagedata_xr.errors import ConflictingOriginError
from tests.dicom.multi import macro, write_enhanced
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset


def _as_xarray(images: list[xr.DataArray]) -> xr.DataArray:
    """Return images put together by xarray as it does without further ado."""
    return xr.concat(images, "slice", coords="different", compat="equals")


@pytest.fixture
def slabs(tmp_path: Path) -> list[xr.DataArray]:
    """Return two series of one study, the second above the first."""
    images = []
    for number in (1, 2):
        name, told = f"slab{number}", {"EchoTime": 4.0 * number, "SeriesDescription": f"slab {number}"}
        write_series(tmp_path / name, series=name, number=number, origin=(0, 0, 12.0 * number), tags=told)
        images.append(ixr.open_series(tmp_path / name))
    return images


def test_what_xarray_takes_from_the_first_series_is_not_written_to_all(
    tmp_path: Path, slabs: list[xr.DataArray]
) -> None:
    """Frames that were acquired with an echo time of 8 ms said 4, and nothing told of it."""
    both = _as_xarray(slabs)
    for image, template in ((both, None), (both * 2, None), (both, slabs[0].isel(slice=0))):
        with pytest.raises(
            ConflictingOriginError, match=r"EchoTime is 4\.0, .* 2 series .* tell 4, 8\. .* imagedata_xr\.concat"
        ):
            image.dicom.write(tmp_path / "no", template=template)
    assert not (tmp_path / "no").exists()
    means = {"each": ixr.concat(slabs, "slice"), "said": both.assign_coords(EchoTime=4.0)}
    means["new"] = both.assign_attrs(EchoTime=6.0, SeriesDescription="both")
    found = {
        name: [float(pydicom.dcmread(file).EchoTime) for file in image.dicom.write(tmp_path / name)]
        for name, image in means.items()
    }
    assert found == {"each": [4] * 4 + [8] * 4, "said": [4] * 8, "new": [6] * 8}


def test_labels_tell_their_elements(tmp_path: Path, slabs: list[xr.DataArray]) -> None:
    a, b = slabs
    files = xr.concat([a, b.assign_coords(slice=a.slice)], pd.Index([4.0, 8.0], name="te")).dicom.write(tmp_path / "o")
    assert [float(pydicom.dcmread(file).EchoTime) for file in files] == [4] * 4 + [8] * 4


def test_images_of_two_kinds(tmp_path: Path) -> None:
    for sop_class, name in ((MRImageStorage, "mr"), (CTImageStorage, "ct")):
        write_series(tmp_path / name, series=name, sop_class=sop_class, tags={"EchoTime": None})
    images = [ixr.open_series(tmp_path / name) for name in ("mr", "ct")]
    with pytest.raises(ConflictingOriginError, match=r"the attribute ImageType is .*; likewise SOPClassUID, "):
        xr.concat(images, pd.Index([1, 2], name="AcquisitionNumber")).dicom.write(tmp_path / "no")


def test_frames_of_several_enhanced_files(tmp_path: Path) -> None:
    images = []
    for te in (4.0, 8.0):

        def mutate(ds: Dataset, te: float = te) -> None:
            ds.SharedFunctionalGroupsSequence[0].MREchoSequence = macro(EffectiveEchoTime=te)

        file = write_enhanced(tmp_path / f"{te}", mutate=mutate, series=f"{te}", origin=(0, 0, te * 3))
        images.append(ixr.open_series(file))
    with pytest.raises(ConflictingOriginError, match=r"EffectiveEchoTime is 4\.0, .* tell 4, 8\."):
        _as_xarray(images).dicom.write(tmp_path / "no")
    files = ixr.concat(images, "slice").dicom.write(tmp_path / "out")
    assert [float(pydicom.dcmread(file).EchoTime) for file in files] == [4] * 4 + [8] * 4
