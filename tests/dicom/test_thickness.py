"""Slices that were put together are thicker than one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydicom
import pytest

import imagedata_xr as ixr
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import xarray as xr

TOGETHER: dict[str, tuple[Callable[[xr.DataArray], Any], str]] = {
    "all": (
        lambda a: a.coarsen(slice=6).mean(),
        "one slice that no file has is written with SliceThickness 3 mm and Sp",
    ),
    "two": (
        lambda a: a.coarsen(slice=2).mean(),
        "slices 6 mm apart that no file has are written with SliceThickness 3",
    ),
}


@pytest.mark.parametrize(("change", "message"), TOGETHER.values(), ids=TOGETHER)
def test_slices_that_were_put_together(
    tmp_path: Path, change: Callable[[xr.DataArray], xr.DataArray], message: str
) -> None:
    """The mean of six slices of 3 mm was written as one of 3 mm, and nothing told of it."""
    write_series(tmp_path / "a", slices=6, gap=3.0)
    image = ixr.open_series(tmp_path / "a")
    image = image.drop_vars([name for name, coord in image.coords.items() if coord.dtype.kind == "T"]).astype(float)
    with pytest.warns(UserWarning, match=message):
        change(image).dicom.write(tmp_path / "told")
    said = change(image).drop_vars("InstanceNumber").assign_attrs(SliceThickness=18.0)
    assert {pydicom.dcmread(file).SliceThickness for file in said.dicom.write(tmp_path / "said")} == {18}


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.isel(slice=slice(None, None, 2)) * 2,
        lambda a: a.astype(float).interp(slice=[31.0, 34.0, 37.0]),
        lambda a: a.astype(float).interp(row=[-15.0, -13.0]),
        lambda a: a.isel(slice=[2]).mean("slice", keep_attrs=True).assign_coords(slice=36.0),
    ],
    ids=["every other", "between", "rows", "one"],
)
def test_slices_that_are_as_thick_as_they_were(tmp_path: Path, change: Callable[[xr.DataArray], xr.DataArray]) -> None:
    write_series(tmp_path / "a", slices=6, gap=3.0)
    files = change(ixr.open_series(tmp_path / "a")).dicom.write(tmp_path / "out")  # a warning is an error
    assert {pydicom.dcmread(file).SliceThickness for file in files} == {3}
