"""Elements of holoviews have the values and the aspect of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import holoviews as hv
import numpy as np
import pytest
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


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("polarity", ["MONOCHROME1", "MONOCHROME2"])
def test_grey_levels_are_those_of_a_picture(function: str, polarity: str) -> None:
    header = {"VOILUTFunction": function, "PhotometricInterpretation": polarity, "WindowCenter": 400.0}
    values = np.arange(-500, 1500, 10, dtype=np.int16).reshape(10, 20)
    image = xr.DataArray(values, dims=("row", "col"), attrs={**header, "WindowWidth": 500.0})
    mapper = renderer(image.dicom.hv()).glyph.color_mapper
    place = np.floor((values - mapper.low) / (mapper.high - mapper.low) * len(mapper.palette))
    shown = np.array([int(colour[1:3], 16) for colour in mapper.palette])[
        place.clip(0, len(mapper.palette) - 1).astype(int)
    ]
    assert np.abs(shown - np.asarray(image.dicom.plot.montage()).astype(int)).max() <= 2
    own = renderer(image.dicom.hv(cmap=["#000000", "#ffffff"])).glyph.color_mapper
    assert (own.low, own.high, list(own.palette)) == (150, 650 - (function == "LINEAR"), ["#000000", "#ffffff"])


def renderer(element: Any) -> Any:
    return hv.render(element, backend="bokeh").renderers[0]


def test_colours_and_single_frames() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    element = xr.DataArray(colours, dims=("row", "col", "rgb")).dicom.hv()
    assert (np.dstack([element.data[name] for name in "RGB"]) == colours).all()
