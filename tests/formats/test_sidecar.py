"""A sidecar of NIfTI says what is true of the image beside it, which is not always what its source said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import imagedata_xr as ixr
from tests.generate import write_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import xarray as xr


def _told(image: xr.DataArray, path: Path) -> dict[str, Any]:
    """Return the sidecar of an image."""
    ixr.write(image, path / "image.nii")
    found: dict[str, Any] = json.loads((path / "image.json").read_text())
    return found


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda a: a, "ORIGINAL"),
        (lambda a: a.isel(time=[0, 2], row=slice(None, None, -1)), "ORIGINAL"),
        (lambda a: a * 2, "DERIVED"),
        (lambda a: a.max("time"), "DERIVED"),
        (lambda a: a.isel(time=1) - a.isel(time=0), "DERIVED"),
    ],
    ids=["opened", "selected", "doubled", "maximum", "difference"],
)
def test_computed_values_are_no_original(
    tmp_path: Path, change: Callable[[xr.DataArray], xr.DataArray], kind: str
) -> None:
    """DICOM said DERIVED and NIfTI ORIGINAL."""
    write_series(tmp_path / "a", times=3)
    assert _told(change(ixr.open_series(tmp_path / "a", "time")), tmp_path)["ImageType"] == [kind, "PRIMARY", "M", "ND"]
    # What was read is as it was.
    ixr.write(ixr.open_series(tmp_path / "image.nii"), tmp_path / "again.nii")
    assert json.loads((tmp_path / "again.json").read_text())["ImageType"][0] == kind


def test_the_distance_of_slices_is_that_of_the_image(tmp_path: Path) -> None:
    """Of every other slice it was that of all of them."""
    write_series(tmp_path / "a", slices=6, gap=3.0)
    image = ixr.open_series(tmp_path / "a")
    assert image.attrs["SpacingBetweenSlices"] == 3
    bare = image.drop_vars([name for name, coord in image.coords.items() if coord.dtype.kind == "T"])
    thick = bare.astype(float).coarsen(slice=2).mean()
    for step, one in ((3, image), (6, image.isel(slice=slice(None, None, 2))), (6, thick), (3, image.isel(slice=[2]))):
        assert _told(one, tmp_path)["SpacingBetweenSlices"] == step
        for file in tmp_path.glob("image.*"):
            file.unlink()
    ixr.write(image.isel(slice=[0, 1, 3]), tmp_path / "image.nii", resample=True)
    assert "SpacingBetweenSlices" not in json.loads((tmp_path / "image.json").read_text())


def test_one_volume_has_its_echo_time_and_flip_angle(tmp_path: Path) -> None:
    """They were lost where one of several volumes was chosen."""
    times = {"EchoTime": [4.0, 8.0, 12.0], "FlipAngle": [5, 10, 15]}
    write_series(tmp_path / "a", times=3, per_time=times)
    for order, name, value in (("te", "EchoTime", 0.008), ("fa", "FlipAngle", 10)):
        image = ixr.open_series(tmp_path / "a", order).isel({order: 1})
        assert _told(image * 2, tmp_path)[name] == pytest.approx(value)
        back = ixr.open_series(tmp_path / "image.nii")
        assert back.attrs["EchoTime"] == pytest.approx(8)
        for file in tmp_path.glob("image.*"):
            file.unlink()
    said = image.assign_coords(Manufacturer="somebody", ImageType="DERIVED\\PRIMARY", EchoTime=np.nan)
    told = _told(said, tmp_path)
    assert (told["Manufacturer"], told["ImageType"]) == ("somebody", ["DERIVED", "PRIMARY"])
