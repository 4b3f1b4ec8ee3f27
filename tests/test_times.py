"""Times of volumes are seconds, whatever they were made for resampling, or they are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pydicom
import pytest

import imagedata_xr as ixr
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr


@pytest.fixture
def dynamic(tmp_path: Path) -> xr.DataArray:
    write_series(tmp_path / "source", times=4)  # every 2.5 s from 10:00:00 on
    return ixr.open_series(tmp_path / "source", "time")


def durations(image: xr.DataArray) -> Any:
    return pd.to_timedelta(image.time.values, unit="s")


def moments(image: xr.DataArray) -> Any:
    return np.datetime64(image.AcquisitionDateTime.item()) + durations(image).to_numpy()


@pytest.mark.parametrize("labels", [durations, moments])
@pytest.mark.parametrize("format", ["dicom", "nifti"])
def test_durations_and_moments(dynamic: xr.DataArray, tmp_path: Path, labels: Any, format: str) -> None:
    image = dynamic.assign_coords(time=labels(dynamic.assign_coords(time=dynamic.time * 2)))
    ixr.write(image, tmp_path / "out", format=format)
    back = ixr.open_series(tmp_path / "out", "time" if format == "dicom" else "auto")
    assert back.time.values == pytest.approx([0, 5, 10, 15])


def test_resampled_in_time(dynamic: xr.DataArray, tmp_path: Path) -> None:
    mean = dynamic.assign_coords(time=durations(dynamic)).resample(time="5s").mean()
    files = ixr.write(mean, tmp_path / "mean")
    assert {pydicom.dcmread(file).AcquisitionDate for file in files} == {"20260102"}
    back = ixr.open_series(tmp_path / "mean", "time")
    assert back.time.values == pytest.approx([0, 5])
    step = float(back.dicom.header(time=0, slice=0).RescaleSlope)
    assert back[0].values == pytest.approx(dynamic.isel(time=[0, 1]).mean("time").values, abs=step)


def test_moments_of_an_image_that_does_not_tell_when(dynamic: xr.DataArray, tmp_path: Path) -> None:
    image = dynamic.assign_coords(time=moments(dynamic)).drop_vars("AcquisitionDateTime")
    ixr.write(image, tmp_path / "out")
    back = ixr.open_series(tmp_path / "out", "time")
    assert back.time.values == pytest.approx([0, 2.5, 5, 7.5])
    assert back.AcquisitionDateTime.item() == dynamic.AcquisitionDateTime.item()


@pytest.mark.parametrize(
    ("labels", "found"), [(["a", "b", "c", "d"], "a, b, c, d"), ([0, np.nan, 1, 2], "0.0, nan, 1.0, 2.0")]
)
@pytest.mark.parametrize("name", ["out", "out.nii"])
def test_labels_that_are_no_times(
    dynamic: xr.DataArray, tmp_path: Path, labels: list[Any], found: str, name: str
) -> None:
    with pytest.raises(ValueError, match=f"labels along time are {found}; numbers"):
        ixr.write(dynamic.assign_coords(time=labels), tmp_path / name)
    assert not (tmp_path / name).exists()
