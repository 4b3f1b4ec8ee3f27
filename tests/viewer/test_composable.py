"""Elements of holoviews have the values and the aspect of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

import imagedata_xr as ixr
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


def test_an_element_has_the_frames(tmp_path: Path) -> None:
    write_series(tmp_path / "in", times=2, slices=3, rows=8, cols=6, spacing=(1.5, 2.0))
    image = ixr.open_series(tmp_path / "in", "time")
    element = image.dicom.hv(window=(50, 100))
    assert [dim.name for dim in element.kdims] == ["time", "slice"]
    frame = element[1, 2]
    assert (frame.data["value"] == image[1, 2].values).all()
    assert np.allclose(frame.bounds.lbrt(), (-1.0, -0.75, 11.0, 11.25))
    composed = element * element
    assert composed[0, 0].values()[0].data["value"].shape == (8, 6)


def test_colours_and_single_frames() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    element = xr.DataArray(colours, dims=("row", "col", "rgb")).dicom.hv()
    assert (np.dstack([element.data[name] for name in "RGB"]) == colours).all()
