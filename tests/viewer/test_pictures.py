"""Plain pictures show the values, at their window, and read no more than they show."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import imagedata_xr as ixr
from tests.generate import write_series
from tests.viewer.browsers import levels

if TYPE_CHECKING:
    from pathlib import Path

VOLUME = xr.DataArray(np.arange(2 * 3 * 4).reshape(2, 3, 4) * 10, dims=("slice", "row", "col"))


def test_a_png_has_all_slices(tmp_path: Path) -> None:
    VOLUME.dicom.to_png(tmp_path / "a.png", columns=2, window=(128, 256))
    found = np.asarray(Image.open(tmp_path / "a.png"))
    assert found.shape == (3, 8)
    assert np.abs(found[:, :4].astype(int) - levels(VOLUME.values[0], 0, 256)).max() <= 1
    with pytest.raises(FileExistsError):
        VOLUME.dicom.to_png(tmp_path / "a.png")
    assert np.array_equal(np.asarray(VOLUME.dicom.plot.montage(columns=2, window=(128, 256))), found)


def test_a_gif_moves_along_a_dim(tmp_path: Path) -> None:
    series = xr.concat([VOLUME, VOLUME + 5, VOLUME + 9], "time")
    series.dicom.to_gif(tmp_path / "a.gif", center=128, width=256)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 3
        picture.seek(2)
        found = np.asarray(picture.convert("L")).astype(int)
    assert np.abs(found - levels(VOLUME.values[1] + 9, 0, 256)).max() <= 2
    VOLUME.dicom.to_gif(tmp_path / "b.gif", dim="slice")
    with pytest.raises(ValueError, match="none of them is 'time'"):
        VOLUME.dicom.to_gif(tmp_path / "c.gif", dim="time")


def test_a_thumbnail_reads_one_frame(tmp_path: Path) -> None:
    files = write_series(tmp_path / "in", times=2, slices=5, rows=40, cols=30, spacing=(1.0, 1.0))
    image = ixr.open_series(tmp_path / "in", "time")
    kept = str(image.source.values[1, 2])
    for file in files:
        if str(file) != kept:
            file.unlink()
    assert image.dicom.plot.thumbnail(32).size == (24, 32)


def test_a_notebook_shows_a_thumbnail_of_one_frame(tmp_path: Path) -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    files = write_series(tmp_path / "in", times=2, slices=5, rows=40, cols=30, spacing=(1.0, 1.0))
    image = ixr.open_series(tmp_path / "in", "time")
    plain = shell.display_formatter.format(image)[0]["text/html"]
    assert "<img" not in plain
    shell.run_line_magic("load_ext", "imagedata_xr")
    try:
        for file in files:
            if str(file) != str(image.source.values[1, 2]):
                file.unlink()
        told = shell.display_formatter.format(image)[0]["text/html"]
        assert "xr-wrap" in told
        assert Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]+)', told)[1]))).size == (30, 40)
        # Nothing is computed for it, and an image that cannot be read any more is shown all the same.
        assert "<img" not in shell.display_formatter.format(image.chunk())[0]["text/html"]
        assert "<img" not in shell.display_formatter.format(image.isel(time=0))[0]["text/html"]
        assert "<img" not in shell.display_formatter.format(image.time)[0]["text/html"]
    finally:
        shell.run_line_magic("unload_ext", "imagedata_xr")
    assert "<img" not in shell.display_formatter.format(image)[0]["text/html"]


def test_a_mask_is_laid_over(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=1, slices=3, rows=8, cols=8)
    image = ixr.open_series(tmp_path / "in")
    fused = image.dicom.fuse_mask(image > 20, color=(0, 255, 0), alpha=0.5, center=20, width=40)
    assert fused.dims == (*image.dims, "rgb")
    assert fused.dtype == np.uint8
    below = image.dicom.to_rgb(center=20, width=40)
    inside = (image > 20).values
    assert (fused.values[~inside] == below.values[~inside]).all()
    wanted = (below.values[inside].astype(float) + np.array([0, 255, 0])) / 2
    assert np.abs(fused.values[inside] - wanted).max() <= 0.51
    assert fused.dicom.geometry_equal(image)
    moved = (image > 20).assign_coords(slice=image.slice.values + 1.0).dicom.index_positions()
    with pytest.raises(ValueError, match="different places"):
        image.dicom.fuse_mask(moved)
    with pytest.raises(ValueError, match="alpha is 2"):
        image.dicom.fuse_mask(image > 20, alpha=2)
